//! `atelier doctor`: what is wrong, and what to do about it; one line each.

use std::process::ExitCode;

use atelier_models::{ModelStore, Runtime, store::State};
use atelier_runtime::{TopicAdmin, TopicChange};
use atelier_schemas::TopicTable;
use atelier_stores::{open_blobs, open_ledger, without_password};

use crate::{config::Loaded, print};

/// Checks everything; fails where something is wrong.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded) -> anyhow::Result<ExitCode> {
    let mut checks: Vec<(&str, Result<String, String>)> =
        vec![("data folder", data_folder(loaded))];
    checks.push(("models", models(loaded)));
    checks.push(("log and topics", topics(loaded).await));
    // Opening a store makes its folder, so it is only asked where there is one to make it in.
    if checks[0].1.is_ok() {
        checks.push(("blobs", blobs(loaded).await));
        checks.push(("ledger", ledger(loaded).await));
    }
    let mut wrong = 0;
    for (name, outcome) in checks {
        match outcome {
            Ok(text) => print(&format!("ok     {name}: {text}\n"))?,
            Err(text) => {
                wrong += 1;
                print(&format!("wrong  {name}: {text}\n"))?;
            }
        }
    }
    Ok(if wrong == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn data_folder(loaded: &Loaded) -> Result<String, String> {
    let folder = &loaded.data_dir;
    let place = folder
        .ancestors()
        .find(|place| place.exists())
        .unwrap_or(folder);
    tempfile::NamedTempFile::new_in(place)
        .map(|_| folder.display().to_string())
        .map_err(|error| {
            format!(
                "{} is not writable ({error}): change its owner, or give another by --data-dir",
                place.display()
            )
        })
}

fn models(loaded: &Loaded) -> Result<String, String> {
    let store =
        ModelStore::open(loaded.config.models.dir.clone()).map_err(|error| error.to_string())?;
    for name in &loaded.config.stages.matte.preload {
        match store.catalogue().find(name) {
            None => {
                return Err(format!(
                    "stages.matte.preload names `{name}`, which is not in the catalogue: see `atelier models list`"
                ));
            }
            Some(model) if !matches!(store.state(model), State::Present { .. }) => {
                return Err(format!(
                    "`{name}` is not in {}: {}",
                    store.folder().display(),
                    store.fix(model)
                ));
            }
            Some(_) => {}
        }
    }
    let runtime =
        Runtime::load(&store, loaded.config.models.provider).map_err(|error| error.to_string())?;
    Ok(format!(
        "{} in {}, run by {}",
        loaded.config.stages.matte.preload.join(", "),
        store.folder().display(),
        runtime.provider()
    ))
}

async fn topics(loaded: &Loaded) -> Result<String, String> {
    let kafka = loaded.kafka().map_err(|error| error.to_string())?;
    let admin = TopicAdmin::new(&kafka).map_err(|error| error.to_string())?;
    let hint = if loaded.config.broker.embedded {
        " (the embedded broker runs while `atelier up` does)"
    } else {
        ""
    };
    let changes = admin
        .plan(TopicTable::embedded())
        .await
        .map_err(|error| format!("{error}{hint}"))?;
    match changes.first().map(TopicChange::to_string) {
        None => Ok(format!(
            "{} has every topic of the table",
            kafka.bootstrap_servers
        )),
        Some(first) => Err(format!(
            "{} differences from the table, the first: {first}; run `atelier topics apply`",
            changes.len()
        )),
    }
}

async fn blobs(loaded: &Loaded) -> Result<String, String> {
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs)
        .await
        .map_err(|error| error.to_string())?;
    blobs
        .check()
        .await
        .map(|()| without_password(&loaded.blobs_url()))
        .map_err(|error| error.to_string())
}

async fn ledger(loaded: &Loaded) -> Result<String, String> {
    let ledger = open_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger)
        .await
        .map_err(|error| error.to_string())?;
    ledger
        .check()
        .await
        .map(|()| without_password(&loaded.ledger_url()))
        .map_err(|error| error.to_string())
}
