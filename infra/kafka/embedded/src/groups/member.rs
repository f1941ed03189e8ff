//! One member of a consumer group, and the image of a group that the journal keeps.

use bytes::Bytes;
use kafka_protocol::ResponseError;
use serde::{Deserialize, Serialize};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// What a member that joins is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Joined {
    /// The generation that it is part of.
    pub generation: i32,
    /// For example `consumer`.
    pub protocol_type: Option<String>,
    /// The assignor that all members know.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: String,
    /// The id that the member has.
    pub member_id: String,
    /// The leader already has the assignment and need not make one.
    pub skip_assignment: bool,
    /// All members: for the leader only.
    pub members: Vec<(String, Option<String>, Bytes)>,
}

/// A join was refused; the id is the one that the member should use next.
#[derive(Clone, Debug, PartialEq)]
pub struct JoinRefused {
    /// Why.
    pub code: ResponseError,
    /// The member's id.
    pub member_id: String,
}

/// What a member that syncs is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Synced {
    /// For example `consumer`.
    pub protocol_type: Option<String>,
    /// The assignor.
    pub protocol: Option<String>,
    /// What the leader gave this member.
    pub assignment: Bytes,
}

/// Where a join is answered.
pub type JoinReply = oneshot::Sender<Result<Joined, JoinRefused>>;
/// Where a sync is answered.
pub type SyncReply = oneshot::Sender<Result<Synced, ResponseError>>;

/// One member.
pub struct Member {
    /// Its id, given by the coordinator.
    pub id: String,
    /// Its own lasting name, if it is a static member.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Without a heartbeat for this long it is gone.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// The assignors it knows, most wanted first, with their metadata.
    pub protocols: Vec<(String, Bytes)>,
    /// What the leader gave it.
    pub assignment: Bytes,
    /// It waits for the rebalance to complete.
    pub join_reply: Option<JoinReply>,
    /// It waits for the leader's assignment.
    pub sync_reply: Option<SyncReply>,
    /// When it is gone.
    pub session_deadline: Instant,
}

impl Member {
    /// It was heard of.
    pub fn touch(&mut self) {
        self.session_deadline = Instant::now() + self.session_timeout;
    }

    /// A member that waits for the coordinator cannot send heartbeats.
    pub fn is_waiting(&self) -> bool {
        let waits_for_join = self
            .join_reply
            .as_ref()
            .is_some_and(|reply| !reply.is_closed());
        waits_for_join
            || self
                .sync_reply
                .as_ref()
                .is_some_and(|reply| !reply.is_closed())
    }

    /// Whether it knows the assignor.
    pub fn knows(&self, protocol: &str) -> bool {
        self.protocols.iter().any(|(name, _)| name == protocol)
    }

    /// Its metadata for the assignor.
    pub fn metadata(&self, protocol: &str) -> Bytes {
        self.protocols
            .iter()
            .find(|(name, _)| name == protocol)
            .map_or_else(Bytes::new, |(_, bytes)| bytes.clone())
    }

    /// Answers a waiting join.
    pub fn answer_join(&mut self, answer: Result<Joined, JoinRefused>) {
        if let Some(reply) = self.join_reply.take() {
            // Whoever asked may be gone; its session then runs out.
            let _ = reply.send(answer);
        }
    }

    /// Answers a waiting sync.
    pub fn answer_sync(&mut self, answer: Result<Synced, ResponseError>) {
        if let Some(reply) = self.sync_reply.take() {
            let _ = reply.send(answer);
        }
    }
}

/// A settled group as the journal keeps it, so that a restart of the broker is no rebalance.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GroupImage {
    /// The generation.
    pub generation: i32,
    /// For example `consumer`.
    pub protocol_type: Option<String>,
    /// The assignor.
    pub protocol: Option<String>,
    /// Who assigned.
    pub leader: Option<String>,
    /// The members.
    pub members: Vec<MemberImage>,
}

/// One member in a [`GroupImage`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MemberImage {
    id: String,
    instance_id: Option<String>,
    client_id: String,
    client_host: String,
    session_timeout_ms: u64,
    rebalance_timeout_ms: u64,
    protocols: Vec<(String, Vec<u8>)>,
    assignment: Vec<u8>,
}

impl From<&Member> for MemberImage {
    fn from(member: &Member) -> Self {
        let milliseconds =
            |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            id: member.id.clone(),
            instance_id: member.instance_id.clone(),
            client_id: member.client_id.clone(),
            client_host: member.client_host.clone(),
            session_timeout_ms: milliseconds(member.session_timeout),
            rebalance_timeout_ms: milliseconds(member.rebalance_timeout),
            protocols: member
                .protocols
                .iter()
                .map(|(name, bytes)| (name.clone(), bytes.to_vec()))
                .collect(),
            assignment: member.assignment.to_vec(),
        }
    }
}

impl From<MemberImage> for Member {
    fn from(image: MemberImage) -> Self {
        let session_timeout = Duration::from_millis(image.session_timeout_ms);
        Self {
            id: image.id,
            instance_id: image.instance_id,
            client_id: image.client_id,
            client_host: image.client_host,
            session_timeout,
            rebalance_timeout: Duration::from_millis(image.rebalance_timeout_ms),
            protocols: image
                .protocols
                .into_iter()
                .map(|(name, bytes)| (name, bytes.into()))
                .collect(),
            assignment: image.assignment.into(),
            join_reply: None,
            sync_reply: None,
            session_deadline: Instant::now() + session_timeout,
        }
    }
}
