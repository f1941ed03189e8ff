//! `atelier models`: what there is, fetching it, verifying it.

use std::{fmt::Write as _, io::IsTerminal as _, process::ExitCode};

use anyhow::Context as _;
use atelier_models::{
    Model, ModelStore, Progress, Pulled, Purpose, catalogue::Origin, store::State,
};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::{cli::ModelsCommand, config::Loaded, print};

/// Does what the command says, in the models folder.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, command: ModelsCommand) -> anyhow::Result<ExitCode> {
    let store = ModelStore::open(loaded.config.models.dir.clone())?;
    // Hashing and fetching block; nothing else runs in this process.
    tokio::task::spawn_blocking(move || match command {
        ModelsCommand::List => list(&store),
        ModelsCommand::Pull { names } => pull(&store, &names),
        ModelsCommand::Verify => verify(&store),
    })
    .await?
}

fn list(store: &ModelStore) -> anyhow::Result<ExitCode> {
    let mut text = format!("models in {}\n\n", store.folder().display());
    writeln!(
        text,
        "{:<24} {:<8} {:<22} {:>9}  {:<14} what",
        "name", "use", "state", "MB", "licence"
    )?;
    for model in store.catalogue().models() {
        let expected_bytes = model.usable_sources().find_map(|source| source.size_bytes);
        let bundled = model
            .usable_sources()
            .any(|source| source.origin == Origin::Bundled);
        let (state, bytes) = match store.state(model) {
            State::Present { bytes } => ("here", Some(bytes)),
            State::WrongSize { bytes } => ("wrong size, pull again", Some(bytes)),
            State::Missing if bundled => ("built in", expected_bytes),
            State::Missing if model.automatic_source().is_some() => ("not pulled", expected_bytes),
            State::Missing => ("bring the file", expected_bytes),
        };
        let megabytes = bytes.map_or_else(
            || "?".to_owned(),
            |bytes| format!("{:.1}", bytes as f64 / 1e6),
        );
        let (name, purpose) = (&model.name, model.purpose.as_str());
        writeln!(
            text,
            "{name:<24} {purpose:<8} {state:<22} {megabytes:>9}  {:<14} {}",
            model.license, model.summary
        )?;
    }
    let brought: Vec<_> = store
        .catalogue()
        .models()
        .iter()
        .filter(|model| model.automatic_source().is_none())
        .collect();
    if !brought.is_empty() {
        writeln!(text, "\nfor those that no package has:")?;
        for model in brought {
            writeln!(text, "  {}: {}", model.name, store.fix(model))?;
        }
    }
    print(&text)?;
    Ok(ExitCode::SUCCESS)
}

fn pull(store: &ModelStore, names: &[String]) -> anyhow::Result<ExitCode> {
    let names: Vec<&str> = if names.is_empty() {
        store.automatic()
    } else {
        names.iter().map(String::as_str).collect()
    };
    let mut failed = false;
    for name in names {
        let progress = progress_bar(name);
        let outcome = store.pull(name, &mut |step| show(&progress, name, step));
        progress.finish_and_clear();
        match outcome {
            Ok(Pulled::AlreadyThere(_)) => eprintln!("{name}: here, hash verified"),
            Ok(Pulled::Fetched(path)) => {
                eprintln!("{name}: fetched and verified, {}", path.display());
            }
            Ok(Pulled::Rewritten(path)) => {
                eprintln!(
                    "{name}: was here and takes several pictures a run now, {}",
                    path.display()
                );
            }
            Err(error) => {
                failed = true;
                eprintln!("{name}: {error}");
            }
        }
    }
    Ok(if failed {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    })
}

fn progress_bar(name: &str) -> ProgressBar {
    if !std::io::stderr().is_terminal() {
        return ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    }
    let style = ProgressStyle::with_template("{prefix} {bar:30} {bytes}/{total_bytes} {msg}");
    ProgressBar::new(0)
        .with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
        .with_prefix(name.to_owned())
}

fn show(progress: &ProgressBar, name: &str, step: Progress) {
    let (message, done) = match step {
        Progress::Waiting => ("waiting for another pull of it", None),
        Progress::Downloading {
            done_bytes,
            total_bytes,
        } => ("downloading", Some((done_bytes, total_bytes))),
        Progress::Unpacking {
            done_bytes,
            total_bytes,
        } => ("unpacking", Some((done_bytes, total_bytes))),
        Progress::Verifying => ("verifying", None),
        Progress::FreeingBatch => ("rewriting it to take several pictures a run", None),
        Progress::NotCompared => (
            "not run to compare, because `onnxruntime` is not pulled; its hash is that of a file that was",
            None,
        ),
    };
    // Without a terminal each step is one line, so that a log shows that something happens.
    if progress.is_hidden() && progress.message() != message {
        eprintln!("{name}: {message}");
    }
    progress.set_message(message);
    if let Some((done_bytes, total_bytes)) = done {
        progress.set_length(total_bytes);
        progress.set_position(done_bytes);
    }
}

fn verify(store: &ModelStore) -> anyhow::Result<ExitCode> {
    let mut wrong = 0;
    for model in store.catalogue().models() {
        if store.state(model) == State::Missing {
            continue;
        }
        match store.verify(model) {
            Ok(()) => print(&format!("{}: verified\n", model.name))?,
            Err(error) => {
                wrong += 1;
                eprintln!("{error}");
            }
        }
    }
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// What the default configuration cannot start without, checked by length; hashes are verified when they are pulled.
///
/// # Errors
/// Names every file that is missing and the one command that fetches them.
pub fn require_automatic(store: &ModelStore) -> anyhow::Result<()> {
    let is_missing = |model: &&Model| {
        let from_package = model.automatic_source().is_some_and(|source| {
            source.origin != Origin::Bundled && model.purpose != Purpose::Prompted
        });
        from_package && !matches!(store.state(model), State::Present { .. })
    };
    let missing: Vec<&str> = store
        .automatic()
        .into_iter()
        .filter_map(|name| store.catalogue().find(name))
        .filter(is_missing)
        .map(|model| model.name.as_str())
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    Err(anyhow::anyhow!(
        "{} not in {}: run `atelier models pull`",
        missing.join(", "),
        store.folder().display()
    ))
    .context("models are missing")
}
