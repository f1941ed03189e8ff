//! Gaussian smoothing of a matte.

use rayon::prelude::*;

/// Weights are in units of 1 / 2¹⁶, so that a row of bytes times weights fits 32 bits.
const WEIGHT_ONE: u32 = 1 << 16;

/// How far a smoothing of this standard deviation reaches, in pixels.
pub(crate) fn reach_px(sigma_px: f32) -> usize {
    (3.0 * sigma_px).ceil() as usize
}

/// The matte convolved with a Gaussian of `sigma_px` pixels; beyond the border the border goes on.
pub(crate) fn gaussian(matte: &[u8], width: usize, height: usize, sigma_px: f32) -> Vec<u8> {
    let weights = weights(sigma_px);
    let reach = weights.len() / 2;
    let mut blurred_rows = vec![0; matte.len()];
    blurred_rows
        .par_chunks_exact_mut(width)
        .zip(matte.par_chunks_exact(width))
        .for_each(|(output, row)| {
            let mut padded = vec![row[0]; width + 2 * reach];
            padded[reach..reach + width].copy_from_slice(row);
            padded[reach + width..].fill(row[width - 1]);
            let mut sums = vec![WEIGHT_ONE / 2; width];
            for (tap, weight) in weights.iter().enumerate() {
                add_weighted(&mut sums, &padded[tap..tap + width], *weight);
            }
            store(&sums, output);
        });
    let mut blurred = vec![0; matte.len()];
    blurred
        .par_chunks_exact_mut(width)
        .enumerate()
        .for_each(|(y, output)| {
            let mut sums = vec![WEIGHT_ONE / 2; width];
            for (tap, weight) in weights.iter().enumerate() {
                let source_y = (y + tap).saturating_sub(reach).min(height - 1);
                add_weighted(
                    &mut sums,
                    &blurred_rows[source_y * width..(source_y + 1) * width],
                    *weight,
                );
            }
            store(&sums, output);
        });
    blurred
}

fn add_weighted(sums: &mut [u32], row: &[u8], weight: u32) {
    sums.iter_mut()
        .zip(row)
        .for_each(|(sum, value)| *sum += u32::from(*value) * weight);
}

fn store(sums: &[u32], output: &mut [u8]) {
    output
        .iter_mut()
        .zip(sums)
        .for_each(|(byte, sum)| *byte = (sum >> 16) as u8);
}

/// A symmetric kernel whose weights add up to exactly one, so that flat areas stay as they are.
fn weights(sigma_px: f32) -> Vec<u32> {
    let reach = reach_px(sigma_px) as i32;
    let exact: Vec<f64> = (-reach..=reach)
        .map(|x| (-0.5 * (f64::from(x) / f64::from(sigma_px)).powi(2)).exp())
        .collect();
    let total: f64 = exact.iter().sum();
    let mut weights: Vec<u32> = exact
        .iter()
        .map(|weight| (weight / total * f64::from(WEIGHT_ONE)).round() as u32)
        .collect();
    let sides: u32 = weights.iter().sum::<u32>() - weights[reach as usize];
    weights[reach as usize] = WEIGHT_ONE.saturating_sub(sides);
    weights
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flat_stays_flat_and_an_edge_becomes_the_normal_distribution() {
        let (width, height) = (64, 20);
        assert_eq!(
            gaussian(&vec![255; width * height], width, height, 20.0),
            vec![255; width * height]
        );
        let edge: Vec<u8> = (0..width * height)
            .map(|index| if index % width < 32 { 0 } else { 255 })
            .collect();
        let smooth = gaussian(&edge, width, height, 4.0);
        let row = &smooth[10 * width..11 * width];
        assert!(row.windows(2).all(|pair| pair[0] <= pair[1]));
        // One standard deviation beyond the middle of the edge 84 % is reached.
        assert!(
            (f64::from(row[36]) - 0.86 * 255.0).abs() < 6.0,
            "{}",
            row[36]
        );
        assert_eq!((row[5], row[60]), (0, 255));
    }
}
