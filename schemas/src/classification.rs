//! What `classify` found in a picture.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::Kind;

/// What kind of picture it is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Classification {
    /// What it is treated as: the sender's choice, or what was found.
    pub kind: Kind,
    /// How sure the classifier is of the kind that it found, 0 to 1; 1 where the sender chose.
    pub confidence: f32,
    /// Whether the sender chose the kind.
    pub forced: bool,
    /// How hard the edge is to cut: 0 (flat shape on flat ground) to 1 (hair over a busy ground).
    pub complexity: f32,
    /// The advised way to matte it.
    pub strategy: Strategy,
    /// What the decision rests on.
    pub evidence: Evidence,
}

/// The advised way to matte.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub enum Strategy {
    /// The picture brings its own alpha: keep it.
    KeepAlpha,
    /// A flat picture: cut by colour.
    FlatColor,
    /// A segmentation model alone is enough.
    Segmentation,
    /// A segmentation model, then matting in the uncertain band.
    SegmentationWithMatting,
}

/// What a classification rests on.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Evidence {
    /// Faces found, with their boxes.
    pub faces: Vec<Detection>,
    /// Objects found (COCO names).
    pub objects: Vec<Detection>,
    /// Best ImageNet labels.
    pub labels: Vec<Label>,
    /// Share of pixels within two levels of the 16 most frequent colours, 0 to 1.
    pub flat_share: f32,
    /// Share of neighbouring pixel pairs that differ by 1 to 8 levels (photographs are full of them), 0 to 1.
    pub soft_gradient_share: f32,
}

/// A found thing.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Detection {
    /// Its name.
    pub label: String,
    /// 0 to 1.
    pub score: f32,
    /// Left edge, in pixels.
    pub x: f32,
    /// Top edge, in pixels.
    pub y: f32,
    /// In pixels.
    pub width: f32,
    /// In pixels.
    pub height: f32,
}

/// A label with its probability.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Label {
    /// Its name.
    pub label: String,
    /// 0 to 1.
    pub score: f32,
}
