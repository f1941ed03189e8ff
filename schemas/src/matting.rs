//! What `matte` tells of its work on one picture: which processor, how sure, what was measured on the way, and how long it took.
//!
//! Invariants: nothing in it is needed to finish the picture, so every field may be missing; and it is bounded in size
//! ([`PATH_BYTES_LIMIT`]), because it travels in events and is kept in the ledger. Outlines stand in it as the text of SVG
//! paths and not as an SVG file: a file of that type runs scripts where it is opened, and would need a name, an age and a
//! clean-up of its own.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{Kind, events::Detection};

/// Most bytes of SVG paths in one report: the outlines of some fifty plain shapes.
pub const PATH_BYTES_LIMIT: usize = 8 << 10;

/// How a picture was matted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Matting {
    /// The processor that made the matte.
    pub processor: Kind,
    /// How sure that processor is of its matte, 0 to 1.
    pub confidence: f32,
    /// The processor that was to work on the picture and handed it on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fell_back: Option<FellBack>,
    /// Why nothing was cut out, for people. Absent where there is a subject. Where it is there the matte is the original's
    /// own alpha: the picture comes back whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub no_subject: Option<String>,
    /// The trimap within which the matte was made; absent where there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trimap: Option<TrimapUse>,
    /// What was done, in order. Empty where the matte is one that was made before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
    /// What was measured.
    #[serde(default, skip_serializing_if = "Measured::is_empty")]
    pub measured: Measured,
}

impl Matting {
    /// A report of which nothing is known but who did the work.
    pub fn by(processor: Kind, confidence: f32) -> Self {
        Self {
            processor,
            confidence,
            fell_back: None,
            no_subject: None,
            trimap: None,
            steps: Vec::new(),
            measured: Measured::default(),
        }
    }
}

/// The trimap within which a matte was made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct TrimapUse {
    /// Who made it.
    pub origin: TrimapOrigin,
    /// Share of the picture's pixels that it leaves unknown, 0 to 1.
    pub unknown_share: f32,
}

/// Who made a trimap.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum TrimapOrigin {
    /// It came with the picture.
    Given,
    /// It was made of the coarse matte of the network that `quality` stands for.
    Made,
}

/// A processor that handed a picture on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FellBack {
    /// The processor that was to work on the picture.
    pub from: Kind,
    /// Why it did not, for people.
    pub reason: String,
}

/// One step of the work.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// What was done, for example `clusters`.
    pub name: String,
    /// How long it took, in milliseconds.
    pub ms: f64,
}

/// What was measured on the way: each processor tells what it looked for, and leaves out the rest.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct Measured {
    /// Faces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub faces: Vec<Detection>,
    /// Points of bodies and faces.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub key_points: Vec<KeyPoint>,
    /// Boxes around subjects.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub boxes: Vec<Detection>,
    /// Outlines of flat regions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shapes: Option<Shapes>,
    /// Colours that the picture is made of, the most frequent first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub clusters: Vec<Cluster>,
}

impl Measured {
    /// Whether nothing was measured.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A point of a body or a face.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct KeyPoint {
    /// Which person of the picture, from 0.
    pub person: u32,
    /// Its name, for example `leftShoulder`.
    pub name: String,
    /// From the left edge, in pixels.
    pub x: f32,
    /// From the top edge, in pixels.
    pub y: f32,
    /// 0 to 1.
    pub confidence: f32,
}

/// Outlines of flat regions, the largest first.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Shapes {
    /// How many there are.
    pub count: u32,
    /// Length of all their paths together, in bytes.
    pub path_bytes: u64,
    /// Those whose paths fit; the small ones are left out first.
    pub paths: Vec<ShapePath>,
}

/// The outline of a flat region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ShapePath {
    /// Its colour, as `#rrggbb`.
    pub color: String,
    /// Its area in pixels.
    pub area_px: u64,
    /// The `d` of an SVG path in pixels of the picture, to be filled by the even-odd rule: outer outline and holes.
    pub path: String,
}

/// A colour of a picture.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Cluster {
    /// As `#rrggbb`.
    pub color: String,
    /// Share of the picture's pixels, 0 to 1.
    pub share: f32,
    /// Whether the picture's background has it.
    pub background: bool,
}
