//! Networks that take a picture and its trimap, such as ViTMatte.
//!
//! The catalogue's row says how both go in: as one input of four channels or as two. They take any size, up to the row's longest
//! side; the edge of a larger picture's matte is then fitted to the picture's by the guided filter.
//!
//! Invariant: what the trimap knows stays as it says.

use std::time::Duration;

use ndarray::{Array4, ArrayD, Axis};

use super::{
    Mask, Picture, SegmentError, checked, postprocess, preprocess, reference, refine,
    refiner::size_within, trimap,
};
use crate::{
    LoadError, ModelStore, Purpose, Runtime, Session, SessionOptions,
    catalogue::{Input, Normalization, TrimapInput},
};

/// A network that takes a trimap, with its row's pre- and postprocessing.
#[derive(Debug)]
pub struct Guided {
    session: Session,
    input: Input,
    trimap: TrimapInput,
    normalization: Normalization,
}

/// What the network gave, at its own size.
pub struct RawGuided {
    /// The matte at the size at which the network worked.
    mask: Mask,
    /// The network's own time.
    pub elapsed: Duration,
}

impl Guided {
    /// Opens a network that takes a trimap by its catalogue name. Blocking. Where the provider was chosen by `auto` and gives
    /// another matte than `cpu`, the network runs on `cpu`, and the log says so as an error.
    ///
    /// # Errors
    /// As [`Session::open`], and a model that takes no trimap.
    pub fn open(
        runtime: &Runtime,
        store: &ModelStore,
        name: &str,
        options: &SessionOptions,
    ) -> Result<Self, LoadError> {
        const WANTED: &str = "matting model that takes a trimap";
        let model = checked::row(store, name, Purpose::MatteWithTrimap, WANTED)?;
        let wrong = || LoadError::WrongPurpose {
            name: name.to_owned(),
            wanted: WANTED,
            summary: model.summary.clone(),
        };
        let input = model.input.clone().ok_or_else(wrong)?;
        let trimap = model.trimap.clone().ok_or_else(wrong)?;
        let normalization = model.outputs.first().ok_or_else(wrong)?.normalization;
        let open_on = |runtime: &Runtime| {
            Ok(Self {
                session: Session::open(runtime, store, name, options)?,
                input: input.clone(),
                trimap: trimap.clone(),
                normalization,
            })
        };
        checked::open(runtime, name, open_on, |network, on_cpu| {
            network.check_against(&on_cpu().map_err(|error| error.to_string())?)
        })
    }

    /// Compares what both make of the reference's picture and matte.
    fn check_against(&self, on_cpu: &Self) -> Result<(), String> {
        let text = |error: SegmentError| error.to_string();
        let trimap = trimap::of_coarse(&reference::coarse_matte().map_err(text)?, &[]);
        let found = self.infer(&reference::picture(), &trimap).map_err(text)?;
        let expected = on_cpu.infer(&reference::picture(), &trimap).map_err(text)?;
        reference::Difference::between(&found.mask.alpha, &expected.mask.alpha)
            .check_for(self.session.provider())
    }

    /// The network.
    pub fn session(&self) -> &Session {
        &self.session
    }

    /// Width and height at which it works on a picture, in pixels: a trimap need not be larger.
    pub fn working_size(&self, picture: &Picture<'_>) -> (u32, u32) {
        size_within(picture.width, picture.height, self.trimap.longest_side_px)
    }

    /// Runs the network. `trimap` has three levels (0 is background, 255 the subject, everything else unknown) and the picture's
    /// size, or that of [`Self::working_size`]. Blocking.
    ///
    /// # Errors
    /// The pixels are not what the picture says, the trimap is smaller than it has to be, or the network failed.
    pub fn infer(&self, picture: &Picture<'_>, trimap: &Mask) -> Result<RawGuided, SegmentError> {
        let (width, height) = self.working_size(picture);
        let length = trimap.width as usize * trimap.height as usize;
        if trimap.width < width || trimap.height < height || trimap.alpha.len() != length {
            return Err(SegmentError::BadPicture {
                width: trimap.width,
                height: trimap.height,
                channels: 1,
                found: trimap.alpha.len(),
            });
        }
        let trimap = trimap::shrink(trimap, width, height);
        let colors = preprocess::prepare(picture, &self.input, width, height)?;
        let own_input = self.trimap.name.is_some();
        let planes = if own_input { 3 } else { 4 };
        let mut image = self.zeros(planes, width, height);
        let (rows, columns) = (height as usize, width as usize);
        let mut inside = image.view_mut();
        inside.slice_axis_inplace(Axis(1), (..3).into());
        inside.slice_axis_inplace(Axis(2), (..rows).into());
        inside.slice_axis_inplace(Axis(3), (..columns).into());
        inside.assign(&colors);
        let mut inputs = Vec::with_capacity(2);
        if own_input {
            let mut alone = self.zeros(1, width, height);
            self.write_levels(&mut alone, 0, &trimap);
            inputs.extend([image, alone]);
        } else {
            self.write_levels(&mut image, 3, &trimap);
            inputs.push(image);
        }
        let views = inputs.iter().map(|input| input.view().into_dyn()).collect();
        let mut inference = self.session.run_all(views)?;
        let output = inference.outputs.swap_remove(0);
        let mut mask =
            self.seen(&output, width, height)
                .ok_or_else(|| SegmentError::BadOutput {
                    model: self.session.name().to_owned(),
                    shape: output.shape().to_vec(),
                })?;
        trimap::keep_known(&mut mask, &trimap);
        Ok(RawGuided {
            mask,
            elapsed: inference.elapsed,
        })
    }

    /// Makes what the network gave a matte of the picture's size. `trimap` is the one that was given, of the picture's size; a
    /// trimap that was made of a coarse matte is no better than what was made of it, and `None` here.
    ///
    /// # Errors
    /// The picture is not the one that it was made of.
    pub fn finish(
        &self,
        raw: RawGuided,
        picture: &Picture<'_>,
        trimap: Option<&Mask>,
    ) -> Result<Mask, SegmentError> {
        let mut mask = raw.mask;
        if (mask.width, mask.height) != (picture.width, picture.height) {
            mask = postprocess::resize(mask, picture.width, picture.height)?;
            refine::refine_at(picture, &mut mask, self.trimap.longest_side_px)?;
        }
        if let Some(trimap) = trimap {
            trimap::keep_known(&mut mask, trimap);
        }
        Ok(mask)
    }

    fn zeros(&self, planes: usize, width: u32, height: u32) -> Array4<f32> {
        let filled = |side: u32| side.next_multiple_of(self.trimap.multiple_px) as usize;
        Array4::zeros((1, planes, filled(height), filled(width)))
    }

    fn write_levels(&self, tensor: &mut Array4<f32>, plane: usize, trimap: &Mask) {
        let [background, unknown, subject] = self.trimap.levels;
        let columns = trimap.width as usize;
        for (place, level) in trimap.alpha.iter().enumerate() {
            tensor[[0, plane, place / columns, place % columns]] = match level {
                0 => background,
                255 => subject,
                _ => unknown,
            };
        }
    }

    /// What lies inside the picture; `None` where the output is no matte of that size.
    fn seen(&self, output: &ArrayD<f32>, width: u32, height: u32) -> Option<Mask> {
        let output = output.view().into_dimensionality::<ndarray::Ix4>().ok()?;
        let (_, _, rows, columns) = output.dim();
        let (height_px, width_px) = (height as usize, width as usize);
        if rows < height_px || columns < width_px {
            return None;
        }
        let seen = output.slice_axis(Axis(2), (..height_px).into());
        let seen = seen.slice_axis(Axis(3), (..width_px).into());
        postprocess::to_bytes(&seen.to_owned().into_dyn(), self.normalization)
    }
}
