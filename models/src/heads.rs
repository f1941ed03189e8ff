//! Takes heads apart: convolutions of many channels that make one.
//!
//! Kernels make 8 or 16 channels at a time, so that a head costs as much as if it made all of them: with OpenVINO in eight bits, U²-Netp's
//! largest head (64 × 320 × 320 values to one channel) is a tenth of the network. A convolution is a sum of shifted pictures, each of them
//! a weighted sum of the channels. So one convolution of 1 × 1 makes those (nine for a kernel of 3 × 3), another that has one weight
//! for each of them shifts them, and a last one adds them up: a ninth of the work.
//!
//! Invariant: the network calculates what it calculated before, but for rounding.

use crate::onnx::{FLOAT, FLOAT16, Graph, Node, Tensor};

/// Below this a head costs little.
const MIN_CHANNELS: usize = 16;

/// Takes every head of the network apart.
pub(crate) fn take_apart(graph: &mut Graph) {
    let places = graph.index();
    let mut added = Vec::new();
    let mut nodes = Vec::with_capacity(graph.nodes.len() + 2);
    for node in std::mem::take(&mut graph.nodes) {
        let place = node.inputs.get(1).and_then(|weights| places.get(weights));
        let head = place.and_then(|place| Head::of(&node, &graph.tensors[*place]));
        match head {
            Some(head) => {
                let (parts, tensors) = head.apart();
                nodes.extend(parts);
                added.extend(tensors);
            }
            None => nodes.push(node),
        }
    }
    graph.nodes = nodes;
    graph.tensors.append(&mut added);
    graph.drop_unneeded();
}

/// A convolution of many channels to one of the same height and width.
struct Head<'a> {
    node: &'a Node,
    weights: &'a Tensor,
    channels: usize,
    /// Height and width of its kernel, odd.
    side: usize,
    /// 1 as its weights are stored.
    one: Vec<u8>,
}

impl<'a> Head<'a> {
    fn of(node: &'a Node, weights: &'a Tensor) -> Option<Self> {
        let [1, channels, height, width] = weights.shape[..] else {
            return None;
        };
        let (channels, side) = (channels as usize, height as usize);
        let one = match weights.element {
            FLOAT => 1_f32.to_le_bytes().to_vec(),
            FLOAT16 => half::f16::ONE.to_le_bytes().to_vec(),
            _ => return None,
        };
        let is_one = |of: &[i64]| of.iter().all(|value| *value == 1);
        let keeps_size = node.ints("pads") == [height / 2; 4]
            && is_one(node.ints("strides"))
            && is_one(node.ints("dilations"))
            && node.int("group").is_none_or(|group| group == 1);
        let fits = node.operator == "Conv"
            && height == width
            && side % 2 == 1
            && side > 1
            && channels >= MIN_CHANNELS
            && weights.raw.len() == channels * side * side * one.len();
        (fits && keeps_size).then_some(Self {
            node,
            weights,
            channels,
            side,
            one,
        })
    }

    /// Three convolutions, and their weights.
    fn apart(&self) -> ([Node; 3], [Tensor; 3]) {
        let places = self.side * self.side;
        let base = format!("{}/apart", self.weights.name);
        let [mixing, shifting, adding, mixed, shifted] =
            ["mix", "shift", "add", "mixed", "shifted"].map(|part| format!("{base}/{part}"));
        let tensor = |name: &String, shape: &[usize], raw: Vec<u8>| {
            Tensor::new(name.clone(), shape, self.weights.element, raw)
        };
        let tensors = [
            tensor(&mixing, &[places, self.channels, 1, 1], self.mixing()),
            tensor(&shifting, &[places, 1, self.side, self.side], {
                let mut weights = vec![0; places * places * self.one.len()];
                for place in 0..places {
                    let at = (place * places + place) * self.one.len();
                    weights[at..at + self.one.len()].copy_from_slice(&self.one);
                }
                weights
            }),
            tensor(&adding, &[1, places, 1, 1], self.one.repeat(places)),
        ];
        let [input, _, bias @ ..] = &self.node.inputs[..] else {
            unreachable!("a head has weights");
        };
        let pads = [(self.side / 2) as i64; 4];
        let mut added = Node::new("Conv", &[&shifted, &adding], &self.node.outputs[0]);
        added.inputs.extend_from_slice(bias);
        let nodes = [
            Node::new("Conv", &[input, &mixing], &mixed),
            Node::new("Conv", &[&mixed, &shifting], &shifted)
                .with("group", places as i64)
                .with_ints("pads", &pads),
            added,
        ];
        (nodes, tensors)
    }

    /// The weights by places of the kernel instead of by channels.
    fn mixing(&self) -> Vec<u8> {
        let (places, width) = (self.side * self.side, self.one.len());
        let mut mixing = Vec::with_capacity(self.weights.raw.len());
        for place in 0..places {
            for channel in 0..self.channels {
                let at = (channel * places + place) * width;
                mixing.extend_from_slice(&self.weights.raw[at..at + width]);
            }
        }
        mixing
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::*;
    use crate::onnx::{
        Network,
        tests::{file, floats},
    };

    const CHANNELS: usize = 20;
    const SIDE: usize = 5;

    /// Channels, and their values over `SIDE` × `SIDE` pixels.
    type Planes = Vec<[[f32; SIDE]; SIDE]>;

    /// Some number of −1 to 1, always the same.
    fn number(seed: usize) -> f32 {
        ((seed * 7919 + 13) % 401) as f32 / 200.0 - 1.0
    }

    fn network(pads: i64) -> Network {
        let weights: Vec<f32> = (0..CHANNELS * 9).map(number).collect();
        let tensors = vec![
            floats("weights", &[1, CHANNELS, 3, 3], &weights),
            floats("bias", &[1], &[0.25]),
        ];
        let head = Node::new("Conv", &["data", "weights"], "matte").with_ints("pads", &[pads; 4]);
        let mut head = head;
        head.inputs.push("bias".into());
        Network::read(file(vec![head], tensors, &["matte"])).unwrap()
    }

    /// Runs a network of convolutions as ONNX describes the operator.
    fn run(network: &mut Network, data: &Planes) -> Planes {
        let graph = network.graph();
        let places = graph.index();
        let tensor = |name: &str| &graph.tensors[places[name]];
        let mut values = HashMap::from([("data".to_owned(), data.clone())]);
        for node in &graph.nodes {
            let input = &values[&node.inputs[0]];
            let [outputs, per_group, side, _] = tensor(&node.inputs[1]).shape[..] else {
                panic!("weights have four dimensions");
            };
            let [outputs, per_group, side] = [outputs, per_group, side].map(|value| value as usize);
            let weights = tensor(&node.inputs[1]).floats().unwrap();
            let bias = node
                .inputs
                .get(2)
                .map(|name| tensor(name).floats().unwrap());
            let groups = node.int("group").unwrap_or(1) as usize;
            let pad = node.ints("pads").first().copied().unwrap_or(0) as isize;
            let mut output: Planes = Vec::new();
            for made in 0..outputs {
                let mut plane = [[bias.as_ref().map_or(0.0, |bias| bias[made]); SIDE]; SIDE];
                let first = made / (outputs / groups) * per_group;
                for channel in 0..per_group {
                    for row in 0..side {
                        for column in 0..side {
                            let weight = weights
                                [((made * per_group + channel) * side + row) * side + column];
                            for (y, line) in plane.iter_mut().enumerate() {
                                for (x, value) in line.iter_mut().enumerate() {
                                    let at = |to: usize, by: usize| {
                                        usize::try_from(to as isize + by as isize - pad)
                                            .ok()
                                            .filter(|place| *place < SIDE)
                                    };
                                    if let (Some(y), Some(x)) = (at(y, row), at(x, column)) {
                                        *value += weight * input[first + channel][y][x];
                                    }
                                }
                            }
                        }
                    }
                }
                output.push(plane);
            }
            values.insert(node.outputs[0].clone(), output);
        }
        values.remove("matte").unwrap()
    }

    #[test]
    fn a_head_taken_apart_calculates_the_same() {
        let mut seed = 0;
        let data: Planes = (0..CHANNELS)
            .map(|_| {
                [[(); SIDE]; SIDE].map(|line| {
                    line.map(|()| {
                        seed += 1;
                        number(seed * 31)
                    })
                })
            })
            .collect();
        let mut network = network(1);
        let expected = run(&mut network, &data);
        take_apart(network.graph());
        assert_eq!(network.graph().nodes.len(), 3);
        let found = run(&mut network, &data);
        let apart = expected[0].iter().flatten().zip(found[0].iter().flatten());
        for (expected, found) in apart {
            assert!((expected - found).abs() < 1e-4, "{expected} {found}");
        }
        let largest = expected[0]
            .iter()
            .flatten()
            .fold(0_f32, |most, value| most.max(value.abs()));
        assert!(
            largest > 1.0,
            "the test's own numbers say little: {largest}"
        );
    }

    #[test]
    fn what_changes_the_size_or_makes_more_channels_stays() {
        let mut cut = network(0);
        take_apart(cut.graph());
        assert_eq!(cut.graph().nodes.len(), 1);
        let weights = floats("weights", &[2, CHANNELS, 3, 3], &[0.5; 2 * CHANNELS * 9]);
        let body = Node::new("Conv", &["data", "weights"], "matte").with_ints("pads", &[1; 4]);
        let mut body = Network::read(file(vec![body], vec![weights], &["matte"])).unwrap();
        take_apart(body.graph());
        assert_eq!(body.graph().nodes.len(), 1);
    }
}
