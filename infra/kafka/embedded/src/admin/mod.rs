//! Administration: topics, settings, groups, and looking into producers and transactions.

pub mod configs;
pub mod groups;
pub mod inspection;
pub mod topics;
