//! Picture and trimap at the size at which they are solved.

use std::borrow::Cow;

use atelier_stores::Raster;

use super::UNKNOWN;

/// A picture with its trimap, at its own size or a smaller one.
pub(super) struct Shrunk<'a> {
    pub width: usize,
    pub height: usize,
    /// Bytes a pixel: 1, 3 or 4.
    pub channels: usize,
    pub pixels: Cow<'a, [u8]>,
    pub trimap: Cow<'a, [u8]>,
}

impl Shrunk<'_> {
    /// Red, green and blue of a pixel, 0 to 1.
    pub fn color(&self, place: usize) -> [f64; 3] {
        let share = |level: u8| f64::from(level) / 255.0;
        match self.pixels[place * self.channels..][..self.channels] {
            [red, green, blue, ..] => [share(red), share(green), share(blue)],
            [gray, ..] => [share(gray); 3],
            [] => [0.0; 3],
        }
    }

    /// A picture made smaller by `factor` (above 1). A pixel is known where some of those that it stands for are known and all that
    /// are known agree, so that thin strokes of a trimap stay.
    pub fn of(picture: &Raster, trimap: &[u8], factor: f64) -> Shrunk<'static> {
        let (from_width, from_height) = (picture.width() as usize, picture.height() as usize);
        let shrunk = |side: usize| ((side as f64 / factor).floor() as usize).max(1);
        let (width, height) = (shrunk(from_width), shrunk(from_height));
        let channels = picture.channels().count();
        let mut small = Shrunk {
            width,
            height,
            channels,
            pixels: Cow::Owned(Vec::with_capacity(width * height * channels)),
            trimap: Cow::Owned(Vec::with_capacity(width * height)),
        };
        for y in 0..height {
            let rows = y * from_height / height..(y + 1) * from_height / height;
            for x in 0..width {
                let columns = x * from_width / width..(x + 1) * from_width / width;
                let mut cell = Cell::default();
                for row in rows.clone() {
                    let places = row * from_width + columns.start..row * from_width + columns.end;
                    let colors = &picture.data()[places.start * channels..places.end * channels];
                    for (color, level) in colors.chunks_exact(channels).zip(&trimap[places]) {
                        cell.add(color, *level);
                    }
                }
                small.pixels.to_mut().extend(&cell.mean()[..channels]);
                small.trimap.to_mut().push(cell.level());
            }
        }
        small
    }
}

/// By how much both sides are to be divided, so that neither bound is broken; 1 where neither is.
pub(super) fn factor(pixels: usize, unknowns: usize, max_px: usize, max_unknown_px: usize) -> f64 {
    let excess = |count: usize, limit: usize| count as f64 / limit as f64;
    let area = excess(pixels, max_px).max(excess(unknowns, max_unknown_px));
    area.max(1.0).sqrt()
}

/// The pixels that become one.
#[derive(Default)]
struct Cell {
    sums: [u32; 4],
    count: u32,
    has_background: bool,
    has_subject: bool,
}

impl Cell {
    fn add(&mut self, pixel: &[u8], level: u8) {
        for (sum, level) in self.sums.iter_mut().zip(pixel) {
            *sum += u32::from(*level);
        }
        self.count += 1;
        self.has_background |= level == 0;
        self.has_subject |= level == 255;
    }

    fn mean(&self) -> [u8; 4] {
        let count = self.count.max(1);
        self.sums.map(|sum| ((sum + count / 2) / count) as u8)
    }

    fn level(&self) -> u8 {
        match (self.has_background, self.has_subject) {
            (true, false) => 0,
            (false, true) => 255,
            _ => UNKNOWN,
        }
    }
}

#[cfg(test)]
mod tests {
    use atelier_stores::raster::Channels;

    use super::*;

    #[test]
    fn colours_are_averaged_and_strokes_stay() {
        let pixels = vec![10, 20, 30, 40, 50, 60, 70, 80];
        let picture = Raster::new(4, 2, Channels::Gray, pixels).unwrap();
        let trimap = [128, 0, 255, 0, 128, 128, 128, 128];
        let small = Shrunk::of(&picture, &trimap, 2.0);
        assert_eq!((small.width, small.height), (2, 1));
        assert_eq!(small.pixels[..], [35, 55]);
        assert_eq!(small.trimap[..], [0, UNKNOWN]);
        assert_eq!(small.color(0), [35.0 / 255.0; 3]);
    }

    #[test]
    fn the_larger_excess_decides() {
        assert_eq!(factor(100, 10, 100, 10), 1.0);
        assert_eq!(factor(400, 10, 100, 10), 2.0);
        assert_eq!(factor(400, 90, 100, 10), 3.0);
    }

    #[test]
    fn no_side_vanishes() {
        let picture = Raster::new(9, 1, Channels::Gray, vec![7; 9]).unwrap();
        let small = Shrunk::of(&picture, &[128; 9], 3.0);
        assert_eq!((small.width, small.height, small.pixels[0]), (3, 1, 7));
    }
}
