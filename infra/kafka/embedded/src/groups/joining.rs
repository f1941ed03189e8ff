//! Joining a group: giving out member ids, starting rebalances, and completing them.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use kafka_protocol::ResponseError;
use tokio::time::Instant;
use uuid::Uuid;

use super::group::{Group, InitialWait, Phase};
use super::member::{JoinRefused, JoinReply, Joined, Member};

/// `JoinGroup` as the group needs it.
pub struct JoinRequest {
    /// Empty for a member that has no id yet.
    pub member_id: String,
    /// For static members.
    pub instance_id: Option<String>,
    /// The client's name for itself.
    pub client_id: String,
    /// Where it connects from.
    pub client_host: String,
    /// Without a heartbeat for this long it is gone.
    pub session_timeout: Duration,
    /// How long a rebalance waits for it.
    pub rebalance_timeout: Duration,
    /// For example `consumer`.
    pub protocol_type: String,
    /// The assignors it knows, most wanted first.
    pub protocols: Vec<(String, Bytes)>,
    /// The client knows the error that hands it its id.
    pub takes_promised_id: bool,
    /// The client knows that a leader may be told to keep the assignment.
    pub may_skip_assignment: bool,
}

impl Group {
    /// `JoinGroup`. The reply comes at once, or when the rebalance completes.
    pub fn join(&mut self, request: JoinRequest, reply: JoinReply) {
        if let Err(code) = self.check_protocols(&request) {
            refuse(reply, code, &request.member_id);
            return;
        }
        if request.member_id.is_empty() {
            self.join_without_id(request, reply);
        } else if self.promised.remove(&request.member_id).is_some() {
            let id = request.member_id.clone();
            self.admit(request, id, reply);
        } else if let Err(code) =
            self.check_identity(&request.member_id, request.instance_id.as_deref())
        {
            refuse(reply, code, &request.member_id);
        } else {
            self.rejoin(request, reply);
        }
    }

    fn check_protocols(&self, request: &JoinRequest) -> Result<(), ResponseError> {
        if request.protocols.is_empty() || request.protocol_type.is_empty() {
            return Err(ResponseError::InconsistentGroupProtocol);
        }
        if self.members.is_empty() {
            return Ok(());
        }
        let others = || {
            self.members
                .values()
                .filter(|member| member.id != request.member_id)
        };
        let shared = |(name, _): &(String, Bytes)| others().all(|member| member.knows(name));
        let same_type = self
            .protocol_type
            .as_ref()
            .is_none_or(|known| *known == request.protocol_type);
        if same_type && request.protocols.iter().any(shared) {
            Ok(())
        } else {
            Err(ResponseError::InconsistentGroupProtocol)
        }
    }

    fn join_without_id(&mut self, request: JoinRequest, reply: JoinReply) {
        let holder = request
            .instance_id
            .as_deref()
            .and_then(|instance| self.instance(instance))
            .map(str::to_owned);
        let prefix = request.instance_id.as_deref().unwrap_or(&request.client_id);
        let id = format!("{prefix}-{}", Uuid::new_v4());
        if let Some(holder) = holder {
            self.replace_static(request, &holder, id, reply);
        } else if request.instance_id.is_none() && request.takes_promised_id {
            self.promised
                .insert(id.clone(), Instant::now() + request.session_timeout);
            refuse(reply, ResponseError::MemberIdRequired, &id);
        } else {
            self.admit(request, id, reply);
        }
    }

    fn admit(&mut self, request: JoinRequest, id: String, reply: JoinReply) {
        self.protocol_type = Some(request.protocol_type);
        if self.leader.is_none() {
            self.leader = Some(id.clone());
        }
        let member = Member {
            id: id.clone(),
            instance_id: request.instance_id,
            client_id: request.client_id,
            client_host: request.client_host,
            session_deadline: Instant::now() + request.session_timeout,
            session_timeout: request.session_timeout,
            rebalance_timeout: request.rebalance_timeout,
            protocols: copied(&request.protocols),
            assignment: Bytes::new(),
            join_reply: Some(reply),
            sync_reply: None,
        };
        self.members.insert(id, member);
        if let Some(wait) = &mut self.initial_wait {
            wait.grew = true;
        }
        if self.phase == Phase::Joining {
            self.complete_join_if_all_are_here();
        } else {
            self.start_rebalance();
        }
    }

    fn rejoin(&mut self, request: JoinRequest, reply: JoinReply) {
        let id = request.member_id;
        let protocols = copied(&request.protocols);
        let is_leader = self.leader.as_deref() == Some(id.as_str());
        let current = self.joined(&id);
        let Some(member) = self.members.get_mut(&id) else {
            refuse(reply, ResponseError::UnknownMemberId, &id);
            return;
        };
        let unchanged = member.protocols == protocols;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.touch();
        let answered_at_once = match self.phase {
            Phase::Syncing => unchanged,
            Phase::Stable => unchanged && !is_leader,
            Phase::Joining | Phase::Empty => false,
        };
        if answered_at_once {
            drop(reply.send(Ok(current)));
            return;
        }
        member.protocols = protocols;
        if let Some(earlier) = member.join_reply.replace(reply) {
            refuse(earlier, ResponseError::RebalanceInProgress, &id);
        }
        if self.phase == Phase::Joining {
            self.complete_join_if_all_are_here();
        } else {
            self.start_rebalance();
        }
    }

    /// A static member came back without its id: it takes its place over, and whoever held it is fenced. In a settled
    /// group that is no rebalance.
    fn replace_static(&mut self, request: JoinRequest, holder: &str, id: String, reply: JoinReply) {
        let Some(mut member) = self.members.remove(holder) else {
            refuse(reply, ResponseError::UnknownMemberId, &id);
            return;
        };
        let fenced = ResponseError::FencedInstanceId;
        member.answer_join(Err(JoinRefused {
            code: fenced,
            member_id: holder.to_owned(),
        }));
        member.answer_sync(Err(fenced));
        let was_leader = self.leader.as_deref() == Some(holder);
        if was_leader {
            self.leader = Some(id.clone());
        }
        let protocols = copied(&request.protocols);
        let unchanged = member.protocols == protocols;
        member.id.clone_from(&id);
        member.client_id = request.client_id;
        member.client_host = request.client_host;
        member.session_timeout = request.session_timeout;
        member.rebalance_timeout = request.rebalance_timeout;
        member.protocols = protocols;
        member.touch();
        if self.phase == Phase::Stable && unchanged {
            self.members.insert(id.clone(), member);
            self.unsaved = true;
            let mut joined = self.joined(&id);
            if was_leader && request.may_skip_assignment {
                joined.skip_assignment = true;
            } else if was_leader {
                // An older client that believed itself leader would assign again.
                joined = Joined {
                    leader: holder.to_owned(),
                    members: Vec::new(),
                    ..joined
                };
            }
            drop(reply.send(Ok(joined)));
            return;
        }
        member.join_reply = Some(reply);
        self.members.insert(id, member);
        if self.phase == Phase::Joining {
            self.complete_join_if_all_are_here();
        } else {
            self.start_rebalance();
        }
    }

    /// All members have to join again.
    pub(super) fn start_rebalance(&mut self) {
        for member in self.members.values_mut() {
            member.answer_sync(Err(ResponseError::RebalanceInProgress));
        }
        let now = Instant::now();
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default();
        if self.phase == Phase::Empty && !self.initial_delay.is_zero() {
            let delay = self.initial_delay.min(longest);
            self.initial_wait = Some(InitialWait {
                until: now + delay,
                at_most_until: now + longest,
                grew: false,
            });
        }
        self.phase = Phase::Joining;
        self.phase_deadline = Some(now + longest);
        self.complete_join_if_all_are_here();
    }

    pub(super) fn tick_joining(&mut self, now: Instant) {
        if let Some(wait) = self.initial_wait {
            if wait.until > now {
                return;
            }
            if wait.grew && wait.at_most_until > now {
                let until = (now + self.initial_delay).min(wait.at_most_until);
                self.initial_wait = Some(InitialWait {
                    until,
                    grew: false,
                    ..wait
                });
                return;
            }
            self.initial_wait = None;
            self.complete_join_if_all_are_here();
        }
        if self.phase == Phase::Joining
            && self.phase_deadline.is_some_and(|deadline| deadline <= now)
        {
            self.complete_join();
        }
    }

    pub(super) fn complete_join_if_all_are_here(&mut self) {
        let all_here = self
            .members
            .values()
            .all(|member| member.join_reply.is_some())
            && self.promised.is_empty();
        if self.phase == Phase::Joining && self.initial_wait.is_none() && all_here {
            self.complete_join();
        }
    }

    /// Begins the next generation with those who joined. Static members keep their place until their session runs out.
    fn complete_join(&mut self) {
        self.members
            .retain(|_, member| member.join_reply.is_some() || member.instance_id.is_some());
        self.phase_deadline = None;
        self.initial_wait = None;
        let has_joined = |member: &&Member| member.join_reply.is_some();
        if self.members.is_empty() {
            self.generation += 1;
            self.phase = Phase::Empty;
            self.leader = None;
            self.protocol = None;
            self.unsaved = true;
            return;
        }
        let leader_is_here = self
            .leader
            .as_ref()
            .and_then(|id| self.members.get(id))
            .is_some_and(|member| has_joined(&member));
        if !leader_is_here {
            let Some(successor) = self
                .members
                .values()
                .find(has_joined)
                .map(|member| member.id.clone())
            else {
                // Only silent static members are left: wait for them, or for their sessions to run out.
                let longest = self
                    .members
                    .values()
                    .map(|member| member.rebalance_timeout)
                    .max()
                    .unwrap_or_default();
                self.phase_deadline = Some(Instant::now() + longest);
                return;
            };
            self.leader = Some(successor);
        }
        self.generation = self.generation.checked_add(1).unwrap_or(1);
        self.protocol = self.vote();
        self.phase = Phase::Syncing;
        let longest = self
            .members
            .values()
            .map(|member| member.rebalance_timeout)
            .max()
            .unwrap_or_default();
        self.phase_deadline = Some(Instant::now() + longest);
        let answers: Vec<(String, Joined)> = self
            .members
            .keys()
            .map(|id| (id.clone(), self.joined(id)))
            .collect();
        for (id, joined) in answers {
            if let Some(member) = self.members.get_mut(&id) {
                member.touch();
                member.answer_join(Ok(joined));
            }
        }
    }

    /// Every member votes for the assignor it wants most among those that all know.
    fn vote(&self) -> Option<String> {
        let known_to_all = |name: &str| self.members.values().all(|member| member.knows(name));
        let mut votes: HashMap<&str, usize> = HashMap::new();
        for member in self.members.values() {
            if let Some((name, _)) = member.protocols.iter().find(|(name, _)| known_to_all(name)) {
                *votes.entry(name).or_default() += 1;
            }
        }
        votes
            .into_iter()
            .max_by_key(|(name, count)| (*count, std::cmp::Reverse(*name)))
            .map(|(name, _)| name.to_owned())
    }

    /// The leader's assignment did not come, or some did not ask for theirs: those are out.
    pub(super) fn drop_unsynced(&mut self) {
        let silent: Vec<String> = self
            .members
            .values()
            .filter(|member| member.sync_reply.is_none())
            .map(|member| member.id.clone())
            .collect();
        for id in &silent {
            self.members.remove(id);
        }
        if self
            .leader
            .as_ref()
            .is_some_and(|leader| silent.contains(leader))
        {
            self.leader = self.members.keys().next().cloned();
        }
        self.start_rebalance();
    }
}

fn refuse(reply: JoinReply, code: ResponseError, member_id: &str) {
    drop(reply.send(Err(JoinRefused {
        code,
        member_id: member_id.to_owned(),
    })));
}

/// Copied, so that the request's buffer does not live as long as the member.
fn copied(protocols: &[(String, Bytes)]) -> Vec<(String, Bytes)> {
    protocols
        .iter()
        .map(|(name, metadata)| (name.clone(), Bytes::copy_from_slice(metadata)))
        .collect()
}
