//! From the file's colour model to straight eight-bit sRGB.
//!
//! Row by row, so that beside the file's pixels and the result only two rows are in memory.

use std::sync::Arc;

use moxcms::{
    ColorProfile, DataColorSpace, Layout as CmsLayout, TransformExecutor, TransformOptions,
};

use crate::decode::{Depth, Layout, Source};

/// Pixels of three (RGB) or four (straight RGBA) bytes.
pub(crate) struct Srgb {
    pub data: Vec<u8>,
    pub has_alpha_channel: bool,
    pub profile_converted: bool,
}

/// Converts the pixels of `source`; a profile that is broken or made for another colour model is left out.
pub(crate) fn to_srgb(source: &mut Source) -> Srgb {
    let bytes = std::mem::take(&mut source.bytes);
    let conversion = source
        .icc_profile
        .take()
        .and_then(|profile| ProfileConversion::new(&profile, source));
    let has_alpha_channel = matches!(source.layout, Layout::GrayAlpha | Layout::Rgba);
    let profile_converted = conversion.is_some();
    let conversion = conversion.filter(|conversion| !conversion.changes_nothing());
    let is_final =
        source.depth == Depth::Eight && matches!(source.layout, Layout::Rgb | Layout::Rgba);
    if is_final && conversion.is_none() && !source.premultiplied {
        return Srgb {
            data: bytes,
            has_alpha_channel,
            profile_converted,
        };
    }
    let (width, height) = (source.width as usize, source.height as usize);
    let output_samples = if has_alpha_channel { 4 } else { 3 };
    let mut data = vec![0; width * height * output_samples];
    let input_row_bytes = width * source.layout.samples() * source.depth.bytes();
    let rows = bytes
        .chunks_exact(input_row_bytes)
        .zip(data.chunks_exact_mut(width * output_samples));
    match source.depth {
        Depth::Eight => {
            let mut converter =
                RowConverter::<u8>::new(source, conversion.and_then(|found| found.eight));
            rows.for_each(|(input, output)| {
                converter.convert(|row| row.copy_from_slice(input), output);
            });
        }
        Depth::Sixteen => {
            let mut converter =
                RowConverter::<u16>::new(source, conversion.and_then(|found| found.sixteen));
            rows.for_each(|(input, output)| {
                let samples = input.as_chunks::<2>().0;
                let fill = |row: &mut [u16]| {
                    row.iter_mut()
                        .zip(samples)
                        .for_each(|(sample, bytes)| *sample = u16::from_ne_bytes(*bytes));
                };
                converter.convert(fill, output);
            });
        }
    }
    Srgb {
        data,
        has_alpha_channel,
        profile_converted,
    }
}

/// A sample of a file: one or two bytes.
trait Sample: Copy + Default {
    const MAXIMUM: u32;
    fn to_u32(self) -> u32;
    fn from_u32(value: u32) -> Self;
    /// Rounded to the nearest of 256 levels.
    fn to_eight(self) -> u8;
}

impl Sample for u8 {
    const MAXIMUM: u32 = 255;
    fn to_u32(self) -> u32 {
        u32::from(self)
    }
    fn from_u32(value: u32) -> Self {
        value.min(Self::MAXIMUM) as Self
    }
    fn to_eight(self) -> u8 {
        self
    }
}

impl Sample for u16 {
    const MAXIMUM: u32 = 65_535;
    fn to_u32(self) -> u32 {
        u32::from(self)
    }
    fn from_u32(value: u32) -> Self {
        value.min(Self::MAXIMUM) as Self
    }
    fn to_eight(self) -> u8 {
        // Exactly the rounded value × 255 / 65,535, without a division.
        ((u32::from(self) * 255 + 32_895) >> 16) as u8
    }
}

type Executor<T> = Arc<dyn TransformExecutor<T> + Send + Sync>;

/// Converts one row after the other and keeps its scratch rows.
struct RowConverter<T> {
    layout: Layout,
    premultiplied: bool,
    executor: Option<Executor<T>>,
    input: Vec<T>,
    /// RGB or RGBA, before the reduction to eight bits.
    expanded: Vec<T>,
    converted: Vec<T>,
}

impl<T: Sample> RowConverter<T> {
    fn new(source: &Source, executor: Option<Executor<T>>) -> Self {
        let width = source.width as usize;
        let output_samples = if matches!(source.layout, Layout::GrayAlpha | Layout::Rgba) {
            4
        } else {
            3
        };
        Self {
            layout: source.layout,
            premultiplied: source.premultiplied,
            executor,
            input: vec![T::default(); width * source.layout.samples()],
            expanded: vec![T::default(); width * output_samples],
            converted: vec![T::default(); width * output_samples],
        }
    }

    fn convert(&mut self, fill: impl FnOnce(&mut [T]), output: &mut [u8]) {
        fill(&mut self.input);
        if self.premultiplied && self.layout == Layout::Rgba {
            self.input
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .for_each(unpremultiply);
        }
        // With a profile inks go through it as they are; grey is first made RGB only where the profile is for RGB.
        let result = match (&self.executor, self.layout) {
            (None, _) => {
                expand(self.layout, &self.input, &mut self.expanded);
                &self.expanded
            }
            (Some(executor), _) => {
                // Sizes are ours and match; where the library still refuses, the row stays as the file has it.
                if executor.transform(&self.input, &mut self.converted).is_ok() {
                    &self.converted
                } else {
                    expand(self.layout, &self.input, &mut self.expanded);
                    &self.expanded
                }
            }
        };
        output
            .iter_mut()
            .zip(result)
            .for_each(|(byte, sample)| *byte = sample.to_eight());
    }
}

fn unpremultiply<T: Sample>([red, green, blue, alpha]: &mut [T; 4]) {
    let alpha = alpha.to_u32();
    if alpha == 0 {
        return;
    }
    for channel in [red, green, blue] {
        *channel = T::from_u32(
            ((u64::from(channel.to_u32()) * u64::from(T::MAXIMUM) + u64::from(alpha / 2))
                / u64::from(alpha)) as u32,
        );
    }
}

/// To RGB or RGBA without a profile. Inks: what light is left of white.
fn expand<T: Sample>(layout: Layout, input: &[T], output: &mut [T]) {
    match layout {
        Layout::Gray => {
            output
                .as_chunks_mut::<3>()
                .0
                .iter_mut()
                .zip(input)
                .for_each(|(pixel, gray)| *pixel = [*gray; 3]);
        }
        Layout::GrayAlpha => {
            let pairs = input.as_chunks::<2>().0;
            output
                .as_chunks_mut::<4>()
                .0
                .iter_mut()
                .zip(pairs)
                .for_each(|(pixel, [gray, alpha])| {
                    *pixel = [*gray, *gray, *gray, *alpha];
                });
        }
        Layout::Rgb | Layout::Rgba => output.copy_from_slice(input),
        Layout::Cmyk => {
            let inks = input.as_chunks::<4>().0;
            output.as_chunks_mut::<3>().0.iter_mut().zip(inks).for_each(
                |(pixel, [cyan, magenta, yellow, black])| {
                    let left = |ink: &T| {
                        let light = u64::from(T::MAXIMUM - ink.to_u32())
                            * u64::from(T::MAXIMUM - black.to_u32());
                        T::from_u32(
                            ((light + u64::from(T::MAXIMUM / 2)) / u64::from(T::MAXIMUM)) as u32,
                        )
                    };
                    *pixel = [left(cyan), left(magenta), left(yellow)];
                },
            );
        }
    }
}

/// An embedded profile, made ready for the picture's layout and depth.
struct ProfileConversion {
    eight: Option<Executor<u8>>,
    sixteen: Option<Executor<u16>>,
    layout: Layout,
}

impl ProfileConversion {
    /// `None` for a profile that is broken or made for another colour model.
    fn new(profile: &[u8], source: &Source) -> Option<Self> {
        let profile = ColorProfile::new_from_slice(profile).ok()?;
        let (input, output) = match (profile.color_space, source.layout) {
            (DataColorSpace::Rgb, Layout::Rgb) => (CmsLayout::Rgb, CmsLayout::Rgb),
            (DataColorSpace::Rgb, Layout::Rgba) => (CmsLayout::Rgba, CmsLayout::Rgba),
            (DataColorSpace::Gray, Layout::Gray) => (CmsLayout::Gray, CmsLayout::Rgb),
            (DataColorSpace::Gray, Layout::GrayAlpha) => (CmsLayout::GrayAlpha, CmsLayout::Rgba),
            // The library's name for four inks is its name for four samples.
            (DataColorSpace::Cmyk, Layout::Cmyk) => (CmsLayout::Rgba, CmsLayout::Rgb),
            _ => return None,
        };
        let srgb = ColorProfile::new_srgb();
        let options = TransformOptions::default();
        let layout = source.layout;
        match source.depth {
            Depth::Eight => {
                let eight = Some(
                    profile
                        .create_transform_8bit(input, &srgb, output, options)
                        .ok()?,
                );
                Some(Self {
                    eight,
                    sixteen: None,
                    layout,
                })
            }
            Depth::Sixteen => {
                let sixteen = Some(
                    profile
                        .create_transform_16bit(input, &srgb, output, options)
                        .ok()?,
                );
                Some(Self {
                    eight: None,
                    sixteen,
                    layout,
                })
            }
        }
    }

    /// Whether it is sRGB under another name, as in most photographs: then the pixels need no pass of their own.
    fn changes_nothing(&self) -> bool {
        const STEP: usize = 15;
        let (Some(executor), Layout::Rgb) = (&self.eight, self.layout) else {
            return false;
        };
        let levels = || (0..=255_u8).step_by(STEP);
        let colors: Vec<u8> = levels()
            .flat_map(|red| {
                levels().flat_map(move |green| levels().flat_map(move |blue| [red, green, blue]))
            })
            .collect();
        let mut converted = vec![0; colors.len()];
        executor.transform(&colors, &mut converted).is_ok()
            && colors
                .iter()
                .zip(&converted)
                .all(|(before, after)| before.abs_diff(*after) <= 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sixteen_bits_are_rounded() {
        for value in 0..=u16::MAX {
            let exact = (f64::from(value) / 257.0).round() as u8;
            assert_eq!(value.to_eight(), exact, "{value}");
        }
    }

    #[test]
    fn inks_leave_light() {
        let mut pixels = [0_u8; 12];
        expand(
            Layout::Cmyk,
            &[0, 0, 0, 0, 255, 0, 0, 0, 0, 0, 0, 255, 0, 128, 255, 64],
            &mut pixels,
        );
        assert_eq!(pixels, [255, 255, 255, 0, 255, 255, 0, 0, 0, 191, 95, 0]);
    }

    #[test]
    fn premultiplied_colors_are_made_straight() {
        let mut pixel = [64_u8, 32, 128, 128];
        unpremultiply(&mut pixel);
        assert_eq!(pixel, [128, 64, 255, 128]);
        let mut invisible = [0_u16, 0, 0, 0];
        unpremultiply(&mut invisible);
        assert_eq!(invisible, [0; 4]);
    }
}
