//! The group coordinator: Kafka's classic consumer groups and their committed offsets.
//!
//! Each group is a state machine under its own lock; a request that has to wait leaves a reply channel in it. One task
//! lets time pass for all of them and sleeps until the next deadline. Offsets live in the journal.

mod group;
mod joining;
mod member;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kafka_protocol::ResponseError;
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, oneshot};
use tokio::time::Instant;

pub use group::{Group, Phase};
pub use joining::JoinRequest;
pub use member::{JoinRefused, Joined, Synced};

use crate::durability::Syncer;
use crate::error::Refusal;
use crate::state::{CommittedOffset, GroupMembership, Journal, JournalRecord, TopicPartition};
use member::GroupImage;

/// All consumer groups.
pub struct Groups {
    journal: Arc<Journal>,
    syncer: Arc<Syncer>,
    initial_delay: Duration,
    table: RwLock<BTreeMap<String, Arc<Mutex<Group>>>>,
    deadline_moved: Notify,
}

impl Groups {
    /// Takes over the groups that the journal knows as settled.
    pub fn open(journal: Arc<Journal>, syncer: Arc<Syncer>, initial_delay: Duration) -> Self {
        let mut table = BTreeMap::new();
        let memberships: Vec<_> = journal.read(|state| {
            let settled = |(id, group): (&String, &crate::state::GroupState)| {
                Some((id.clone(), group.membership.clone()?))
            };
            state.groups.iter().filter_map(settled).collect()
        });
        for (id, membership) in memberships {
            match serde_json::from_value::<GroupImage>(membership.image) {
                Ok(image) => {
                    let group = Group::from_image(id.clone(), image, initial_delay);
                    table.insert(id, Arc::new(Mutex::new(group)));
                }
                Err(error) => {
                    tracing::warn!(group = id, %error, "members of a group not taken over; they will join again");
                }
            }
        }
        Self {
            journal,
            syncer,
            initial_delay,
            table: RwLock::new(table),
            deadline_moved: Notify::new(),
        }
    }

    /// The group, if it has or had members since the start.
    pub fn get(&self, id: &str) -> Option<Arc<Mutex<Group>>> {
        self.table.read().get(id).cloned()
    }

    /// Names of all groups: those with members and those with offsets.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.table.read().keys().cloned().collect();
        names.extend(
            self.journal
                .read(|state| state.groups.keys().cloned().collect::<Vec<_>>()),
        );
        names.sort_unstable();
        names.dedup();
        names
    }

    /// Whether the group has members or offsets.
    pub fn is_known(&self, id: &str) -> bool {
        self.get(id).is_some() || self.journal.read(|state| state.groups.contains_key(id))
    }

    /// `JoinGroup`.
    pub async fn join(&self, id: &str, request: JoinRequest) -> Result<Joined, JoinRefused> {
        let member_id = request.member_id.clone();
        let (reply, answer) = oneshot::channel();
        let group = self.get_or_create(id);
        self.change(&group, |group| group.join(request, reply));
        answer.await.unwrap_or(Err(JoinRefused {
            code: ResponseError::CoordinatorNotAvailable,
            member_id,
        }))
    }

    /// `SyncGroup`.
    pub async fn sync(
        &self,
        id: &str,
        member_id: &str,
        instance_id: Option<&str>,
        generation: i32,
        assignments: Vec<(String, bytes::Bytes)>,
    ) -> Result<Synced, ResponseError> {
        let group = self.get(id).ok_or(ResponseError::UnknownMemberId)?;
        let (reply, answer) = oneshot::channel();
        self.change(&group, |group| {
            group.check_member(member_id, instance_id, generation)?;
            group.sync(member_id, assignments, reply);
            Ok::<_, ResponseError>(())
        })?;
        answer
            .await
            .unwrap_or(Err(ResponseError::CoordinatorNotAvailable))
    }

    /// `Heartbeat`.
    pub fn heartbeat(
        &self,
        id: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let group = self.get(id).ok_or(ResponseError::UnknownMemberId)?;
        group.lock().heartbeat(member, instance, generation)
    }

    /// `LeaveGroup` of one member.
    pub fn leave(
        &self,
        id: &str,
        member_id: &str,
        instance_id: Option<&str>,
    ) -> Result<(), ResponseError> {
        let group = self.get(id).ok_or(ResponseError::UnknownMemberId)?;
        self.change(&group, |group| group.leave(member_id, instance_id))
    }

    /// Whether this consumer may commit offsets for the group now.
    pub fn check_commit(
        &self,
        id: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        let group = self.get(id);
        let Some(group) = group else {
            return if generation < 0 {
                Ok(())
            } else {
                Err(ResponseError::IllegalGeneration)
            };
        };
        let mut group = group.lock();
        if generation < 0 && group.phase == Phase::Empty {
            return Ok(());
        }
        group.check_member(member, instance, generation)?;
        if let Some(member) = group.members.get_mut(member) {
            member.touch();
        }
        if group.phase == Phase::Syncing {
            Err(ResponseError::RebalanceInProgress)
        } else {
            Ok(())
        }
    }

    /// Whether a transaction of this consumer may carry offsets of the group (KIP-447). A producer that names neither
    /// member nor generation is not checked, as in Kafka.
    pub fn check_transactional_commit(
        &self,
        id: &str,
        member: &str,
        instance: Option<&str>,
        generation: i32,
    ) -> Result<(), ResponseError> {
        if generation < 0 && member.is_empty() && instance.is_none() {
            return Ok(());
        }
        let group = self.get(id).ok_or(ResponseError::UnknownMemberId)?;
        let mut group = group.lock();
        group.check_member(member, instance, generation)?;
        if let Some(member) = group.members.get_mut(member) {
            member.touch();
        }
        Ok(())
    }

    /// Records offsets; when this returns they are as durable as the broker promises.
    pub async fn commit(
        &self,
        id: &str,
        offsets: Vec<(TopicPartition, CommittedOffset)>,
    ) -> Result<(), Refusal> {
        let record = JournalRecord::OffsetsCommitted {
            group: id.to_owned(),
            offsets,
        };
        self.journal
            .commit(&self.syncer, record)
            .await
            .map_err(|error| unavailable(&error))
    }

    /// Committed offsets of the group.
    pub fn offsets(&self, id: &str) -> BTreeMap<TopicPartition, CommittedOffset> {
        self.journal
            .read(|state| state.groups.get(id).map(|group| group.offsets.clone()))
            .unwrap_or_default()
    }

    /// `DeleteGroups` of one group: only without members.
    pub async fn delete(&self, id: &str) -> Result<(), Refusal> {
        if !self.is_known(id) {
            return Err(ResponseError::GroupIdNotFound.into());
        }
        {
            let mut table = self.table.write();
            if let Some(group) = table.get(id) {
                let group = group.lock();
                if group.phase != Phase::Empty || !group.promised.is_empty() {
                    return Err(ResponseError::NonEmptyGroup.into());
                }
            }
            table.remove(id);
        }
        let record = JournalRecord::GroupDeleted {
            group: id.to_owned(),
        };
        self.journal
            .commit(&self.syncer, record)
            .await
            .map_err(|error| unavailable(&error))
    }

    /// `OffsetDelete`: forgets offsets of these partitions.
    pub async fn delete_offsets(
        &self,
        id: &str,
        partitions: Vec<TopicPartition>,
    ) -> Result<(), Refusal> {
        let record = JournalRecord::OffsetsDeleted {
            group: id.to_owned(),
            partitions,
        };
        self.journal
            .commit(&self.syncer, record)
            .await
            .map_err(|error| unavailable(&error))
    }

    /// Lets time pass for all groups until the broker stops.
    pub async fn housekeep(self: Arc<Self>) {
        loop {
            let groups: Vec<_> = self.table.read().values().cloned().collect();
            let now = Instant::now();
            let mut next: Option<Instant> = None;
            for group in groups {
                let mut group = group.lock();
                let deadline = group.tick(now);
                self.save(&mut group);
                next = [next, deadline].into_iter().flatten().min();
            }
            match next {
                Some(deadline) => {
                    let _ = tokio::time::timeout_at(deadline, self.deadline_moved.notified()).await;
                }
                None => self.deadline_moved.notified().await,
            }
        }
    }

    fn get_or_create(&self, id: &str) -> Arc<Mutex<Group>> {
        if let Some(group) = self.get(id) {
            return group;
        }
        let fresh = || Arc::new(Mutex::new(Group::new(id.to_owned(), self.initial_delay)));
        Arc::clone(
            self.table
                .write()
                .entry(id.to_owned())
                .or_insert_with(fresh),
        )
    }

    fn change<T>(&self, group: &Mutex<Group>, change: impl FnOnce(&mut Group) -> T) -> T {
        let mut group = group.lock();
        let outcome = change(&mut group);
        self.save(&mut group);
        drop(group);
        self.deadline_moved.notify_one();
        outcome
    }

    /// The image only saves members a rebalance after a restart: if it cannot be written, they join again then.
    fn save(&self, group: &mut Group) {
        let Some(image) = group.take_unsaved() else {
            return;
        };
        let membership = image
            .and_then(|image| serde_json::to_value(image).ok())
            .map(|image| GroupMembership { image });
        let record = JournalRecord::GroupSettled {
            group: group.id.clone(),
            membership,
        };
        if let Err(error) = self.journal.append(record) {
            tracing::warn!(group = group.id, %error, "members of the group not recorded; they will join again after a restart");
        }
    }
}

/// A coordinator that cannot write tells its clients to try again, as Kafka's does.
fn unavailable(error: &dyn std::fmt::Display) -> Refusal {
    Refusal::new(ResponseError::CoordinatorNotAvailable, error.to_string())
}
