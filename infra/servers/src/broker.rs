//! The same test on the embedded broker and on Apache Kafka.

use crate::Kafka;

/// What a test runs on.
#[derive(Clone, Copy, Debug)]
pub enum Broker {
    /// The embedded broker, one for each test.
    Embedded,
    /// Apache Kafka, shared by the tests of one binary.
    Kafka(&'static Kafka),
}

/// Makes two tests of each `async fn name(broker: Broker)`: `embedded::name` and `kafka::name`.
#[macro_export]
macro_rules! on_each_broker {
    ($($(#[$attribute:meta])* $name:ident),* $(,)?) => {
        mod embedded {
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    super::$name($crate::Broker::Embedded).await;
                }
            )*
        }
        mod kafka {
            $(
                $(#[$attribute])*
                #[tokio::test(flavor = "multi_thread")]
                async fn $name() {
                    if let Some(kafka) = $crate::Kafka::shared() {
                        super::$name($crate::Broker::Kafka(kafka)).await;
                    }
                }
            )*
        }
    };
}
