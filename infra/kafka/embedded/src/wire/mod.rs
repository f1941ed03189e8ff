//! Kafka's wire protocol: connections, frames, and which request goes where.

mod connection;
mod routing;
mod shape;

pub use connection::serve;
pub use routing::Context;
pub use shape::SERVED;
