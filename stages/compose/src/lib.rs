//! `compose`: [`ImageMatted`](atelier_schemas::events::ImageMatted) in,
//! [`ImageComposed`](atelier_schemas::events::ImageComposed) out.
//!
//! Cuts the subject out with colours of its own (no halo of the old background), gives it a shadow, places it on its canvas, lays
//! the wanted background behind, marks it, and writes the finished picture, a thumbnail and the matte as files that anybody can open.
//!
//! Invariants:
//! - The same input gives the same bytes, on any number of cores: a repeat finds its blobs already there.
//! - A pixel that cannot be seen has no colour: nothing of the old background is left under alpha 0.
//! - Colours are blended as they are encoded, in gamma-compressed sRGB, as browsers and every common editor do; a result
//!   laid over a page by us and by a browser looks the same. (Linear light would be truer to optics, and would differ from both.)
//! - Nothing here blocks an async thread.
#![cfg_attr(test, allow(clippy::unwrap_used, clippy::expect_used))]

mod background;
mod canvas;
mod encode;
mod error;
mod foreground;
mod gradient;
mod options;
mod place;
mod resample;
mod restrict;
mod shadow;
mod smooth;
mod soften;
mod stage;
mod watermark;
mod work;

pub use encode::{Encoded, encode_alpha_png, encode_picture};
pub use error::ComposeError;
pub use foreground::estimate_foreground;
pub use options::ComposeOptions;
pub use restrict::to_region;
pub use stage::Compose;
pub use watermark::{Mark, invisible};
pub use work::{Composed, Parts, compose, compose_parts};
