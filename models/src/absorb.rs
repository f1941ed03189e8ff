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

use std::{collections::HashMap, ops::Range};

use half::bf16;
use protobuf::{CodedInputStream, rt::WireType};
use serde::Deserialize;

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
    /// Not an ONNX file.
    #[error("it is no ONNX network: {0}")]
    Syntax(#[from] protobuf::Error),
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

/// Rewrites the initializers of an ONNX file in place; its length stays as it is.
///
/// # Errors
/// The file is not the network that `absorptions` were found in. It may have been changed in part then.
pub fn absorb(network: &mut [u8], absorptions: &[Absorption]) -> Result<(), AbsorbError> {
    let index = initializers(network)?;
    let mut network = Network { network, index };
    // First all that is taken off: a bias from which something is taken may be one that a carrier carries.
    for constant in absorptions.iter().flat_map(|one| &one.constants) {
        let mut bias = network.tensor(&constant.made_by_bias)?;
        *bias.at(&[constant.made_as])? -= constant.value;
        network.store(&bias);
    }
    absorptions.iter().try_for_each(|one| network.carry(one))
}

struct Network<'a> {
    network: &'a mut [u8],
    index: HashMap<String, Initializer>,
}

/// Where in the file a tensor of 32-bit floating-point numbers lies.
#[derive(Clone)]
struct Initializer {
    shape: Vec<usize>,
    bytes: Range<usize>,
}

struct Tensor {
    name: String,
    shape: Vec<usize>,
    values: Vec<f32>,
    bytes: Range<usize>,
}

impl Network<'_> {
    fn tensor(&self, name: &str) -> Result<Tensor, AbsorbError> {
        let Initializer { shape, bytes } = self
            .index
            .get(name)
            .cloned()
            .ok_or_else(|| AbsorbError::Missing(name.to_owned()))?;
        let (numbers, _) = self.network[bytes.clone()].as_chunks::<4>();
        Ok(Tensor {
            name: name.to_owned(),
            values: numbers.iter().copied().map(f32::from_le_bytes).collect(),
            shape,
            bytes,
        })
    }

    fn store(&mut self, tensor: &Tensor) {
        let (numbers, _) = self.network[tensor.bytes.clone()].as_chunks_mut::<4>();
        for (number, value) in numbers.iter_mut().zip(&tensor.values) {
            *number = value.to_le_bytes();
        }
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

/// Field numbers of `onnx.proto` (ONNX, Apache-2.0).
mod field {
    pub const MODEL_GRAPH: u32 = 7;
    pub const GRAPH_INITIALIZER: u32 = 5;
    pub const TENSOR_DIMS: u32 = 1;
    pub const TENSOR_DATA_TYPE: u32 = 2;
    pub const TENSOR_NAME: u32 = 8;
    pub const TENSOR_RAW_DATA: u32 = 9;
}

/// `TensorProto.DataType.FLOAT`.
const FLOAT: u64 = 1;

/// Where the network's tensors of 32-bit floating-point numbers are. Those kept otherwise than as raw data are left out.
fn initializers(network: &[u8]) -> Result<HashMap<String, Initializer>, protobuf::Error> {
    let mut found = HashMap::new();
    for graph in messages(network, 0..network.len(), field::MODEL_GRAPH)? {
        for tensor in messages(network, graph, field::GRAPH_INITIALIZER)? {
            if let Some((name, initializer)) = initializer(network, tensor)? {
                found.insert(name, initializer);
            }
        }
    }
    Ok(found)
}

/// Where the fields of that number are that have a length.
fn messages(
    network: &[u8],
    place: Range<usize>,
    wanted: u32,
) -> Result<Vec<Range<usize>>, protobuf::Error> {
    let mut found = Vec::new();
    let mut stream = CodedInputStream::from_bytes(&network[place.clone()]);
    while let Some((number, wire_type)) = next_field(&mut stream)? {
        if number == wanted && wire_type == WireType::LengthDelimited {
            found.push(skip_bytes(&mut stream, place.start)?);
        } else {
            stream.skip_field(wire_type)?;
        }
    }
    Ok(found)
}

fn initializer(
    network: &[u8],
    place: Range<usize>,
) -> Result<Option<(String, Initializer)>, protobuf::Error> {
    let (mut name, mut shape, mut bytes, mut is_float) = (String::new(), Vec::new(), 0..0, false);
    let mut stream = CodedInputStream::from_bytes(&network[place.clone()]);
    while let Some((number, wire_type)) = next_field(&mut stream)? {
        match (number, wire_type) {
            (field::TENSOR_DIMS, WireType::Varint) => {
                shape.push(stream.read_raw_varint64()? as usize);
            }
            (field::TENSOR_DIMS, WireType::LengthDelimited) => {
                let packed = skip_bytes(&mut stream, place.start)?;
                let mut packed = CodedInputStream::from_bytes(&network[packed]);
                while !packed.eof()? {
                    shape.push(packed.read_raw_varint64()? as usize);
                }
            }
            (field::TENSOR_DATA_TYPE, WireType::Varint) => {
                is_float = stream.read_raw_varint64()? == FLOAT;
            }
            (field::TENSOR_NAME, WireType::LengthDelimited) => name = stream.read_string()?,
            (field::TENSOR_RAW_DATA, WireType::LengthDelimited) => {
                bytes = skip_bytes(&mut stream, place.start)?;
            }
            _ => stream.skip_field(wire_type)?,
        }
    }
    let length = shape
        .iter()
        .try_fold(size_of::<f32>(), |length, size| length.checked_mul(*size));
    let is_whole = is_float && length == Some(bytes.len());
    Ok(is_whole.then_some((name, Initializer { shape, bytes })))
}

fn next_field(
    stream: &mut CodedInputStream<'_>,
) -> Result<Option<(u32, WireType)>, protobuf::Error> {
    let Some(tag) = stream.read_raw_tag_or_eof()? else {
        return Ok(None);
    };
    let wire_type = WireType::new(tag & 7).ok_or_else(|| {
        std::io::Error::new(
            std::io::ErrorKind::InvalidData,
            format!("a field of unknown kind {}", tag & 7),
        )
    })?;
    Ok(Some((tag >> 3, wire_type)))
}

/// Goes past a field with a length; answers where its content is, counted from the file's start.
fn skip_bytes(
    stream: &mut CodedInputStream<'_>,
    start: usize,
) -> Result<Range<usize>, protobuf::Error> {
    let length = stream.read_raw_varint32()?;
    let begin = start + stream.pos() as usize;
    stream.skip_raw_bytes(length)?;
    Ok(begin..begin + length as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delimited(number: u8, content: &[u8]) -> Vec<u8> {
        let mut bytes = vec![number << 3 | 2];
        let mut length = content.len();
        while length >= 0x80 {
            bytes.push(length as u8 | 0x80);
            length >>= 7;
        }
        bytes.push(length as u8);
        bytes.extend(content);
        bytes
    }

    fn tensor(name: &str, shape: &[u8], values: &[f32]) -> Vec<u8> {
        let raw: Vec<u8> = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        let mut bytes: Vec<u8> = shape.iter().flat_map(|size| [1 << 3, *size]).collect();
        bytes.extend([2 << 3, 1]);
        bytes.extend(delimited(8, name.as_bytes()));
        bytes.extend(delimited(9, &raw));
        delimited(5, &bytes)
    }

    fn values(network: &mut [u8], name: &str) -> Vec<f32> {
        let index = initializers(network).unwrap();
        Network { network, index }.tensor(name).unwrap().values
    }

    /// Two channels made by a 1 × 1 convolution, a constant and one that is always 0, read by a 3 × 3.
    fn network() -> Vec<u8> {
        let read: Vec<f32> = (0..18).map(|place| place as f32 * 0.37 - 3.0).collect();
        let graph = [
            tensor("make", &[2, 1, 1, 1], &[0.01, 0.02]),
            tensor("make_bias", &[2], &[226.5, -1.0]),
            tensor("read", &[1, 2, 3, 3], &read),
            tensor("read_bias", &[1], &[-1361.25]),
            tensor("beside", &[1, 2, 1, 1], &[0.0, 0.5]),
        ];
        delimited(7, &graph.concat())
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
    fn at_the_corner(network: &mut [u8], input: f32) -> f64 {
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
        assert_eq!(before.len(), after.len());
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
        let mut other = delimited(7, &tensor("make", &[2, 1, 1, 1], &[0.01, 0.02]));
        let message = absorb(&mut other, &[absorption()]).unwrap_err().to_string();
        assert!(message.contains("`make_bias`"), "{message}");

        let mut wrong = absorption();
        wrong.carrier.channel = 2;
        let message = absorb(&mut network(), &[wrong]).unwrap_err().to_string();
        assert!(message.contains("`read` is [1, 2, 3, 3]"), "{message}");

        let mut cut = network();
        cut.truncate(40);
        let message = absorb(&mut cut, &[absorption()]).unwrap_err().to_string();
        assert!(message.contains("no ONNX network"), "{message}");
    }
}
