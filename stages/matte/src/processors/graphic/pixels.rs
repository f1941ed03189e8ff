//! A picture as this processor looks at it: opaque sRGB colours by index.

/// Pixels in rows from the top: RGB, or RGBA whose alpha is somebody else's business.
#[derive(Clone, Copy)]
pub(super) struct Pixels<'a> {
    pub width: usize,
    pub height: usize,
    /// Bytes of one pixel, 3 or 4.
    pub stride: usize,
    pub data: &'a [u8],
}

impl Pixels<'_> {
    pub(super) fn count(&self) -> usize {
        self.width * self.height
    }

    /// The colour at an index that is inside.
    pub(super) fn color(&self, index: usize) -> [u8; 3] {
        let at = index * self.stride;
        [self.data[at], self.data[at + 1], self.data[at + 2]]
    }

    /// The indices within `radius_px` of a pixel in every direction, itself among them, row by row.
    pub(super) fn around(&self, index: usize, radius_px: usize) -> impl Iterator<Item = usize> {
        let (x, y, width) = (index % self.width, index / self.width, self.width);
        let columns = x.saturating_sub(radius_px)..(x + radius_px + 1).min(width);
        let rows = y.saturating_sub(radius_px)..(y + radius_px + 1).min(self.height);
        rows.flat_map(move |row| columns.clone().map(move |column| row * width + column))
    }

    /// Whether a pixel stands at the picture's border.
    pub(super) fn is_on_border(&self, index: usize) -> bool {
        let (x, y) = (index % self.width, index / self.width);
        x == 0 || y == 0 || x + 1 == self.width || y + 1 == self.height
    }

    /// The indices of the border, each once.
    pub(super) fn border(&self) -> impl Iterator<Item = usize> {
        let (width, height) = (self.width, self.height);
        let lower = (height > 1).then_some(height - 1);
        let right = (width > 1).then_some(width - 1);
        let rows = [Some(0), lower].into_iter().flatten();
        let columns = [Some(0), right].into_iter().flatten();
        rows.flat_map(move |y| (0..width).map(move |x| y * width + x))
            .chain(
                columns
                    .flat_map(move |x| (1..height.saturating_sub(1)).map(move |y| y * width + x)),
            )
    }
}

/// The largest difference of two colours in one channel, in levels.
pub(super) fn apart(left: [u8; 3], right: [u8; 3]) -> u8 {
    let [red, green, blue] = [0, 1, 2].map(|channel| left[channel].abs_diff(right[channel]));
    red.max(green).max(blue)
}
