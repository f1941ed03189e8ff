//! What can be measured without a network: how flat the colours are, how much is see-through, how busy the ground is.
//!
//! Flatness is measured on the picture's own pixels, never on a resized copy: resizing makes colours that were not there.
//! Invariant: at most [`SAMPLE_SIDE`]² places are looked at, whatever the size of the picture.

use atelier_stores::Raster;

use crate::working_copy::WorkingCopy;

/// Places along each side that are looked at: 65,536 in all, enough for shares that are right to half a per cent.
const SAMPLE_SIDE: u32 = 256;
/// How many colours count as the picture's main ones: a palette of 16, as icons and screens of an application have.
const MAIN_COLORS: usize = 16;
/// Levels by which a pixel may miss a main colour: what JPEG does to a flat surface.
const MAIN_COLOR_TOLERANCE: u8 = 2;
/// Steps between neighbours that light makes on a surface; larger ones are edges.
const SOFT_STEP_MAX: u8 = 8;
/// From this alpha on a pixel counts as seen.
const VISIBLE_ALPHA: u8 = 128;
/// The ground is looked for in a frame of this share of each side.
const FRAME_SHARE: f32 = 0.12;
/// Mean step between neighbours, in levels, of a frame as busy as they come (foliage, crowds).
const BUSY_STEP: f32 = 24.0;

/// What was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Measured {
    /// Share of pixels within two levels of the 16 most frequent colours, 0 to 1.
    pub flat_share: f32,
    /// Share of neighbouring pairs that differ by 1 to 8 levels, 0 to 1.
    pub soft_gradient_share: f32,
    /// Different colours among the places that were looked at, as a share of these, 0 to 1.
    pub color_share: f32,
    /// Share of pixels that are see-through, 0 to 1.
    pub transparent_share: f32,
    /// The texture outside the most frequent colour.
    pub texture: Texture,
}

/// How levels go on from pixel to pixel, in runs of three neighbours. Runs within two levels of the picture's most
/// frequent colour are left out: a studio's white ground says nothing of whether what stands on it was drawn.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Texture {
    /// Share of runs whose first two pixels are the same, 0 to 1: high where something was drawn.
    pub equal_share: f32,
    /// Of the runs with soft steps, the share that is a straight ramp to within one level, 0 to 1: high in photographs
    /// that a lens or JPEG has smoothed.
    pub straight_share: f32,
    /// Mean curvature (second difference) of the runs without an edge, in levels: high where a sensor's grain is.
    pub curvature: f32,
}

/// Measures the picture's own pixels; those that are see-through have no say in the shares of colours.
pub fn measure(raster: &Raster) -> Measured {
    let sample = Sample::of(raster);
    let visible = sample.colors.len();
    let palette = Palette::of(sample.colors);
    Measured {
        flat_share: share(palette.covered, visible),
        soft_gradient_share: share(sample.soft_pairs, sample.pairs),
        color_share: share(palette.distinct, visible),
        transparent_share: share(sample.transparent, visible + sample.transparent),
        texture: texture(raster, palette.most_frequent),
    }
}

fn share(count: usize, of: usize) -> f32 {
    if of > 0 {
        count as f32 / of as f32
    } else {
        0.0
    }
}

/// The places that are looked at.
fn places(raster: &Raster) -> impl Iterator<Item = (u32, u32)> {
    let step_x = raster.width().div_ceil(SAMPLE_SIDE) as usize;
    let step_y = raster.height().div_ceil(SAMPLE_SIDE) as usize;
    let (width, height) = (raster.width(), raster.height());
    (0..height)
        .step_by(step_y)
        .flat_map(move |y| (0..width).step_by(step_x).map(move |x| (x, y)))
}

fn texture(raster: &Raster, ground: [u8; 3]) -> Texture {
    let (mut runs, mut equal, mut calm, mut moving, mut straight, mut curvature) =
        (0, 0, 0, 0, 0, 0_u64);
    for (x, y) in places(raster) {
        for [second, third] in [[(x + 1, y), (x + 2, y)], [(x, y + 1), (x, y + 2)]] {
            let run = [(x, y), second, third].map(|(x, y)| visible(raster, x, y));
            let [Some(first), Some(second), Some(third)] = run else {
                continue;
            };
            if [first, second, third]
                .iter()
                .all(|color| step(*color, ground) <= MAIN_COLOR_TOLERANCE)
            {
                continue;
            }
            let (near, far, bend) = (
                step(first, second),
                step(second, third),
                bend(first, second, third),
            );
            runs += 1;
            equal += usize::from(near == 0);
            if near <= SOFT_STEP_MAX && far <= SOFT_STEP_MAX {
                calm += 1;
                curvature += u64::from(bend);
                moving += usize::from(near > 0 || far > 0);
                straight += usize::from((near > 0 || far > 0) && bend <= 1);
            }
        }
    }
    Texture {
        equal_share: share(equal, runs),
        straight_share: share(straight, moving),
        curvature: if calm > 0 {
            curvature as f32 / calm as f32
        } else {
            0.0
        },
    }
}

/// How busy the frame of the picture is, 0 (plain) to 1 (foliage, a crowd).
pub(crate) fn ground_busyness(copy: &WorkingCopy) -> f32 {
    let (width, height) = (copy.width() as usize, copy.height() as usize);
    let frame = |side: usize| ((side as f32 * FRAME_SHARE) as usize).max(1);
    let (frame_x, frame_y) = (frame(width), frame(height));
    let (mut sum, mut count) = (0_u64, 0_u64);
    let row = |y: usize| copy.rgb()[y * width * 3..][..width * 3].as_chunks::<3>().0;
    for y in 0..height.saturating_sub(1) {
        let (here, below) = (row(y), row(y + 1));
        let is_edge_row = y < frame_y || y + frame_y >= height;
        for x in 0..width.saturating_sub(1) {
            if is_edge_row || x < frame_x || x + frame_x >= width {
                sum += u64::from(step(here[x], here[x + 1])) + u64::from(step(here[x], below[x]));
                count += 2;
            }
        }
    }
    if count == 0 {
        return 0.0;
    }
    (sum as f32 / count as f32 / BUSY_STEP).min(1.0)
}

/// The colours that are looked at.
#[derive(Default)]
struct Sample {
    /// Colours of the visible places, as 0xRRGGBB.
    colors: Vec<u32>,
    transparent: usize,
    pairs: usize,
    soft_pairs: usize,
}

impl Sample {
    fn of(raster: &Raster) -> Self {
        let mut sample = Self::default();
        for (x, y) in places(raster) {
            let Some(here) = visible(raster, x, y) else {
                sample.transparent += 1;
                continue;
            };
            let [red, green, blue] = here.map(u32::from);
            sample.colors.push(red << 16 | green << 8 | blue);
            for neighbour in [visible(raster, x + 1, y), visible(raster, x, y + 1)]
                .into_iter()
                .flatten()
            {
                sample.pairs += 1;
                sample.soft_pairs +=
                    usize::from((1..=SOFT_STEP_MAX).contains(&step(here, neighbour)));
            }
        }
        sample
    }
}

/// The colour there; `None` beyond the picture and where it is see-through.
fn visible(raster: &Raster, x: u32, y: u32) -> Option<[u8; 3]> {
    let start = x as usize * raster.channels().count();
    match *raster
        .row(y)
        .get(start..start + raster.channels().count())?
    {
        [gray] => Some([gray; 3]),
        [red, green, blue] => Some([red, green, blue]),
        [red, green, blue, alpha] if alpha >= VISIBLE_ALPHA => Some([red, green, blue]),
        _ => None,
    }
}

/// The largest second difference of a channel.
fn bend(first: [u8; 3], second: [u8; 3], third: [u8; 3]) -> u16 {
    let bends = [0, 1, 2].map(|channel| {
        let ends = u16::from(first[channel]) + u16::from(third[channel]);
        ends.abs_diff(2 * u16::from(second[channel]))
    });
    bends.into_iter().max().unwrap_or_default()
}

/// The largest difference of a channel.
fn step(left: [u8; 3], right: [u8; 3]) -> u8 {
    let differences = [0, 1, 2].map(|channel| left[channel].abs_diff(right[channel]));
    differences.into_iter().max().unwrap_or_default()
}

/// The picture's main colours.
struct Palette {
    /// Places within the tolerance of the most frequent 16 colours.
    covered: usize,
    /// Different colours.
    distinct: usize,
    most_frequent: [u8; 3],
}

impl Palette {
    /// Each main colour takes its neighbourhood with it before the next is chosen, so that 16 shades of one white wall do
    /// not use up the palette.
    fn of(mut colors: Vec<u32>) -> Self {
        colors.sort_unstable();
        let mut counted: Vec<([u8; 3], usize)> = colors
            .chunk_by(|left, right| left == right)
            .map(|run| {
                (
                    [(run[0] >> 16) as u8, (run[0] >> 8) as u8, run[0] as u8],
                    run.len(),
                )
            })
            .collect();
        let mut palette = Self {
            covered: 0,
            distinct: counted.len(),
            most_frequent: [0; 3],
        };
        for index in 0..MAIN_COLORS {
            // Of colours that are equally frequent the first in order, so that the answer does not depend on chance.
            let most_frequent = counted
                .iter()
                .copied()
                .reduce(|best, next| if next.1 > best.1 { next } else { best });
            let Some((main, _)) = most_frequent else {
                break;
            };
            if index == 0 {
                palette.most_frequent = main;
            }
            counted.retain(|(color, count)| {
                let is_near = step(*color, main) <= MAIN_COLOR_TOLERANCE;
                palette.covered += if is_near { *count } else { 0 };
                !is_near
            });
        }
        palette
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use atelier_stores::raster::Channels;

    fn rgb(width: u32, height: u32, color: impl Fn(u32, u32) -> [u8; 3]) -> Raster {
        let data = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .flat_map(|(x, y)| color(x, y))
            .collect();
        Raster::new(width, height, Channels::Rgb, data).unwrap()
    }

    fn noise(x: u32, y: u32) -> u8 {
        (x.wrapping_mul(2_654_435_761)
            .wrapping_add(y.wrapping_mul(40_503).wrapping_mul(2_246_822_519))
            >> 15) as u8
    }

    #[test]
    fn a_logo_is_flat() {
        let measured = measure(&rgb(600, 400, |x, y| {
            if x.abs_diff(300) + y.abs_diff(200) < 150 {
                [220, 20, 60]
            } else {
                [255; 3]
            }
        }));
        assert_eq!(
            (measured.flat_share, measured.soft_gradient_share),
            (1.0, 0.0)
        );
        assert!(
            measured.texture.equal_share > 0.95 && measured.color_share < 0.001,
            "{measured:?}"
        );
    }

    #[test]
    fn a_gradient_is_soft_and_not_flat() {
        let measured = measure(&rgb(256, 256, |x, y| [x as u8, y as u8, 255 - x as u8]));
        assert!(
            measured.flat_share < 0.01 && measured.soft_gradient_share > 0.99,
            "{measured:?}"
        );
        let Texture {
            equal_share,
            straight_share,
            curvature,
        } = measured.texture;
        assert!(
            equal_share < 0.01 && straight_share > 0.99 && curvature < 0.01,
            "{measured:?}"
        );
    }

    #[test]
    fn noise_is_neither() {
        let measured = measure(&rgb(300, 300, |x, y| {
            [noise(x, y), noise(y, x + 7), noise(x + y, y)]
        }));
        assert!(
            measured.flat_share < 0.02 && measured.soft_gradient_share < 0.1,
            "{measured:?}"
        );
        assert!(measured.color_share > 0.8, "{measured:?}");
    }

    #[test]
    fn shades_of_one_surface_are_one_main_colour() {
        let measured = measure(&rgb(200, 200, |x, y| {
            [200 + noise(x, y) % 3, 200 + noise(y, x) % 3, 200]
        }));
        assert_eq!(measured.flat_share, 1.0);
        // All of it is ground.
        assert_eq!(measured.texture, Texture::default());
    }

    #[test]
    fn the_ground_has_no_say_in_the_texture() {
        let on = |ground: u8| {
            let inside = |x: u32, y: u32| (100..200).contains(&x) && (100..200).contains(&y);
            measure(&rgb(300, 300, |x, y| {
                if inside(x, y) {
                    [100 + noise(x, y) % 8; 3]
                } else {
                    [ground; 3]
                }
            }))
            .texture
        };
        let (on_white, on_black) = (on(255), on(0));
        assert!(
            on_white.equal_share < 0.2 && on_white.curvature > 2.0,
            "{on_white:?}"
        );
        assert!(
            (on_white.equal_share - on_black.equal_share).abs() < 0.01,
            "{on_white:?} {on_black:?}"
        );
    }

    #[test]
    fn seventeen_far_colours_are_one_too_many() {
        let measured = measure(&rgb(170, 10, |x, _| [(x / 10 * 15) as u8; 3]));
        assert!(
            (measured.flat_share - 16.0 / 17.0).abs() < 1e-6,
            "{measured:?}"
        );
    }

    #[test]
    fn see_through_pixels_are_counted_and_otherwise_ignored() {
        let pixels = (0..100_u32 * 100).flat_map(|index| {
            if index % 100 < 25 {
                [noise(index, 1), 0, 0, 0]
            } else {
                [10, 20, 30, 255]
            }
        });
        let measured = measure(&Raster::new(100, 100, Channels::Rgba, pixels.collect()).unwrap());
        assert_eq!(
            (measured.transparent_share, measured.flat_share),
            (0.25, 1.0)
        );
        let nothing = measure(&Raster::new(2, 2, Channels::Rgba, vec![0; 16]).unwrap());
        assert_eq!(
            nothing,
            Measured {
                transparent_share: 1.0,
                ..Measured::default()
            }
        );
    }

    #[test]
    fn one_pixel_has_no_neighbours() {
        let measured = measure(&rgb(1, 1, |_, _| [5; 3]));
        assert_eq!(
            (
                measured.flat_share,
                measured.soft_gradient_share,
                measured.color_share
            ),
            (1.0, 0.0, 1.0)
        );
    }

    #[test]
    fn only_the_frame_makes_a_ground_busy() {
        let busy = |x: u32, y: u32| [noise(x, y); 3];
        let inside = |x: u32, y: u32| (40..160).contains(&x) && (40..160).contains(&y);
        let of = |raster: Raster| ground_busyness(&WorkingCopy::of(&raster).unwrap());
        assert_eq!(
            of(rgb(200, 200, |x, y| if inside(x, y) {
                busy(x, y)
            } else {
                [90; 3]
            })),
            0.0
        );
        assert_eq!(
            of(rgb(200, 200, |x, y| if inside(x, y) {
                [90; 3]
            } else {
                busy(x, y)
            })),
            1.0
        );
        assert_eq!(of(rgb(1, 1, busy)), 0.0);
    }
}
