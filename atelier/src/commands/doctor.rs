//! `atelier doctor`: what is wrong, and what to do about it; one line each.
//!
//! Invariant: it changes nothing that a start would not change too, and the tables of the ledger not at all.

mod checks;

use std::{fmt::Write as _, process::ExitCode};

use serde::Serialize;

use crate::{
    cli::{DoctorArgs, DoctorFormat},
    config::Loaded,
    print,
};

/// What one check found.
#[derive(Debug, Serialize)]
pub struct Finding {
    /// What was checked.
    pub name: &'static str,
    /// Whether it is as it should be.
    pub ok: bool,
    /// What was found; where that is wrong, what to do.
    pub message: String,
}

#[derive(Serialize)]
struct Report {
    ok: bool,
    checks: Vec<Finding>,
}

/// Checks everything; fails where something is wrong.
///
/// # Errors
/// Standard output cannot be written.
pub async fn run(loaded: &Loaded, arguments: &DoctorArgs) -> anyhow::Result<ExitCode> {
    let checks = checks::all(loaded).await;
    let report = Report {
        ok: checks.iter().all(|finding| finding.ok),
        checks,
    };
    match arguments.format {
        DoctorFormat::Json => print(&format!("{}\n", serde_json::to_string_pretty(&report)?))?,
        DoctorFormat::Text => print(&text_of(&report)?)?,
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn text_of(report: &Report) -> anyhow::Result<String> {
    let mut text = String::new();
    for finding in &report.checks {
        let word = if finding.ok { "ok" } else { "wrong" };
        writeln!(text, "{word:<6} {}: {}", finding.name, finding.message)?;
    }
    Ok(text)
}
