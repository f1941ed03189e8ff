//! The next broker is hit only once all three are in sync, so that must be known rightly.
#![allow(clippy::unwrap_used)]

use std::time::{Duration, Instant};

use atelier_servers::Kafka;
use rdkafka::{
    ClientConfig,
    admin::{AdminClient, AdminOptions, NewTopic, TopicReplication},
    client::DefaultClientContext,
};

#[tokio::test]
async fn a_cluster_is_in_sync_again_only_once_a_killed_broker_is_back() {
    let Some(kafka) = Kafka::cluster() else {
        return;
    };
    let client: AdminClient<DefaultClientContext> = ClientConfig::new()
        .set("bootstrap.servers", kafka.bootstrap_servers())
        .create()
        .unwrap();
    let topic = NewTopic::new("copied", 6, TopicReplication::Fixed(3));
    let made = client.create_topics([&topic], &AdminOptions::new()).await;
    assert_eq!(made.unwrap(), [Ok("copied".to_owned())]);
    eventually_in_sync(&kafka);

    kafka.kill_node(2);
    assert!(!kafka.is_in_sync(), "one does not answer");
    kafka.run_node(2);
    eventually_in_sync(&kafka);
}

fn eventually_in_sync(kafka: &Kafka) {
    let since = Instant::now();
    while !kafka.is_in_sync() {
        assert!(since.elapsed() < Duration::from_secs(120), "not in sync");
        std::thread::sleep(Duration::from_millis(100));
    }
}
