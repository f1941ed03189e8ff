//! How far the pixels of a raster are from some of them.

/// How far each pixel is from the nearest of those that `are_there`, in pixels: a chamfer distance of two passes (Borgefors: Distance
/// transformations in digital images, CVGIP 1986), within eight percent of the true one. `f32::MAX` where none is there.
pub fn distances_px(are_there: &[bool], width: usize) -> Vec<f32> {
    const STRAIGHT: f32 = 1.0;
    const DIAGONAL: f32 = std::f32::consts::SQRT_2;
    let far = |is_there: &bool| if *is_there { 0.0 } else { f32::MAX };
    let mut distances: Vec<f32> = are_there.iter().map(far).collect();
    let length = distances.len();
    for place in 0..length {
        let x = place % width;
        let mut distance = distances[place];
        if x > 0 {
            distance = distance.min(distances[place - 1] + STRAIGHT);
        }
        if place >= width {
            distance = distance.min(distances[place - width] + STRAIGHT);
            if x > 0 {
                distance = distance.min(distances[place - width - 1] + DIAGONAL);
            }
            if x + 1 < width {
                distance = distance.min(distances[place - width + 1] + DIAGONAL);
            }
        }
        distances[place] = distance;
    }
    for place in (0..length).rev() {
        let x = place % width;
        let mut distance = distances[place];
        if x + 1 < width {
            distance = distance.min(distances[place + 1] + STRAIGHT);
        }
        if place + width < length {
            distance = distance.min(distances[place + width] + STRAIGHT);
            if x + 1 < width {
                distance = distance.min(distances[place + width + 1] + DIAGONAL);
            }
            if x > 0 {
                distance = distance.min(distances[place + width - 1] + DIAGONAL);
            }
        }
        distances[place] = distance;
    }
    distances
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIDE: usize = 200;

    #[test]
    fn distances_are_nearly_true() {
        let mut is_there = vec![false; SIDE * SIDE];
        is_there[100 * SIDE + 100] = true;
        let distances = distances_px(&is_there, SIDE);
        for (x, y) in [(130, 100), (100, 40), (130, 130), (120, 160)] {
            let exact = (x as f32 - 100.0).hypot(y as f32 - 100.0);
            let found = distances[y * SIDE + x];
            assert!((found / exact - 1.0).abs() < 0.09, "{found} {exact}");
        }
    }

    #[test]
    fn from_nothing_everything_is_far() {
        assert_eq!(distances_px(&[false; 3], 3), [f32::MAX; 3]);
    }
}
