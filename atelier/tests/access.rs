//! The real processes on a Kafka that asks who is there: each with a user of its own, and the rules that `atelier topics acls`
//! lists for it.
#![allow(clippy::unwrap_used)]

mod support;

use std::{collections::BTreeSet, fs, io::Write as _, process::Stdio};

use atelier_schemas::{TaskStatus, TopicTable};
use atelier_servers::{AclRule, Listener, SecuredKafka};
use serde_json::{Value, json};
use support::{Installation, read_topic, samples};

fn listed_rules() -> Vec<AclRule> {
    let output = Installation::new("")
        .command(&["topics", "acls", "--format", "json"])
        .output()
        .unwrap();
    let rules: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let rule = |rule: &Value| {
        let text = |name: &str| rule[name].as_str().unwrap().to_owned();
        AclRule {
            principal: text("principal"),
            resource_type: text("resourceType"),
            resource_name: text("resource"),
            pattern: text("pattern"),
            operation: text("operation"),
        }
    };
    rules.iter().map(rule).collect()
}

/// Whose processes are started from now on.
fn become_user(installation: &mut Installation, kafka: &SecuredKafka, user: &str) {
    let password = fs::read_to_string(kafka.password_file(user)).unwrap();
    installation.environment = vec![
        ("ATELIER_KAFKA_USERNAME", user.to_owned()),
        ("ATELIER_KAFKA_PASSWORD", password),
    ];
}

#[test]
fn a_photograph_goes_through_with_the_listed_rules_alone() {
    let rules = listed_rules();
    let users: BTreeSet<&str> = rules
        .iter()
        .map(|rule| rule.principal.trim_start_matches("User:"))
        .collect();
    let Some(kafka) = SecuredKafka::start(&users.into_iter().collect::<Vec<_>>()) else {
        return;
    };
    kafka.allow(&rules);
    let mut installation = Installation::new(&format!(
        "embedded = false\n[kafka]\nbootstrap_servers = \"{}\"\n[kafka.security]\nprotocol = \"sasl_ssl\"\nca_file = \"{}\"\n[stages.matte]\npreload = [\"u2netp\"]\n",
        kafka.address(Listener::Scram),
        kafka.ca_file().display()
    ));
    become_user(&mut installation, &kafka, "atelier-operator");
    for command in [
        ["topics", "apply"],
        ["topics", "check"],
        ["topics", "describe"],
    ] {
        let output = installation.command(&command).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "{command:?}: {said}");
    }
    let stages = TopicTable::embedded().stages();
    for stage in stages {
        become_user(&mut installation, &kafka, &format!("atelier-{stage}"));
        installation.start(stage, &["stage", stage]);
    }
    become_user(&mut installation, &kafka, "atelier-gateway");
    installation.start("gateway", &["gateway"]);
    installation.wait_until_ready();
    let dress = fs::read(samples().join("dress.jpg")).unwrap();
    let task = installation.upload(&[("dress.jpg", dress)], &json!({ "quality": "low" }));
    let ended = installation.wait_for_end(task.task_id);
    assert_eq!(ended.status, TaskStatus::Completed);
    let ends = |records: &[support::Record]| {
        let is_end = |event: &&support::Record| event.event_type() == "atelier.task.ended.v1";
        records.iter().filter(is_end).count()
    };
    let plain = kafka.address(Listener::Plaintext);
    assert_eq!(ends(&read_topic(&plain, "task-events")), 1);
    // Queues and dead letters are read as the gateway, too.
    let pipeline: Value = serde_json::from_slice(&installation.bytes("/api/v1/pipeline")).unwrap();
    assert_eq!(
        pipeline["stages"].as_array().map(Vec::len),
        Some(stages.len())
    );
    for process in stages.iter().map(String::as_str).chain(["gateway"]) {
        assert!(installation.terminate(process), "{process}");
        let log = installation.log(process);
        assert!(
            !log.contains("forbidden by ACL") && !log.contains("password-of"),
            "{process}: {log}"
        );
    }
}

#[test]
fn the_rules_are_a_script_that_a_shell_reads() {
    let output = Installation::new("[kafka]\nbootstrap_servers = \"kafka.example:9093\"\n")
        .command(&["topics", "acls", "--principal-prefix", "o'hara-"])
        .output()
        .unwrap();
    let script = String::from_utf8(output.stdout).unwrap();
    // What kafka-acls.sh would be given, a line for each word.
    let told = "kafka-acls.sh() { printf '<%s>' \"$@\"; echo; }\n";
    let mut shell = std::process::Command::new("sh")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .env("ADMIN", "/etc/admin.properties")
        .spawn()
        .unwrap();
    // A name of a function has no dots and dashes everywhere.
    let script = format!("{told}{script}").replace("kafka-acls.sh", "kafka_acls");
    shell
        .stdin
        .take()
        .unwrap()
        .write_all(script.as_bytes())
        .unwrap();
    let output = shell.wait_with_output().unwrap();
    assert!(output.status.success(), "{script}");
    let lines = String::from_utf8(output.stdout).unwrap();
    assert!(
        lines.contains(
            "<--bootstrap-server><kafka.example:9093><--command-config></etc/admin.properties><--add><--allow-principal><User:o'hara-matte><--operation><Write><--resource-pattern-type><prefixed><--transactional-id><atelier-matte->"
        ),
        "{lines}"
    );
}
