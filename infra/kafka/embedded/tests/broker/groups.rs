//! Consumer groups: rebalances, static members, what a restart of the broker does to them.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use rdkafka::consumer::{BaseConsumer, Consumer};

use super::support::{PATIENCE, TestBroker, eventually, send};

fn member(broker: &TestBroker, settings: &[(&str, &str)]) -> BaseConsumer {
    let consumer = broker.consumer("g", settings);
    consumer.subscribe(&["t"]).unwrap();
    consumer
}

fn assigned(consumer: &BaseConsumer) -> BTreeSet<i32> {
    consumer
        .assignment()
        .unwrap()
        .elements()
        .iter()
        .map(|element| element.partition())
        .collect()
}

/// Polls all of them until their assignments are `sizes`, disjoint and complete.
fn settle(consumers: &[&BaseConsumer], sizes: &[usize]) -> Vec<BTreeSet<i32>> {
    let deadline = Instant::now() + PATIENCE;
    let mut sorted = sizes.to_vec();
    sorted.sort_unstable();
    loop {
        for consumer in consumers {
            if let Some(Err(error)) = consumer.poll(Duration::from_millis(20)) {
                panic!("{error}");
            }
        }
        let assignments: Vec<_> = consumers
            .iter()
            .map(|consumer| assigned(consumer))
            .collect();
        let mut found: Vec<usize> = assignments.iter().map(BTreeSet::len).collect();
        found.sort_unstable();
        let all: BTreeSet<i32> = assignments.iter().flatten().copied().collect();
        if found == sorted && all.len() == sizes.iter().sum::<usize>() {
            return assignments;
        }
        assert!(
            Instant::now() < deadline,
            "assignments stay {assignments:?}, wanted {sizes:?}"
        );
    }
}

fn members_share(strategy: &str) {
    let broker = TestBroker::start();
    broker.create_topic("t", 6, &[]);
    let settings = [("partition.assignment.strategy", strategy)];
    let first = member(&broker, &settings);
    settle(&[&first], &[6]);
    let second = member(&broker, &settings);
    settle(&[&first, &second], &[3, 3]);
    let third = member(&broker, &settings);
    settle(&[&first, &second, &third], &[2, 2, 2]);
    drop(third);
    settle(&[&first, &second], &[3, 3]);
    drop(first);
    settle(&[&second], &[6]);
}

#[test]
fn members_share_by_range() {
    members_share("range");
}

#[test]
fn members_share_cooperatively() {
    members_share("cooperative-sticky");
}

#[test]
fn a_cooperative_rebalance_takes_only_what_moves() {
    let broker = TestBroker::start();
    broker.create_topic("t", 4, &[]);
    let settings = [("partition.assignment.strategy", "cooperative-sticky")];
    let first = member(&broker, &settings);
    let before = settle(&[&first], &[4]).remove(0);
    let second = member(&broker, &settings);
    let after = settle(&[&first, &second], &[2, 2]).remove(0);
    assert!(after.is_subset(&before));
}

#[test]
fn a_static_member_that_returns_causes_no_rebalance() {
    let broker = TestBroker::start();
    broker.create_topic("t", 4, &[]);
    let other = member(&broker, &[("group.instance.id", "one")]);
    let leaver = member(&broker, &[("group.instance.id", "two")]);
    let before = settle(&[&other, &leaver], &[2, 2]);
    let generation = generation_of(&broker);
    // A static member does not leave when it closes.
    drop(leaver);
    let returned = member(&broker, &[("group.instance.id", "two")]);
    let after = settle(&[&other, &returned], &[2, 2]);
    assert_eq!(before, after);
    assert_eq!(
        generation,
        generation_of(&broker),
        "member ids changed beyond the one that returned"
    );
}

/// The ids of the members that did not restart, as a stand-in for "nobody else had to join again".
fn generation_of(broker: &TestBroker) -> Vec<String> {
    let groups = broker
        .admin()
        .inner()
        .fetch_group_list(Some("g"), PATIENCE)
        .unwrap();
    let group = &groups.groups()[0];
    assert_eq!(group.state(), "Stable");
    group
        .members()
        .iter()
        .map(|member| member.id().to_owned())
        .filter(|id| id.starts_with("one-"))
        .collect()
}

#[test]
fn a_restart_of_the_broker_is_no_rebalance() {
    let mut broker = TestBroker::start();
    broker.create_topic("t", 4, &[]);
    let first = member(&broker, &[]);
    let second = member(&broker, &[]);
    let before = settle(&[&first, &second], &[2, 2]);
    broker.kill();
    broker.start_again();
    let producer = broker.producer(&[]);
    for partition in 0..4 {
        send(&producer, "t", partition, "k", "v");
    }
    let mut seen = 0;
    let deadline = Instant::now() + PATIENCE;
    while seen < 4 {
        assert!(Instant::now() < deadline, "only {seen} records came");
        for consumer in [&first, &second] {
            // While the broker was away the client reports broken connections: those are no failure here.
            if let Some(Ok(_)) = consumer.poll(Duration::from_millis(20)) {
                seen += 1;
            }
        }
    }
    assert_eq!(before, vec![assigned(&first), assigned(&second)]);
    first
        .commit_consumer_state(rdkafka::consumer::CommitMode::Sync)
        .unwrap();
}

#[test]
fn a_member_that_falls_silent_is_removed() {
    let broker = TestBroker::start();
    broker.create_topic("t", 2, &[]);
    let silent = member(
        &broker,
        &[
            ("session.timeout.ms", "1500"),
            ("max.poll.interval.ms", "1500"),
        ],
    );
    settle(&[&silent], &[2]);
    let survivor = member(&broker, &[]);
    // Nobody polls the first one any more: it may neither answer the rebalance nor hold its partitions.
    settle(&[&survivor], &[2]);
    // To close it would wait for it to be polled.
    std::mem::forget(silent);
}

#[test]
fn groups_are_listed_described_and_deleted() {
    let broker = TestBroker::start();
    broker.create_topic("t", 1, &[]);
    let consumer = member(&broker, &[("client.id", "somebody")]);
    settle(&[&consumer], &[1]);
    let admin = broker.admin();
    let listed = admin.inner().fetch_group_list(None, PATIENCE).unwrap();
    let group = listed
        .groups()
        .iter()
        .find(|group| group.name() == "g")
        .unwrap();
    assert_eq!(
        (group.state(), group.protocol_type(), group.members().len()),
        ("Stable", "consumer", 1)
    );
    assert_eq!(group.members()[0].client_id(), "somebody");
    let delete = || {
        super::support::wait(admin.delete_groups(&["g"], &rdkafka::admin::AdminOptions::new()))
            .unwrap()
            .remove(0)
    };
    assert!(delete().is_err(), "a group with members was deleted");
    drop(consumer);
    eventually("the group is empty", || delete().is_ok());
    let listed = admin.inner().fetch_group_list(None, PATIENCE).unwrap();
    assert!(listed.groups().iter().all(|group| group.name() != "g"));
}
