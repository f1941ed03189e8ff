//! The shapes of the requests that are served, and a walk over a request's bytes that believes no length.
//!
//! The message decoder allocates what an array's length field claims. So every request is walked first with these tables:
//! a length that the bytes do not bear out, too many elements, or bytes left over end the connection before anything is
//! allocated. The tables are also the one list of what is served, in which versions.

use kafka_protocol::messages::ApiKey;

/// More elements than any sensible request has, all arrays together.
const MAX_ELEMENTS: usize = 100_000;

/// A kind of field.
pub enum Field {
    /// Bytes of fixed number.
    Fixed(usize),
    /// A string, null or not.
    Text,
    /// Bytes, null or not.
    Blob,
    /// An array of plain fields.
    List(&'static Field),
    /// An array of structures.
    Structs(&'static [Spec]),
}

/// A field and the versions that have it.
pub struct Spec {
    from: i16,
    to: i16,
    field: Field,
}

/// A request that is served.
pub struct Api {
    /// Which.
    pub key: ApiKey,
    /// The first version served.
    pub from: i16,
    /// The last version served.
    pub to: i16,
    /// The first version with compact lengths and tagged fields.
    flexible_from: i16,
    fields: &'static [Spec],
}

const LAST: i16 = i16::MAX;

const fn always(field: Field) -> Spec {
    Spec { from: 0, to: LAST, field }
}

const fn since(from: i16, field: Field) -> Spec {
    Spec { from, to: LAST, field }
}

const fn until(to: i16, field: Field) -> Spec {
    Spec { from: 0, to, field }
}

const fn api(key: ApiKey, versions: (i16, i16), flexible_from: i16, fields: &'static [Spec]) -> Api {
    Api { key, from: versions.0, to: versions.1, flexible_from, fields }
}

use Field::{Blob, Fixed, List, Structs, Text};

const TOPIC_WITH_PARTITIONS: &[Spec] = &[always(Text), always(List(&Fixed(4)))];

const FETCH_PARTITION: &[Spec] = &[
    always(Fixed(4)),
    since(9, Fixed(4)),
    always(Fixed(8)),
    since(12, Fixed(4)),
    since(5, Fixed(8)),
    always(Fixed(4)),
];

const COMMITTED_OFFSET_FROM_6: &[Spec] = &[always(Fixed(4)), always(Fixed(8)), since(6, Fixed(4)), always(Text)];
const COMMITTED_OFFSET_FROM_2: &[Spec] = &[always(Fixed(4)), always(Fixed(8)), since(2, Fixed(4)), always(Text)];

/// Every request that is served. Version 2 of transactions (KIP-890), sessions of `ConsumerGroupHeartbeat` (KIP-848) and
/// whatever else has no row here is neither advertised nor answered.
pub const SERVED: &[Api] = &[
    api(ApiKey::Produce, (3, 11), 9, &[
        always(Text),
        always(Fixed(2)),
        always(Fixed(4)),
        always(Structs(&[always(Text), always(Structs(&[always(Fixed(4)), always(Blob)]))])),
    ]),
    api(ApiKey::Fetch, (4, 16), 12, &[
        until(14, Fixed(4)),
        always(Fixed(4)),
        always(Fixed(4)),
        always(Fixed(4)),
        always(Fixed(1)),
        since(7, Fixed(4)),
        since(7, Fixed(4)),
        always(Structs(&[until(12, Text), since(13, Fixed(16)), always(Structs(FETCH_PARTITION))])),
        since(7, Structs(&[until(12, Text), since(13, Fixed(16)), always(List(&Fixed(4)))])),
        since(11, Text),
    ]),
    api(ApiKey::ListOffsets, (1, 7), 6, &[
        always(Fixed(4)),
        since(2, Fixed(1)),
        always(Structs(&[
            always(Text),
            always(Structs(&[always(Fixed(4)), since(4, Fixed(4)), always(Fixed(8))])),
        ])),
    ]),
    api(ApiKey::Metadata, (0, 12), 9, &[
        always(Structs(&[since(10, Fixed(16)), always(Text)])),
        since(4, Fixed(1)),
        Spec { from: 8, to: 10, field: Fixed(1) },
        since(8, Fixed(1)),
    ]),
    api(ApiKey::OffsetCommit, (2, 8), 8, &[
        always(Text),
        always(Fixed(4)),
        always(Text),
        since(7, Text),
        until(4, Fixed(8)),
        always(Structs(&[always(Text), always(Structs(COMMITTED_OFFSET_FROM_6))])),
    ]),
    api(ApiKey::OffsetFetch, (1, 8), 6, &[
        until(7, Text),
        until(7, Structs(TOPIC_WITH_PARTITIONS)),
        since(8, Structs(&[always(Text), always(Structs(TOPIC_WITH_PARTITIONS))])),
        since(7, Fixed(1)),
    ]),
    api(ApiKey::FindCoordinator, (0, 4), 3, &[until(3, Text), since(1, Fixed(1)), since(4, List(&Text))]),
    api(ApiKey::JoinGroup, (0, 9), 6, &[
        always(Text),
        always(Fixed(4)),
        since(1, Fixed(4)),
        always(Text),
        since(5, Text),
        always(Text),
        always(Structs(&[always(Text), always(Blob)])),
        since(8, Text),
    ]),
    api(ApiKey::Heartbeat, (0, 4), 4, &[always(Text), always(Fixed(4)), always(Text), since(3, Text)]),
    api(ApiKey::LeaveGroup, (0, 5), 4, &[
        always(Text),
        until(2, Text),
        since(3, Structs(&[always(Text), always(Text), since(5, Text)])),
    ]),
    api(ApiKey::SyncGroup, (0, 5), 4, &[
        always(Text),
        always(Fixed(4)),
        always(Text),
        since(3, Text),
        since(5, Text),
        since(5, Text),
        always(Structs(&[always(Text), always(Blob)])),
    ]),
    api(ApiKey::DescribeGroups, (0, 5), 5, &[always(List(&Text)), since(3, Fixed(1))]),
    api(ApiKey::ListGroups, (0, 5), 3, &[since(4, List(&Text)), since(5, List(&Text))]),
    api(ApiKey::ApiVersions, (0, 4), 3, &[since(3, Text), since(3, Text)]),
    api(ApiKey::CreateTopics, (2, 7), 5, &[
        always(Structs(&[
            always(Text),
            always(Fixed(4)),
            always(Fixed(2)),
            always(Structs(&[always(Fixed(4)), always(List(&Fixed(4)))])),
            always(Structs(&[always(Text), always(Text)])),
        ])),
        always(Fixed(4)),
        always(Fixed(1)),
    ]),
    api(ApiKey::DeleteTopics, (1, 6), 4, &[
        since(6, Structs(&[always(Text), always(Fixed(16))])),
        until(5, List(&Text)),
        always(Fixed(4)),
    ]),
    api(ApiKey::DeleteRecords, (0, 2), 2, &[
        always(Structs(&[always(Text), always(Structs(&[always(Fixed(4)), always(Fixed(8))]))])),
        always(Fixed(4)),
    ]),
    api(ApiKey::InitProducerId, (0, 5), 2, &[always(Text), always(Fixed(4)), since(3, Fixed(8)), since(3, Fixed(2))]),
    api(ApiKey::OffsetForLeaderEpoch, (2, 4), 4, &[
        since(3, Fixed(4)),
        always(Structs(&[
            always(Text),
            always(Structs(&[always(Fixed(4)), always(Fixed(4)), always(Fixed(4))])),
        ])),
    ]),
    api(ApiKey::AddPartitionsToTxn, (0, 3), 3, &[
        always(Text),
        always(Fixed(8)),
        always(Fixed(2)),
        always(Structs(TOPIC_WITH_PARTITIONS)),
    ]),
    api(ApiKey::AddOffsetsToTxn, (0, 3), 3, &[always(Text), always(Fixed(8)), always(Fixed(2)), always(Text)]),
    api(ApiKey::EndTxn, (0, 3), 3, &[always(Text), always(Fixed(8)), always(Fixed(2)), always(Fixed(1))]),
    api(ApiKey::TxnOffsetCommit, (0, 3), 3, &[
        always(Text),
        always(Text),
        always(Fixed(8)),
        always(Fixed(2)),
        since(3, Fixed(4)),
        since(3, Text),
        since(3, Text),
        always(Structs(&[always(Text), always(Structs(COMMITTED_OFFSET_FROM_2))])),
    ]),
    api(ApiKey::DescribeConfigs, (1, 4), 4, &[
        always(Structs(&[always(Fixed(1)), always(Text), always(List(&Text))])),
        always(Fixed(1)),
        since(3, Fixed(1)),
    ]),
    api(ApiKey::AlterConfigs, (0, 2), 2, &[
        always(Structs(&[always(Fixed(1)), always(Text), always(Structs(&[always(Text), always(Text)]))])),
        always(Fixed(1)),
    ]),
    api(ApiKey::DescribeLogDirs, (1, 4), 2, &[always(Structs(TOPIC_WITH_PARTITIONS))]),
    api(ApiKey::CreatePartitions, (0, 3), 2, &[
        always(Structs(&[always(Text), always(Fixed(4)), always(Structs(&[always(List(&Fixed(4)))]))])),
        always(Fixed(4)),
        always(Fixed(1)),
    ]),
    api(ApiKey::DeleteGroups, (0, 2), 2, &[always(List(&Text))]),
    api(ApiKey::IncrementalAlterConfigs, (0, 1), 1, &[
        always(Structs(&[
            always(Fixed(1)),
            always(Text),
            always(Structs(&[always(Text), always(Fixed(1)), always(Text)])),
        ])),
        always(Fixed(1)),
    ]),
    api(ApiKey::OffsetDelete, (0, 0), LAST, &[
        always(Text),
        always(Structs(&[always(Text), always(Structs(&[always(Fixed(4))]))])),
    ]),
    api(ApiKey::DescribeCluster, (0, 1), 0, &[always(Fixed(1)), since(1, Fixed(1))]),
    api(ApiKey::DescribeProducers, (0, 0), 0, &[always(Structs(TOPIC_WITH_PARTITIONS))]),
    api(ApiKey::DescribeTransactions, (0, 0), 0, &[always(List(&Text))]),
    api(ApiKey::ListTransactions, (0, 1), 0, &[always(List(&Text)), always(List(&Fixed(8))), since(1, Fixed(8))]),
];

/// The row of a request, if it is served at all.
pub fn served(key: i16) -> Option<&'static Api> {
    SERVED.iter().find(|api| api.key as i16 == key)
}

/// A request's bytes do not have the shape of its version.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ShapeError {
    /// A length points behind the end.
    #[error("it ends in the middle of a field")]
    Truncated,
    /// A length or count makes no sense.
    #[error("a length field is negative or too large")]
    BadLength,
    /// More elements than any sensible request has.
    #[error("it has more than {MAX_ELEMENTS} array elements")]
    TooManyElements,
    /// Something follows the last field.
    #[error("{0} bytes follow its last field")]
    LeftOver(usize),
}

impl Api {
    /// Whether the version is one of those served.
    pub fn serves(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }

    /// Walks over the body of a request.
    pub fn check(&self, version: i16, body: &[u8]) -> Result<(), ShapeError> {
        let mut walk = Walk { rest: body, version, flexible: version >= self.flexible_from, elements: 0 };
        walk.structure(self.fields)?;
        if walk.rest.is_empty() { Ok(()) } else { Err(ShapeError::LeftOver(walk.rest.len())) }
    }

    /// Walks over what follows the client id in a request header: tagged fields, in flexible versions.
    pub fn skip_header_tags<'a>(&self, version: i16, bytes: &'a [u8]) -> Result<&'a [u8], ShapeError> {
        let mut walk = Walk { rest: bytes, version, flexible: version >= self.flexible_from, elements: 0 };
        walk.tagged_fields()?;
        Ok(walk.rest)
    }
}

struct Walk<'a> {
    rest: &'a [u8],
    version: i16,
    flexible: bool,
    elements: usize,
}

impl Walk<'_> {
    fn skip(&mut self, count: usize) -> Result<(), ShapeError> {
        self.rest = self.rest.get(count..).ok_or(ShapeError::Truncated)?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, ShapeError> {
        let (first, rest) = self.rest.split_first().ok_or(ShapeError::Truncated)?;
        self.rest = rest;
        Ok(*first)
    }

    fn unsigned_varint(&mut self) -> Result<usize, ShapeError> {
        let mut value = 0_u64;
        for shift in [0, 7, 14, 21, 28] {
            let byte = self.byte()?;
            value |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return usize::try_from(value).map_err(|_| ShapeError::BadLength);
            }
        }
        Err(ShapeError::BadLength)
    }

    /// A length of so many bytes on the wire, or a compact one; null counts as nothing.
    fn length(&mut self, wire_bytes: usize) -> Result<usize, ShapeError> {
        if self.flexible {
            return Ok(self.unsigned_varint()?.saturating_sub(1));
        }
        let (raw, rest) = self.rest.split_at_checked(wire_bytes).ok_or(ShapeError::Truncated)?;
        self.rest = rest;
        let length = match raw {
            [high, low] => i32::from(i16::from_be_bytes([*high, *low])),
            [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => -2,
        };
        if length == -1 { Ok(0) } else { usize::try_from(length).map_err(|_| ShapeError::BadLength) }
    }

    fn count(&mut self) -> Result<usize, ShapeError> {
        let count = self.length(4)?;
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS { Err(ShapeError::TooManyElements) } else { Ok(count) }
    }

    fn structure(&mut self, fields: &[Spec]) -> Result<(), ShapeError> {
        let version = self.version;
        for spec in fields.iter().filter(|spec| (spec.from..=spec.to).contains(&version)) {
            self.field(&spec.field)?;
        }
        self.tagged_fields()
    }

    fn tagged_fields(&mut self) -> Result<(), ShapeError> {
        if !self.flexible {
            return Ok(());
        }
        for _ in 0..self.unsigned_varint()? {
            self.unsigned_varint()?;
            let length = self.unsigned_varint()?;
            self.skip(length)?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), ShapeError> {
        match field {
            Fixed(count) => self.skip(*count),
            Text => {
                let length = self.length(2)?;
                self.skip(length)
            }
            Blob => {
                let length = self.length(4)?;
                self.skip(length)
            }
            List(element) => {
                for _ in 0..self.count()? {
                    self.field(element)?;
                }
                Ok(())
            }
            Structs(fields) => {
                for _ in 0..self.count()? {
                    self.structure(fields)?;
                }
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_count_that_the_bytes_do_not_bear_out_is_refused() {
        let metadata = served(ApiKey::Metadata as i16).unwrap();
        let mut body = i32::MAX.to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::TooManyElements));
        body = 1_000_i32.to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::Truncated));
        body = (-7_i32).to_be_bytes().to_vec();
        assert_eq!(metadata.check(0, &body), Err(ShapeError::BadLength));
        assert_eq!(metadata.check(0, &[0, 0, 0, 0, 9]), Err(ShapeError::LeftOver(1)));
        assert_eq!(metadata.check(1, &(-1_i32).to_be_bytes()), Ok(()));
    }

    #[test]
    fn every_row_is_within_what_the_decoder_knows() {
        for api in SERVED {
            let known = api.key.valid_versions();
            assert!(api.from >= known.min && api.to <= known.max, "{:?}", api.key);
            for version in api.from..=api.to {
                let flexible = api.key.request_header_version(version) >= 2;
                assert_eq!(flexible, version >= api.flexible_from, "{:?} v{version}", api.key);
            }
        }
    }
}
