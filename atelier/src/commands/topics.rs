//! `atelier topics`: the table against the broker.

use std::{fmt::Write as _, process::ExitCode};

use atelier_runtime::{KafkaOptions, TopicAdmin, TopicChange};
use atelier_schemas::TopicTable;

use crate::{cli::TopicsCommand, config::Loaded, print};

mod acls;

/// Does what the command says, on the configured broker.
///
/// # Errors
/// One chain of causes, for people.
pub async fn run(loaded: &Loaded, command: &TopicsCommand) -> anyhow::Result<ExitCode> {
    match command {
        TopicsCommand::Acls(arguments) => acls::run(loaded, arguments)?,
        TopicsCommand::Apply => print(&format!("{}\n", apply(&loaded.kafka()?).await?))?,
        TopicsCommand::Plan | TopicsCommand::Check => {
            let changes = TopicAdmin::new(&loaded.kafka()?)?
                .plan(TopicTable::embedded())
                .await?;
            let lines: Vec<String> = changes.iter().map(TopicChange::to_string).collect();
            print(&if lines.is_empty() {
                "the broker agrees with the table\n".to_owned()
            } else {
                lines.join("\n") + "\n"
            })?;
            if matches!(command, TopicsCommand::Check) && !changes.is_empty() {
                eprintln!("the broker differs from the table: run `atelier topics apply`");
                return Ok(ExitCode::FAILURE);
            }
        }
        TopicsCommand::Describe => describe(&loaded.kafka()?).await?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Makes the broker agree with the table; answers with what was changed, for people.
///
/// # Errors
/// The broker does not answer or refuses a change.
pub async fn apply(kafka: &KafkaOptions) -> anyhow::Result<String> {
    let changes = TopicAdmin::new(kafka)?
        .apply(TopicTable::embedded())
        .await?;
    let created = changes
        .iter()
        .filter(|change| matches!(change, TopicChange::Create(_)))
        .count();
    Ok(match (changes.len(), created) {
        (0, _) => format!(
            "all {} are as the table says",
            TopicTable::embedded().topics().len()
        ),
        (all, created) if all == created => format!("created {created}"),
        _ => changes
            .iter()
            .map(TopicChange::to_string)
            .collect::<Vec<_>>()
            .join("; "),
    })
}

async fn describe(kafka: &KafkaOptions) -> anyhow::Result<()> {
    let mut text = format!(
        "{:<24} {:>10} {:>10}  settings\n",
        "topic", "partitions", "offsets"
    );
    for state in TopicAdmin::new(kafka)?
        .describe(TopicTable::embedded())
        .await?
    {
        let offsets: i64 = state.offsets.values().map(|(first, end)| end - first).sum();
        let settings: Vec<String> = state
            .configs
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let partitions = if state.partitions == 0 {
            "missing".to_owned()
        } else {
            state.partitions.to_string()
        };
        writeln!(
            text,
            "{:<24} {partitions:>10} {offsets:>10}  {}",
            state.name,
            settings.join(" ")
        )?;
    }
    print(&text)
}
