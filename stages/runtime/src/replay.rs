//! Putting dead letters back.
//!
//! Invariant: a letter that is put back keeps its event id, so that effects that were had are not had again.

use atelier_schemas::{envelope::header, topics::retry_topic};
use bytes::Bytes;

use crate::{
    encode::error_header,
    letters::DeadLetter,
    log_access::LogAccessError,
    options::KafkaOptions,
    publisher::Publisher,
    record::{Header, OutRecord, set_header},
};

/// What a person changed before a letter is put back.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Repair {
    /// Another value.
    pub value: Option<Bytes>,
    /// Headers to set, by name.
    pub headers: Vec<(String, String)>,
}

/// Puts dead letters back.
pub struct Replayer {
    publisher: Publisher,
}

impl Replayer {
    /// A producer for the brokers of `kafka`; connects at the first letter.
    ///
    /// # Errors
    /// Where the properties make no client.
    pub fn new(kafka: &KafkaOptions) -> Result<Self, LogAccessError> {
        Ok(Self {
            publisher: Publisher::new(kafka)?,
        })
    }

    /// Puts a letter into its stage's retry topic, with its key, its id and a fresh count of attempts.
    ///
    /// # Errors
    /// The broker is away or refuses; then the letter may or may not be there, and trying again does no harm.
    pub async fn replay(&self, letter: &DeadLetter, repair: Repair) -> Result<(), LogAccessError> {
        let record = OutRecord {
            topic: retry_topic(&letter.stage),
            key: letter.record.key.clone(),
            headers: replayed_headers(letter, &repair),
            value: repair.value.or_else(|| letter.record.value.clone()),
        };
        self.publisher
            .publish(&[record])
            .await
            .into_iter()
            .collect()
    }
}

fn replayed_headers(letter: &DeadLetter, repair: &Repair) -> Vec<Header> {
    // A deadline that has passed would bring it straight back.
    let stale = [header::ATTEMPT, header::NOT_BEFORE, header::DEADLINE];
    let mut headers: Vec<Header> = letter
        .record
        .headers
        .iter()
        .filter(|header| {
            !header.name.starts_with(error_header::CONNECT_PREFIX)
                && !header.name.starts_with(error_header::ATELIER_PREFIX)
                && !stale.contains(&header.name.as_str())
        })
        .cloned()
        .collect();
    set_header(
        &mut headers,
        header::REPLAY,
        (letter.replay + 1).to_string(),
    );
    for (name, value) in &repair.headers {
        set_header(&mut headers, name, value);
    }
    headers
}

#[cfg(test)]
mod tests {
    use chrono::Utc;
    use uuid::Uuid;

    use super::*;
    use crate::record::{InRecord, TopicPartition};

    #[test]
    fn a_letter_goes_back_without_its_reason_and_with_its_id() {
        let id = Uuid::new_v4();
        let headers = [
            (header::ID, id.to_string()),
            (header::ATTEMPT, "5".to_owned()),
            (header::REPLAY, "1".to_owned()),
            (error_header::EXCEPTION_MESSAGE, "broken".to_owned()),
            (error_header::CODE, "undecodableImage".to_owned()),
        ];
        let record = InRecord {
            source: TopicPartition {
                topic: "matte-dead-letters".into(),
                partition: 0,
            },
            offset: 3,
            key: None,
            headers: headers
                .iter()
                .map(|(name, value)| Header::text(*name, value.clone()))
                .collect(),
            value: None,
            timestamp: Utc::now(),
        };
        let letter = DeadLetter::from_record("matte", record);
        assert_eq!(
            (letter.event_id, letter.message.as_str(), letter.replay),
            (Some(id), "broken", 1)
        );
        let repair = Repair {
            value: None,
            headers: vec![(
                header::TYPE.to_owned(),
                "atelier.image.classified.v1".to_owned(),
            )],
        };
        let back = replayed_headers(&letter, &repair);
        let mut names: Vec<&str> = back.iter().map(|header| header.name.as_str()).collect();
        names.sort_unstable();
        assert_eq!(names, [header::ID, header::REPLAY, header::TYPE]);
        assert_eq!(crate::record::header_text(&back, header::REPLAY), Some("2"));
    }
}
