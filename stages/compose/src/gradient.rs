//! Gradients as style sheets have them.

use atelier_schemas::background::{Gradient, GradientKind, GradientStop};
use atelier_stores::{Raster, RasterError, raster::Channels};
use rayon::prelude::*;

/// The gradient as a canvas of this size.
pub(crate) fn draw(gradient: &Gradient, width: u32, height: u32) -> Result<Raster, RasterError> {
    let (middle_x, middle_y) = (width as f32 / 2.0, height as f32 / 2.0);
    let angle = gradient.angle_degrees.to_radians();
    let (along_x, along_y) = (angle.sin(), -angle.cos());
    // From one corner to the other, measured along the line: the first and the last colour just reach the corners.
    let length = (width as f32 * along_x.abs() + height as f32 * along_y.abs()).max(1.0);
    let radius = middle_x.hypot(middle_y).max(1.0);
    let mut data = vec![0; width as usize * height as usize * 4];
    data.par_chunks_exact_mut(width as usize * 4)
        .enumerate()
        .for_each(|(y, row)| {
            for (x, pixel) in row.as_chunks_mut::<4>().0.iter_mut().enumerate() {
                let (dx, dy) = (x as f32 + 0.5 - middle_x, y as f32 + 0.5 - middle_y);
                let at = match gradient.kind {
                    GradientKind::Linear => (dx * along_x + dy * along_y) / length + 0.5,
                    GradientKind::Radial => dx.hypot(dy) / radius,
                };
                *pixel = color_at(&gradient.stops, at);
            }
        });
    Raster::new(width, height, Channels::Rgba, data)
}

/// Between two stops colours are mixed premultiplied, so that one that is transparent does not darken the other.
fn color_at(stops: &[GradientStop], at: f32) -> [u8; 4] {
    let (Some(first), Some(last)) = (stops.first(), stops.last()) else {
        return [0; 4];
    };
    if at <= first.at {
        return first.color.0;
    }
    let Some(index) = stops.iter().position(|stop| stop.at > at) else {
        return last.color.0;
    };
    let (from, to) = (&stops[index - 1], &stops[index]);
    let share = (at - from.at) / (to.at - from.at);
    let [from, to] = [from.color.0, to.color.0].map(|color| color.map(f32::from));
    let alpha = from[3] + (to[3] - from[3]) * share;
    let mix = |channel: usize| {
        let premultiplied = from[channel] * from[3] * (1.0 - share) + to[channel] * to[3] * share;
        if alpha > 0.0 {
            (premultiplied / alpha).round() as u8
        } else {
            0
        }
    };
    [mix(0), mix(1), mix(2), alpha.round() as u8]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drawn(text: &str) -> Raster {
        let atelier_schemas::Background::Gradient(gradient) =
            atelier_schemas::Background::from_text(text).unwrap()
        else {
            panic!("{text} is no gradient")
        };
        draw(&gradient, 101, 51).unwrap()
    }

    fn at(raster: &Raster, x: usize, y: u32) -> [u8; 4] {
        let pixel = &raster.row(y)[x * 4..x * 4 + 4];
        [pixel[0], pixel[1], pixel[2], pixel[3]]
    }

    #[test]
    fn colours_are_where_the_angle_says() {
        let right = drawn("linear-gradient(90deg, #000, #fff)");
        assert!(at(&right, 0, 25)[0] < 4 && at(&right, 100, 25)[0] > 251);
        assert_eq!(at(&right, 50, 0), at(&right, 50, 50));
        assert!(at(&right, 50, 25)[0].abs_diff(128) < 3);
        let down = drawn("linear-gradient(#f00, #00f 25%)");
        assert!(at(&down, 3, 0)[0] > 240);
        assert_eq!(at(&down, 3, 14), [0, 0, 255, 255]);
        let out = drawn(
            "radial-gradient(#fff, #fff0)"
                .replace("fff0", "ffffff00")
                .as_str(),
        );
        assert!(at(&out, 50, 25)[3] > 250 && at(&out, 0, 0)[3] < 5);
        assert_eq!(
            at(&out, 25, 25)[..3],
            [255; 3],
            "no darkening on the way to transparent"
        );
    }
}
