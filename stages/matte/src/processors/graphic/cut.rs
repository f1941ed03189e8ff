//! One picture from pixels to a cut-out: background, clusters, edge, colours, outlines.

use std::time::Instant;

use atelier_schemas::matting::{Cluster, Measured, Step};
use atelier_stores::{Raster, RasterError, raster::Channels};

use super::{
    edge, ground,
    palette::{self, Swatch},
    pixels::{Pixels, apart},
    shapes, spread, unmix,
};

/// Clusters this close to the background's colour are the background, in levels.
const GROUND_SPREAD: u8 = 6;

/// Why a picture is not for this processor.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum NotFlat {
    /// The border has no common colour.
    #[error(
        "{:.0} % of its border have one colour, at least {:.0} % must",
        border_share * 100.0,
        ground::MIN_BORDER_SHARE * 100.0
    )]
    Border {
        /// Share of the border that has the most frequent colour.
        border_share: f32,
    },
    /// The background has many colours.
    #[error(
        "{:.0} % of its background have exactly one colour, at least {:.0} % must",
        exact_share * 100.0,
        ground::MIN_EXACT_SHARE * 100.0
    )]
    Ground {
        /// Share of the background that has its colour exactly.
        exact_share: f32,
    },
    /// The subject has the texture of a photograph.
    #[error(
        "{:.0} % of its subject are in flat or slowly shaded regions, at least {:.0} % must",
        smooth_share * 100.0,
        MIN_SMOOTH_SHARE * 100.0
    )]
    Texture {
        /// Share of the subject that lies in regions.
        smooth_share: f32,
    },
}

/// At least this share of what is behind the edge lies in regions.
const MIN_SMOOTH_SHARE: f32 = 0.1;

/// A cut-out, and what was found on the way.
#[derive(Clone, Debug)]
pub struct Cut {
    /// The subject in its own colours: straight RGBA. `None` where the whole picture is one colour.
    pub subject: Option<Raster>,
    /// How sure it is, 0 to 1.
    pub confidence: f32,
    /// What was done.
    pub steps: Vec<Step>,
    /// Colours and outlines.
    pub measured: Measured,
}

/// Why there is no cut-out.
#[derive(Debug, thiserror::Error)]
pub enum CutError {
    /// Another processor has to do it.
    #[error(transparent)]
    NotFlat(#[from] NotFlat),
    /// The subject's pixels make no picture.
    #[error(transparent)]
    Raster(#[from] RasterError),
}

/// Cuts the subject of a flat picture (RGB, or RGBA whose alpha is left aside) out. Blocks, and uses all cores.
///
/// # Errors
/// The picture is not flat.
pub fn cut_out(picture: &Raster) -> Result<Cut, CutError> {
    let pixels = Pixels {
        width: picture.width() as usize,
        height: picture.height() as usize,
        stride: picture.channels().count(),
        data: picture.data(),
    };
    let mut clock = Clock::start();
    let ground = ground::find(pixels)?;
    clock.done("background");
    let swatches = palette::clusters(pixels);
    let mut measured = Measured {
        clusters: told(&swatches, ground.color),
        ..Measured::default()
    };
    clock.done("clusters");
    if ground.count == pixels.count() {
        return Ok(Cut {
            subject: None,
            confidence: 1.0,
            steps: clock.steps,
            measured,
        });
    }
    let parts = edge::parts(pixels, &ground);
    if parts.smooth_share < MIN_SMOOTH_SHARE {
        let smooth_share = parts.smooth_share;
        return Err(NotFlat::Texture { smooth_share }.into());
    }
    let colors: Vec<[u8; 3]> = swatches.iter().map(|swatch| swatch.color).collect();
    let mut unmixed = unmix::unmix(pixels, &ground, &parts, &colors);
    clock.done("edge");
    let explained = 1.0 - unmixed.guessed as f32 / unmixed.edge.max(1) as f32;
    spread::spread(&mut unmixed.rgba, pixels.width);
    clock.done("colors");
    measured.shapes = Some(shapes::outlines(pixels, &unmixed.rgba, &swatches));
    clock.done("shapes");
    Ok(Cut {
        subject: Some(Raster::new(
            picture.width(),
            picture.height(),
            Channels::Rgba,
            unmixed.rgba,
        )?),
        confidence: explained * ground.border_share,
        steps: clock.steps,
        measured,
    })
}

fn told(swatches: &[Swatch], ground: [u8; 3]) -> Vec<Cluster> {
    let cluster = |swatch: &Swatch| Cluster {
        color: hex(swatch.color),
        share: swatch.share,
        background: apart(swatch.color, ground) <= GROUND_SPREAD,
    };
    swatches.iter().map(cluster).collect()
}

/// A colour as it is written in the report.
pub(super) fn hex([red, green, blue]: [u8; 3]) -> String {
    format!("#{red:02x}{green:02x}{blue:02x}")
}

/// Times the steps.
struct Clock {
    last: Instant,
    steps: Vec<Step>,
}

impl Clock {
    fn start() -> Self {
        Self {
            last: Instant::now(),
            steps: Vec::new(),
        }
    }

    fn done(&mut self, name: &str) {
        let now = Instant::now();
        let ms = (now - self.last).as_secs_f64() * 1e3;
        let name = name.to_owned();
        self.steps.push(Step { name, ms });
        self.last = now;
    }
}
