//! One transactional producer, and what its errors mean.

use std::{
    sync::{
        Arc,
        mpsc::{RecvTimeoutError, sync_channel},
    },
    thread,
    time::{Duration, Instant},
};

use rdkafka::{
    ClientConfig, TopicPartitionList,
    consumer::ConsumerGroupMetadata,
    error::{KafkaError, RDKafkaErrorCode},
    message::{Header as KafkaHeader, OwnedHeaders},
    producer::{BaseProducer, BaseRecord, Producer},
};

use super::{client::ProducerEvents, membership::FORGOTTEN_AFTER, trouble::Trouble};
use crate::record::OutRecord;

/// Why a transaction did not go through.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TransactionError {
    /// It has to be aborted; then the same producer can go on.
    #[error("{0}")]
    Abort(String),
    /// The producer is of no use any more: another one with its id took over, or librdkafka lost track.
    #[error("{0}")]
    Fatal(String),
    /// The stage ends; nothing more is tried.
    #[error("given up at shutdown")]
    GivenUp,
}

/// How long one blocking call waits before the caller looks whether the stage is to end.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a call may take that has no time-out of its own, although it is given one.
const CALL_LIMIT: Duration = Duration::from_secs(10);
/// How often the caller of such a one looks whether the stage is to end.
const LOOK_INTERVAL: Duration = Duration::from_millis(100);
/// Between two looks whether every record is acknowledged, which takes milliseconds.
const FLUSH_STEP: Duration = Duration::from_micros(250);

/// Asked before every repetition, with what it is for: whether to go on.
pub(crate) type Patience<'a> = &'a dyn Fn(Option<&KafkaError>) -> bool;

/// A transactional producer that is initialised.
pub(crate) struct TransactionalProducer {
    producer: Arc<BaseProducer<ProducerEvents>>,
    trouble: Trouble,
    transactional_id: String,
}

impl TransactionalProducer {
    /// Creates the producer; fences its predecessors and ends their transactions.
    ///
    /// # Errors
    /// What went wrong; try again with a new one.
    pub fn connect(
        config: &ClientConfig,
        trouble: &Trouble,
        patience: Patience<'_>,
    ) -> Result<Self, TransactionError> {
        let producer: BaseProducer<ProducerEvents> = config
            .create_with_context(ProducerEvents::new(trouble.clone()))
            .map_err(|error| TransactionError::Fatal(error.to_string()))?;
        let connected = Self {
            producer: Arc::new(producer),
            trouble: trouble.clone(),
            transactional_id: config
                .get("transactional.id")
                .unwrap_or_default()
                .to_owned(),
        };
        connected.persist(patience, || {
            Ok(connected.producer.init_transactions(CALL_TIMEOUT))
        })?;
        trouble.is_over();
        Ok(connected)
    }

    /// Why the first record of the last transaction that was not delivered was not.
    pub fn take_undelivered(&self) -> Option<String> {
        self.producer.context().take_undelivered()
    }

    /// Whether another one with its id took over.
    pub fn is_fenced(&self) -> bool {
        let fatal = self.producer.client().fatal_error();
        matches!(
            fatal,
            Some((
                RDKafkaErrorCode::Fenced
                    | RDKafkaErrorCode::ProducerFenced
                    | RDKafkaErrorCode::InvalidProducerEpoch,
                _
            ))
        )
    }

    pub fn begin(&self) -> Result<(), TransactionError> {
        self.take_undelivered();
        self.producer
            .begin_transaction()
            .map_err(|error| self.unrecoverable(&error))
    }

    /// Hands a record to librdkafka; waits while its queue is full.
    pub fn produce(&self, record: &OutRecord) -> Result<(), TransactionError> {
        loop {
            let mut message: BaseRecord<'_, [u8], [u8]> =
                BaseRecord::to(&record.topic).headers(kafka_headers(record));
            if let Some(key) = &record.key {
                message = message.key(key);
            }
            if let Some(value) = &record.value {
                message = message.payload(value);
            }
            match self.producer.send(message) {
                Ok(()) => return Ok(()),
                Err((KafkaError::MessageProduction(RDKafkaErrorCode::QueueFull), _)) => {
                    self.producer.poll(Duration::from_millis(5));
                }
                Err((error, _)) => return Err(self.unrecoverable(&error)),
            }
        }
    }

    pub fn send_offsets(
        &self,
        offsets: TopicPartitionList,
        group: ConsumerGroupMetadata,
        patience: Patience<'_>,
    ) -> Result<(), TransactionError> {
        let request = Arc::new((offsets, group));
        self.persist(patience, || {
            let request = Arc::clone(&request);
            self.on_a_thread(patience, move |producer| {
                let (offsets, group) = &*request;
                producer.send_offsets_to_transaction(offsets, group, CALL_TIMEOUT)
            })
        })
    }

    /// For a call that may never come back: librdkafka's of the offsets does not where the group's coordinator goes away at the
    /// wrong moment (its issues 5456 and 5511). The thread is then left behind with the producer. The next producer fences it: what
    /// it may still send is refused, and both end.
    fn on_a_thread(
        &self,
        patience: Patience<'_>,
        call: impl FnOnce(&BaseProducer<ProducerEvents>) -> Result<(), KafkaError> + Send + 'static,
    ) -> Result<Result<(), KafkaError>, TransactionError> {
        let (answer, answered) = sync_channel(1);
        let producer = Arc::clone(&self.producer);
        thread::Builder::new()
            .name("offsets".to_owned())
            // Where nobody waits for the answer any more it is of no use.
            .spawn(move || answer.send(call(&producer)))
            .map_err(|error| TransactionError::Abort(format!("no thread: {error}")))?;
        let since = Instant::now();
        loop {
            match answered.recv_timeout(LOOK_INTERVAL) {
                Ok(answer) => return Ok(answer),
                Err(RecvTimeoutError::Timeout) if !patience(None) => {
                    return Err(TransactionError::GivenUp);
                }
                Err(RecvTimeoutError::Timeout) if since.elapsed() < CALL_LIMIT => {}
                Err(_) => {
                    return Err(TransactionError::Fatal(format!(
                        "kafka has not taken the offsets of a transaction within {} s",
                        since.elapsed().as_secs()
                    )));
                }
            }
        }
    }

    /// Waits until every record is acknowledged. rdkafka's own flush polls in steps of 100 ms, which would be most of a
    /// stage's latency, and its `poll` turns in circles for the last millisecond, which would be most of its processor time.
    pub fn flush(&self, patience: Patience<'_>) -> Result<(), TransactionError> {
        loop {
            self.producer.poll(Duration::ZERO);
            if self.producer.in_flight_count() == 0 {
                break;
            }
            if !patience(None) {
                return Err(TransactionError::GivenUp);
            }
            std::thread::sleep(FLUSH_STEP);
        }
        self.take_undelivered()
            .map_or(Ok(()), |text| Err(TransactionError::Abort(text)))
    }

    pub fn commit(&self, patience: Patience<'_>) -> Result<(), TransactionError> {
        self.persist(patience, || {
            Ok(self.producer.commit_transaction(CALL_TIMEOUT))
        })
    }

    /// Flushes first: librdkafka makes a fatal error of an abort with undelivered records.
    pub fn abort(&self, patience: Patience<'_>) -> Result<(), TransactionError> {
        let deadline = Instant::now() + CALL_TIMEOUT;
        while self.producer.in_flight_count() > 0 && Instant::now() < deadline {
            self.producer.poll(Duration::from_millis(5));
        }
        self.persist(patience, || {
            Ok(self.producer.abort_transaction(CALL_TIMEOUT))
        })
    }

    /// Repeats a call while librdkafka says that it can be repeated, but not for ever: it says so too where it has forgotten the
    /// brokers (see `membership`). What has become of the transaction the next producer learns.
    fn persist(
        &self,
        patience: Patience<'_>,
        mut call: impl FnMut() -> Result<Result<(), KafkaError>, TransactionError>,
    ) -> Result<(), TransactionError> {
        let since = Instant::now();
        loop {
            let Err(error) = call()? else { return Ok(()) };
            // What the connections say is served by polling alone.
            self.producer.poll(Duration::ZERO);
            if !patience(Some(&error)) {
                tracing::debug!(%error, "given up at shutdown");
                return Err(TransactionError::GivenUp);
            }
            if !is_retriable(&error) {
                return Err(self.unrecoverable(&error));
            }
            if since.elapsed() >= FORGOTTEN_AFTER {
                return Err(TransactionError::Fatal(format!(
                    "kafka has not answered for {} s: {error}",
                    since.elapsed().as_secs()
                )));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn unrecoverable(&self, error: &KafkaError) -> TransactionError {
        let text = match error.rdkafka_error_code() {
            Some(RDKafkaErrorCode::TransactionalIdAuthorizationFailed) => self
                .trouble
                .forbidden(&format!("transactional id `{}`", self.transactional_id)),
            _ => error.to_string(),
        };
        match error {
            KafkaError::Transaction(inner) if inner.txn_requires_abort() && !inner.is_fatal() => {
                TransactionError::Abort(inner.to_string())
            }
            KafkaError::MessageProduction(code)
                if !matches!(
                    code,
                    RDKafkaErrorCode::Fatal | RDKafkaErrorCode::Fenced | RDKafkaErrorCode::State
                ) =>
            {
                TransactionError::Abort(text)
            }
            // Whatever is neither retriable nor abortable leaves the producer in a state that only a new one ends.
            _ => TransactionError::Fatal(text),
        }
    }
}

fn is_retriable(error: &KafkaError) -> bool {
    match error {
        KafkaError::Transaction(inner) => {
            inner.is_retriable() && !inner.txn_requires_abort() && !inner.is_fatal()
        }
        KafkaError::Flush(code) => *code == RDKafkaErrorCode::OperationTimedOut,
        _ => false,
    }
}

pub(crate) fn kafka_headers(record: &OutRecord) -> OwnedHeaders {
    record.headers.iter().fold(
        OwnedHeaders::new_with_capacity(record.headers.len()),
        |headers, header| {
            headers.insert(KafkaHeader {
                key: &header.name,
                value: header.value.as_deref(),
            })
        },
    )
}

#[cfg(test)]
mod tests {
    use rdkafka::{
        Offset,
        config::FromClientConfig as _,
        consumer::{BaseConsumer, Consumer as _},
        mocking::{MockCluster, MockCoordinator},
    };

    use super::*;
    use crate::options::KafkaOptions;

    const GROUP: &str = "group";
    const TRANSACTIONAL_ID: &str = "transactional-id";

    /// Everything is on broker 1, but the group's coordinator.
    fn cluster(coordinator: i32) -> MockCluster<'static, impl rdkafka::ClientContext> {
        let cluster = MockCluster::new(2).unwrap();
        cluster.create_topic("topic", 1, 1).unwrap();
        cluster.partition_leader("topic", 0, Some(1)).unwrap();
        let transactions = MockCoordinator::Transaction(TRANSACTIONAL_ID.to_owned());
        cluster.coordinator(transactions, 1).unwrap();
        move_coordinator(&cluster, coordinator);
        cluster
    }

    fn move_coordinator<C: rdkafka::ClientContext>(cluster: &MockCluster<'_, C>, broker: i32) {
        let group = MockCoordinator::Group(GROUP.to_owned());
        cluster.coordinator(group, broker).unwrap();
    }

    fn transact(
        config: &ClientConfig,
        producer: &TransactionalProducer,
        patience: Patience<'_>,
    ) -> Result<(), TransactionError> {
        let consumer = BaseConsumer::from_config(config).unwrap();
        let mut offsets = TopicPartitionList::new();
        offsets
            .add_partition_offset("topic", 0, Offset::Offset(1))
            .unwrap();
        producer.begin()?;
        producer.send_offsets(offsets, consumer.group_metadata().unwrap(), patience)?;
        producer.commit(patience)
    }

    #[test]
    fn a_kafka_that_never_answers_costs_the_producer() {
        // Connections come about, and that is all.
        let silent = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let servers = silent.local_addr().unwrap().to_string();
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", &servers)
            .set("transactional.id", TRANSACTIONAL_ID);
        let trouble = Trouble::new(&KafkaOptions::at(servers));
        let Err(error) = TransactionalProducer::connect(&config, &trouble, &|_| true) else {
            panic!("nobody could have answered");
        };
        assert!(
            matches!(&error, TransactionError::Fatal(text) if text.contains("has not answered")),
            "{error}"
        );
    }

    #[test]
    fn a_coordinator_that_is_gone_costs_the_producer_and_not_the_stage() {
        let cluster = cluster(2);
        let kafka = KafkaOptions::at(cluster.bootstrap_servers());
        let mut config = ClientConfig::new();
        config
            .set("bootstrap.servers", cluster.bootstrap_servers())
            .set("group.id", GROUP)
            .set("transactional.id", TRANSACTIONAL_ID);
        let connect = || {
            TransactionalProducer::connect(&config, &Trouble::new(&kafka), &|_| true)
                .unwrap_or_else(|error| panic!("{error}"))
        };
        let producer = connect();
        cluster.broker_down(2).unwrap();
        let gone = transact(&config, &producer, &|_| true).unwrap_err();
        assert!(matches!(gone, TransactionError::Fatal(_)), "{gone}");
        drop(producer);

        // Who is to end does not wait for so long.
        let producer = connect();
        let given_up = transact(&config, &producer, &|_| false).unwrap_err();
        assert!(matches!(given_up, TransactionError::GivenUp), "{given_up}");
        drop(producer);

        move_coordinator(&cluster, 1);
        transact(&config, &connect(), &|_| true).unwrap_or_else(|error| panic!("{error}"));
    }
}
