//! Kafka's wire protocol: connections, frames, and which request goes where.

mod connection;
mod routing;
mod served;
mod shape;

pub use connection::serve;
pub use routing::Context;
pub use served::SERVED;
