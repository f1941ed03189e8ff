//! What exactly once costs, side by side in one run. Prints figures, asserts nothing.
//!
//! `cargo bench -p atelier-runtime -- NAME…`, all where none is named: `python` (a no-op stage against the same loop in Python, on
//! Kafka), `brokers` (the same stage on the embedded broker and on Kafka), `chain` (one message through seven no-op stages),
//! `instances` (one, two and four instances of a stage that waits). What needs Kafka says so where it is not installed.
//! `ATELIER_BENCH_ROUNDS` (3), `ATELIER_BENCH_MESSAGES` (60000) and `ATELIER_TEST_PYTHON`, a Python with confluent-kafka, choose
//! what is measured.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    missing_docs
)]

mod chain;
mod figures;
mod instances;
#[path = "../../tests/support/mod.rs"]
mod support;
mod throughput;

use atelier_servers::{Broker, Kafka};
use figures::number;

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() {
    let rounds = number("ATELIER_BENCH_ROUNDS", 3);
    let asked: Vec<String> = std::env::args()
        .skip(1)
        .filter(|argument| !argument.starts_with('-'))
        .collect();
    let is_asked = |name: &str| asked.is_empty() || asked.iter().any(|asked| asked == name);
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .unwrap();
    if is_asked("python") {
        runtime.block_on(throughput::beside_python(rounds));
    }
    if is_asked("brokers") {
        runtime.block_on(throughput::on_both_brokers(rounds));
    }
    if is_asked("chain") {
        runtime.block_on(chain::latency("the embedded broker", Broker::Embedded));
        if let Some(kafka) = Kafka::shared() {
            runtime.block_on(chain::latency("kafka", Broker::Kafka(kafka)));
        }
    }
    if is_asked("instances") {
        runtime.block_on(instances::scaling(rounds));
    }
}
