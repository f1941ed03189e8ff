//! The part of a picture that the networks look at.

use std::borrow::Cow;

use atelier_models::{Mask, Picture};
use atelier_stores::Raster;

/// From this alpha on a matte that meets a side of a frame is seen to end there.
const SEEN_TO_END: u8 = 64;

/// A rectangle of whole pixels of a picture; never empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    pub left: u32,
    pub top: u32,
    pub width: u32,
    pub height: u32,
}

/// A rectangle between pixels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rect {
    pub left: f32,
    pub top: f32,
    pub right: f32,
    pub bottom: f32,
}

impl Rect {
    pub fn width(&self) -> f32 {
        (self.right - self.left).max(0.0)
    }

    pub fn height(&self) -> f32 {
        (self.bottom - self.top).max(0.0)
    }

    pub fn area(&self) -> f32 {
        self.width() * self.height()
    }

    pub fn longest(&self) -> f32 {
        self.width().max(self.height())
    }

    /// What both have.
    pub fn common(&self, other: &Self) -> Self {
        Self {
            left: self.left.max(other.left),
            top: self.top.max(other.top),
            right: self.right.min(other.right),
            bottom: self.bottom.min(other.bottom),
        }
    }

    /// The smallest around both.
    pub fn around(&self, other: &Self) -> Self {
        Self {
            left: self.left.min(other.left),
            top: self.top.min(other.top),
            right: self.right.max(other.right),
            bottom: self.bottom.max(other.bottom),
        }
    }
}

impl Frame {
    /// The whole picture.
    pub fn whole(pixels: &Raster) -> Self {
        Self {
            left: 0,
            top: 0,
            width: pixels.width(),
            height: pixels.height(),
        }
    }

    /// A rectangle with room around it, a share of its longest side, as far as the picture goes; the whole picture where
    /// nothing of it lies within.
    pub fn with_room(rect: &Rect, share: f32, pixels: &Raster) -> Self {
        let room = share * rect.longest();
        let edge = |place: f32, side: u32| place.clamp(0.0, side as f32) as u32;
        let left = edge((rect.left - room).floor(), pixels.width());
        let top = edge((rect.top - room).floor(), pixels.height());
        let right = edge((rect.right + room).ceil(), pixels.width());
        let bottom = edge((rect.bottom + room).ceil(), pixels.height());
        if right <= left || bottom <= top {
            return Self::whole(pixels);
        }
        Self {
            left,
            top,
            width: right - left,
            height: bottom - top,
        }
    }

    /// This frame with those sides moved out, by its longest side, at which a matte over it would end in a straight line. `None`
    /// where there are none: what meets the picture's own border is cut off by that.
    pub fn further_out(&self, matte: &Mask, pixels: &Raster) -> Option<Self> {
        let (columns, rows) = (matte.width as usize, matte.height as usize);
        let ends = |first: usize, step: usize, count: usize| {
            let mut places = (0..count).map(|place| first + place * step);
            places.any(|place| matte.alpha[place] >= SEEN_TO_END)
        };
        let room = self.longest();
        let (mut left, mut top) = (self.left, self.top);
        let (mut right, mut bottom) = (self.left + self.width, self.top + self.height);
        if ends(0, columns, rows) {
            left = left.saturating_sub(room);
        }
        if ends(columns - 1, columns, rows) {
            right = right.saturating_add(room).min(pixels.width());
        }
        if ends(0, 1, columns) {
            top = top.saturating_sub(room);
        }
        if ends((rows - 1) * columns, 1, columns) {
            bottom = bottom.saturating_add(room).min(pixels.height());
        }
        let frame = Self {
            left,
            top,
            width: right - left,
            height: bottom - top,
        };
        (frame != *self).then_some(frame)
    }

    pub fn is_whole(&self, pixels: &Raster) -> bool {
        *self == Self::whole(pixels)
    }

    pub fn longest(&self) -> u32 {
        self.width.max(self.height)
    }

    /// The middle of a pixel of a raster of `width` × `height` pixels over this frame, in pixels of the picture.
    pub fn place(&self, x: usize, y: usize, width: u32, height: u32) -> (f32, f32) {
        let along = |start: u32, length: u32, at: usize, count: u32| {
            start as f32 + (at as f32 + 0.5) * length as f32 / count as f32
        };
        (
            along(self.left, self.width, x, width),
            along(self.top, self.height, y, height),
        )
    }

    /// The pixels within it; copied unless it is the whole picture.
    pub fn pixels<'a>(&self, pixels: &'a Raster) -> Cow<'a, [u8]> {
        if self.is_whole(pixels) {
            return Cow::Borrowed(pixels.data());
        }
        let channels = pixels.channels().count();
        let columns = self.left as usize * channels..(self.left + self.width) as usize * channels;
        let mut copied = Vec::with_capacity(columns.len() * self.height as usize);
        for y in self.top..self.top + self.height {
            copied.extend_from_slice(&pixels.row(y)[columns.clone()]);
        }
        Cow::Owned(copied)
    }

    /// Those pixels as the networks take them.
    pub fn picture<'a>(&self, pixels: &'a [u8], channels: usize) -> Picture<'a> {
        Picture {
            width: self.width,
            height: self.height,
            channels,
            pixels,
        }
    }

    /// A matte of this frame's size within one of the picture's; nothing is beyond it.
    pub fn paste(&self, alpha: Vec<u8>, pixels: &Raster) -> Vec<u8> {
        if self.is_whole(pixels) {
            return alpha;
        }
        let width = pixels.width() as usize;
        let mut pasted = vec![0; width * pixels.height() as usize];
        for (y, row) in alpha.chunks_exact(self.width as usize).enumerate() {
            let start = (self.top as usize + y) * width + self.left as usize;
            pasted[start..start + row.len()].copy_from_slice(row);
        }
        pasted
    }
}

#[cfg(test)]
mod tests {
    use atelier_stores::raster::Channels;

    use super::*;

    fn gray() -> Raster {
        Raster::new(4, 3, Channels::Gray, (0..12).collect()).unwrap()
    }

    #[test]
    fn room_ends_at_the_picture() {
        let rect = Rect {
            left: 1.2,
            top: 1.0,
            right: 2.2,
            bottom: 2.0,
        };
        let frame = |share| {
            let frame = Frame::with_room(&rect, share, &gray());
            (frame.left, frame.top, frame.width, frame.height)
        };
        assert_eq!(frame(0.0), (1, 1, 2, 1));
        assert_eq!(frame(0.5), (0, 0, 3, 3));
        assert_eq!(frame(9.0), (0, 0, 4, 3));
        let beyond = Rect {
            left: 70.0,
            right: 80.0,
            ..rect
        };
        assert!(Frame::with_room(&beyond, 0.1, &gray()).is_whole(&gray()));
    }

    #[test]
    fn a_side_at_which_a_matte_would_end_moves_out() {
        let pixels = Raster::new(60, 40, Channels::Gray, vec![0; 60 * 40]).unwrap();
        let frame = Frame {
            left: 25,
            top: 15,
            width: 10,
            height: 8,
        };
        // At half the frame's size, with something at one place.
        let further_out = |frame: &Frame, x: usize, y: usize, level: u8| {
            let mut matte = Mask {
                width: 5,
                height: 4,
                alpha: vec![0; 20],
            };
            matte.alpha[y * 5 + x] = level;
            let wider = frame.further_out(&matte, &pixels)?;
            Some((wider.left, wider.top, wider.width, wider.height))
        };
        assert_eq!(further_out(&frame, 2, 2, 255), None, "it is all inside");
        assert_eq!(further_out(&frame, 2, 0, 40), None, "nobody sees it");
        assert_eq!(further_out(&frame, 2, 0, 255), Some((25, 5, 10, 18)));
        assert_eq!(further_out(&frame, 2, 3, 255), Some((25, 15, 10, 18)));
        assert_eq!(further_out(&frame, 0, 1, 255), Some((15, 15, 20, 8)));
        // The corner is of two sides, and no side moves beyond the picture.
        let beside = Frame { left: 45, ..frame };
        assert_eq!(further_out(&beside, 4, 3, 255), Some((45, 15, 15, 18)));
        assert_eq!(
            further_out(&Frame::whole(&pixels), 0, 0, 255),
            None,
            "the picture ends there"
        );
    }

    #[test]
    fn what_is_taken_out_is_put_back() {
        let frame = Frame {
            left: 1,
            top: 1,
            width: 2,
            height: 2,
        };
        let taken = frame.pixels(&gray()).into_owned();
        assert_eq!(taken, [5, 6, 9, 10]);
        let pasted = frame.paste(taken, &gray());
        assert_eq!(pasted, [0, 0, 0, 0, 0, 5, 6, 0, 0, 9, 10, 0]);
        assert_eq!(frame.place(0, 1, 1, 4), (2.0, 1.75));
    }
}
