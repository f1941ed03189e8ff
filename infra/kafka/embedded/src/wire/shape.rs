//! The shapes of the requests that are served, and a walk over a request's bytes that believes no length.
//!
//! The message decoder allocates what an array's length field claims. So every request is walked first with these tables:
//! a length that the bytes do not bear out, or too many elements, end the connection before anything is
//! allocated. The tables are also the one list of what is served, in which versions.

use kafka_protocol::messages::ApiKey;

use Field::{Blob, Fixed, List, Structs, Text};

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
    /// The first version that has it.
    pub from: i16,
    /// The last version that has it.
    pub to: i16,
    /// What it is.
    pub field: Field,
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
    pub flexible_from: i16,
    /// Its fields, in order.
    pub fields: &'static [Spec],
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
}

impl Api {
    /// Whether the version is one of those served.
    pub fn serves(&self, version: i16) -> bool {
        (self.from..=self.to).contains(&version)
    }

    /// Walks over the body of a request. What follows the last field is ignored, as Apache Kafka does: librdkafka 2.12
    /// leaves three bytes behind when it asks for the metadata of all topics.
    pub fn check(&self, version: i16, body: &[u8]) -> Result<(), ShapeError> {
        let mut walk = Walk {
            rest: body,
            version,
            flexible: version >= self.flexible_from,
            elements: 0,
        };
        walk.structure(self.fields)
    }

    /// Walks over what follows the client id in a request header: tagged fields, in flexible versions.
    pub fn skip_header_tags<'a>(
        &self,
        version: i16,
        bytes: &'a [u8],
    ) -> Result<&'a [u8], ShapeError> {
        let mut walk = Walk {
            rest: bytes,
            version,
            flexible: version >= self.flexible_from,
            elements: 0,
        };
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
        let (raw, rest) = self
            .rest
            .split_at_checked(wire_bytes)
            .ok_or(ShapeError::Truncated)?;
        self.rest = rest;
        let length = match raw {
            [high, low] => i32::from(i16::from_be_bytes([*high, *low])),
            [a, b, c, d] => i32::from_be_bytes([*a, *b, *c, *d]),
            _ => -2,
        };
        if length == -1 {
            Ok(0)
        } else {
            usize::try_from(length).map_err(|_| ShapeError::BadLength)
        }
    }

    fn count(&mut self) -> Result<usize, ShapeError> {
        let count = self.length(4)?;
        self.elements = self.elements.saturating_add(count);
        if self.elements > MAX_ELEMENTS {
            Err(ShapeError::TooManyElements)
        } else {
            Ok(count)
        }
    }

    fn structure(&mut self, fields: &[Spec]) -> Result<(), ShapeError> {
        let version = self.version;
        for spec in fields
            .iter()
            .filter(|spec| (spec.from..=spec.to).contains(&version))
        {
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
