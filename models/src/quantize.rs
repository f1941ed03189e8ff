//! Lets convolutions calculate in eight bits.
//!
//! OpenVINO runs a convolution in eight bits where its data and its weights have been brought to eight bits and back
//! before it. `quantize/calibrate.py` finds how large the data of every convolution get over photographs, and which
//! convolutions bear it; the weights, one scale for each output channel, are quantised when the network is opened, so
//! that no second file of weights is needed.
//!
//! Invariant: a network that is not the one which was calibrated is refused, with what it lacks.

use std::collections::HashMap;

use serde::Deserialize;

use crate::onnx::{FLOAT, INT8, Network, Node, RewriteError, Tensor, UINT8};

/// What `quantize/calibrate.py` found of one network.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Calibration {
    /// Those that calculate in eight bits.
    pub convolutions: Vec<Convolution>,
}

/// A convolution, by the name of its weights.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Convolution {
    /// The name of its weights.
    pub weights: String,
    /// What its data are cut off at, by magnitude.
    pub limit: f32,
    /// Whether its data are below zero too.
    #[serde(default)]
    pub signed: bool,
}

impl Calibration {
    /// The stored one of a model of the catalogue; `None` where it stays in floating point.
    ///
    /// # Errors
    /// It does not parse: a defect of the build.
    pub fn of(model: &str) -> Result<Option<Self>, serde_json::Error> {
        let text = match model {
            "u2netp" => include_str!("../quantize/u2netp.json"),
            "u2net" => include_str!("../quantize/u2net.json"),
            "isnet-general-use" => include_str!("../quantize/isnet-general-use.json"),
            _ => return Ok(None),
        };
        serde_json::from_str(text).map(Some)
    }
}

/// Rewrites the convolutions of `calibration` to calculate in eight bits.
///
/// # Errors
/// The network is not the one that was calibrated.
pub(crate) fn quantize(
    network: &mut Network,
    calibration: &Calibration,
) -> Result<(), RewriteError> {
    network.widen()?;
    network.raise_operators();
    let graph = network.graph();
    let tensors = graph.index();
    let mut wanted: HashMap<&str, &Convolution> = calibration
        .convolutions
        .iter()
        .map(|convolution| (convolution.weights.as_str(), convolution))
        .collect();
    let mut added = Added::default();
    let mut nodes = Vec::with_capacity(graph.nodes.len() * 2);
    for mut node in std::mem::take(&mut graph.nodes) {
        let found = match node.inputs.get(1) {
            Some(weights) if node.operator == "Conv" => wanted.remove(weights.as_str()),
            _ => None,
        };
        if let Some(convolution) = found {
            let place = tensors.get(&convolution.weights);
            let missing = || RewriteError::NoConvolution(convolution.weights.clone());
            let weights = &graph.tensors[*place.ok_or_else(missing)?];
            node.inputs[0] = added.data(&mut nodes, &node.inputs[0], convolution);
            node.inputs[1] = added.weights(&mut nodes, weights)?;
        }
        nodes.push(node);
    }
    if let Some(name) = wanted.into_keys().min() {
        return Err(RewriteError::NoConvolution(name.to_owned()));
    }
    graph.nodes = nodes;
    graph.tensors.append(&mut added.tensors);
    graph.drop_unneeded();
    Ok(())
}

/// What is put into the network.
#[derive(Default)]
struct Added {
    tensors: Vec<Tensor>,
    /// What was quantised already, by its name and the bits of its scale.
    data: HashMap<(String, u32), String>,
}

impl Added {
    /// Brings data to eight bits and back; answers with the name of the result.
    fn data(&mut self, nodes: &mut Vec<Node>, name: &str, convolution: &Convolution) -> String {
        let (element, levels) = if convolution.signed {
            (INT8, 127.0)
        } else {
            (UINT8, 255.0)
        };
        let scale = convolution.limit / levels;
        let key = (name.to_owned(), scale.to_bits());
        if let Some(done) = self.data.get(&key) {
            return done.clone();
        }
        let base = format!("{name}/in_eight_bits/{}", self.data.len());
        let [scale_name, zero, bytes, result] =
            ["scale", "zero", "bytes", "values"].map(|part| format!("{base}/{part}"));
        let scale = scale.to_le_bytes().to_vec();
        self.tensors
            .push(Tensor::new(scale_name.clone(), &[], FLOAT, scale));
        self.tensors
            .push(Tensor::new(zero.clone(), &[], element, vec![0]));
        nodes.push(Node::new(
            "QuantizeLinear",
            &[name, &scale_name, &zero],
            &bytes,
        ));
        nodes.push(Node::new(
            "DequantizeLinear",
            &[&bytes, &scale_name, &zero],
            &result,
        ));
        self.data.insert(key, result.clone());
        result
    }

    /// Brings weights to eight bits; answers with the name of what they are in floating point then.
    fn weights(&mut self, nodes: &mut Vec<Node>, tensor: &Tensor) -> Result<String, RewriteError> {
        let values = tensor.floats()?;
        let outputs = tensor.shape.first().copied().unwrap_or(0) as usize;
        if tensor.shape.len() != 4 || outputs == 0 || values.is_empty() {
            return Err(RewriteError::Tensor {
                name: tensor.name.clone(),
                wanted: "have four dimensions, none of them 0",
            });
        }
        let (mut bytes, mut scales) = (Vec::with_capacity(values.len()), Vec::new());
        for row in values.chunks_exact(values.len() / outputs) {
            let largest = row.iter().fold(0_f32, |most, value| most.max(value.abs()));
            let scale = if largest > 0.0 { largest / 127.0 } else { 1.0 };
            scales.extend(scale.to_le_bytes());
            let level = |value: &f32| (value / scale).round_ties_even().clamp(-127.0, 127.0) as i8;
            bytes.extend(row.iter().map(|value| level(value).to_le_bytes()[0]));
        }
        let base = format!("{}/in_eight_bits", tensor.name);
        let [scale, zero, levels, result] =
            ["scale", "zero", "levels", "values"].map(|part| format!("{base}/{part}"));
        let shape: Vec<usize> = tensor.shape.iter().map(|side| *side as usize).collect();
        self.tensors.extend([
            Tensor::new(levels.clone(), &shape, INT8, bytes),
            Tensor::new(scale.clone(), &[outputs], FLOAT, scales),
            Tensor::new(zero.clone(), &[outputs], INT8, vec![0; outputs]),
        ]);
        let inputs = [levels.as_str(), &scale, &zero];
        nodes.push(Node::new("DequantizeLinear", &inputs, &result).with("axis", 0));
        Ok(result)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::onnx::tests::{file, floats};

    fn network() -> Network {
        let nodes = vec![
            Node::new("Conv", &["picture", "first"], "features"),
            Node::new("Conv", &["features", "left"], "one"),
            Node::new("Conv", &["features", "right"], "two"),
            Node::new("Add", &["one", "two"], "matte"),
        ];
        let tensors = vec![
            floats("first", &[1, 1, 1, 1], &[3.0]),
            floats("left", &[2, 1, 1, 2], &[0.5, -2.0, 0.0, 0.0]),
            floats("right", &[1, 1, 1, 2], &[0.25, 0.5]),
        ];
        Network::read(file(nodes, tensors, &["matte"])).unwrap()
    }

    fn calibration(names: &[&str]) -> Calibration {
        let convolution = |name: &&str| Convolution {
            weights: (*name).to_owned(),
            limit: 51.0,
            signed: false,
        };
        Calibration {
            convolutions: names.iter().map(convolution).collect(),
        }
    }

    fn tensor<'a>(network: &'a mut Network, name: &str) -> &'a Tensor {
        let graph = network.graph();
        let found = graph.tensors.iter().find(|tensor| tensor.name == name);
        found.unwrap_or_else(|| panic!("no tensor {name}"))
    }

    #[test]
    fn weights_have_a_scale_for_each_output_and_data_are_quantised_once() {
        let mut network = network();
        quantize(&mut network, &calibration(&["left", "right"])).unwrap();
        let levels = &tensor(&mut network, "left/in_eight_bits/levels").raw;
        assert_eq!(levels.as_ref(), [32, 129, 0, 0], "32 and -127");
        let scales = tensor(&mut network, "left/in_eight_bits/scale").floats();
        assert_eq!(scales.unwrap(), [2.0 / 127.0, 1.0]);
        let scale = tensor(&mut network, "features/in_eight_bits/0/scale").floats();
        assert_eq!(scale.unwrap(), [0.2]);
        let operators: Vec<_> = network
            .graph()
            .nodes
            .iter()
            .map(|node| node.operator.clone())
            .collect();
        let quantisations = operators.iter().filter(|name| *name == "QuantizeLinear");
        assert_eq!(quantisations.count(), 1, "{operators:?}");
        // The first is left alone, and the weights in floating point are gone.
        assert_eq!(network.graph().nodes[0].inputs, ["picture", "first"]);
        assert!(!network.graph().index().contains_key("left"));
    }

    #[test]
    fn another_network_is_refused_with_what_it_lacks() {
        let error = quantize(&mut network(), &calibration(&["left", "wrong"])).unwrap_err();
        assert_eq!(
            error.to_string(),
            "it has no convolution with the weights `wrong`"
        );
    }

    #[test]
    fn what_is_stored_parses_and_other_models_have_none() {
        for model in ["u2netp", "u2net", "isnet-general-use"] {
            let calibration = Calibration::of(model).unwrap().unwrap();
            assert!(calibration.convolutions.len() > 90, "{model}");
            let limits = calibration.convolutions.iter().map(|one| one.limit);
            assert!(limits.into_iter().all(|limit| limit > 0.0), "{model}");
        }
        assert!(Calibration::of("silueta").unwrap().is_none());
    }
}
