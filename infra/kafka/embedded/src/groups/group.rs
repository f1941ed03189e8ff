//! The state machine of one consumer group (Kafka's classic protocol): who is in it, and the rebalance it is in.
//!
//! ```text
//!   Empty ──join──▶ Joining ──all joined, or time is up──▶ Syncing ──leader's assignment──▶ Stable
//!                     ▲  ▲                                    │                               │
//!                     │  └──────── join, leave, expiry ───────┴───────────────────────────────┘
//! ```
//!
//! Invariants: a generation's members are those that joined it; an answer for an old generation never changes anything;
//! every waiting join and sync is answered when its phase ends.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use kafka_protocol::ResponseError;
use tokio::time::Instant;

use super::member::{GroupImage, JoinRefused, Joined, Member, MemberImage, Synced};

/// Where the group stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// No members.
    Empty,
    /// Members are (re)joining. Kafka calls it `PreparingRebalance`.
    Joining,
    /// The leader is assigning. Kafka calls it `CompletingRebalance`.
    Syncing,
    /// Every member has its assignment.
    Stable,
}

impl Phase {
    /// Kafka's name for it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Empty => "Empty",
            Self::Joining => "PreparingRebalance",
            Self::Syncing => "CompletingRebalance",
            Self::Stable => "Stable",
        }
    }
}

/// One group.
pub struct Group {
    /// Its name.
    pub id: String,
    /// Where it stands.
    pub phase: Phase,
    /// How many rebalances it has been through.
    pub generation: i32,
    /// For example `consumer`.
    pub protocol_type: Option<String>,
    /// The assignor of this generation.
    pub protocol: Option<String>,
    /// Who assigns.
    pub leader: Option<String>,
    /// Members by id.
    pub members: BTreeMap<String, Member>,
    /// Ids given to members that have yet to join with them, and until when they are kept.
    pub promised: HashMap<String, Instant>,
    /// When the current phase is over whoever is missing.
    pub(super) phase_deadline: Option<Instant>,
    /// The first rebalance of an empty group waits a little for more members.
    pub(super) initial_wait: Option<InitialWait>,
    pub(super) initial_delay: Duration,
    /// Something happened that the journal should know: the image of the settled group, or that it is empty.
    pub(super) unsaved: bool,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct InitialWait {
    /// When it is over unless somebody joined meanwhile.
    pub until: Instant,
    /// When it is over in any case.
    pub at_most_until: Instant,
    /// Somebody joined since `until` was set.
    pub grew: bool,
}

impl Group {
    /// A group without members.
    pub fn new(id: String, initial_delay: Duration) -> Self {
        Self {
            id,
            phase: Phase::Empty,
            generation: 0,
            protocol_type: None,
            protocol: None,
            leader: None,
            members: BTreeMap::new(),
            promised: HashMap::new(),
            phase_deadline: None,
            initial_wait: None,
            initial_delay,
            unsaved: false,
        }
    }

    /// A settled group as the journal kept it; its members have their session time-out to be heard of again.
    pub fn from_image(id: String, image: GroupImage, initial_delay: Duration) -> Self {
        let members = image
            .members
            .into_iter()
            .map(Member::from)
            .map(|member| (member.id.clone(), member));
        Self {
            phase: Phase::Stable,
            generation: image.generation,
            protocol_type: image.protocol_type,
            protocol: image.protocol,
            leader: image.leader,
            members: members.collect(),
            ..Self::new(id, initial_delay)
        }
    }

    /// What the journal should keep, if it has changed: an image, or none for a group without members.
    #[expect(
        clippy::option_option,
        reason = "nothing changed, and changed to nothing, are different things"
    )]
    pub fn take_unsaved(&mut self) -> Option<Option<GroupImage>> {
        if !std::mem::take(&mut self.unsaved) {
            return None;
        }
        Some((self.phase == Phase::Stable).then(|| GroupImage {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader: self.leader.clone(),
            members: self.members.values().map(MemberImage::from).collect(),
        }))
    }

    /// Checks that a request comes from a member of this generation.
    pub fn check_member(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.check_identity(member_id, instance_id)?;
        if generation == self.generation {
            Ok(())
        } else {
            Err(ResponseError::IllegalGeneration)
        }
    }

    /// Checks that a request comes from a member, and that no other process has taken its instance id over.
    pub fn check_identity(
        &self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if let Some(instance_id) = instance_id {
            match self.instance(instance_id) {
                Some(holder) if holder != member_id => return Err(ResponseError::FencedInstanceId),
                None => return Err(ResponseError::UnknownMemberId),
                Some(_) => {}
            }
        }
        if self.members.contains_key(member_id) {
            Ok(())
        } else {
            Err(ResponseError::UnknownMemberId)
        }
    }

    /// The member id that holds an instance id.
    pub fn instance(&self, instance_id: &str) -> Option<&str> {
        let held = |member: &&Member| member.instance_id.as_deref() == Some(instance_id);
        self.members
            .values()
            .find(held)
            .map(|member| member.id.as_str())
    }

    /// `Heartbeat`.
    pub fn heartbeat(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        self.check_member(member_id, instance_id, generation)?;
        if let Some(member) = self.members.get_mut(member_id) {
            member.touch();
        }
        if self.phase == Phase::Joining {
            Err(ResponseError::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// `LeaveGroup` of one member, by its id or its instance id.
    pub fn leave(
        &mut self,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        if self.promised.remove(member_id).is_some() {
            self.complete_join_if_all_are_here();
            return Ok(());
        }
        let member_id = match instance_id {
            Some(instance_id) => match self.instance(instance_id) {
                None => return Err(ResponseError::UnknownMemberId),
                Some(holder) if !member_id.is_empty() && holder != member_id => {
                    return Err(ResponseError::FencedInstanceId);
                }
                Some(holder) => holder.to_owned(),
            },
            None => member_id.to_owned(),
        };
        self.remove(&member_id, ResponseError::UnknownMemberId)
    }

    /// Removes a member; whoever waits under its name is told `code`.
    pub(super) fn remove(
        &mut self,
        member_id: &str,
        code: ResponseError,
    ) -> Result<(), ResponseError> {
        let mut member = self
            .members
            .remove(member_id)
            .ok_or(ResponseError::UnknownMemberId)?;
        member.answer_join(Err(JoinRefused {
            code,
            member_id: member.id.clone(),
        }));
        member.answer_sync(Err(code));
        if self.leader.as_deref() == Some(member_id) {
            self.leader = self.members.keys().next().cloned();
        }
        match self.phase {
            Phase::Stable | Phase::Syncing => self.start_rebalance(),
            Phase::Joining => self.complete_join_if_all_are_here(),
            Phase::Empty => {}
        }
        Ok(())
    }

    /// `SyncGroup`: the leader brings the assignment, the others wait for it.
    pub fn sync(
        &mut self,
        member_id: &str,
        assignments: Vec<(String, bytes::Bytes)>,
        reply: super::member::SyncReply,
    ) {
        let synced = |group: &Self, assignment: bytes::Bytes| Synced {
            protocol_type: group.protocol_type.clone(),
            protocol: group.protocol.clone(),
            assignment,
        };
        match self.phase {
            Phase::Empty => drop(reply.send(Err(ResponseError::UnknownMemberId))),
            Phase::Joining => drop(reply.send(Err(ResponseError::RebalanceInProgress))),
            Phase::Stable => {
                let assignment = self
                    .members
                    .get(member_id)
                    .map(|member| member.assignment.clone());
                if let Some(member) = self.members.get_mut(member_id) {
                    member.touch();
                }
                drop(reply.send(Ok(synced(self, assignment.unwrap_or_default()))));
            }
            Phase::Syncing => {
                if let Some(member) = self.members.get_mut(member_id) {
                    member.touch();
                    member.sync_reply = Some(reply);
                }
                if self.leader.as_deref() != Some(member_id) {
                    return;
                }
                let mut by_member: HashMap<String, bytes::Bytes> =
                    assignments.into_iter().collect();
                let template = synced(self, bytes::Bytes::new());
                for member in self.members.values_mut() {
                    // Copied, so that the request's buffer does not live as long as the generation.
                    let assignment = by_member.remove(&member.id).unwrap_or_default();
                    member.assignment = bytes::Bytes::copy_from_slice(&assignment);
                    let answer = Synced {
                        assignment: member.assignment.clone(),
                        ..template.clone()
                    };
                    member.answer_sync(Ok(answer));
                    member.touch();
                }
                self.phase = Phase::Stable;
                self.phase_deadline = None;
                self.unsaved = true;
            }
        }
    }

    /// Lets time pass: sessions that ran out, rebalances that waited long enough. Returns when to be called again.
    pub fn tick(&mut self, now: Instant) -> Option<Instant> {
        let promised_before = self.promised.len();
        self.promised.retain(|_, until| *until > now);
        let expired: Vec<String> = self
            .members
            .values()
            .filter(|member| !member.is_waiting() && member.session_deadline <= now)
            .map(|member| member.id.clone())
            .collect();
        for member_id in expired {
            tracing::info!(
                group = self.id,
                member_id,
                "member was not heard of within its session time-out; removing it"
            );
            // It was there a moment ago.
            let _ = self.remove(&member_id, ResponseError::UnknownMemberId);
        }
        if self.promised.len() < promised_before {
            self.complete_join_if_all_are_here();
        }
        match self.phase {
            Phase::Joining => self.tick_joining(now),
            Phase::Syncing if self.phase_deadline.is_some_and(|deadline| deadline <= now) => {
                self.drop_unsynced();
            }
            _ => {}
        }
        let sessions = self
            .members
            .values()
            .filter(|member| !member.is_waiting())
            .map(|member| member.session_deadline);
        let waits = [
            self.phase_deadline,
            self.initial_wait.map(|wait| wait.until),
        ];
        sessions
            .chain(self.promised.values().copied())
            .chain(waits.into_iter().flatten())
            .min()
    }

    /// What a member that asks again in a settled generation is told.
    pub(super) fn joined(&self, member_id: &str) -> Joined {
        let leader = self.leader.clone().unwrap_or_default();
        let protocol = self.protocol.clone().unwrap_or_default();
        let members = if leader == member_id {
            let described = |member: &Member| {
                (
                    member.id.clone(),
                    member.instance_id.clone(),
                    member.metadata(&protocol),
                )
            };
            self.members.values().map(described).collect()
        } else {
            Vec::new()
        };
        Joined {
            generation: self.generation,
            protocol_type: self.protocol_type.clone(),
            protocol: self.protocol.clone(),
            leader,
            member_id: member_id.to_owned(),
            skip_assignment: false,
            members,
        }
    }
}
