//! A Kafka that asks who is there: listeners with TLS and SCRAM, and access rules that forbid what is not allowed.

use std::{
    fmt::Write as _,
    fs,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use bytes::Bytes;
use kafka_protocol::{
    messages::{
        AlterUserScramCredentialsRequest, CreateAclsRequest, DeleteAclsRequest,
        alter_user_scram_credentials_request::ScramCredentialUpsertion,
        create_acls_request::AclCreation, delete_acls_request::DeleteAclsFilter,
    },
    protocol::StrBytes,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair, SanType};

use crate::{Kafka, requests::ask};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Listener {
    /// Nothing is encrypted, and everybody is the administrator.
    Plaintext,
    /// TLS; everybody is the administrator.
    Tls,
    /// TLS, and a certificate of the client besides.
    MutualTls,
    /// TLS, with a certificate for another name than its address.
    OtherName,
    /// TLS and SCRAM.
    Scram,
    /// SCRAM alone.
    ScramPlaintext,
}

/// Behind Kafka's own and its controller's, each one port further.
const LISTENERS: [(Listener, &str, &str); 5] = [
    (Listener::Tls, "TLS", "SSL"),
    (Listener::MutualTls, "MUTUALTLS", "SSL"),
    (Listener::OtherName, "OTHERNAME", "SSL"),
    (Listener::Scram, "SCRAM", "SASL_SSL"),
    (Listener::ScramPlaintext, "SCRAMPLAINTEXT", "SASL_PLAINTEXT"),
];

/// One rule: what a user may do. In the words of Kafka's `kafka-acls.sh`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AclRule {
    /// `User:name`.
    pub principal: String,
    /// `topic`, `group`, `transactional-id` or `cluster`.
    pub resource_type: String,
    /// The resource's name.
    pub resource_name: String,
    /// `literal`, or `prefixed` for every name that begins with this one.
    pub pattern: String,
    /// Such as `Read`.
    pub operation: String,
}

/// One broker. Dropping it ends it.
#[derive(Debug)]
pub struct SecuredKafka {
    kafka: Kafka,
    port: u16,
}

impl SecuredKafka {
    /// The user of SCRAM who may do everything.
    pub const ADMINISTRATOR: &str = "administrator";

    /// A broker that knows these users, besides the administrator. `None` where Kafka is not installed.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start(users: &[&str]) -> Option<Self> {
        let mut first_port = 0;
        let kafka = Kafka::launch_with(1, 5, |port, folder| {
            first_port = port;
            write_certificates(folder);
            let users = users.iter().chain([&Self::ADMINISTRATOR]);
            let mut lines = String::new();
            for user in users {
                let password = format!("password of {user}").replace(' ', "-");
                writeln!(lines, "{user} {password}").unwrap();
                write_private(&folder.join(format!("{user}.password")), &password);
            }
            write_private(&folder.join("users"), &lines);
            properties(port, folder)
        })?;
        Some(Self {
            kafka,
            port: first_port,
        })
    }

    /// The broker itself, at the listener without any of this.
    pub fn kafka(&self) -> &Kafka {
        &self.kafka
    }

    /// Where a listener is.
    ///
    /// # Panics
    /// Never: every listener has a port.
    pub fn address(&self, listener: Listener) -> String {
        let place = LISTENERS.iter().position(|(found, ..)| *found == listener);
        let port = place.map_or(self.port, |place| {
            self.port + 2 + u16::try_from(place).unwrap()
        });
        format!("127.0.0.1:{port}")
    }

    /// PEM file of the authority that made the brokers' certificates.
    pub fn ca_file(&self) -> PathBuf {
        self.kafka.folder().join("ca.pem")
    }

    /// PEM file of an authority that made none of them.
    pub fn other_ca_file(&self) -> PathBuf {
        self.kafka.folder().join("other-ca.pem")
    }

    /// PEM files of a client's certificate and its key.
    pub fn client_certificate(&self) -> (PathBuf, PathBuf) {
        let folder = self.kafka.folder();
        (folder.join("client.pem"), folder.join("client-key.pem"))
    }

    /// File of a user's password.
    pub fn password_file(&self, user: &str) -> PathBuf {
        self.kafka.folder().join(format!("{user}.password"))
    }

    /// Adds a user while it runs.
    ///
    /// # Panics
    /// Where Kafka refuses it.
    pub fn add_user(&self, user: &str, password: &str) {
        const ITERATIONS: u32 = 4096;
        let salt = Bytes::from_static(b"salt of a test");
        let mut proof = [0; 64];
        ring::pbkdf2::derive(
            ring::pbkdf2::PBKDF2_HMAC_SHA512,
            ITERATIONS.try_into().unwrap(),
            &salt,
            password.as_bytes(),
            &mut proof,
        );
        let credentials = ScramCredentialUpsertion::default()
            .with_name(text(user))
            .with_mechanism(SCRAM_SHA_512)
            .with_iterations(i32::try_from(ITERATIONS).unwrap())
            .with_salt(salt)
            .with_salted_password(Bytes::copy_from_slice(&proof));
        let request =
            AlterUserScramCredentialsRequest::default().with_upsertions(vec![credentials]);
        let answer = ask(&self.address(Listener::Plaintext), &request, 0).unwrap();
        assert_eq!(answer.results[0].error_code, 0, "{answer:?}");
    }

    /// Adds rules.
    ///
    /// # Panics
    /// Where Kafka refuses one.
    pub fn allow(&self, rules: &[AclRule]) {
        let creations = rules.iter().map(|rule| {
            AclCreation::default()
                .with_resource_type(resource_type(&rule.resource_type))
                .with_resource_name(text(&rule.resource_name))
                .with_resource_pattern_type(pattern(&rule.pattern))
                .with_principal(text(&rule.principal))
                .with_host(text("*"))
                .with_operation(operation(&rule.operation))
                .with_permission_type(ALLOW)
        });
        let request = CreateAclsRequest::default().with_creations(creations.collect());
        let answer = ask(&self.address(Listener::Plaintext), &request, 3).unwrap();
        for (rule, result) in rules.iter().zip(&answer.results) {
            assert_eq!(result.error_code, 0, "{rule:?}: {:?}", result.error_message);
        }
    }

    /// Takes a rule back.
    ///
    /// # Panics
    /// Where there is none.
    pub fn forbid(&self, rule: &AclRule) {
        let filter = DeleteAclsFilter::default()
            .with_resource_type_filter(resource_type(&rule.resource_type))
            .with_resource_name_filter(Some(text(&rule.resource_name)))
            .with_pattern_type_filter(pattern(&rule.pattern))
            .with_principal_filter(Some(text(&rule.principal)))
            .with_host_filter(Some(text("*")))
            .with_operation(operation(&rule.operation))
            .with_permission_type(ALLOW);
        let request = DeleteAclsRequest::default().with_filters(vec![filter]);
        let answer = ask(&self.address(Listener::Plaintext), &request, 3).unwrap();
        let deleted = &answer.filter_results[0].matching_acls;
        assert_eq!(deleted.len(), 1, "{rule:?}");
    }
}

/// Kafka's numbers.
const ALLOW: i8 = 3;
const SCRAM_SHA_512: i8 = 2;

fn resource_type(name: &str) -> i8 {
    match name {
        "topic" => 2,
        "group" => 3,
        "cluster" => 4,
        "transactional-id" => 5,
        other => panic!("{other} is no type of a resource"),
    }
}

fn pattern(name: &str) -> i8 {
    match name {
        "literal" => 3,
        "prefixed" => 4,
        other => panic!("{other} is no pattern"),
    }
}

fn operation(name: &str) -> i8 {
    match name {
        "Read" => 3,
        "Write" => 4,
        "Create" => 5,
        "Alter" => 7,
        "Describe" => 8,
        "DescribeConfigs" => 10,
        "AlterConfigs" => 11,
        other => panic!("{other} is no operation"),
    }
}

fn text(text: &str) -> StrBytes {
    StrBytes::from_string(text.to_owned())
}

/// Appended to what `server.sh` writes: the last one of a name holds.
fn properties(port: u16, folder: &Path) -> String {
    let own = [
        ("PLAINTEXT", "PLAINTEXT", port),
        ("CONTROLLER", "PLAINTEXT", port + 1),
    ];
    let further = LISTENERS
        .iter()
        .zip(port + 2..)
        .map(|((_, name, protocol), port)| (*name, *protocol, port));
    let all: Vec<(&str, &str, u16)> = own.into_iter().chain(further).collect();
    let listed = |entry: &dyn Fn(&(&str, &str, u16)) -> String, without: &str| {
        let entries = all.iter().filter(|(name, ..)| *name != without).map(entry);
        entries.collect::<Vec<_>>().join(",")
    };
    let at = |(name, _, port): &(&str, &str, u16)| format!("{name}://127.0.0.1:{port}");
    let protocol = |(name, protocol, _): &(&str, &str, u16)| format!("{name}:{protocol}");
    let folder = folder.display();
    let mut text = format!(
        "listeners={}\nadvertised.listeners={}\nlistener.security.protocol.map={}\n\
         inter.broker.listener.name=PLAINTEXT\n\
         ssl.keystore.type=PEM\nssl.keystore.location={folder}/broker.pem\n\
         ssl.truststore.type=PEM\nssl.truststore.location={folder}/ca.pem\n\
         listener.name.mutualtls.ssl.client.auth=required\n\
         listener.name.othername.ssl.keystore.type=PEM\n\
         listener.name.othername.ssl.keystore.location={folder}/other-name.pem\n\
         sasl.enabled.mechanisms=SCRAM-SHA-256,SCRAM-SHA-512\n\
         authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\n\
         super.users=User:ANONYMOUS;User:CN=client;User:{}\n",
        listed(&at, ""),
        listed(&at, "CONTROLLER"),
        listed(&protocol, ""),
        SecuredKafka::ADMINISTRATOR,
    );
    for listener in ["scram", "scramplaintext"] {
        for mechanism in ["scram-sha-256", "scram-sha-512"] {
            writeln!(
                text,
                "listener.name.{listener}.{mechanism}.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;"
            )
            .unwrap();
        }
    }
    text
}

fn write_certificates(folder: &Path) {
    let authority = |name: &str| {
        let mut parameters = CertificateParams::default();
        parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        parameters.distinguished_name.push(DnType::CommonName, name);
        CertifiedIssuer::self_signed(parameters, KeyPair::generate().unwrap()).unwrap()
    };
    let (ours, other) = (authority("authority"), authority("another authority"));
    fs::write(folder.join("ca.pem"), ours.pem()).unwrap();
    fs::write(folder.join("other-ca.pem"), other.pem()).unwrap();
    let certificate = |name: &str, place: Option<SanType>| {
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = rcgen::DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.subject_alt_names.extend(place);
        let key = KeyPair::generate().unwrap();
        let certificate = parameters.signed_by(&key, &ours).unwrap();
        (certificate.pem(), key.serialize_pem())
    };
    let here = SanType::IpAddress(std::net::Ipv4Addr::LOCALHOST.into());
    let elsewhere = SanType::DnsName("kafka.example".try_into().unwrap());
    for (file, place) in [("broker", here), ("other-name", elsewhere)] {
        let (certificate, key) = certificate(file, Some(place));
        // Kafka has both in one file.
        write_private(
            &folder.join(format!("{file}.pem")),
            &format!("{key}{certificate}"),
        );
    }
    let (certificate, key) = certificate("client", None);
    fs::write(folder.join("client.pem"), certificate).unwrap();
    write_private(&folder.join("client-key.pem"), &key);
}

fn write_private(path: &Path, text: &str) {
    let mut options = fs::File::options();
    options.create(true).write(true).truncate(true).mode(0o600);
    std::io::Write::write_all(&mut options.open(path).unwrap(), text.as_bytes()).unwrap();
}
