//! An ONNX file as a tree that can be rewritten: its operators, its tensors, and what is needed of it.
//!
//! Only the fields that networks for inference have are read (`onnx.proto`, ONNX, Apache-2.0); what describes types and
//! places within the network is left out, because ONNX Runtime finds it again.
//!
//! Invariant: what `keep_outputs` and `widen` leave calculates what was calculated before.

mod header;
mod kind;

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use half::f16;
use prost::Message;

use kind::Kind;

pub(crate) use header::{Port, PortKind, Ports};
pub(crate) use kind::BATCH;

/// `TensorProto.DataType.FLOAT`.
pub(crate) const FLOAT: i32 = 1;
/// `TensorProto.DataType.UINT8`.
pub(crate) const UINT8: i32 = 2;
/// `TensorProto.DataType.INT8`.
pub(crate) const INT8: i32 = 3;
const INT64: i32 = 7;
/// `TensorProto.DataType.FLOAT16`.
pub(crate) const FLOAT16: i32 = 10;

/// `AttributeProto.AttributeType.INT`.
const ATTRIBUTE_INT: i32 = 2;
/// `AttributeProto.AttributeType.INTS`.
const ATTRIBUTE_INTS: i32 = 7;

/// The version of the operators from which on a tensor can be quantised by channels.
const OPERATORS_BY_CHANNEL: i64 = 13;

/// The version of the file's own structure that goes with them.
const STRUCTURE: i64 = 7;

/// Why a file is not rewritten.
#[derive(Debug, thiserror::Error)]
pub enum RewriteError {
    /// Not an ONNX file.
    #[error("it is no ONNX network: {0}")]
    Syntax(#[from] prost::DecodeError),
    /// The file holds no graph.
    #[error("it holds no graph")]
    NoGraph,
    /// Lacks an output.
    #[error("it has no output `{0}`")]
    NoOutput(String),
    /// A tensor that is kept in another way, or is another one.
    #[error("its tensor `{name}` should {wanted}")]
    Tensor {
        /// Which one.
        name: String,
        /// What it should be.
        wanted: &'static str,
    },
    /// Lacks a convolution.
    #[error("it has no convolution with the weights `{0}`")]
    NoConvolution(String),
    /// An input whose first dimension is not 1.
    #[error("its input `{0}` takes something else than one picture a run")]
    Batch(String),
}

/// A network: `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub struct Network {
    #[prost(int64, tag = "1")]
    structure: i64,
    #[prost(message, optional, tag = "7")]
    graph: Option<Graph>,
    #[prost(message, repeated, tag = "8")]
    operators: Vec<OperatorSet>,
}

/// `OperatorSetIdProto`.
#[derive(Clone, PartialEq, Message)]
struct OperatorSet {
    #[prost(string, tag = "1")]
    domain: String,
    #[prost(int64, tag = "2")]
    version: i64,
}

/// `GraphProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Graph {
    #[prost(message, repeated, tag = "1")]
    pub nodes: Vec<Node>,
    #[prost(string, tag = "2")]
    name: String,
    #[prost(message, repeated, tag = "5")]
    pub tensors: Vec<Tensor>,
    #[prost(message, repeated, tag = "11")]
    inputs: Vec<Value>,
    #[prost(message, repeated, tag = "12")]
    outputs: Vec<Value>,
}

/// `ValueInfoProto`.
#[derive(Clone, PartialEq, Message)]
struct Value {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, optional, tag = "2")]
    kind: Option<Kind>,
}

/// `NodeProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Node {
    #[prost(string, repeated, tag = "1")]
    pub inputs: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    pub outputs: Vec<String>,
    #[prost(string, tag = "3")]
    name: String,
    #[prost(string, tag = "4")]
    pub operator: String,
    #[prost(message, repeated, tag = "5")]
    attributes: Vec<Attribute>,
    #[prost(string, tag = "7")]
    domain: String,
}

/// `AttributeProto`.
#[derive(Clone, PartialEq, Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(float, tag = "2")]
    float: f32,
    #[prost(int64, tag = "3")]
    int: i64,
    #[prost(bytes = "bytes", tag = "4")]
    text: Bytes,
    #[prost(message, optional, tag = "5")]
    tensor: Option<Tensor>,
    #[prost(float, repeated, tag = "7")]
    floats: Vec<f32>,
    #[prost(int64, repeated, tag = "8")]
    ints: Vec<i64>,
    #[prost(bytes = "bytes", repeated, tag = "9")]
    texts: Vec<Bytes>,
    #[prost(int32, tag = "20")]
    kind: i32,
}

/// `TensorProto`.
#[derive(Clone, PartialEq, Message)]
pub(crate) struct Tensor {
    #[prost(int64, repeated, tag = "1")]
    pub shape: Vec<i64>,
    #[prost(int32, tag = "2")]
    pub element: i32,
    #[prost(float, repeated, tag = "4")]
    floats: Vec<f32>,
    #[prost(int32, repeated, tag = "5")]
    ints_32: Vec<i32>,
    #[prost(int64, repeated, tag = "7")]
    ints_64: Vec<i64>,
    #[prost(string, tag = "8")]
    pub name: String,
    #[prost(bytes = "bytes", tag = "9")]
    pub raw: Bytes,
}

impl Network {
    /// Reads a file's content.
    ///
    /// # Errors
    /// It is no ONNX network.
    pub fn read(file: Vec<u8>) -> Result<Self, RewriteError> {
        let network = Self::decode(Bytes::from(file))?;
        if network.graph.is_none() {
            return Err(RewriteError::NoGraph);
        }
        Ok(network)
    }

    /// The file's content.
    pub fn write(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Its operators and tensors.
    pub(crate) fn graph(&mut self) -> &mut Graph {
        self.graph.get_or_insert_default()
    }

    /// Takes away all outputs but these, `None` being the first, and what only the others need: networks trained with
    /// supervision at several depths still have all of their heads.
    ///
    /// # Errors
    /// It has no such output.
    pub(crate) fn keep_outputs(&mut self, wanted: &[Option<&str>]) -> Result<(), RewriteError> {
        let graph = self.graph();
        let mut kept = Vec::new();
        for name in wanted {
            let found = match name {
                Some(name) => graph.outputs.iter().find(|output| output.name == *name),
                None => graph.outputs.first(),
            };
            let missing = || RewriteError::NoOutput(name.unwrap_or("at all").to_owned());
            kept.push(found.ok_or_else(missing)?.clone());
        }
        graph.outputs = kept;
        graph.drop_unneeded();
        Ok(())
    }

    /// Makes 16-bit floating-point numbers 32-bit ones.
    ///
    /// # Errors
    /// Some are not kept as raw data.
    pub(crate) fn widen(&mut self) -> Result<(), RewriteError> {
        let graph = self.graph();
        graph.tensors.iter_mut().try_for_each(Tensor::widen)?;
        for node in &mut graph.nodes {
            for attribute in &mut node.attributes {
                if let Some(tensor) = &mut attribute.tensor {
                    tensor.widen()?;
                }
                let is_target = node.operator == "Cast" && attribute.name == "to";
                if is_target && attribute.int == i64::from(FLOAT16) {
                    attribute.int = i64::from(FLOAT);
                }
            }
        }
        Ok(())
    }

    /// Raises the version of the operators to the first that quantises by channels. Of those that the networks of the
    /// catalogue have, only `Unsqueeze` looked otherwise before.
    pub(crate) fn raise_operators(&mut self) {
        let is_old =
            |set: &&mut OperatorSet| set.domain.is_empty() && set.version < OPERATORS_BY_CHANNEL;
        let Some(set) = self.operators.iter_mut().find(is_old) else {
            return;
        };
        set.version = OPERATORS_BY_CHANNEL;
        self.structure = self.structure.max(STRUCTURE);
        let graph = self.graph();
        let mut axes = Vec::new();
        for node in &mut graph.nodes {
            if node.operator != "Unsqueeze" {
                continue;
            }
            for attribute in std::mem::take(&mut node.attributes) {
                let name = format!("atelier/axes/{}", axes.len());
                node.inputs.push(name.clone());
                let raw = attribute.ints.iter().flat_map(|axis| axis.to_le_bytes());
                let raw: Vec<u8> = raw.collect();
                axes.push(Tensor::new(name, &[attribute.ints.len()], INT64, raw));
            }
        }
        graph.tensors.append(&mut axes);
    }
}

impl Graph {
    /// Where each tensor is in [`Graph::tensors`].
    pub fn index(&self) -> HashMap<String, usize> {
        let names = self.tensors.iter().map(|tensor| tensor.name.clone());
        names.zip(0..).collect()
    }

    /// Takes away the operators that no output needs, and the tensors that no operator needs.
    pub fn drop_unneeded(&mut self) {
        let mut makers: HashMap<&str, usize> = HashMap::new();
        for (place, node) in self.nodes.iter().enumerate() {
            makers.extend(node.outputs.iter().map(|name| (name.as_str(), place)));
        }
        let mut needed = vec![false; self.nodes.len()];
        let mut open: Vec<&str> = self
            .outputs
            .iter()
            .map(|output| output.name.as_str())
            .collect();
        let mut names: HashSet<&str> = open.iter().copied().collect();
        while let Some(name) = open.pop() {
            let Some(place) = makers.get(name) else {
                continue;
            };
            if !std::mem::replace(&mut needed[*place], true) {
                let inputs = self.nodes[*place].inputs.iter().map(String::as_str);
                open.extend(inputs.clone());
                names.extend(inputs);
            }
        }
        self.tensors
            .retain(|tensor| names.contains(tensor.name.as_str()));
        let mut needed = needed.into_iter();
        self.nodes.retain(|_| needed.next().unwrap_or(false));
    }
}

impl Node {
    /// An operator with one output.
    pub fn new(operator: &str, inputs: &[&str], output: &str) -> Self {
        Self {
            operator: operator.to_owned(),
            inputs: inputs.iter().map(|name| (*name).to_owned()).collect(),
            outputs: vec![output.to_owned()],
            ..Self::default()
        }
    }

    /// The same with a whole number for an attribute.
    #[must_use]
    pub fn with(mut self, attribute: &str, value: i64) -> Self {
        self.attributes.push(Attribute {
            name: attribute.to_owned(),
            int: value,
            kind: ATTRIBUTE_INT,
            ..Attribute::default()
        });
        self
    }

    /// The same with whole numbers for an attribute.
    #[must_use]
    pub fn with_ints(mut self, attribute: &str, values: &[i64]) -> Self {
        self.attributes.push(Attribute {
            name: attribute.to_owned(),
            ints: values.to_vec(),
            kind: ATTRIBUTE_INTS,
            ..Attribute::default()
        });
        self
    }

    /// An attribute that is a whole number.
    pub fn int(&self, attribute: &str) -> Option<i64> {
        self.attribute(attribute).map(|found| found.int)
    }

    /// An attribute that is whole numbers; none where it is not given.
    pub fn ints(&self, attribute: &str) -> &[i64] {
        self.attribute(attribute).map_or(&[], |found| &found.ints)
    }

    fn attribute(&self, name: &str) -> Option<&Attribute> {
        self.attributes
            .iter()
            .find(|attribute| attribute.name == name)
    }
}

impl Tensor {
    /// A tensor of raw data.
    pub fn new(name: String, shape: &[usize], element: i32, raw: Vec<u8>) -> Self {
        Self {
            name,
            shape: shape.iter().map(|side| *side as i64).collect(),
            element,
            raw: raw.into(),
            ..Self::default()
        }
    }

    /// Its 32-bit floating-point numbers.
    ///
    /// # Errors
    /// It holds others, or holds them otherwise than as raw data.
    pub fn floats(&self) -> Result<Vec<f32>, RewriteError> {
        let length: i64 = self.shape.iter().product();
        let (numbers, rest) = self.raw.as_chunks::<4>();
        if self.element != FLOAT || numbers.len() as i64 != length || !rest.is_empty() {
            return Err(RewriteError::Tensor {
                name: self.name.clone(),
                wanted: "hold 32-bit floating-point numbers as raw data",
            });
        }
        Ok(numbers.iter().copied().map(f32::from_le_bytes).collect())
    }

    fn widen(&mut self) -> Result<(), RewriteError> {
        if self.element != FLOAT16 {
            return Ok(());
        }
        let length: i64 = self.shape.iter().product();
        let (numbers, _) = self.raw.as_chunks::<2>();
        if numbers.len() as i64 != length {
            return Err(RewriteError::Tensor {
                name: self.name.clone(),
                wanted: "hold its 16-bit floating-point numbers as raw data",
            });
        }
        let wide = numbers
            .iter()
            .map(|number| f16::from_le_bytes(*number).to_f32());
        let wide: Vec<u8> = wide.flat_map(f32::to_le_bytes).collect();
        self.raw = wide.into();
        self.element = FLOAT;
        Ok(())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A file with these operators and tensors, and one output of that name each.
    pub(crate) fn file(nodes: Vec<Node>, tensors: Vec<Tensor>, outputs: &[&str]) -> Vec<u8> {
        let outputs = outputs.iter().map(|name| Value {
            name: (*name).to_owned(),
            kind: None,
        });
        Network {
            structure: 6,
            graph: Some(Graph {
                nodes,
                tensors,
                outputs: outputs.collect(),
                ..Graph::default()
            }),
            operators: vec![OperatorSet {
                domain: String::new(),
                version: 11,
            }],
        }
        .write()
    }

    pub(crate) fn floats(name: &str, shape: &[usize], values: &[f32]) -> Tensor {
        let raw = values
            .iter()
            .flat_map(|value| value.to_le_bytes())
            .collect();
        Tensor::new(name.to_owned(), shape, FLOAT, raw)
    }

    fn two_heads() -> Vec<u8> {
        let nodes = vec![
            Node::new("Conv", &["picture", "body"], "features"),
            Node::new("Conv", &["features", "head"], "matte"),
            Node::new("Conv", &["features", "other_head"], "other"),
        ];
        let tensors = ["body", "head", "other_head"].map(|name| floats(name, &[1], &[1.0]));
        file(nodes, tensors.into(), &["matte", "other"])
    }

    #[test]
    fn what_only_other_outputs_need_goes() {
        for wanted in [None, Some("matte")] {
            let mut network = Network::read(two_heads()).unwrap();
            network.keep_outputs(&[wanted]).unwrap();
            let mut read = Network::read(network.write()).unwrap();
            let graph = read.graph();
            let names: Vec<_> = graph.tensors.iter().map(|tensor| &tensor.name).collect();
            assert_eq!(names, ["body", "head"]);
            assert_eq!((graph.nodes.len(), graph.outputs.len()), (2, 1));
        }
        let mut network = Network::read(two_heads()).unwrap();
        let error = network.keep_outputs(&[Some("alpha")]).unwrap_err();
        assert_eq!(error.to_string(), "it has no output `alpha`");
    }

    #[test]
    fn half_precision_becomes_single() {
        let halves = [0.5_f32, -2.0, 65504.0];
        let raw = halves
            .iter()
            .flat_map(|value| f16::from_f32(*value).to_le_bytes())
            .collect();
        let tensor = Tensor::new("halves".into(), &[3], FLOAT16, raw);
        let cast = Node::new("Cast", &["halves"], "out").with("to", i64::from(FLOAT16));
        let mut network = Network::read(file(vec![cast], vec![tensor], &["out"])).unwrap();
        network.widen().unwrap();
        assert_eq!(network.graph().tensors[0].floats().unwrap(), halves);
        assert_eq!(network.graph().nodes[0].attributes[0].int, i64::from(FLOAT));
    }

    #[test]
    fn axes_become_an_input_where_operators_are_raised() {
        let mut unsqueeze = Node::new("Unsqueeze", &["in"], "out");
        unsqueeze.attributes.push(Attribute {
            name: "axes".into(),
            ints: vec![0],
            kind: ATTRIBUTE_INTS,
            ..Attribute::default()
        });
        let mut network = Network::read(file(vec![unsqueeze], Vec::new(), &["out"])).unwrap();
        network.raise_operators();
        assert_eq!(network.operators[0].version, 13);
        let graph = network.graph();
        assert_eq!(graph.nodes[0].inputs, ["in", "atelier/axes/0"]);
        assert_eq!(graph.tensors[0].raw.as_ref(), 0_i64.to_le_bytes());
    }

    #[test]
    fn what_is_no_network_is_refused() {
        assert!(matches!(
            Network::read(b"no network at all".to_vec()),
            Err(RewriteError::Syntax(_) | RewriteError::NoGraph)
        ));
        assert!(matches!(
            Network::read(Vec::new()),
            Err(RewriteError::NoGraph)
        ));
    }
}
