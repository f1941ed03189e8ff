//! The settings of a topic: their names, types, defaults and limits, and the typed form the engine uses.
//!
//! Invariant: a setting that is accepted has an effect. Settings of Kafka's that this broker cannot honour are accepted only
//! with the one value that describes what it does anyway; every other name is refused.

use std::collections::BTreeMap;

use crate::log::MAX_BATCH_BYTES;

/// Which records go when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cleanup {
    /// Whole segments go by age and size.
    pub delete: bool,
    /// Only the last record of each key stays.
    pub compact: bool,
}

/// A topic's settings, typed.
#[derive(Clone, Debug, PartialEq)]
pub struct TopicConfig {
    /// `cleanup.policy`
    pub cleanup: Cleanup,
    /// `delete.retention.ms`: how long compaction keeps a tombstone.
    pub delete_retention_ms: i64,
    /// `max.message.bytes`: largest batch.
    pub max_message_bytes: usize,
    /// `message.timestamp.type` is `LogAppendTime`.
    pub log_append_time: bool,
    /// `min.cleanable.dirty.ratio`: share of uncompacted bytes from which compaction runs.
    pub min_cleanable_dirty_ratio: f64,
    /// `min.compaction.lag.ms`: records younger than this are not compacted away.
    pub min_compaction_lag_ms: i64,
    /// `retention.bytes` per partition; negative: no limit.
    pub retention_bytes: i64,
    /// `retention.ms`; negative: no limit.
    pub retention_ms: i64,
    /// `segment.bytes`
    pub segment_bytes: u64,
    /// `segment.ms`
    pub segment_ms: i64,
}

/// The type of a setting, with the number that says so on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// One of a few words.
    Word(&'static [&'static str]),
    /// A comma-separated list of words.
    List(&'static [&'static str]),
    /// A 32-bit number within limits.
    Int(i64, i64),
    /// A 64-bit number within limits.
    Long(i64, i64),
    /// A share between 0 and 1.
    Share,
    /// true or false, of which only one is taken.
    Bool(&'static [&'static str]),
}

impl Kind {
    /// The number of the type in `DescribeConfigs`.
    pub fn wire_number(self) -> i8 {
        match self {
            Self::Bool(_) => 1,
            Self::Word(_) => 2,
            Self::Int(..) => 3,
            Self::Long(..) => 5,
            Self::Share => 6,
            Self::List(_) => 7,
        }
    }
}

/// One row of the table of settings.
#[derive(Debug)]
pub struct Setting {
    /// Kafka's name for it.
    pub name: &'static str,
    /// Its type and limits.
    pub kind: Kind,
    /// The value where a topic says nothing.
    pub default: &'static str,
    /// What it does, for `DescribeConfigs`.
    pub documentation: &'static str,
}

/// Every setting that a topic can have.
pub const SETTINGS: &[Setting] = &[
    Setting {
        name: "cleanup.policy",
        kind: Kind::List(&["delete", "compact"]),
        default: "delete",
        documentation: "delete drops old segments; compact keeps the last record of each key",
    },
    Setting {
        name: "compression.type",
        kind: Kind::Word(&["producer"]),
        default: "producer",
        documentation: "batches are kept as the producer compressed them",
    },
    Setting {
        name: "delete.retention.ms",
        kind: Kind::Long(0, i64::MAX),
        default: "86400000",
        documentation: "how long compaction keeps tombstones, in milliseconds",
    },
    Setting {
        name: "max.message.bytes",
        kind: Kind::Int(0, MAX_BATCH_BYTES as i64),
        default: "1048588",
        documentation: "largest record batch in bytes",
    },
    Setting {
        name: "message.timestamp.type",
        kind: Kind::Word(&["CreateTime", "LogAppendTime"]),
        default: "CreateTime",
        documentation: "whose clock stamps the records",
    },
    Setting {
        name: "min.cleanable.dirty.ratio",
        kind: Kind::Share,
        default: "0.5",
        documentation: "share of bytes not yet compacted from which compaction runs",
    },
    Setting {
        name: "min.compaction.lag.ms",
        kind: Kind::Long(0, i64::MAX),
        default: "0",
        documentation: "records younger than this stay, in milliseconds",
    },
    Setting {
        name: "min.insync.replicas",
        kind: Kind::Int(1, 1),
        default: "1",
        documentation: "there is one replica",
    },
    Setting {
        name: "retention.bytes",
        kind: Kind::Long(-1, i64::MAX),
        default: "-1",
        documentation: "bytes kept per partition; -1 for no limit",
    },
    Setting {
        name: "retention.ms",
        kind: Kind::Long(-1, i64::MAX),
        default: "604800000",
        documentation: "how long records are kept, in milliseconds; -1 for ever",
    },
    Setting {
        name: "segment.bytes",
        kind: Kind::Int(1_024, i32::MAX as i64),
        default: "134217728",
        documentation: "size at which a new segment file is begun",
    },
    Setting {
        name: "segment.ms",
        kind: Kind::Long(1, i64::MAX),
        default: "604800000",
        documentation: "age at which a new segment file is begun, in milliseconds",
    },
    Setting {
        name: "unclean.leader.election.enable",
        kind: Kind::Bool(&["false"]),
        default: "false",
        documentation: "there are no elections",
    },
];

/// A setting was refused.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum ConfigError {
    /// No such setting here.
    #[error("topic setting {0} is not known to this broker")]
    Unknown(String),
    /// The value is not one of those allowed.
    #[error("topic setting {name} cannot be {value:?}: {wanted}")]
    Value {
        /// The setting.
        name: &'static str,
        /// The value refused.
        value: String,
        /// What would be accepted.
        wanted: String,
    },
}

/// The row of `name`.
pub fn setting(name: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.name == name)
}

impl Setting {
    fn check(&self, value: &str) -> Result<(), ConfigError> {
        let refused = |wanted: String| ConfigError::Value {
            name: self.name,
            value: value.to_owned(),
            wanted,
        };
        match self.kind {
            Kind::Word(words) | Kind::Bool(words) => words
                .contains(&value)
                .then_some(())
                .ok_or_else(|| refused(format!("use {}", words.join(" or ")))),
            Kind::List(words) => {
                let known = value.split(',').all(|word| words.contains(&word.trim()));
                known
                    .then_some(())
                    .ok_or_else(|| refused(format!("use a list of {}", words.join(", "))))
            }
            Kind::Int(least, most) | Kind::Long(least, most) => {
                let number = value
                    .parse::<i64>()
                    .ok()
                    .filter(|number| (least..=most).contains(number));
                number
                    .map(|_| ())
                    .ok_or_else(|| refused(format!("use a number from {least} to {most}")))
            }
            Kind::Share => {
                let share = value
                    .parse::<f64>()
                    .ok()
                    .filter(|share| (0.0..=1.0).contains(share));
                share
                    .map(|_| ())
                    .ok_or_else(|| refused("use a number from 0 to 1".to_owned()))
            }
        }
    }
}

impl TopicConfig {
    /// Checks the values that a topic overrides and fills in the defaults.
    pub fn from_overrides(overrides: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        for (name, value) in overrides {
            setting(name)
                .ok_or_else(|| ConfigError::Unknown(name.clone()))?
                .check(value)?;
        }
        let value = |name: &str| -> &str {
            overrides.get(name).map_or_else(
                || setting(name).map_or("", |row| row.default),
                String::as_str,
            )
        };
        let number = |name: &str| value(name).parse::<i64>().unwrap_or(i64::MAX);
        let policy = value("cleanup.policy");
        let has = |word: &str| policy.split(',').any(|part| part.trim() == word);
        Ok(Self {
            cleanup: Cleanup {
                delete: has("delete"),
                compact: has("compact"),
            },
            delete_retention_ms: number("delete.retention.ms"),
            max_message_bytes: usize::try_from(number("max.message.bytes"))
                .unwrap_or(MAX_BATCH_BYTES),
            log_append_time: value("message.timestamp.type") == "LogAppendTime",
            min_cleanable_dirty_ratio: value("min.cleanable.dirty.ratio").parse().unwrap_or(0.5),
            min_compaction_lag_ms: number("min.compaction.lag.ms"),
            retention_bytes: number("retention.bytes"),
            retention_ms: number("retention.ms"),
            segment_bytes: u64::try_from(number("segment.bytes")).unwrap_or(u64::MAX),
            segment_ms: number("segment.ms"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<TopicConfig, ConfigError> {
        let overrides = pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        TopicConfig::from_overrides(&overrides)
    }

    #[test]
    fn every_default_is_a_value_that_the_setting_takes() {
        for setting in SETTINGS {
            assert_eq!(setting.check(setting.default), Ok(()), "{}", setting.name);
        }
    }

    #[test]
    fn both_policies_can_be_had_at_once() {
        let config = parse(&[("cleanup.policy", "compact,delete")]).unwrap();
        assert_eq!(
            config.cleanup,
            Cleanup {
                delete: true,
                compact: true
            }
        );
    }

    #[test]
    fn what_cannot_be_honoured_is_refused() {
        assert!(matches!(
            parse(&[("no.such.setting", "1")]),
            Err(ConfigError::Unknown(_))
        ));
        for (name, value) in [
            ("min.insync.replicas", "2"),
            ("segment.bytes", "many"),
            ("compression.type", "zstd"),
        ] {
            assert!(
                matches!(parse(&[(name, value)]), Err(ConfigError::Value { .. })),
                "{name}={value}"
            );
        }
    }
}
