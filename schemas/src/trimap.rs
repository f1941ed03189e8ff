//! A trimap that the sender knows: which pixels are surely the subject, which are surely not, and which are to be found out.
//!
//! One trimap belongs to one picture, so it stands beside the picture's source (`images[].trimap`) and not among a task's options,
//! which all of its pictures share. Invariant: a [`Trimap`] that was checked has exactly one of `url` and `blob`.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};

use crate::BlobRef;

/// Levels of a trimap (of 255) from 0 to this are surely background; a trimap that was compressed or resized may miss 0 by as much.
pub const BACKGROUND_UP_TO: u8 = 5;

/// Levels from this to 255 are surely the subject; what lies between is unknown, whatever its level.
pub const SUBJECT_FROM: u8 = 250;

/// A grey picture of the upright original's size: 0 to 5 is background, 250 to 255 the subject, everything between unknown. It
/// needs some of the first two. What it says of a pixel is kept, and only the unknown ones are calculated.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(deny_unknown_fields, transform = or_address)]
pub struct Trimap {
    /// Where to fetch it, http or https.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// A blob that was already uploaded, instead of `url`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub blob: Option<BlobRef>,
}

impl Trimap {
    /// Says what is wrong with it.
    ///
    /// # Errors
    /// A sentence, where it has both or neither of `url` and `blob`.
    pub fn check(&self) -> Result<(), String> {
        if self.url.is_some() == self.blob.is_some() {
            return Err("a trimap needs exactly one of `url` and `blob`".to_owned());
        }
        Ok(())
    }
}

/// The short form of a trimap is its address alone, as of an image.
fn or_address(schema: &mut schemars::Schema) {
    let object = schema.clone();
    *schema = schemars::json_schema!({ "anyOf": [{ "type": "string", "format": "uri" }, object] });
}

impl<'de> Deserialize<'de> for Trimap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase", deny_unknown_fields)]
        struct Fields {
            url: Option<String>,
            blob: Option<BlobRef>,
        }
        struct StringOrObject;
        impl<'de> de::Visitor<'de> for StringOrObject {
            type Value = Trimap;

            fn expecting(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                formatter.write_str("an address, or an object with `url` or `blob`")
            }

            fn visit_str<E: de::Error>(self, url: &str) -> Result<Trimap, E> {
                Ok(Trimap {
                    url: Some(url.to_owned()),
                    blob: None,
                })
            }

            fn visit_map<A: de::MapAccess<'de>>(self, map: A) -> Result<Trimap, A::Error> {
                let Fields { url, blob } =
                    Fields::deserialize(de::value::MapAccessDeserializer::new(map))?;
                Ok(Trimap { url, blob })
            }
        }
        deserializer.deserialize_any(StringOrObject)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::from_json;

    fn trimap(json: &str) -> Trimap {
        from_json(json.as_bytes()).unwrap()
    }

    #[test]
    fn an_address_alone_is_a_trimap() {
        let short = trimap(r#""https://a.example/trimap.png""#);
        assert_eq!(short, trimap(r#"{"url":"https://a.example/trimap.png"}"#));
        assert!(short.check().is_ok());
        assert!(trimap("{}").check().is_err());
    }

    #[test]
    fn a_misspelt_field_is_refused() {
        assert!(from_json::<Trimap>(br#"{"uri":"https://a.example/trimap.png"}"#).is_err());
    }
}
