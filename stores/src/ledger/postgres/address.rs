//! What a `postgres://` URL says.

use std::str::FromStr as _;

use sqlx::postgres::PgConnectOptions;
use url::Url;

/// The parameters that may follow the `?`. The driver would write any other, value and all, to the log.
const PARAMETERS: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// How to reach the server that `text` names.
///
/// # Errors
/// What is wrong with it, without what may be a secret.
pub(crate) fn parse(text: &str) -> Result<PgConnectOptions, String> {
    let url = Url::parse(text).map_err(|error| {
        format!("{error} (signs such as `@`, `/` and `#` in a password are written `%40`, `%2F` and `%23`)")
    })?;
    let mut names_database = !url.path().trim_start_matches('/').is_empty();
    for (name, value) in url.query_pairs() {
        let is_known =
            PARAMETERS.contains(&&*name) || (name.starts_with("options[") && name.ends_with(']'));
        if !is_known {
            return Err(format!(
                "the parameter `{name}` is none of {}",
                PARAMETERS.join(", ")
            ));
        }
        names_database |= name == "dbname" && !value.is_empty();
    }
    if url.fragment().is_some() {
        return Err("it has a `#`, which in a password is written `%23`".to_owned());
    }
    if !names_database {
        return Err("it names no database".to_owned());
    }
    let server = PgConnectOptions::from_str(text).map_err(|error| error.to_string())?;
    Ok(match server.get_application_name() {
        Some(_) => server,
        None => server.application_name("atelier"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read() {
        let server = parse("postgres://maker:s%40crt@db.example:5433/atelier?sslmode=verify-full");
        let server = server.unwrap();
        assert_eq!(
            (server.get_host(), server.get_port()),
            ("db.example", 5_433)
        );
        assert_eq!(
            (server.get_username(), server.get_database()),
            ("maker", Some("atelier"))
        );
        let local = parse("postgresql:///atelier?host=/run/postgresql&user=maker").unwrap();
        assert_eq!(
            local.get_socket().unwrap().to_str(),
            Some("/run/postgresql")
        );
        assert_eq!(local.get_database(), Some("atelier"));
    }

    #[test]
    fn what_is_wrong_is_said_without_the_password() {
        for (url, expected) in [
            ("postgres://maker:secret@db.example", "names no database"),
            (
                "postgres://maker:secret@db.example/a?passwrd=secret",
                "`passwrd`",
            ),
            (
                "postgres://maker:secret@db.example/a?sslmode=always",
                "`ssl_mode`",
            ),
            ("postgres://maker:se/cret@db.example/a", "%2F"),
            ("postgres://maker:12#cret@db.example/a", "%23"),
        ] {
            let refused = parse(url).unwrap_err();
            assert!(
                refused.contains(expected) && !refused.contains("cret"),
                "{url}: {refused}"
            );
        }
    }
}
