//! The fixed seeds that every test run goes through.
#![allow(clippy::unwrap_used)]

use std::process::Command;

/// Runs the driver and answers with what it said; fails with that where the driver is not content.
fn chaos(arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_atelier-chaos"))
        .args(arguments)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    said
}

#[test]
fn nothing_is_lost_or_doubled_whatever_the_fixed_seeds_break() {
    let said = chaos(&["--seed", "1", "--runs", "2"]);
    let totals = said.lines().last().unwrap();
    let numbers: Vec<&str> = totals.split_whitespace().collect();
    assert_eq!(numbers[0], "2", "{said}");
    assert_eq!(numbers[2..], ["0", "0", "0", "0"], "{said}");
}
