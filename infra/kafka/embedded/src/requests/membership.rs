//! `JoinGroup`, `SyncGroup`, `Heartbeat`, `LeaveGroup`: Kafka's classic group protocol on the wire.

use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use kafka_protocol::messages::join_group_response::JoinGroupResponseMember;
use kafka_protocol::messages::leave_group_response::MemberResponse;
use kafka_protocol::messages::{
    HeartbeatRequest, HeartbeatResponse, JoinGroupRequest, JoinGroupResponse, LeaveGroupRequest,
    LeaveGroupResponse, SyncGroupRequest, SyncGroupResponse,
};
use kafka_protocol::protocol::StrBytes;

use super::{code_of, text};
use crate::broker::Broker;
use crate::groups::{JoinRefused, JoinRequest, Joined};
use crate::wire::Context;

/// The first version in which a member without id is handed one and asked to join again with it.
const PROMISES_IDS_SINCE: i16 = 4;
/// The first version in which a leader can be told to keep the assignment.
const SKIPS_ASSIGNMENT_SINCE: i16 = 9;

/// Serves `JoinGroup`.
pub async fn join_group(
    broker: &Arc<Broker>,
    request: JoinGroupRequest,
    context: &Context,
) -> JoinGroupResponse {
    let outcome = match check(broker, &request) {
        Ok(()) => {
            broker
                .groups
                .join(&request.group_id, translate(&request, context))
                .await
        }
        Err(code) => Err(JoinRefused {
            code,
            member_id: request.member_id.to_string(),
        }),
    };
    describe(outcome, context)
}

fn check(broker: &Broker, request: &JoinGroupRequest) -> Result<(), ResponseError> {
    if request.group_id.is_empty() {
        return Err(ResponseError::InvalidGroupId);
    }
    let session_timeout = i64::from(request.session_timeout_ms);
    if broker.options.session_timeout_ms.contains(&session_timeout) {
        Ok(())
    } else {
        Err(ResponseError::InvalidSessionTimeout)
    }
}

fn translate(request: &JoinGroupRequest, context: &Context) -> JoinRequest {
    let duration =
        |milliseconds: i32| Duration::from_millis(u64::try_from(milliseconds).unwrap_or(0));
    let session_timeout = duration(request.session_timeout_ms);
    let has_rebalance_timeout = context.version >= 1 && request.rebalance_timeout_ms > 0;
    JoinRequest {
        member_id: request.member_id.to_string(),
        instance_id: request.group_instance_id.as_ref().map(StrBytes::to_string),
        client_id: context.client_id.clone(),
        client_host: format!("/{}", context.client_host),
        session_timeout,
        rebalance_timeout: if has_rebalance_timeout {
            duration(request.rebalance_timeout_ms)
        } else {
            session_timeout
        },
        protocol_type: request.protocol_type.to_string(),
        protocols: request
            .protocols
            .iter()
            .map(|known| (known.name.to_string(), known.metadata.clone()))
            .collect(),
        takes_promised_id: context.version >= PROMISES_IDS_SINCE,
        may_skip_assignment: context.version >= SKIPS_ASSIGNMENT_SINCE,
    }
}

fn describe(outcome: Result<Joined, JoinRefused>, context: &Context) -> JoinGroupResponse {
    // Before version 7 the name of the assignor may not be null.
    let nothing = (context.version < 7).then(|| text(""));
    match outcome {
        Ok(joined) => {
            let members = joined
                .members
                .into_iter()
                .map(|(id, instance_id, metadata)| {
                    JoinGroupResponseMember::default()
                        .with_member_id(text(id))
                        .with_group_instance_id(instance_id.map(text))
                        .with_metadata(metadata)
                });
            JoinGroupResponse::default()
                .with_generation_id(joined.generation)
                .with_protocol_type(joined.protocol_type.map(text))
                .with_protocol_name(joined.protocol.map(text).or(nothing))
                .with_leader(text(joined.leader))
                .with_skip_assignment(joined.skip_assignment)
                .with_member_id(text(joined.member_id))
                .with_members(members.collect())
        }
        Err(refused) => JoinGroupResponse::default()
            .with_error_code(refused.code.code())
            .with_generation_id(-1)
            .with_protocol_name(nothing)
            .with_member_id(text(refused.member_id)),
    }
}

/// Serves `SyncGroup`.
pub async fn sync_group(
    broker: &Arc<Broker>,
    request: SyncGroupRequest,
    _: &Context,
) -> SyncGroupResponse {
    let assignments = request
        .assignments
        .iter()
        .map(|given| (given.member_id.to_string(), given.assignment.clone()));
    let instance_id = request.group_instance_id.as_deref();
    let outcome = broker
        .groups
        .sync(
            &request.group_id,
            &request.member_id,
            instance_id,
            request.generation_id,
            assignments.collect(),
        )
        .await;
    match outcome {
        Ok(synced) => SyncGroupResponse::default()
            .with_protocol_type(synced.protocol_type.map(text))
            .with_protocol_name(synced.protocol.map(text))
            .with_assignment(synced.assignment),
        Err(code) => SyncGroupResponse::default().with_error_code(code.code()),
    }
}

/// Serves `Heartbeat`.
pub async fn heartbeat(
    broker: &Arc<Broker>,
    request: HeartbeatRequest,
    _: &Context,
) -> HeartbeatResponse {
    let instance_id = request.group_instance_id.as_deref();
    let outcome = broker.groups.heartbeat(
        &request.group_id,
        &request.member_id,
        instance_id,
        request.generation_id,
    );
    HeartbeatResponse::default().with_error_code(code_of(&outcome))
}

/// Serves `LeaveGroup`.
pub async fn leave_group(
    broker: &Arc<Broker>,
    request: LeaveGroupRequest,
    context: &Context,
) -> LeaveGroupResponse {
    if context.version < 3 {
        let outcome = broker
            .groups
            .leave(&request.group_id, &request.member_id, None);
        return LeaveGroupResponse::default().with_error_code(code_of(&outcome));
    }
    let answered = request.members.into_iter().map(|leaving| {
        let outcome = broker.groups.leave(
            &request.group_id,
            &leaving.member_id,
            leaving.group_instance_id.as_deref(),
        );
        MemberResponse::default()
            .with_member_id(leaving.member_id)
            .with_group_instance_id(leaving.group_instance_id)
            .with_error_code(code_of(&outcome))
    });
    LeaveGroupResponse::default().with_members(answered.collect())
}
