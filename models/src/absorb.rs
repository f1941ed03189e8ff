//! Keeps constants out of a network's data, where bfloat16 would drown in them.
//!
//! In some trained networks a channel has come to be nearly the same for every pixel of every picture: one of U²-Netp's
//! is 226 to 228, the convolution that reads it multiplies it by up to 5.6 and takes the product away again by biases of
//! up to 1,361. In 32-bit floating point the rest survives; of bfloat16's eight significant bits nothing is left for it.
//! So the constant is taken off where the channel is made, and given back where it is read: high-bias absorption
//! (Nagel, van Baalen, Blankevoort, Welling: Data-Free Quantization Through Weight Equalization and Bias Correction,
//! ICCV 2019, section 4.1.3), with one addition. A convolution pads with zeros, so at the picture's border a part of the
//! constant is missing, which no bias can say. A channel that is always 0 is therefore made to be always 1, and its
//! weights, each of them a number that bfloat16 has, carry constant and bias; what rounding them lost is the new bias.
//!
//! Invariant: in 32-bit floating point the network calculates what it calculated before, but for rounding. Found in a
//! network by `bench/constants.py`.

use std::collections::HashMap;

use half::bf16;
use serde::Deserialize;

use crate::onnx::{Graph, Network};

/// One convolution that reads constant channels, by the names of the network's initializers.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Absorption {
    /// Its weights: outputs × inputs × height × width, height and width odd.
    pub weights: String,
    /// Its bias.
    pub bias: String,
    /// What it reads that hardly changes.
    pub constants: Vec<Constant>,
    /// What is to carry it instead.
    pub carrier: Carrier,
}

/// A channel that is never below `value`, and not far above it. Nothing else reads it.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Constant {
    /// Which of the reader's inputs.
    pub channel: usize,
    /// What is taken off.
    pub value: f32,
    /// The bias of the convolution that makes it.
    pub made_by_bias: String,
    /// Which of that convolution's outputs.
    pub made_as: usize,
}

/// A channel that is 0 wherever one looks.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Carrier {
    /// Which of the reader's inputs.
    pub channel: usize,
    /// The weights of the convolution that makes it.
    pub made_by_weights: String,
    /// The bias of that convolution.
    pub made_by_bias: String,
    /// Which of that convolution's outputs.
    pub made_as: usize,
    /// Weights of other convolutions that read it, as the input `made_as`.
    #[serde(default)]
    pub also_read_by: Vec<String>,
}

/// The file is not the network that the catalogue describes.
#[derive(Debug, thiserror::Error)]
pub enum AbsorbError {
    /// Lacks an initializer.
    #[error("it has no 32-bit floating-point initializer `{0}` kept as raw data")]
    Missing(String),
    /// An initializer is smaller than the catalogue says.
    #[error("its initializer `{name}` is {found:?}, which {wanted}")]
    Shape {
        /// Which one.
        name: String,
        /// Its dimensions.
        found: Vec<usize>,
        /// What it should be.
        wanted: String,
    },
}

/// Rewrites a network's initializers.
///
/// # Errors
/// It is not the network that `absorptions` were found in. It may have been changed in part then.
pub fn absorb(network: &mut Network, absorptions: &[Absorption]) -> Result<(), AbsorbError> {
    let graph = network.graph();
    let index = graph.index();
    let mut initializers = Initializers { graph, index };
    // First all that is taken off: a bias from which something is taken may be one that a carrier carries.
    for constant in absorptions.iter().flat_map(|one| &one.constants) {
        let mut bias = initializers.tensor(&constant.made_by_bias)?;
        *bias.at(&[constant.made_as])? -= constant.value;
        initializers.store(&bias);
    }
    absorptions
        .iter()
        .try_for_each(|one| initializers.carry(one))
}

struct Initializers<'a> {
    graph: &'a mut Graph,
    index: HashMap<String, usize>,
}

/// A tensor of 32-bit floating-point numbers, taken out to be changed.
struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    /// Where it belongs.
    place: usize,
}

impl Initializers<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor, AbsorbError> {
        let missing = || AbsorbError::Missing(name.to_owned());
        let place = *self.index.get(name).ok_or_else(missing)?;
        let tensor = &self.graph.tensors[place];
        Ok(Tensor {
            name: name.to_owned(),
            shape: tensor.shape.iter().map(|size| *size as usize).collect(),
            values: tensor.floats().map_err(|_| missing())?,
            place,
        })
    }

    fn store(&mut self, tensor: &Tensor) {
        let bytes = tensor.values.iter().flat_map(|value| value.to_le_bytes());
        self.graph.tensors[tensor.place].raw = bytes.collect::<Vec<u8>>().into();
    }

    /// Gives constants and bias to the carrier.
    fn carry(&mut self, one: &Absorption) -> Result<(), AbsorbError> {
        let carrier = &one.carrier;
        let mut weights = self.tensor(&one.weights)?;
        let mut bias = self.tensor(&one.bias)?;
        let (outputs, height, width) = match weights.shape[..] {
            [outputs, _, height, width] if height % 2 == 1 && width % 2 == 1 => {
                (outputs, height, width)
            }
            _ => return Err(weights.unfit("should have four dimensions, the last two odd")),
        };
        for output in 0..outputs {
            let mut lost = 0.0;
            for tap in 0..height * width {
                let place = |channel| [output, channel, tap / width, tap % width];
                let mut exact = 0.0;
                for constant in &one.constants {
                    let weight = *weights.at(&place(constant.channel))?;
                    exact += f64::from(constant.value) * f64::from(weight);
                }
                // The middle lies over the picture wherever the convolution stands.
                if tap == height / 2 * width + width / 2 {
                    exact += f64::from(*bias.at(&[output])?);
                }
                let carried = bf16::from_f64(exact);
                *weights.at(&place(carrier.channel))? = carried.to_f32();
                lost += exact - carried.to_f64();
            }
            *bias.at(&[output])? = lost as f32;
        }
        self.store(&weights);
        self.store(&bias);
        self.make_one(carrier)
    }

    /// Makes the carrier 1 instead of 0, and unseen by all that read it beside the reader.
    fn make_one(&mut self, carrier: &Carrier) -> Result<(), AbsorbError> {
        let mut weights = self.tensor(&carrier.made_by_weights)?;
        weights.row(carrier.made_as)?.fill(0.0);
        self.store(&weights);
        let mut bias = self.tensor(&carrier.made_by_bias)?;
        *bias.at(&[carrier.made_as])? = 1.0;
        self.store(&bias);
        for name in &carrier.also_read_by {
            let mut weights = self.tensor(name)?;
            let taps: usize = weights.shape.iter().skip(2).product();
            for output in 0..weights.shape.first().copied().unwrap_or(0) {
                let inputs = weights.row(output)?.len() / taps.max(1);
                if carrier.made_as >= inputs {
                    return Err(weights.unfit(&format!("should have an input {}", carrier.made_as)));
                }
                weights.row(output)?[carrier.made_as * taps..][..taps].fill(0.0);
            }
            self.store(&weights);
        }
        Ok(())
    }
}

impl Tensor {
    /// The number at a place.
    fn at(&mut self, place: &[usize]) -> Result<&mut f32, AbsorbError> {
        let fits = place.len() == self.shape.len()
            && place.iter().zip(&self.shape).all(|(at, size)| at < size);
        if !fits {
            return Err(self.unfit(&format!("should have a number at {place:?}")));
        }
        let offset = place
            .iter()
            .zip(&self.shape)
            .fold(0, |offset, (at, size)| offset * size + at);
        Ok(&mut self.values[offset])
    }

    /// All that belongs to one index of the first dimension.
    fn row(&mut self, index: usize) -> Result<&mut [f32], AbsorbError> {
        if self.shape.first().is_none_or(|size| index >= *size) {
            return Err(self.unfit(&format!("should have an output {index}")));
        }
        let length = self.shape[1..].iter().product();
        Ok(&mut self.values[index * length..][..length])
    }

    fn unfit(&self, wanted: &str) -> AbsorbError {
        AbsorbError::Shape {
            name: self.name.clone(),
            found: self.shape.clone(),
            wanted: wanted.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tests::{file, floats};

    fn network_of(tensors: Vec<crate::onnx::Tensor>) -> Network {
        Network::read(file(Vec::new(), tensors, &[])).unwrap()
    }

    fn values(network: &mut Network, name: &str) -> Vec<f32> {
        let graph = network.graph();
        let place = graph.index()[name];
        graph.tensors[place].floats().unwrap()
    }

    /// Two channels made by a 1 × 1 convolution, a constant and one that is always 0, read by a 3 × 3.
    fn network() -> Network {
        let read: Vec<f32> = (0..18).map(|place| place as f32 * 0.37 - 3.0).collect();
        network_of(vec![
            floats("make", &[2, 1, 1, 1], &[0.01, 0.02]),
            floats("make_bias", &[2], &[226.5, -1.0]),
            floats("read", &[1, 2, 3, 3], &read),
            floats("read_bias", &[1], &[-1361.25]),
            floats("beside", &[1, 2, 1, 1], &[0.0, 0.5]),
        ])
    }

    fn absorption() -> Absorption {
        toml::from_str(
            r#"
            weights = "read"
            bias = "read_bias"
            constants = [{ channel = 0, value = 226.0, made_by_bias = "make_bias", made_as = 0 }]
            carrier = { channel = 1, made_by_weights = "make", made_by_bias = "make_bias", made_as = 1, also_read_by = ["beside"] }
            "#,
        )
        .unwrap()
    }

    /// What the 3 × 3 convolution gives for a constant picture of 2 × 2 pixels at its upper left corner.
    fn at_the_corner(network: &mut Network, input: f32) -> f64 {
        let (make, make_bias) = (values(network, "make"), values(network, "make_bias"));
        let (read, read_bias) = (values(network, "read"), values(network, "read_bias"));
        let mut sum = f64::from(read_bias[0]);
        for channel in 0..2 {
            let made = (make[channel] * input + make_bias[channel]).max(0.0);
            for tap in [4, 5, 7, 8] {
                sum += f64::from(read[channel * 9 + tap]) * f64::from(made);
            }
        }
        sum
    }

    #[test]
    fn the_network_calculates_what_it_did_also_at_the_border() {
        let mut before = network();
        let mut after = network();
        absorb(&mut after, &[absorption()]).unwrap();
        for input in [0.0, 7.5, 40.0] {
            let expected = at_the_corner(&mut before, input);
            let found = at_the_corner(&mut after, input);
            // Some taps are missing at the border, and with them a part of what their rounding lost.
            assert!((found - expected).abs() < 8.0, "{found} for {expected}");
        }
        assert_eq!(values(&mut after, "make_bias"), [0.5, 1.0]);
        assert_eq!(values(&mut after, "make"), [0.01, 0.0]);
        assert_eq!(values(&mut after, "beside"), [0.0, 0.0]);
        let carried = &values(&mut after, "read")[9..];
        assert!(
            carried
                .iter()
                .all(|weight| bf16::from_f32(*weight).to_f32() == *weight)
        );
    }

    #[test]
    fn the_whole_of_the_constant_is_given_back_away_from_the_border() {
        let mut after = network();
        absorb(&mut after, &[absorption()]).unwrap();
        let (read, bias) = (values(&mut network(), "read"), -1361.25);
        let expected = bias + 226.0 * read[..9].iter().copied().map(f64::from).sum::<f64>();
        let carried = values(&mut after, "read")[9..]
            .iter()
            .copied()
            .map(f64::from)
            .sum::<f64>();
        let found = carried + f64::from(values(&mut after, "read_bias")[0]);
        assert!((found - expected).abs() < 1e-3, "{found} for {expected}");
    }

    #[test]
    fn another_network_is_refused_with_what_it_lacks() {
        let mut other = network_of(vec![floats("make", &[2, 1, 1, 1], &[0.01, 0.02])]);
        let message = absorb(&mut other, &[absorption()]).unwrap_err().to_string();
        assert!(message.contains("`make_bias`"), "{message}");

        let mut wrong = absorption();
        wrong.carrier.channel = 2;
        let message = absorb(&mut network(), &[wrong]).unwrap_err().to_string();
        assert!(message.contains("`read` is [1, 2, 3, 3]"), "{message}");
    }
}
