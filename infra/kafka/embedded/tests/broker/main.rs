//! The broker as its clients meet it: the real binary, driven by librdkafka, a raw client, kcat and confluent-kafka.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)]

mod administration;
mod crash;
mod groups;
mod hostile;
mod process;
mod raw;
mod records;
mod second_clients;
mod support;
mod transactions;
