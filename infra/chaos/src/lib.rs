//! The crash harness: runs the whole pipeline, breaks it by a schedule that one seed gives, and lets an independent program
//! check what is left.
//!
//! [`plan`] makes the schedule, [`run`] carries it out, [`check`] is the checker. Invariant: the checker reads topics and
//! stores by clients of its own and knows nothing of the code that wrote them; what it needs besides is what clients were
//! promised ([`check::Promises`]).
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

pub mod check;
pub mod pipeline;
pub mod plan;
pub mod planted;
pub mod run;
