//! Colours for what cannot be seen: each pixel of the background takes that of the nearest pixel of the subject, so that an edge
//! that is smoothed or resized afterwards finds the subject's colours beyond it and not the old background's.

/// How far colours are carried, in pixels; what is further away is black.
pub(super) const REACH_PX: u8 = 64;

/// Carries the colours of visible pixels over to invisible ones. `rgba` has rows of `width` pixels.
pub(super) fn spread(rgba: &mut [u8], width: usize) {
    let pixels = rgba.as_chunks_mut::<4>().0;
    let height = pixels.len() / width;
    let mut distance: Vec<u8> = pixels
        .iter()
        .map(|pixel| if pixel[3] == 0 { REACH_PX } else { 0 })
        .collect();
    for (pixel, far) in pixels.iter_mut().zip(&distance) {
        if *far > 0 {
            *pixel = [0; 4];
        }
    }
    let mut carry = |index: usize, other: usize| {
        let far = distance[other].saturating_add(1);
        if far < distance[index] {
            distance[index] = far;
            let [red, green, blue, _] = pixels[other];
            pixels[index] = [red, green, blue, 0];
        }
    };
    for y in 0..height {
        for x in 0..width {
            let index = y * width + x;
            if x > 0 {
                carry(index, index - 1);
            }
            if y > 0 {
                carry(index, index - width);
            }
        }
    }
    for y in (0..height).rev() {
        for x in (0..width).rev() {
            let index = y * width + x;
            if x + 1 < width {
                carry(index, index + 1);
            }
            if y + 1 < height {
                carry(index, index + width);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_visible_colour_is_carried_as_far_as_the_reach() {
        let width = 200;
        let mut rgba = vec![9; width * 4];
        for (x, pixel) in rgba.as_chunks_mut::<4>().0.iter_mut().enumerate() {
            pixel[3] = if x == 40 { 255 } else { 0 };
        }
        rgba[160..163].copy_from_slice(&[200, 100, 50]);
        spread(&mut rgba, width);
        let at = |x: usize| &rgba[x * 4..x * 4 + 4];
        assert_eq!(at(40), [200, 100, 50, 255]);
        assert_eq!(at(0), [200, 100, 50, 0]);
        assert_eq!(at(40 + usize::from(REACH_PX) - 1), [200, 100, 50, 0]);
        assert_eq!(at(40 + usize::from(REACH_PX)), [0; 4]);
    }
}
