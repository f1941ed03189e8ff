//! `DescribeGroups`, `ListGroups`, `DeleteGroups`.

use std::sync::Arc;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use kafka_protocol::messages::delete_groups_response::DeletableGroupResult;
use kafka_protocol::messages::describe_groups_response::{DescribedGroup, DescribedGroupMember};
use kafka_protocol::messages::list_groups_response::ListedGroup;
use kafka_protocol::messages::{
    DeleteGroupsRequest, DeleteGroupsResponse, DescribeGroupsRequest, DescribeGroupsResponse,
    GroupId, ListGroupsRequest, ListGroupsResponse,
};

use crate::broker::Broker;
use crate::error::wire_code;
use crate::groups::{Group, Phase};
use crate::requests::cluster::NO_AUTHORIZED_OPERATIONS;
use crate::requests::text;
use crate::wire::Context;

const CLASSIC_TYPE: &str = "classic";
const DEAD_STATE: &str = "Dead";

/// Serves `DescribeGroups`.
pub async fn describe_groups(
    broker: &Arc<Broker>,
    request: DescribeGroupsRequest,
    context: &Context,
) -> DescribeGroupsResponse {
    let described = request.groups.into_iter().map(|id| {
        let answer = DescribedGroup::default()
            .with_group_id(id.clone())
            .with_authorized_operations(NO_AUTHORIZED_OPERATIONS);
        match broker.groups.get(&id) {
            Some(group) => describe(&group.lock(), answer),
            None if broker.groups.is_known(&id) => {
                answer.with_group_state(text(Phase::Empty.name()))
            }
            None if context.version >= 6 => answer
                .with_error_code(ResponseError::GroupIdNotFound.code())
                .with_group_state(text(DEAD_STATE)),
            None => answer.with_group_state(text(DEAD_STATE)),
        }
    });
    DescribeGroupsResponse::default().with_groups(described.collect())
}

fn describe(group: &Group, answer: DescribedGroup) -> DescribedGroup {
    let settled = group.phase == Phase::Stable;
    let protocol = group.protocol.clone().unwrap_or_default();
    let members = group.members.values().map(|member| {
        DescribedGroupMember::default()
            .with_member_id(text(&*member.id))
            .with_group_instance_id(member.instance_id.as_deref().map(text))
            .with_client_id(text(&*member.client_id))
            .with_client_host(text(&*member.client_host))
            .with_member_metadata(if settled {
                member.metadata(&protocol)
            } else {
                Bytes::new()
            })
            .with_member_assignment(if settled {
                member.assignment.clone()
            } else {
                Bytes::new()
            })
    });
    answer
        .with_group_state(text(group.phase.name()))
        .with_protocol_type(text(group.protocol_type.clone().unwrap_or_default()))
        .with_protocol_data(text(if settled {
            protocol.clone()
        } else {
            String::new()
        }))
        .with_members(members.collect())
}

/// Serves `ListGroups`.
pub async fn list_groups(
    broker: &Arc<Broker>,
    request: ListGroupsRequest,
    _: &Context,
) -> ListGroupsResponse {
    let wanted = |filter: &[kafka_protocol::protocol::StrBytes], value: &str| {
        filter.is_empty() || filter.iter().any(|word| word.eq_ignore_ascii_case(value))
    };
    let mut listed = Vec::new();
    for name in broker.groups.names() {
        let (state, protocol_type) = match broker.groups.get(&name) {
            Some(group) => {
                let group = group.lock();
                (
                    group.phase.name(),
                    group.protocol_type.clone().unwrap_or_default(),
                )
            }
            None => (Phase::Empty.name(), String::new()),
        };
        if wanted(&request.states_filter, state) && wanted(&request.types_filter, CLASSIC_TYPE) {
            listed.push(
                ListedGroup::default()
                    .with_group_id(GroupId(text(name)))
                    .with_protocol_type(text(protocol_type))
                    .with_group_state(text(state))
                    .with_group_type(text(CLASSIC_TYPE)),
            );
        }
    }
    ListGroupsResponse::default().with_groups(listed)
}

/// Serves `DeleteGroups`.
pub async fn delete_groups(
    broker: &Arc<Broker>,
    request: DeleteGroupsRequest,
    _: &Context,
) -> DeleteGroupsResponse {
    let mut response = DeleteGroupsResponse::default();
    for id in request.groups_names {
        let code = wire_code(&broker.groups.delete(&id).await);
        response.results.push(
            DeletableGroupResult::default()
                .with_group_id(id)
                .with_error_code(code),
        );
    }
    response
}
