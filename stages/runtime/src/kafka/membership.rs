//! A stage's membership in its group: the consumer, and its successor where librdkafka has ended it for good or forgotten it.
//!
//! librdkafka ends it where another static member of the same name fences it, which at times is its own earlier self (it asked to
//! join, and stood still while the broker died), and where the group is forbidden by an access rule. It forgets it where the brokers
//! were all missing from one answer, as they are when a cluster stood still and goes on: it takes them off its list, and then knows
//! nobody to ask (librdkafka 2.12; its issue 5511 is the same for the coordinator alone).
//!
//! Invariant: a consumer is closed before its successor subscribes.

use std::{
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use rdkafka::{
    ClientConfig,
    consumer::{BaseConsumer, Consumer as _},
    error::KafkaError,
};

use super::client::ConsumerEvents;

/// What a stage's threads share of it.
pub(crate) type SharedConsumer = Arc<BaseConsumer<ConsumerEvents>>;

/// Kafka answers within seconds; a client that waits longer may have been forgotten, and is made anew.
pub(crate) const FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// Before the first successor; twice as long before each further one, so that two processes of one name do not shut each other out
/// all the time.
const FIRST_PAUSE: Duration = Duration::from_secs(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// A successor that finds no broker in this time would be no better off than the consumer that is there.
const SUCCESSOR_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks whether anybody still uses the old consumer.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// Makes the consumers, and knows the one that counts.
pub(crate) struct Membership {
    config: ClientConfig,
    events: ConsumerEvents,
    current: Mutex<SharedConsumer>,
}

impl Membership {
    /// With its first consumer, which has subscribed to nothing yet.
    ///
    /// # Errors
    /// librdkafka refuses the configuration.
    pub fn new(config: ClientConfig, events: ConsumerEvents) -> Result<Self, KafkaError> {
        let first = Arc::new(config.create_with_context(events.clone())?);
        Ok(Self {
            config,
            events,
            current: Mutex::new(first),
        })
    }

    /// The consumer that counts. Not to be kept: its successor waits for that.
    pub fn consumer(&self) -> SharedConsumer {
        Arc::clone(&self.current.lock())
    }

    /// Whether librdkafka tells of every membership, also of one without partitions.
    pub fn is_told_when_let_in(&self) -> bool {
        self.config.get("group.protocol") != Some("consumer")
    }

    /// Closes `held` and puts its successor in its place, which has subscribed to nothing yet.
    ///
    /// # Errors
    /// The successor finds no broker, or librdkafka makes no client now; nothing has changed.
    pub fn renew(&self, held: &mut SharedConsumer) -> Result<(), KafkaError> {
        let successor: SharedConsumer =
            Arc::new(self.config.create_with_context(self.events.clone())?);
        successor.fetch_metadata(None, SUCCESSOR_TIMEOUT)?;
        *self.current.lock() = Arc::clone(&successor);
        let old = std::mem::replace(held, successor);
        while Arc::strong_count(&old) > 1 {
            thread::sleep(LOOK_INTERVAL);
        }
        Ok(())
    }
}

/// How long a consumer that has been ended waits for its successor.
pub(crate) struct Exile {
    until: Option<Instant>,
    pause: Duration,
}

impl Default for Exile {
    fn default() -> Self {
        Self {
            until: None,
            pause: FIRST_PAUSE,
        }
    }
}

impl Exile {
    /// Whether the pause is over, which begins with the first question.
    pub fn is_over(&mut self, now: Instant) -> bool {
        match self.until {
            None => {
                self.until = Some(now + self.pause);
                self.pause = (2 * self.pause).min(LONGEST_PAUSE);
                false
            }
            Some(until) if now < until => false,
            Some(_) => {
                self.until = None;
                true
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_exile_is_longer_than_the_last_until_the_longest() {
        let mut exile = Exile::default();
        let mut now = Instant::now();
        for pause_s in [10, 20, 40, 80, 160, 300, 300] {
            assert!(!exile.is_over(now));
            now += Duration::from_secs(pause_s - 1);
            assert!(!exile.is_over(now), "{pause_s}");
            now += Duration::from_secs(1);
            assert!(exile.is_over(now), "{pause_s}");
        }
    }
}
