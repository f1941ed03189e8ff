//! The colours that a picture is made of: clusters in OKLab, where equal distances look equally large.

use std::collections::HashMap;

use super::pixels::Pixels;

/// Most clusters that are told of, and that shapes are drawn in.
pub(super) const MAX_CLUSTERS: usize = 16;
/// Colours that are nearer than this in OKLab (black to white is 1) are one: just noticeable side by side.
const SAME_COLOR: f32 = 0.035;
/// Clusters with a smaller share of the picture are not told of.
const MIN_SHARE: f32 = 0.001;
/// Most pixels that are looked at; of larger pictures every n-th.
const MAX_SAMPLES: usize = 1 << 20;

/// A colour and how much of the picture has it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Swatch {
    /// The most frequent of the colours that it stands for, so that a flat colour stays what it is.
    pub color: [u8; 3],
    /// Share of the picture's pixels, 0 to 1.
    pub share: f32,
}

/// The clusters, the most frequent first.
pub(super) fn clusters(pixels: Pixels<'_>) -> Vec<Swatch> {
    // An odd step does not keep to the columns of a picture of even width.
    let step = (pixels.count() / MAX_SAMPLES + 1) | 1;
    let step = if pixels.count() <= MAX_SAMPLES {
        1
    } else {
        step
    };
    let mut counts: HashMap<[u8; 3], u32> = HashMap::new();
    let mut samples = 0_u32;
    for index in (0..pixels.count()).step_by(step) {
        *counts.entry(pixels.color(index)).or_default() += 1;
        samples += 1;
    }
    let mut colors: Vec<([u8; 3], u32)> = counts.into_iter().collect();
    // By count, then by colour: the order of a map is another in each run.
    colors.sort_unstable_by_key(|(color, count)| (std::cmp::Reverse(*count), *color));
    let mut found: Vec<(Swatch, [f32; 3])> = Vec::new();
    for (color, count) in colors {
        let lab = oklab(color);
        let share = count as f32 / samples as f32;
        let nearest = found
            .iter_mut()
            .map(|(swatch, center)| (distance(lab, *center), swatch))
            .min_by(|left, right| left.0.total_cmp(&right.0));
        match nearest {
            Some((far, swatch)) if far < SAME_COLOR || share < MIN_SHARE / 4.0 => {
                if far < 3.0 * SAME_COLOR {
                    swatch.share += share;
                }
            }
            _ => found.push((Swatch { color, share }, lab)),
        }
    }
    let mut swatches: Vec<Swatch> = found.into_iter().map(|(swatch, _)| swatch).collect();
    swatches.retain(|swatch| swatch.share >= MIN_SHARE);
    swatches.sort_by(|left, right| right.share.total_cmp(&left.share));
    swatches.truncate(MAX_CLUSTERS);
    swatches
}

/// Which of `centers` looks most like `color`.
pub(super) fn nearest(color: [u8; 3], centers: &[[f32; 3]]) -> usize {
    let lab = oklab(color);
    let by_distance = |(_, left): &(usize, &[f32; 3]), (_, right): &(usize, &[f32; 3])| {
        distance(lab, **left).total_cmp(&distance(lab, **right))
    };
    centers
        .iter()
        .enumerate()
        .min_by(by_distance)
        .map_or(0, |(index, _)| index)
}

fn distance(left: [f32; 3], right: [f32; 3]) -> f32 {
    let [first, second, third] = [0, 1, 2].map(|axis| left[axis] - right[axis]);
    (first * first + second * second + third * third).sqrt()
}

/// Björn Ottosson's OKLab of an sRGB colour: lightness from 0 to 1, then green to red and blue to yellow.
pub(super) fn oklab(color: [u8; 3]) -> [f32; 3] {
    let [red, green, blue] = color.map(|value| {
        let value = f32::from(value) / 255.0;
        if value <= 0.040_45 {
            value / 12.92
        } else {
            ((value + 0.055) / 1.055).powf(2.4)
        }
    });
    let long = (0.412_221_46 * red + 0.536_332_55 * green + 0.051_445_995 * blue).cbrt();
    let medium = (0.211_903_5 * red + 0.680_699_5 * green + 0.107_396_96 * blue).cbrt();
    let short = (0.088_302_46 * red + 0.281_718_85 * green + 0.629_978_7 * blue).cbrt();
    [
        0.210_454_26 * long + 0.793_617_8 * medium - 0.004_072_047 * short,
        1.977_998_5 * long - 2.428_592_2 * medium + 0.450_593_7 * short,
        0.025_904_037 * long + 0.782_771_77 * medium - 0.808_675_77 * short,
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn oklab_is_as_its_author_gives_it() {
        for (color, expected) in [
            ([255, 255, 255], [1.0, 0.0, 0.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
            ([255, 0, 0], [0.627_96, 0.224_86, 0.125_85]),
            ([0, 0, 255], [0.452_01, -0.032_46, -0.311_53]),
        ] {
            let found = oklab(color);
            assert!(distance(found, expected) < 1e-3, "{color:?}: {found:?}");
        }
    }

    #[test]
    fn clusters_are_the_flat_colours_with_their_shares() {
        let data: Vec<u8> = (0..100)
            .flat_map(|index| match index {
                0..60 => [250, 250, 250],
                60..90 => [200, 30, 30],
                90..95 => [201, 30, 30],
                _ => [20, 20, 90],
            })
            .collect();
        let pixels = Pixels {
            width: 10,
            height: 10,
            stride: 3,
            data: &data,
        };
        let found = clusters(pixels);
        let colors: Vec<[u8; 3]> = found.iter().map(|swatch| swatch.color).collect();
        assert_eq!(colors, [[250, 250, 250], [200, 30, 30], [20, 20, 90]]);
        assert!((found[1].share - 0.35).abs() < 1e-6, "{found:?}");
        let centers: Vec<[f32; 3]> = colors.iter().map(|color| oklab(*color)).collect();
        assert_eq!(nearest([190, 40, 20], &centers), 1);
    }
}
