//! `atelier topics acls`: what a Kafka with an authorizer has to allow.

use std::fmt::Write as _;

use atelier_runtime::access::{self, AccessRule, Pattern};
use atelier_schemas::TopicTable;

use crate::{
    cli::{AclsArgs, AclsFormat},
    config::Loaded,
    print,
};

/// Prints the rules.
///
/// # Errors
/// Standard output cannot be written.
pub fn run(loaded: &Loaded, arguments: &AclsArgs) -> anyhow::Result<()> {
    let rules = access::rules(TopicTable::embedded(), &arguments.principal_prefix);
    print(&match arguments.format {
        AclsFormat::Json => format!("{}\n", serde_json::to_string_pretty(&rules)?),
        AclsFormat::Commands => script(&rules, &loaded.config.kafka.bootstrap_servers)?,
    })
}

/// One command for what one user may do in one way: each start of kafka-acls.sh takes a second.
fn script(rules: &[AccessRule], bootstrap_servers: &str) -> anyhow::Result<String> {
    let mut text = String::from(
        "#!/bin/sh -e\n# ADMIN: a properties file of a user who may alter access rules. `atelier up` runs every stage as one user: give it all of them.\n",
    );
    let belongs = |a: &AccessRule, b: &AccessRule| {
        (&a.principal, a.resource_type, a.pattern, a.operation)
            == (&b.principal, b.resource_type, b.pattern, b.operation)
    };
    for group in rules.chunk_by(belongs) {
        let first = &group[0];
        write!(
            text,
            "kafka-acls.sh --bootstrap-server {} --command-config \"$ADMIN\" --add --allow-principal {} --operation {}",
            quoted(bootstrap_servers),
            quoted(&first.principal),
            first.operation.as_str()
        )?;
        if first.pattern == Pattern::Prefixed {
            text.push_str(" --resource-pattern-type prefixed");
        }
        for rule in group {
            write!(
                text,
                " --{} {}",
                rule.resource_type.as_str(),
                quoted(&rule.resource)
            )?;
        }
        text.push('\n');
    }
    Ok(text)
}

/// As one word of a shell.
fn quoted(word: &str) -> String {
    format!("'{}'", word.replace('\'', "'\\''"))
}
