//! What may be set for `classify`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::OpenError;

/// Options of the stage `classify`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ClassifyOptions {
    /// Whether networks look for faces, objects and labels. Without them a picture that is no graphic by its texture is a product,
    /// and there is no evidence: for those who name the model of every task, and do not ask what a picture shows.
    pub networks: bool,
    /// Threads that work on one network's run; 0 is one per core. One is best where several stages share the machine:
    /// the networks are small.
    pub intra_threads: usize,
    /// Least score of a face, 0 to 1, for it to count.
    pub min_face_score: f64,
    /// Least score of an object, 0 to 1, for it to count.
    pub min_object_score: f64,
    /// Most faces, and most objects, that an event carries as evidence; the best are kept.
    pub max_detections: usize,
    /// Most labels that an event carries as evidence; the best are kept.
    pub max_labels: usize,
    /// From this complexity on, 0 to 1, matting is advised after the segmentation.
    pub matting_complexity: f64,
    /// Share of pixels, 0 to 1, that must be see-through for a picture's own alpha to be kept as its cut-out.
    pub min_transparent_share: f64,
}

impl Default for ClassifyOptions {
    fn default() -> Self {
        Self {
            networks: true,
            intra_threads: 1,
            min_face_score: 0.6,
            min_object_score: 0.35,
            max_detections: 16,
            max_labels: 5,
            matting_complexity: 0.5,
            min_transparent_share: 0.02,
        }
    }
}

impl ClassifyOptions {
    /// Checks what the types alone cannot say.
    pub(crate) fn check(&self) -> Result<(), OpenError> {
        for (name, value) in [
            ("min_face_score", self.min_face_score),
            ("min_object_score", self.min_object_score),
            ("matting_complexity", self.matting_complexity),
            ("min_transparent_share", self.min_transparent_share),
        ] {
            if !(0.0..=1.0).contains(&value) {
                return Err(OpenError::NotAShare { name, value });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_sound_and_unknown_fields_are_refused() {
        assert!(ClassifyOptions::default().check().is_ok());
        let read: ClassifyOptions =
            toml::from_str("intra_threads = 2\nmin_face_score = 0.7").unwrap();
        assert_eq!((read.intra_threads, read.min_face_score), (2, 0.7));
        assert!(toml::from_str::<ClassifyOptions>("min_face_scores = 0.7").is_err());
    }

    #[test]
    fn a_share_beyond_one_or_no_number_is_refused_by_name() {
        for value in [-0.1, 1.1, f64::NAN] {
            let options = ClassifyOptions {
                min_object_score: value,
                ..ClassifyOptions::default()
            };
            let message = options.check().unwrap_err().to_string();
            assert!(message.contains("min_object_score"), "{message}");
        }
    }
}
