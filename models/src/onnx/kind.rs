//! What an input or an output is: its element and its dimensions, of which the first is how many pictures one run takes.

use ort::value::TensorElementType;
use prost::Message;

use super::{
    FLOAT, Graph, Network, Node, OperatorSet, Port, PortKind, RewriteError, STRUCTURE, Value,
};

/// What a first dimension that was freed is called: as in no published file, so that it can be told from theirs.
pub(crate) const BATCH: &str = "pictures_a_run";

/// `TypeProto`, of tensors: what a network for inference takes and gives.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Kind {
    #[prost(message, optional, tag = "1")]
    tensor: Option<TensorKind>,
    #[prost(string, tag = "6")]
    denotation: String,
}

/// `TypeProto.Tensor`.
#[derive(Clone, PartialEq, Message)]
struct TensorKind {
    #[prost(int32, tag = "1")]
    element: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<Shape>,
}

/// `TensorShapeProto`.
#[derive(Clone, PartialEq, Message)]
struct Shape {
    #[prost(message, repeated, tag = "1")]
    dimensions: Vec<Dimension>,
}

/// `TensorShapeProto.Dimension`: a size, or the name of one that is not known before a run, or neither.
#[derive(Clone, PartialEq, Message)]
struct Dimension {
    #[prost(int64, optional, tag = "1")]
    size: Option<i64>,
    #[prost(string, optional, tag = "2")]
    name: Option<String>,
    #[prost(string, tag = "3")]
    denotation: String,
}

impl Value {
    /// Floating-point numbers of these dimensions; −1 is one that is not known before a run.
    pub(super) fn floats(name: &str, sizes: &[i64]) -> Self {
        let dimension = |size: &i64| Dimension {
            size: (*size >= 0).then_some(*size),
            ..Dimension::default()
        };
        let shape = Shape {
            dimensions: sizes.iter().map(dimension).collect(),
        };
        Self {
            name: name.to_owned(),
            kind: Some(Kind {
                tensor: Some(TensorKind {
                    element: FLOAT,
                    shape: Some(shape),
                }),
                ..Kind::default()
            }),
        }
    }

    /// Its name and what it is, as far as the file says it.
    pub(super) fn port(&self) -> Port {
        let tensor = |tensor: &TensorKind| {
            let sizes = tensor.shape.as_ref().map(|shape| {
                let dimensions = shape.dimensions.iter();
                dimensions
                    .map(|dimension| dimension.size.unwrap_or(-1))
                    .collect()
            });
            PortKind::Tensor(element(tensor.element), sizes)
        };
        let kind = match &self.kind {
            None => PortKind::Unsaid,
            Some(kind) => kind.tensor.as_ref().map_or(PortKind::NoTensor, tensor),
        };
        Port {
            name: self.name.clone(),
            kind,
        }
    }

    fn batch(&mut self) -> Option<&mut Dimension> {
        let shape = self.kind.as_mut()?.tensor.as_mut()?.shape.as_mut()?;
        shape.dimensions.first_mut()
    }

    /// Frees its first dimension; `false` where that is not 1.
    fn free_batch(&mut self) -> bool {
        match self.batch() {
            Some(batch) if batch.size == Some(1) => {
                batch.size = None;
                batch.name = Some(BATCH.to_owned());
                true
            }
            _ => false,
        }
    }
}

/// `TensorProto.DataType`, of numbers that networks are given.
fn element(code: i32) -> TensorElementType {
    use TensorElementType as Element;
    match code {
        1 => Element::Float32,
        2 => Element::Uint8,
        3 => Element::Int8,
        4 => Element::Uint16,
        5 => Element::Int16,
        6 => Element::Int32,
        7 => Element::Int64,
        8 => Element::String,
        9 => Element::Bool,
        10 => Element::Float16,
        11 => Element::Float64,
        12 => Element::Uint32,
        13 => Element::Uint64,
        16 => Element::Bfloat16,
        _ => Element::Undefined,
    }
}

impl Network {
    /// Lets it take any number of pictures where it takes one. Whether it gives the same then is to be tried: a network may fold
    /// that dimension into another.
    ///
    /// # Errors
    /// An input's first dimension is not 1.
    pub fn free_batch(&mut self) -> Result<(), RewriteError> {
        let graph = self.graph();
        let tensors = graph.index();
        let is_given = |value: &&mut Value| !tensors.contains_key(&value.name);
        for input in graph.inputs.iter_mut().filter(is_given) {
            if !input.free_batch() {
                return Err(RewriteError::Batch(input.name.clone()));
            }
        }
        for output in &mut graph.outputs {
            // One whose dimensions are not known needs no other.
            output.free_batch();
        }
        Ok(())
    }

    /// A network of one number, which it gives back where it is above zero.
    pub(crate) fn least() -> Self {
        Self {
            structure: STRUCTURE,
            graph: Some(Graph {
                name: "least".to_owned(),
                nodes: vec![Node::new("Relu", &["given"], "found")],
                inputs: vec![Value::floats("given", &[1])],
                outputs: vec![Value::floats("found", &[1])],
                ..Graph::default()
            }),
            operators: vec![OperatorSet {
                domain: String::new(),
                version: super::OPERATORS_BY_CHANNEL,
            }],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One convolution, whose weights are listed among the inputs as old exports do.
    fn network(input: &[i64], output: &[i64]) -> Network {
        let weights = super::super::tests::floats("weights", &[1, 1, 1, 1], &[2.0]);
        let mut network = Network::least();
        let graph = network.graph();
        graph.nodes = vec![Node::new("Conv", &["given", "weights"], "found")];
        graph.tensors = vec![weights];
        graph.inputs = vec![
            Value::floats("given", input),
            Value::floats("weights", &[1, 1, 1, 1]),
        ];
        graph.outputs = vec![Value::floats("found", output)];
        network
    }

    fn batches(network: &mut Network) -> Vec<Option<String>> {
        let graph = network.graph();
        let values = graph.inputs.iter_mut().chain(&mut graph.outputs);
        values.map(|value| value.batch()?.name.clone()).collect()
    }

    #[test]
    fn inputs_and_outputs_are_freed_and_weights_are_not() {
        let mut freed = network(&[1, 1, 8, 8], &[1, 1, 8, 8]);
        freed.free_batch().unwrap();
        let mut read = Network::read(freed.write()).unwrap();
        assert_eq!(read, freed);
        let named = Some(BATCH.to_owned());
        assert_eq!(batches(&mut read), [named.clone(), None, named]);
        let first = read.graph().inputs[0].kind.clone().unwrap();
        let sizes = first.tensor.unwrap().shape.unwrap().dimensions;
        let sizes: Vec<_> = sizes.iter().map(|dimension| dimension.size).collect();
        assert_eq!(sizes, [None, Some(1), Some(8), Some(8)]);
    }

    #[test]
    fn what_takes_several_already_is_refused_and_an_unknown_output_stays() {
        let error = network(&[2, 1, 8, 8], &[2, 1, 8, 8]).free_batch();
        assert_eq!(
            error.unwrap_err().to_string(),
            "its input `given` takes something else than one picture a run"
        );
        let mut unknown = network(&[1, 1, 8, 8], &[]);
        unknown.free_batch().unwrap();
        assert_eq!(batches(&mut unknown)[2], None);
    }
}
