//! Numbers that the benches print.

use std::{fmt, time::Duration};

/// What so many messages took.
#[derive(Clone, Copy)]
pub struct Cost {
    pub messages: usize,
    /// Of all processors together.
    pub cpu: Duration,
    pub wall: Duration,
}

impl Cost {
    /// Messages per second of processor time.
    pub fn per_core(self) -> f64 {
        self.messages as f64 / self.cpu.as_secs_f64()
    }

    /// Messages per second of the clock.
    pub fn per_second(self) -> f64 {
        self.messages as f64 / self.wall.as_secs_f64()
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            formatter,
            "{:.0} messages/s per core ({:.0}/s)",
            self.per_core(),
            self.per_second()
        )
    }
}

/// The middle one.
pub fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

/// The value that a share (0 to 1) of all are no larger than.
pub fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

/// What the environment asks for, or `default`.
pub fn number(name: &str, default: usize) -> usize {
    std::env::var(name).map_or(default, |text| text.parse().unwrap())
}
