//! TLS, user and password of a client, as librdkafka's properties.
//!
//! Invariants: a password is in memory only between its file or variable and librdkafka, and in no text; a setting that would
//! have no effect is an error, so that nobody believes to be protected by it.

use std::path::Path;

use rdkafka::ClientConfig;

use crate::options::{SaslMechanism, SecurityOptions, SecurityProtocol};

/// Where the name of the SCRAM user is when the configuration has none.
const USERNAME_VARIABLE: &str = "ATELIER_KAFKA_USERNAME";
/// Where the password is when the configuration names no file.
const PASSWORD_VARIABLE: &str = "ATELIER_KAFKA_PASSWORD";

/// What is wrong with `kafka.security`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecurityError {
    /// A setting for another protocol.
    #[error(
        "kafka.security.{setting} is set, and kafka.security.protocol = `{protocol}` makes no use of it: set the protocol to `{fitting}`, or take the setting out"
    )]
    NoEffect {
        /// The setting.
        setting: &'static str,
        /// The protocol that is configured.
        protocol: &'static str,
        /// One that it is for.
        fitting: &'static str,
    },
    /// A certificate without its key, or the other way round.
    #[error("kafka.security.{there} is set without kafka.security.{missing}: give both or none")]
    OneOfTwo {
        /// What is set.
        there: &'static str,
        /// What is not.
        missing: &'static str,
    },
    /// A file that cannot be read.
    #[error(
        "kafka.security.{setting} = {path} cannot be read ({reason}): give the path of a file that this user may read"
    )]
    Unreadable {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: String,
        /// What the system says.
        reason: String,
    },
    /// A file that holds something else.
    #[error("kafka.security.{setting} = {path} holds no {what}: {advice}")]
    WrongContent {
        /// The setting.
        setting: &'static str,
        /// The file.
        path: String,
        /// What it should hold.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
    /// No name of a user.
    #[error(
        "kafka.security.protocol = `{0}` needs a user: set kafka.security.username, or ATELIER_KAFKA_USERNAME in the environment"
    )]
    NoUsername(&'static str),
    /// No password.
    #[error(
        "there is no password for the kafka user `{0}`: set ATELIER_KAFKA_PASSWORD in the environment, or name its file in kafka.security.password_file"
    )]
    NoPassword(String),
}

impl SecurityProtocol {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Plaintext => "plaintext",
            Self::Ssl => "ssl",
            Self::SaslPlaintext => "sasl_plaintext",
            Self::SaslSsl => "sasl_ssl",
        }
    }

    pub(crate) fn has_tls(self) -> bool {
        matches!(self, Self::Ssl | Self::SaslSsl)
    }

    pub(crate) fn has_password(self) -> bool {
        matches!(self, Self::SaslPlaintext | Self::SaslSsl)
    }
}

impl SaslMechanism {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::ScramSha256 => "SCRAM-SHA-256",
            Self::ScramSha512 => "SCRAM-SHA-512",
        }
    }
}

impl SecurityOptions {
    /// Whether the settings hold together and their files are what they should be.
    ///
    /// # Errors
    /// The first fault, with what to do.
    pub fn check(&self) -> Result<(), SecurityError> {
        self.apply(&mut ClientConfig::new())
    }

    /// Who this process is for the brokers, as access rules name it.
    pub fn principal(&self) -> String {
        match (self.user(), &self.certificate_file) {
            (Some(user), _) if self.protocol.has_password() => format!("User:{user}"),
            (_, Some(file)) if self.protocol.has_tls() => {
                format!("the owner of {}", file.display())
            }
            _ => "User:ANONYMOUS".to_owned(),
        }
    }

    fn user(&self) -> Option<String> {
        self.username
            .clone()
            .or_else(|| std::env::var(USERNAME_VARIABLE).ok())
            .filter(|user| !user.is_empty())
    }

    /// Adds librdkafka's properties.
    pub(crate) fn apply(&self, config: &mut ClientConfig) -> Result<(), SecurityError> {
        self.refuse_what_has_no_effect()?;
        config.set("security.protocol", self.protocol.name());
        if self.protocol.has_tls() {
            self.apply_tls(config)?;
        }
        if self.protocol.has_password() {
            let user = self
                .user()
                .ok_or(SecurityError::NoUsername(self.protocol.name()))?;
            let password = self.password(&user)?;
            config
                .set("sasl.mechanism", self.mechanism.name())
                .set("sasl.username", user)
                .set("sasl.password", password);
        }
        Ok(())
    }

    fn refuse_what_has_no_effect(&self) -> Result<(), SecurityError> {
        let for_tls = [
            ("ca_file", self.ca_file.is_some()),
            ("certificate_file", self.certificate_file.is_some()),
            ("key_file", self.key_file.is_some()),
        ];
        let for_passwords = [
            ("username", self.username.is_some()),
            ("password_file", self.password_file.is_some()),
        ];
        let mut idle = Vec::new();
        if !self.protocol.has_tls() {
            idle.extend(for_tls);
        }
        if !self.protocol.has_password() {
            idle.extend(for_passwords);
        }
        match idle.into_iter().find(|(_, is_set)| *is_set) {
            None => Ok(()),
            Some((setting, _)) => Err(SecurityError::NoEffect {
                setting,
                protocol: self.protocol.name(),
                fitting: "sasl_ssl",
            }),
        }
    }

    fn apply_tls(&self, config: &mut ClientConfig) -> Result<(), SecurityError> {
        if let Some(path) = &self.ca_file {
            read_pem("ca_file", path, "CERTIFICATE-----")?;
            config.set("ssl.ca.location", path.to_string_lossy());
        }
        match (&self.certificate_file, &self.key_file) {
            (Some(certificate), Some(key)) => {
                read_pem("certificate_file", certificate, "CERTIFICATE-----")?;
                read_pem("key_file", key, "PRIVATE KEY-----")?;
                config
                    .set("ssl.certificate.location", certificate.to_string_lossy())
                    .set("ssl.key.location", key.to_string_lossy());
                Ok(())
            }
            (Some(_), None) => Err(SecurityError::OneOfTwo {
                there: "certificate_file",
                missing: "key_file",
            }),
            (None, Some(_)) => Err(SecurityError::OneOfTwo {
                there: "key_file",
                missing: "certificate_file",
            }),
            (None, None) => Ok(()),
        }
    }

    fn password(&self, user: &str) -> Result<String, SecurityError> {
        let password = match &self.password_file {
            Some(path) => read("password_file", path)?
                .trim_end_matches(['\r', '\n'])
                .to_owned(),
            None => std::env::var(PASSWORD_VARIABLE).unwrap_or_default(),
        };
        if !password.is_empty() {
            return Ok(password);
        }
        Err(match &self.password_file {
            Some(path) => SecurityError::WrongContent {
                setting: "password_file",
                path: path.display().to_string(),
                what: "password",
                advice: "write the password into it",
            },
            None => SecurityError::NoPassword(user.to_owned()),
        })
    }
}

fn read(setting: &'static str, path: &Path) -> Result<String, SecurityError> {
    std::fs::read_to_string(path).map_err(|error| SecurityError::Unreadable {
        setting,
        path: path.display().to_string(),
        reason: error.to_string(),
    })
}

/// librdkafka's own words for a wrong file name neither the setting nor the file.
fn read_pem(setting: &'static str, path: &Path, mark: &str) -> Result<(), SecurityError> {
    let text = read(setting, path)?;
    let wrong = |what, advice| SecurityError::WrongContent {
        setting,
        path: path.display().to_string(),
        what,
        advice,
    };
    if text.contains("ENCRYPTED PRIVATE KEY") || text.contains("Proc-Type: 4,ENCRYPTED") {
        return Err(wrong(
            "key without a password",
            "write it without (openssl pkey -in FILE -out FILE)",
        ));
    }
    if text.contains(mark) {
        return Ok(());
    }
    Err(if mark.starts_with("PRIVATE") {
        wrong(
            "private key in PEM format",
            "give the file that begins with -----BEGIN PRIVATE KEY-----",
        )
    } else {
        wrong(
            "certificate in PEM format",
            "give the file that begins with -----BEGIN CERTIFICATE-----",
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scram() -> SecurityOptions {
        SecurityOptions {
            protocol: SecurityProtocol::SaslPlaintext,
            username: Some("matte".into()),
            ..SecurityOptions::default()
        }
    }

    #[test]
    fn what_is_missing_or_has_no_effect_is_said_with_what_to_do() {
        let file = |text: &str| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), text).unwrap();
            file.into_temp_path()
        };
        let (empty, certificate) = (file("\n"), file("-----BEGIN CERTIFICATE-----\n"));
        let locked = file("-----BEGIN ENCRYPTED PRIVATE KEY-----\n");
        let tls = || SecurityOptions {
            protocol: SecurityProtocol::Ssl,
            ..SecurityOptions::default()
        };
        let cases = [
            (
                SecurityOptions {
                    protocol: SecurityProtocol::Plaintext,
                    ..scram()
                },
                "kafka.security.username is set, and kafka.security.protocol = `plaintext`",
            ),
            (
                SecurityOptions {
                    ca_file: Some(certificate.to_path_buf()),
                    ..scram()
                },
                "kafka.security.ca_file is set, and kafka.security.protocol = `sasl_plaintext`",
            ),
            (
                SecurityOptions {
                    username: None,
                    ..scram()
                },
                "set kafka.security.username",
            ),
            (scram(), "no password for the kafka user `matte`"),
            (
                SecurityOptions {
                    password_file: Some("/nowhere/password".into()),
                    ..scram()
                },
                "kafka.security.password_file = /nowhere/password cannot be read (No such file",
            ),
            (
                SecurityOptions {
                    password_file: Some(empty.to_path_buf()),
                    ..scram()
                },
                "holds no password",
            ),
            (
                SecurityOptions {
                    ca_file: Some("/nowhere/ca.pem".into()),
                    ..tls()
                },
                "kafka.security.ca_file = /nowhere/ca.pem cannot be read (No such file",
            ),
            (
                SecurityOptions {
                    ca_file: Some(empty.to_path_buf()),
                    ..tls()
                },
                "holds no certificate in PEM format",
            ),
            (
                SecurityOptions {
                    certificate_file: Some(certificate.to_path_buf()),
                    ..tls()
                },
                "certificate_file is set without kafka.security.key_file",
            ),
            (
                SecurityOptions {
                    certificate_file: Some(certificate.to_path_buf()),
                    key_file: Some(locked.to_path_buf()),
                    ..tls()
                },
                "holds no key without a password",
            ),
        ];
        for (options, text) in cases {
            let said = options.check().unwrap_err().to_string();
            assert!(said.contains(text), "{said}\nshould say: {text}");
        }
        assert_eq!(SecurityOptions::default().check(), Ok(()));
        assert_eq!(tls().check(), Ok(()));
    }

    #[test]
    fn a_password_reaches_librdkafka_without_its_line_end_and_no_text() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "open sesame\n").unwrap();
        let options = SecurityOptions {
            password_file: Some(file.path().to_owned()),
            ..scram()
        };
        let mut config = ClientConfig::new();
        options.apply(&mut config).unwrap();
        assert_eq!(config.get("sasl.password"), Some("open sesame"));
        assert!(!format!("{config:?} {options:?}").contains("sesame"));
        assert_eq!(options.principal(), "User:matte");
    }
}
