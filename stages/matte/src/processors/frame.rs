//! The part of a picture that the networks look at.

use std::borrow::Cow;

use atelier_models::Picture;
use atelier_stores::Raster;

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
