//! `atelier replay`: dead letters, shown and put back.

use std::{fmt::Write as _, process::ExitCode};

use anyhow::{Context as _, bail};
use atelier_runtime::{
    letters::{DeadLetter, LetterReader},
    replay::{Repair, Replayer},
};
use atelier_schemas::TopicTable;
use chrono::SecondsFormat;

use crate::{cli::ReplayArgs, config::Loaded, print};

/// Shows dead letters, or puts them back.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, arguments: ReplayArgs) -> anyhow::Result<ExitCode> {
    let kafka = loaded.kafka()?;
    let repair = repair_of(&arguments)?;
    let (stage, at, all, code, limit) = (
        arguments.stage,
        arguments.at,
        arguments.all,
        arguments.code,
        arguments.limit,
    );
    let reading = kafka.clone();
    let letters =
        tokio::task::spawn_blocking(move || -> anyhow::Result<(Vec<DeadLetter>, bool)> {
            let reader = LetterReader::new(&reading, TopicTable::embedded())?;
            if let Some(place) = at {
                let (partition, offset) = parse_place(&place)?;
                return Ok((vec![reader.get(&stage, partition, offset)?], true));
            }
            let mut letters = reader.list(Some(&stage), if all { usize::MAX } else { limit })?;
            letters.retain(|letter| {
                code.as_deref()
                    .is_none_or(|code| letter.code.as_deref() == Some(code))
            });
            Ok((letters, all))
        })
        .await?;
    let (letters, put_back) = letters?;
    if !put_back {
        print(&table(&letters)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    let replayer = Replayer::new(&kafka)?;
    for letter in &letters {
        replayer.replay(letter, repair.clone()).await?;
        let id = letter.event_id.map_or_else(
            || "an event without an id".to_owned(),
            |id| format!("event {id}"),
        );
        print(&format!(
            "{}:{} put back: {id}\n",
            letter.record.source.partition, letter.record.offset
        ))?;
    }
    if letters.is_empty() {
        print("there is nothing to put back\n")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn repair_of(arguments: &ReplayArgs) -> anyhow::Result<Repair> {
    let value = match &arguments.value {
        Some(path) => Some(
            std::fs::read(path)
                .with_context(|| format!("{} cannot be read", path.display()))?
                .into(),
        ),
        None => None,
    };
    let headers = arguments
        .header
        .iter()
        .map(|header| match header.split_once('=') {
            Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
            _ => bail!("--header {header}: write NAME=VALUE"),
        })
        .collect::<anyhow::Result<_>>()?;
    Ok(Repair { value, headers })
}

fn parse_place(text: &str) -> anyhow::Result<(i32, i64)> {
    let place = text
        .split_once(':')
        .and_then(|(partition, offset)| Some((partition.parse().ok()?, offset.parse().ok()?)));
    place.with_context(|| format!("--at {text}: write PARTITION:OFFSET as the list shows it"))
}

fn table(letters: &[DeadLetter]) -> anyhow::Result<String> {
    if letters.is_empty() {
        return Ok("no dead letters\n".to_owned());
    }
    let mut text =
        String::from("place    time                      attempts  code                 why\n");
    for letter in letters {
        let place = format!(
            "{}:{}",
            letter.record.source.partition, letter.record.offset
        );
        let time = letter.time.to_rfc3339_opts(SecondsFormat::Secs, true);
        let code = letter.code.as_deref().unwrap_or("-");
        let replayed = if letter.replay > 0 {
            format!(" (replay {})", letter.replay)
        } else {
            String::new()
        };
        writeln!(
            text,
            "{place:<8} {time:<25} {:<9} {code:<20} {}{replayed}",
            letter.attempts, letter.message
        )?;
        let ids = [
            ("event", letter.event_id),
            ("task", letter.task_id),
            ("image", letter.image_id),
        ];
        let ids: Vec<String> = ids
            .iter()
            .filter_map(|(name, id)| id.map(|id| format!("{name} {id}")))
            .collect();
        if !ids.is_empty() {
            writeln!(text, "         {}", ids.join(", "))?;
        }
    }
    Ok(text)
}
