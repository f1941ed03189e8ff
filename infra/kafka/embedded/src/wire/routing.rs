//! From a frame to its answer: header, shape, decoder, the function that serves the request, encoder.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::{Buf, BufMut, Bytes, BytesMut};
use futures::FutureExt;
use kafka_protocol::messages::{ApiKey, ResponseHeader};
use kafka_protocol::protocol::{Decodable, Encodable};

use super::connection::{Answer, WireError};
use super::served::served;
use super::shape::Api;
use crate::admin;
use crate::broker::Broker;
use crate::requests::{cluster, fetch, group_offsets, membership, offsets, produce, transactions};

/// What a request's function knows of the request besides its body.
#[derive(Clone, Debug)]
pub struct Context {
    /// The version of the request.
    pub version: i16,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    key: ApiKey,
    correlation_id: i32,
}

/// Starts a request. A produce is appended before this returns, so that appends keep the order of their frames.
pub fn start(
    broker: &Arc<Broker>,
    peer: SocketAddr,
    mut frame: Bytes,
) -> Result<Answer, WireError> {
    if frame.len() < 8 {
        return Err(WireError::Header);
    }
    let (key, version, correlation_id) = (frame.get_i16(), frame.get_i16(), frame.get_i32());
    let not_served = WireError::NotServed { key, version };
    let Some(api) = served(key) else {
        return Err(not_served);
    };
    let mut context = Context {
        version,
        client_id: String::new(),
        client_host: peer.ip().to_string(),
        key: api.key,
        correlation_id,
    };
    if !api.serves(version) {
        if api.key == ApiKey::ApiVersions {
            // A newer client asks with a version that it hopes for; Kafka answers such a one in version 0.
            context.version = 0;
            return Ok(answer(context, async { cluster::api_versions(true) }));
        }
        return Err(not_served);
    }
    let malformed = |reason| WireError::Shape {
        key,
        version,
        reason,
    };
    context.client_id = take_client_id(&mut frame)?;
    let body_start = frame.len()
        - api
            .skip_header_tags(version, &frame)
            .map_err(malformed)?
            .len();
    frame.advance(body_start);
    api.check(version, &frame).map_err(malformed)?;
    let answer = route(broker, api, context, frame)?;
    Ok(match api.key {
        // They wait for others, perhaps long, and change nothing while they do: they end with their connection.
        ApiKey::Fetch | ApiKey::JoinGroup | ApiKey::SyncGroup => answer,
        _ => uninterrupted(answer),
    })
}

/// Once begun, a request is done to its end although its client has gone: half an `EndTxn` would leave a transaction that
/// nobody has decided.
fn uninterrupted(answer: Answer) -> Answer {
    async move {
        let done = tokio::spawn(answer).await;
        done.unwrap_or_else(|error| Err(WireError::Io(std::io::Error::other(error))))
    }
    .boxed()
}

fn take_client_id(frame: &mut Bytes) -> Result<String, WireError> {
    if frame.len() < 2 {
        return Err(WireError::Header);
    }
    let length = usize::try_from(frame.get_i16()).unwrap_or(0);
    if frame.len() < length {
        return Err(WireError::Header);
    }
    let bytes = frame.split_to(length);
    std::str::from_utf8(&bytes)
        .map(str::to_owned)
        .map_err(|_| WireError::Header)
}

fn decode<T: Decodable>(context: &Context, mut body: Bytes) -> Result<T, WireError> {
    T::decode(&mut body, context.version).map_err(|error| WireError::Decode {
        key: context.key as i16,
        version: context.version,
        reason: error.to_string(),
    })
}

/// Passes the decoded request to its function and encodes what that returns.
macro_rules! pass {
    ($function:path, $broker:expr, $context:expr, $body:expr) => {{
        let (broker, context) = (Arc::clone($broker), $context);
        let request = decode(&context, $body)?;
        let for_function = context.clone();
        Ok(answer(context, async move {
            $function(&broker, request, &for_function).await
        }))
    }};
}

fn route(
    broker: &Arc<Broker>,
    api: &Api,
    context: Context,
    body: Bytes,
) -> Result<Answer, WireError> {
    match api.key {
        ApiKey::Produce => {
            let pending = produce::append(broker, decode(&context, body)?);
            if pending.wants_no_answer() {
                return Ok(async { Ok(None) }.boxed());
            }
            let broker = Arc::clone(broker);
            Ok(answer(
                context,
                async move { pending.settle(&broker).await },
            ))
        }
        ApiKey::Fetch => pass!(fetch::fetch, broker, context, body),
        ApiKey::ListOffsets => pass!(offsets::list_offsets, broker, context, body),
        ApiKey::OffsetForLeaderEpoch => {
            pass!(offsets::offset_for_leader_epoch, broker, context, body)
        }
        ApiKey::ApiVersions => Ok(answer(context, async { cluster::api_versions(false) })),
        ApiKey::Metadata => pass!(cluster::metadata, broker, context, body),
        ApiKey::DescribeCluster => pass!(cluster::describe_cluster, broker, context, body),
        ApiKey::FindCoordinator => pass!(cluster::find_coordinator, broker, context, body),
        ApiKey::JoinGroup => pass!(membership::join_group, broker, context, body),
        ApiKey::SyncGroup => pass!(membership::sync_group, broker, context, body),
        ApiKey::Heartbeat => pass!(membership::heartbeat, broker, context, body),
        ApiKey::LeaveGroup => pass!(membership::leave_group, broker, context, body),
        ApiKey::OffsetCommit => pass!(group_offsets::offset_commit, broker, context, body),
        ApiKey::OffsetFetch => pass!(group_offsets::offset_fetch, broker, context, body),
        ApiKey::OffsetDelete => pass!(group_offsets::offset_delete, broker, context, body),
        ApiKey::InitProducerId => pass!(transactions::init_producer_id, broker, context, body),
        ApiKey::AddPartitionsToTxn => {
            pass!(transactions::add_partitions_to_txn, broker, context, body)
        }
        ApiKey::AddOffsetsToTxn => pass!(transactions::add_offsets_to_txn, broker, context, body),
        ApiKey::TxnOffsetCommit => pass!(transactions::txn_offset_commit, broker, context, body),
        ApiKey::EndTxn => pass!(transactions::end_txn, broker, context, body),
        _ => route_admin(broker, context, body),
    }
}

fn route_admin(broker: &Arc<Broker>, context: Context, body: Bytes) -> Result<Answer, WireError> {
    match context.key {
        ApiKey::CreateTopics => pass!(admin::topics::create_topics, broker, context, body),
        ApiKey::DeleteTopics => pass!(admin::topics::delete_topics, broker, context, body),
        ApiKey::CreatePartitions => pass!(admin::topics::create_partitions, broker, context, body),
        ApiKey::DeleteRecords => pass!(admin::topics::delete_records, broker, context, body),
        ApiKey::DescribeConfigs => pass!(admin::configs::describe_configs, broker, context, body),
        ApiKey::AlterConfigs => pass!(admin::configs::alter_configs, broker, context, body),
        ApiKey::IncrementalAlterConfigs => pass!(
            admin::configs::incremental_alter_configs,
            broker,
            context,
            body
        ),
        ApiKey::DescribeGroups => pass!(admin::groups::describe_groups, broker, context, body),
        ApiKey::ListGroups => pass!(admin::groups::list_groups, broker, context, body),
        ApiKey::DeleteGroups => pass!(admin::groups::delete_groups, broker, context, body),
        ApiKey::DescribeProducers => {
            pass!(admin::inspection::describe_producers, broker, context, body)
        }
        ApiKey::DescribeTransactions => pass!(
            admin::inspection::describe_transactions,
            broker,
            context,
            body
        ),
        ApiKey::ListTransactions => {
            pass!(admin::inspection::list_transactions, broker, context, body)
        }
        ApiKey::DescribeLogDirs => {
            pass!(admin::inspection::describe_log_dirs, broker, context, body)
        }
        other => Err(WireError::NotServed {
            key: other as i16,
            version: context.version,
        }),
    }
}

fn answer<R, F>(context: Context, response: F) -> Answer
where
    R: Encodable + Send,
    F: Future<Output = R> + Send + 'static,
{
    async move {
        let response = response.await;
        let (key, version) = (context.key as i16, context.version);
        encode(&context, &response)
            .map(Some)
            .map_err(|reason| WireError::Encode {
                key,
                version,
                reason,
            })
    }
    .boxed()
}

fn encode<R: Encodable>(context: &Context, response: &R) -> Result<BytesMut, String> {
    let header_version = context.key.response_header_version(context.version);
    let header = ResponseHeader::default().with_correlation_id(context.correlation_id);
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let body_bytes = response
        .compute_size(context.version)
        .map_err(|error| text(&error))?;
    let mut frame = BytesMut::with_capacity(body_bytes + 16);
    frame.put_i32(0);
    header
        .encode(&mut frame, header_version)
        .map_err(|error| text(&error))?;
    response
        .encode(&mut frame, context.version)
        .map_err(|error| text(&error))?;
    let length = i32::try_from(frame.len() - 4).map_err(|error| text(&error))?;
    frame[..4].copy_from_slice(&length.to_be_bytes());
    Ok(frame)
}
