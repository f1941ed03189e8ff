//! One picture from pixels to a classification: which network is asked when, and what becomes of the answers.

use std::time::{Duration, Instant};

use atelier_models::{ModelStore, Runtime, Session, SessionOptions};
use atelier_runtime::telemetry;
use atelier_schemas::{
    Kind, KindChoice,
    events::{Classification, Detection, Evidence, Label},
};
use atelier_stores::Raster;

use crate::{
    ClassifyError, ClassifyOptions, Measured, OpenError,
    boxes::Candidate,
    decide::{self, People},
    faces::{Faces, Look},
    labels::Labels,
    measure::{ground_busyness, measure},
    objects::{Objects, PERSON, has_fine_outline, label},
    working_copy::WorkingCopy,
};

/// A person of at least this share of the picture's area, and no face: the face may be too large for the first look.
const CLOSE_UP_SHARE: f32 = 0.3;

/// The three networks and the decision.
pub struct Classifier {
    options: ClassifyOptions,
    /// `None` where options leave them out.
    networks: Option<Networks>,
}

struct Networks {
    options: ClassifyOptions,
    faces: Faces,
    objects: Objects,
    labels: Labels,
}

/// A classification, and what it cost.
#[derive(Clone, Debug)]
pub struct Classified {
    /// The classification.
    pub classification: Classification,
    /// What was measured without a network.
    pub measured: Measured,
    /// Where the time went.
    pub cost: Cost,
}

/// Where the time went. A network that was not asked cost nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct Cost {
    /// YuNet's own time, of one or two looks.
    pub faces: Duration,
    /// EfficientDet's own time.
    pub objects: Duration,
    /// EfficientNet's own time.
    pub labels: Duration,
    /// Everything.
    pub total: Duration,
}

/// What the networks said.
#[derive(Default)]
struct Seen {
    faces: Vec<Candidate>,
    objects: Vec<Candidate>,
    labels: Vec<(&'static str, f32)>,
    fine_outline: f32,
}

/// Counts a run of one of the networks.
pub(crate) fn note_run(session: &Session, network_time: Duration) {
    let provider = session.provider().as_str();
    telemetry::model_ran("classify", session.name(), provider, network_time);
}

impl Classifier {
    /// Opens the networks. Blocking.
    ///
    /// # Errors
    /// An option is out of its range, or a network is missing; the message names the setting, or the command that helps.
    pub fn open(
        options: ClassifyOptions,
        store: &ModelStore,
        runtime: &Runtime,
    ) -> Result<Self, OpenError> {
        options.check()?;
        if !options.networks {
            return Ok(Self {
                options,
                networks: None,
            });
        }
        let session = SessionOptions {
            intra_threads: (options.intra_threads > 0).then_some(options.intra_threads),
            ..SessionOptions::default()
        };
        // Of the 25 ms that the three take on one core OpenVINO saves five, and it compiles them for half a second.
        let runtime = runtime.on_cpu();
        telemetry::model_provider("classify", runtime.provider().as_str());
        let networks = Networks {
            options: options.clone(),
            faces: Faces::open(&runtime, store, &session)?,
            objects: Objects::open(&runtime, store, &session)?,
            labels: Labels::open(&runtime, store, &session)?,
        };
        Ok(Self {
            options,
            networks: Some(networks),
        })
    }

    /// Classifies one picture. Blocking: tens of milliseconds.
    ///
    /// # Errors
    /// A network failed.
    pub fn classify(
        &self,
        raster: &Raster,
        choice: KindChoice,
    ) -> Result<Classified, ClassifyError> {
        let started = Instant::now();
        let mut cost = Cost::default();
        let measured = measure(raster);
        let copy = WorkingCopy::of(raster)?;
        let forced = chosen(choice);
        let mut seen = Seen::default();
        let graphic = decide::graphic_probability(&measured.texture);
        let mut portrait = 0.0;
        let is_open = forced.is_none() && graphic < decide::SURELY_GRAPHIC;
        if let Some(networks) = &self.networks {
            if is_open || matches!(forced, Some(Kind::Product | Kind::Portrait)) {
                networks.look_for_things(&copy, &mut seen, &mut cost)?;
            }
            if is_open || forced == Some(Kind::Portrait) {
                networks.look_for_faces(raster, &copy, forced, &mut seen, &mut cost)?;
            }
        }
        if is_open {
            portrait = decide::portrait_probability(&people(raster, &seen), seen.fine_outline);
        }
        let (kind, confidence) =
            forced.map_or_else(|| decide::kind(graphic, portrait), |kind| (kind, 1.0));
        // A person has hair.
        let fine_outline = if kind == Kind::Portrait {
            1.0
        } else {
            seen.fine_outline
        };
        let ground = ground_busyness(&copy);
        let complexity = decide::complexity(fine_outline, ground, &measured);
        let classification = Classification {
            kind,
            confidence,
            forced: forced.is_some(),
            complexity,
            strategy: decide::strategy(kind, complexity, ground, &measured, &self.options),
            evidence: evidence(seen, &measured),
        };
        cost.total = started.elapsed();
        Ok(Classified {
            classification,
            measured,
            cost,
        })
    }
}

fn evidence(seen: Seen, measured: &Measured) -> Evidence {
    Evidence {
        faces: seen
            .faces
            .iter()
            .map(|face| detection(face, "face".to_owned()))
            .collect(),
        objects: seen
            .objects
            .iter()
            .map(|object| detection(object, label(object.class).to_owned()))
            .collect(),
        labels: seen
            .labels
            .into_iter()
            .map(|(label, score)| Label {
                label: label.to_owned(),
                score,
            })
            .collect(),
        flat_share: measured.flat_share,
        soft_gradient_share: measured.soft_gradient_share,
    }
}

impl Networks {
    /// Labels and objects; and from both, whether the outline is fine.
    fn look_for_things(
        &self,
        copy: &WorkingCopy,
        seen: &mut Seen,
        cost: &mut Cost,
    ) -> Result<(), ClassifyError> {
        let (probabilities, elapsed) = self.labels.read(copy)?;
        cost.labels = elapsed;
        seen.labels = self.labels.best(&probabilities, self.options.max_labels);
        let ClassifyOptions {
            min_object_score,
            max_detections,
            ..
        } = self.options;
        (seen.objects, cost.objects) =
            self.objects
                .find(copy, min_object_score as f32, max_detections)?;
        let fine_objects = seen
            .objects
            .iter()
            .filter(|object| has_fine_outline(object.class));
        seen.fine_outline = fine_objects
            .map(|object| object.score)
            .fold(probabilities.fine_outline(), f32::max);
        Ok(())
    }

    /// Faces, for a large person without one at a second look. Who says that it is a portrait wants its people found, also where no
    /// body is seen.
    fn look_for_faces(
        &self,
        raster: &Raster,
        copy: &WorkingCopy,
        forced: Option<Kind>,
        seen: &mut Seen,
        cost: &mut Cost,
    ) -> Result<(), ClassifyError> {
        let ClassifyOptions {
            min_face_score,
            max_detections,
            ..
        } = self.options;
        let mut largest_person_px = 0.0_f32;
        for object in seen.objects.iter().filter(|object| object.class == PERSON) {
            largest_person_px = largest_person_px.max(object.rect.area());
        }
        let is_portrait = forced == Some(Kind::Portrait);
        if largest_person_px == 0.0 && !is_portrait {
            // A face alone does not make a portrait (see `decide`), so there is nothing to look for.
            return Ok(());
        }
        (seen.faces, cost.faces) =
            self.faces
                .find(copy, Look::Whole, min_face_score as f32, max_detections)?;
        let is_close_up = largest_person_px >= CLOSE_UP_SHARE * raster.pixels() as f32;
        if seen.faces.is_empty() && (is_close_up || is_portrait) {
            let (faces, elapsed) =
                self.faces
                    .find(copy, Look::Small, min_face_score as f32, max_detections)?;
            seen.faces = faces;
            cost.faces += elapsed;
        }
        Ok(())
    }
}

fn chosen(choice: KindChoice) -> Option<Kind> {
    match choice {
        KindChoice::Auto => None,
        KindChoice::Portrait => Some(Kind::Portrait),
        KindChoice::Product => Some(Kind::Product),
        KindChoice::Graphic => Some(Kind::Graphic),
    }
}

fn detection(candidate: &Candidate, label: String) -> Detection {
    Detection {
        label,
        score: candidate.score,
        x: candidate.rect.left,
        y: candidate.rect.top,
        width: candidate.rect.width(),
        height: candidate.rect.height(),
    }
}

/// The most prominent face and person: score times size.
fn people(raster: &Raster, seen: &Seen) -> People {
    let shorter_side = raster.width().min(raster.height()) as f32;
    let area = raster.pixels() as f32;
    let prominent = |found: &[Candidate], share: &dyn Fn(&Candidate) -> f32| {
        let shares = found
            .iter()
            .map(|candidate| (candidate.score, share(candidate)));
        shares
            .max_by(|left, right| (left.0 * left.1).total_cmp(&(right.0 * right.1)))
            .unwrap_or_default()
    };
    let (face_score, face_share) =
        prominent(&seen.faces, &|face| face.rect.height() / shorter_side);
    let persons: Vec<_> = seen
        .objects
        .iter()
        .filter(|object| object.class == PERSON)
        .copied()
        .collect();
    let (person_score, person_share) = prominent(&persons, &|person| person.rect.area() / area);
    let mut agreement = 0.0_f32;
    for face in &seen.faces {
        for person in persons
            .iter()
            .filter(|person| person.rect.contains_center_of(&face.rect))
        {
            agreement = agreement.max(face.score * person.score);
        }
    }
    People {
        face_score,
        face_share,
        person_score,
        person_share,
        agreement,
    }
}
