//! Each check by itself: what was found, or what is wrong and what to do.

use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    time::Duration,
};

use atelier_models::{ModelStore, Runtime};
use atelier_runtime::{OpenTransaction, TopicAdmin, TopicChange};
use atelier_schemas::TopicTable;
use atelier_stores::{
    LedgerState, check_cache, free_bytes, inspect_ledger, open_blobs, open_ledger, without_password,
};
use chrono::{DateTime, TimeDelta, Utc};

use super::Finding;
use crate::config::Loaded;

type Outcome = Result<String, String>;

/// Differences from the topic table that are told one by one.
const MOST_DIFFERENCES: usize = 3;
/// Kafka lets no producer ask for a longer transaction, where `transaction.max.timeout.ms` is its default.
const LONGEST_TRANSACTION: TimeDelta = TimeDelta::minutes(15);
/// A clock that is further off than this, in milliseconds, makes times of events contradict each other.
const MOST_SKEW_MS: u64 = 2_000;

/// Every check, in the order in which each needs the one before.
pub async fn all(loaded: &Loaded) -> Vec<Finding> {
    let mut found = vec![
        finding("data folder", data_folder(loaded)),
        finding("disk", disk(loaded)),
        finding("models", models(loaded).await),
        finding("kafka", kafka(loaded).await),
    ];
    if found[3].ok {
        let topics = finding("topics", topics(loaded).await);
        let are_there = topics.ok;
        found.push(topics);
        if are_there {
            found.push(finding("transactions", transactions(loaded).await));
        }
    }
    // Opening a store makes its folder, so it is only asked where there is one to make it in.
    if found[0].ok {
        found.push(finding("blobs", blobs(loaded).await));
    }
    if let Some(url) = &loaded.config.stores.cache_url {
        found.push(finding("cache", cache(loaded, url).await));
    }
    let state = inspect_ledger(&loaded.ledger_url(), &loaded.config.stores.ledger).await;
    match state {
        Err(error) => found.push(finding("ledger", Err(error.to_string()))),
        Ok(state) => {
            found.push(finding("ledger", ledger(loaded, &state).await));
            found.push(finding("migrations", migrations(&state)));
            if let Some(ahead_ms) = state.clock_ahead_ms {
                found.push(finding("clock", clock(ahead_ms)));
            }
        }
    }
    found.push(finding("gateway", gateway(loaded).await));
    found
}

fn finding(name: &'static str, outcome: Outcome) -> Finding {
    let ok = outcome.is_ok();
    Finding {
        name,
        ok,
        message: outcome.unwrap_or_else(|reason| reason),
    }
}

/// The folder, or what of it is there already.
fn nearest(folder: &Path) -> &Path {
    folder
        .ancestors()
        .find(|place| place.exists())
        .unwrap_or(folder)
}

fn data_folder(loaded: &Loaded) -> Outcome {
    let place = nearest(&loaded.data_dir);
    tempfile::NamedTempFile::new_in(place)
        .map(|_| format!("{} is writable", loaded.data_dir.display()))
        .map_err(|error| {
            format!(
                "{} is not writable ({error}): change its owner, or give another by --data-dir",
                place.display()
            )
        })
}

/// The stores refuse what is new before the disk is full.
fn disk(loaded: &Loaded) -> Outcome {
    let stores = &loaded.config.stores;
    let mut places: Vec<(&str, PathBuf, u64)> = Vec::new();
    let local = |url: &str, scheme: &str| {
        let url = url::Url::parse(url)
            .ok()
            .filter(|url| url.scheme() == scheme)?;
        Some(PathBuf::from(url.path()))
    };
    if let Some(folder) = local(&loaded.blobs_url(), "file") {
        places.push(("stores.blobs", folder, stores.blobs.min_free_bytes));
    }
    if let Some(file) = local(&loaded.ledger_url(), "sqlite") {
        places.push(("stores.ledger", file, stores.ledger.min_free_bytes));
    }
    places.push(("data_dir", loaded.data_dir.clone(), 0));
    let mut least = u64::MAX;
    for (setting, place, reserve) in places {
        let place = nearest(&place);
        let free = free_bytes(place)
            .map_err(|error| format!("the disk of {} cannot be asked: {error}", place.display()))?;
        if free <= reserve {
            return Err(format!(
                "{} MiB are free on the disk of {}, and {setting}.min_free_bytes keeps {} MiB: new tasks are refused; free space",
                free >> 20,
                place.display(),
                reserve >> 20
            ));
        }
        least = least.min(free);
    }
    Ok(format!("{} MiB free", least >> 20))
}

/// Work goes on without it, so this is the only place where one that is away is an error.
async fn cache(loaded: &Loaded, url: &str) -> Outcome {
    let answer = check_cache(url, &loaded.config.stores.cache).await;
    answer
        .map(|()| format!("{} answers", without_password(url)))
        .map_err(|error| error.to_string())
}

async fn models(loaded: &Loaded) -> Outcome {
    let (dir, provider) = (
        loaded.config.models.dir.clone(),
        loaded.config.models.provider,
    );
    let preload = loaded.config.stages.matte.preload.clone();
    // Hashing takes a moment for each hundred MB.
    let checking = tokio::task::spawn_blocking(move || {
        let store = ModelStore::open(dir).map_err(|error| error.to_string())?;
        let mut names = preload;
        for name in store.automatic() {
            if !names.iter().any(|known| known == name) {
                names.push(name.to_owned());
            }
        }
        for name in &names {
            let model = store.catalogue().find(name).ok_or_else(|| {
                format!("stages.matte.preload names `{name}`, which is not in the catalogue: see `atelier models list`")
            })?;
            store.verify(model).map_err(|error| error.to_string())?;
        }
        let runtime = Runtime::load(&store, provider).map_err(|error| error.to_string())?;
        Ok(format!(
            "{} files in {} have their checksums; run by {}",
            names.len(),
            store.folder().display(),
            runtime.provider()
        ))
    });
    checking
        .await
        .unwrap_or_else(|error| Err(format!("the check broke off: {error}")))
}

async fn kafka(loaded: &Loaded) -> Outcome {
    let kafka = loaded.kafka().map_err(|error| error.to_string())?;
    let hint = if loaded.config.broker.embedded {
        " (the embedded broker runs while `atelier up` does)"
    } else {
        ""
    };
    let brokers = async { TopicAdmin::new(&kafka)?.brokers().await }
        .await
        .map_err(|error| format!("{error}{hint}"))?;
    for (setting, wanted) in [
        ("replication_factor", kafka.replication_factor),
        ("min_insync_replicas", kafka.min_insync_replicas),
    ] {
        if let Some(wanted) =
            wanted.filter(|wanted| usize::try_from(*wanted).is_ok_and(|wanted| wanted > brokers))
        {
            return Err(format!(
                "kafka.{setting} = {wanted}, and there are {brokers} brokers: add brokers, or set it lower"
            ));
        }
    }
    Ok(format!(
        "{} answers {}; {brokers} brokers",
        kafka.bootstrap_servers,
        kafka.security.principal()
    ))
}

async fn topics(loaded: &Loaded) -> Outcome {
    let kafka = loaded.kafka().map_err(|error| error.to_string())?;
    let changes = async { TopicAdmin::new(&kafka)?.plan(TopicTable::embedded()).await }
        .await
        .map_err(|error| error.to_string())?;
    if changes.is_empty() {
        let count = TopicTable::embedded().topics().len();
        return Ok(format!("all {count} are as the table says"));
    }
    let told: Vec<String> = changes
        .iter()
        .take(MOST_DIFFERENCES)
        .map(TopicChange::to_string)
        .collect();
    let rest = match changes.len() - told.len() {
        0 => String::new(),
        count => format!("; and {count} more"),
    };
    let advice = if changes.iter().any(TopicChange::is_applicable) {
        "run `atelier topics apply`"
    } else {
        "this cannot be applied: make the topic anew, or change infra/kafka/topics.toml"
    };
    Err(format!("{}{rest}: {advice}", told.join("; ")))
}

/// One that is open for longer than any may be is never ended by anybody, and readers wait for it for ever.
async fn transactions(loaded: &Loaded) -> Outcome {
    let kafka = loaded.kafka().map_err(|error| error.to_string())?;
    let open = async {
        TopicAdmin::new(&kafka)?
            .open_transactions(TopicTable::embedded())
            .await
    }
    .await
    .map_err(|error| error.to_string())?;
    forgotten(&open, Utc::now(), &kafka.bootstrap_servers)
}

fn forgotten(open: &[OpenTransaction], now: DateTime<Utc>, bootstrap_servers: &str) -> Outcome {
    let told: Vec<String> = open
        .iter()
        .filter(|open| now - open.since > LONGEST_TRANSACTION)
        .map(|open| {
            format!(
                "{}/{} is not read past offset {}, where a transaction is open for {} minutes: `kafka-transactions.sh --bootstrap-server {bootstrap_servers} abort --topic {} --partition {} --start-offset {}` ends it",
                open.topic,
                open.partition,
                open.offset,
                (now - open.since).num_minutes(),
                open.topic,
                open.partition,
                open.offset,
            )
        })
        .collect();
    if told.is_empty() {
        return Ok("none is open for longer than it may be".to_owned());
    }
    Err(format!(
        "{} (docs/runbook.md says what of its tasks)",
        told.join("; ")
    ))
}

async fn blobs(loaded: &Loaded) -> Outcome {
    let blobs = open_blobs(&loaded.blobs_url(), &loaded.config.stores.blobs)
        .await
        .map_err(|error| error.to_string())?;
    blobs
        .check()
        .await
        .map(|()| {
            format!(
                "{} can be read and written",
                without_password(&loaded.blobs_url())
            )
        })
        .map_err(|error| error.to_string())
}

async fn ledger(loaded: &Loaded, state: &LedgerState) -> Outcome {
    let place = without_password(&loaded.ledger_url());
    let options = &loaded.config.stores.ledger;
    let wanted = options.postgres.max_connections;
    if let Some(most) = state.server_connections.filter(|most| *most < wanted) {
        return Err(format!(
            "stores.ledger.postgres.max_connections = {wanted}, and the server at {place} takes {most} in all: set it lower, or the server's higher"
        ));
    }
    if !state.exists {
        return Ok(format!("{place} is made at the first start"));
    }
    // Opening would bring the tables up to date.
    if !state.pending.is_empty() || !state.unknown.is_empty() {
        return Ok(format!("{place} answers ({})", state.server));
    }
    let ledger = open_ledger(&loaded.ledger_url(), options)
        .await
        .map_err(|error| error.to_string())?;
    ledger
        .check()
        .await
        .map(|()| format!("{place} can be read and written ({})", state.server))
        .map_err(|error| error.to_string())
}

fn migrations(state: &LedgerState) -> Outcome {
    if !state.unknown.is_empty() {
        return Err(format!(
            "the ledger's tables are of a newer version (migration {}): run the version of Atelier that made them",
            state.unknown[0]
        ));
    }
    Ok(if state.pending.is_empty() {
        "the ledger's tables are up to date".to_owned()
    } else {
        format!("the next start applies {}", state.pending.join(", "))
    })
}

fn clock(ahead_ms: i64) -> Outcome {
    let text = format!(
        "{} ms {} the database's",
        ahead_ms.unsigned_abs(),
        // The server's clock is ahead: this machine's is behind.
        if ahead_ms > 0 { "behind" } else { "ahead of" }
    );
    if ahead_ms.unsigned_abs() <= MOST_SKEW_MS {
        return Ok(format!("this machine's clock is {text}"));
    }
    Err(format!(
        "this machine's clock is {text}: let both follow a time server (NTP)"
    ))
}

/// Either its port is free, or a gateway has it.
async fn gateway(loaded: &Loaded) -> Outcome {
    let listen = loaded.config.gateway.listen;
    let Err(taken) = TcpListener::bind(listen) else {
        return Ok(format!("{listen} is free"));
    };
    let ask = async || {
        let client = reqwest::Client::builder()
            .timeout(Duration::from_secs(10))
            .no_proxy()
            .build()?;
        let answer = client
            .get(format!("http://{listen}/health/ready"))
            .send()
            .await?;
        answer.json::<serde_json::Value>().await
    };
    let not_ours = || {
        format!(
            "cannot listen on {listen} ({taken}), and what does is no gateway: stop it, or set gateway.listen to another port"
        )
    };
    let health = ask().await.map_err(|_| not_ours())?;
    let rows = health["dependencies"].as_array().ok_or_else(not_ours)?;
    let down: Vec<String> = rows
        .iter()
        .filter(|row| row["ok"] != true)
        .map(|row| {
            let text = |name: &str| row[name].as_str().unwrap_or("?").to_owned();
            format!("{} ({})", text("name"), text("message"))
        })
        .collect();
    if down.is_empty() {
        return Ok(format!("one runs on {listen} and is ready"));
    }
    Err(format!(
        "the one on {listen} is not ready: {}",
        down.join(", ")
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_is_off_is_told_in_the_right_direction() {
        assert!(clock(-90_000).unwrap_err().contains("90000 ms ahead of"));
        assert!(clock(90_000).unwrap_err().contains("90000 ms behind"));
        assert!(clock(40).is_ok());
    }

    #[test]
    fn a_transaction_that_is_open_for_longer_than_any_may_be_is_told_with_what_ends_it() {
        let now = Utc::now();
        let open_for = |minutes| OpenTransaction {
            topic: "image-tasks".into(),
            partition: 2,
            offset: 3,
            since: now - TimeDelta::minutes(minutes),
        };
        assert!(forgotten(&[open_for(14)], now, "kafka:9092").is_ok());
        let said = forgotten(&[open_for(14), open_for(20)], now, "kafka:9092").unwrap_err();
        assert_eq!(said.matches("image-tasks/2").count(), 1, "{said}");
        assert!(
            said.contains("offset 3, where a transaction is open for 20 minutes")
                && said.contains(
                    "kafka:9092 abort --topic image-tasks --partition 2 --start-offset 3`"
                ),
            "{said}"
        );
    }

    #[test]
    fn tables_of_a_newer_version_are_wrong_and_older_ones_are_not() {
        let mut state = LedgerState {
            pending: vec!["0002 cancelled images".into()],
            ..LedgerState::default()
        };
        assert!(
            migrations(&state)
                .unwrap()
                .contains("0002 cancelled images")
        );
        state.unknown = vec![9_999];
        assert!(migrations(&state).unwrap_err().contains("9999"));
    }
}
