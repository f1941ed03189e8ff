//! What each process may do on brokers that ask: the access rules (ACLs) that it needs and no others.
//!
//! Invariant: everything follows from the topic table and from the names that the code itself uses, so that a rule cannot be
//! forgotten when a topic, a stage or a group comes. A test runs the pipeline with these rules alone.

use std::collections::BTreeSet;

use atelier_schemas::{
    TopicTable,
    topics::{dead_letter_topic, retry_topic},
};
use serde::Serialize;

use crate::{
    admin, cancelled,
    kafka::{ADMISSION_GROUP, client::transactional_id_prefix, group_id},
    letters, outbox, tail,
};

/// The gateway's name in the topic table, and its user's.
const GATEWAY: &str = "gateway";
/// Whoever runs `atelier topics`, `atelier replay` and `atelier doctor`.
const OPERATOR: &str = "operator";

/// One rule, in the words of Kafka's `kafka-acls.sh`. `Read` and `Write` imply `Describe`, so that it is named only where
/// nothing else is allowed; no rule for idempotent writing is needed since Kafka 3.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AccessRule {
    /// Who may.
    pub principal: String,
    /// What kind of thing it is about.
    pub resource_type: ResourceType,
    /// Whether the name is the whole name.
    pub pattern: Pattern,
    /// What is allowed.
    pub operation: Operation,
    /// The name.
    pub resource: String,
}

/// What kind of thing a rule is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ResourceType {
    /// A topic.
    Topic,
    /// A consumer group.
    Group,
    /// A producer's transactional id.
    TransactionalId,
}

/// Whether a name is the whole name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Pattern {
    /// The whole name.
    Literal,
    /// Its beginning.
    Prefixed,
}

/// What is allowed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub enum Operation {
    /// Reading records; taking part in a group.
    Read,
    /// Writing records; transactions under the id.
    Write,
    /// Making the topic.
    Create,
    /// Adding partitions.
    Alter,
    /// Changing the settings.
    AlterConfigs,
    /// Asking about it.
    Describe,
}

macro_rules! words {
    ($type:ident: $($variant:ident = $word:literal),+) => {
        impl $type {
            /// The word of `kafka-acls.sh`.
            pub fn as_str(self) -> &'static str {
                match self {
                    $(Self::$variant => $word),+
                }
            }
        }
    };
}
words!(ResourceType: Topic = "topic", Group = "group", TransactionalId = "transactional-id");
words!(Pattern: Literal = "literal", Prefixed = "prefixed");
words!(Operation: Read = "Read", Write = "Write", Create = "Create", Alter = "Alter", AlterConfigs = "AlterConfigs", Describe = "Describe");

/// The rules of every stage, the gateway and the operator. Their users are `<principal_prefix><stage>`,
/// `<principal_prefix>gateway` and `<principal_prefix>operator`.
pub fn rules(table: &TopicTable, principal_prefix: &str) -> Vec<AccessRule> {
    let named = |name: &str| Rules::new(format!("User:{principal_prefix}{name}"));
    let mut all = Vec::new();
    for stage in table.stages() {
        all.extend(of_stage(table, stage, named(stage)));
    }
    all.extend(of_gateway(table, named(GATEWAY)));
    all.extend(of_operator(table, named(OPERATOR)));
    all
}

fn of_stage(table: &TopicTable, stage: &str, mut rules: Rules) -> BTreeSet<AccessRule> {
    for topic in table.topics() {
        let names = |list: &[String]| list.iter().any(|name| name == stage);
        // Its retry topic is among them.
        if names(&topic.to) || names(&topic.followed_by) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Read);
        }
        if names(&topic.from) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Write);
        }
    }
    rules.allow(ResourceType::Group, &group_id(stage), Operation::Read);
    // What is followed is read by every process, with groups' names and without their offsets.
    for group in [cancelled::GROUP, tail::GROUP] {
        rules.allow(ResourceType::Group, group, Operation::Describe);
    }
    // Who holds a topic back looks at the queues behind, by their groups' offsets.
    if table.inputs_of(stage).iter().any(|topic| topic.held_back) {
        for (topic, reader) in table.queues_behind(stage) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Read);
            rules.allow(ResourceType::Group, &group_id(reader), Operation::Describe);
        }
        rules.allow(ResourceType::Group, ADMISSION_GROUP, Operation::Describe);
    }
    rules.allow_prefix(
        ResourceType::TransactionalId,
        &transactional_id_prefix(stage),
        Operation::Write,
    );
    rules.done()
}

fn of_gateway(table: &TopicTable, mut rules: Rules) -> BTreeSet<AccessRule> {
    for topic in table.topics() {
        if topic.from.iter().any(|name| name == GATEWAY) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Write);
        }
        if topic.to.iter().any(|name| name == GATEWAY) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Read);
        }
    }
    // Queues are counted and dead letters shown and put back.
    for stage in table.stages() {
        for topic in table.inputs_of(stage) {
            rules.allow(ResourceType::Topic, &topic.name, Operation::Read);
        }
        rules.allow(ResourceType::Topic, &retry_topic(stage), Operation::Read);
        rules.allow(ResourceType::Topic, &retry_topic(stage), Operation::Write);
        let dead_letters = dead_letter_topic(stage);
        rules.allow(ResourceType::Topic, &dead_letters, Operation::Read);
        rules.allow(ResourceType::Group, &group_id(stage), Operation::Describe);
    }
    for group in [letters::GROUP, tail::GROUP] {
        rules.allow(ResourceType::Group, group, Operation::Describe);
    }
    // The outbox keeps its place as a group's offset.
    rules.allow(ResourceType::Group, outbox::GROUP, Operation::Read);
    rules.allow(
        ResourceType::TransactionalId,
        outbox::GROUP,
        Operation::Write,
    );
    rules.done()
}

fn of_operator(table: &TopicTable, mut rules: Rules) -> BTreeSet<AccessRule> {
    for topic in table.topics() {
        for operation in [Operation::Create, Operation::Alter, Operation::AlterConfigs] {
            rules.allow(ResourceType::Topic, &topic.name, operation);
        }
    }
    for stage in table.stages() {
        let dead_letters = dead_letter_topic(stage);
        rules.allow(ResourceType::Topic, &dead_letters, Operation::Read);
        rules.allow(ResourceType::Topic, &retry_topic(stage), Operation::Write);
    }
    for group in [admin::GROUP, letters::GROUP] {
        rules.allow(ResourceType::Group, group, Operation::Describe);
    }
    rules.done()
}

/// The rules of one principal, each once.
struct Rules {
    principal: String,
    rules: BTreeSet<AccessRule>,
}

impl Rules {
    fn new(principal: String) -> Self {
        Self {
            principal,
            rules: BTreeSet::new(),
        }
    }

    fn allow(&mut self, resource_type: ResourceType, name: &str, operation: Operation) {
        self.add(resource_type, name, Pattern::Literal, operation);
    }

    fn allow_prefix(&mut self, resource_type: ResourceType, name: &str, operation: Operation) {
        self.add(resource_type, name, Pattern::Prefixed, operation);
    }

    fn add(
        &mut self,
        resource_type: ResourceType,
        name: &str,
        pattern: Pattern,
        operation: Operation,
    ) {
        self.rules.insert(AccessRule {
            principal: self.principal.clone(),
            resource_type,
            pattern,
            operation,
            resource: name.to_owned(),
        });
    }

    fn done(self) -> BTreeSet<AccessRule> {
        self.rules
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stage_may_do_what_the_table_says_of_it_and_nothing_else() {
        let all = rules(TopicTable::embedded(), "shop-");
        let of_compose: Vec<String> = all
            .iter()
            .filter(|rule| rule.principal == "User:shop-compose")
            .map(|rule| {
                let kind = rule.resource_type.as_str();
                format!("{} {kind} {}", rule.operation.as_str(), rule.resource)
            })
            .collect();
        assert_eq!(
            of_compose,
            [
                "Read topic compose-retry",
                "Read topic images-matted",
                "Read topic task-control",
                "Write topic compose-dead-letters",
                "Write topic compose-retry",
                "Write topic images-composed",
                "Write topic task-events",
                "Read group compose",
                "Describe group atelier-cancelled",
                "Describe group atelier-tail",
                "Write transactional-id atelier-compose-",
            ]
        );
    }

    #[test]
    fn every_topic_of_the_table_has_a_writer_and_a_reader_who_may() {
        let all = rules(TopicTable::embedded(), "");
        for topic in TopicTable::embedded().topics() {
            let may = |operation| {
                all.iter()
                    .any(|rule| rule.resource == topic.name && rule.operation == operation)
            };
            assert!(may(Operation::Write), "{}", topic.name);
            // Analysts have rules of their own.
            assert!(
                may(Operation::Read) || topic.to == ["analytics"],
                "{}",
                topic.name
            );
        }
    }
}
