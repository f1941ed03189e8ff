//! Every planted bug is found, and the same schedule without a bug pleases the checker.
#![allow(clippy::unwrap_used)]

use std::process::Command;

#[test]
fn each_planted_bug_is_found_and_none_where_there_is_none() {
    let output = Command::new(env!("CARGO_BIN_EXE_atelier-chaos"))
        .arg("--planted")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success() && said.contains("5 of 5 planted bugs caught"),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
}
