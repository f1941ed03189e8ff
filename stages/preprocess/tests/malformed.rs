//! Every broken or odd file gets its verdict, in bounded time and memory, and none of them panics.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

mod support;

use std::time::{Duration, Instant};

use atelier_preprocess::{DecodeError, Limits, prepare};

/// Far more than any of these small files needs, far less than a hang.
const TIME_BOUND: Duration = Duration::from_secs(30);
const LIMITS: Limits = Limits {
    max_pixels: 40_000_000,
    max_dimension_px: 32_767,
    max_decoded_bytes: 160 * 1024 * 1024,
};

/// The most memory this process ever had, in bytes.
fn peak_memory_bytes() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmHWM:"));
    line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok())
        .unwrap_or(0)
        * 1024
}

#[test]
fn every_row_of_the_table_gets_its_verdict() {
    let (Some(table), Some(folder)) = (support::data("malformed.csv"), support::data("malformed"))
    else {
        return;
    };
    let before_bytes = peak_memory_bytes();
    let table = std::fs::read_to_string(table).unwrap();
    let mut wrong = Vec::new();
    let (mut decoded, mut refused) = (0, 0);
    for line in table.lines().skip(1) {
        let (name, expectation) = line.rsplit_once(',').unwrap();
        // The table names files of other sets too.
        let Ok(file) = std::fs::read(folder.join(name)) else {
            continue;
        };
        let started = Instant::now();
        let result = prepare(&file, &LIMITS, 0);
        let elapsed = started.elapsed();
        if elapsed > TIME_BOUND {
            wrong.push(format!("{name}: took {elapsed:?}"));
        }
        match &result {
            Ok(_) => decoded += 1,
            Err(_) => refused += 1,
        }
        let verdict = match (expectation, &result) {
            ("must_decode", Err(error)) => Some(format!("does not decode: {error}")),
            ("must_error", Ok(prepared)) => Some(format!("decodes to {:?}", prepared.raster)),
            (_, Err(DecodeError::DecoderPanicked { message })) => {
                println!("{name}: caught a panic: {message}");
                None
            }
            _ => None,
        };
        wrong.extend(verdict.map(|verdict| format!("{name}: {expectation}, but {verdict}")));
    }
    println!(
        "{decoded} decoded, {refused} refused, peak {} MiB",
        peak_memory_bytes() >> 20
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(decoded > 0 && refused > 0);
    // The file's pixels, their conversion and the finished raster, each within the limit.
    let bound_bytes = 3 * LIMITS.max_decoded_bytes + (64 << 20);
    assert!(
        peak_memory_bytes() - before_bytes < bound_bytes,
        "{} MiB",
        peak_memory_bytes() >> 20
    );
}
