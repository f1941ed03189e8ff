//! What goes into the network of a file and what comes out, read without its weights: 170 MB take a few milliseconds.
//!
//! The file is protocol buffers: fields that say how long they are, so that those that are not wanted are passed over.

use std::{
    collections::HashSet,
    io::{self, BufReader, Read, Seek, SeekFrom},
};

use ort::value::TensorElementType;
use prost::Message as _;

use super::Value;

/// The fields of `ModelProto`, `GraphProto` and `TensorProto` that are read.
const MODEL_GRAPH: u64 = 7;
const GRAPH_TENSOR: u64 = 5;
const GRAPH_INPUT: u64 = 11;
const GRAPH_OUTPUT: u64 = 12;
const TENSOR_NAME: u64 = 8;

/// A name, or what an input is, takes no more bytes than this.
const MOST_BYTES: u64 = 1 << 16;

/// An input or an output of a network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Port {
    pub name: String,
    pub kind: PortKind,
}

/// What goes in or comes out there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum PortKind {
    /// Numbers of one kind. −1 is a dimension that is not known before a run; `None` is where nothing is said of them.
    Tensor(TensorElementType, Option<Vec<i64>>),
    /// Something else.
    NoTensor,
    /// The file does not say it.
    Unsaid,
}

/// What goes into a network and what comes out, in the file's order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ports {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
}

impl Ports {
    /// Reads those of an ONNX file.
    ///
    /// # Errors
    /// It cannot be read, or is no ONNX file, or ends too early.
    pub fn read(mut file: impl Read + Seek) -> io::Result<Self> {
        let length = file.seek(SeekFrom::End(0))?;
        file.rewind()?;
        let mut fields = Fields {
            reader: BufReader::new(file),
            at: 0,
        };
        let mut ports = None;
        while let Some((field, end)) = fields.next(length)? {
            if field == MODEL_GRAPH {
                ports = Some(Self::of_graph(&mut fields, end)?);
            }
            fields.pass_to(end)?;
        }
        ports.ok_or_else(|| no_network("it holds no graph"))
    }

    fn of_graph(fields: &mut Fields<impl Read + Seek>, end: u64) -> io::Result<Self> {
        let (mut ports, mut weights) = (Self::default(), HashSet::new());
        while let Some((field, end)) = fields.next(end)? {
            match field {
                GRAPH_TENSOR => {
                    while let Some((field, end)) = fields.next(end)? {
                        if field == TENSOR_NAME {
                            weights.insert(fields.bytes(end)?);
                        }
                        fields.pass_to(end)?;
                    }
                }
                GRAPH_INPUT | GRAPH_OUTPUT => {
                    let value = Value::decode(fields.bytes(end)?.as_slice())
                        .map_err(|error| no_network(&error.to_string()))?;
                    let ports = if field == GRAPH_INPUT {
                        &mut ports.inputs
                    } else {
                        &mut ports.outputs
                    };
                    ports.push(value.port());
                }
                _ => {}
            }
            fields.pass_to(end)?;
        }
        // Old exports list their weights among the inputs.
        ports
            .inputs
            .retain(|input| !weights.contains(input.name.as_bytes()));
        Ok(ports)
    }
}

/// Walks over the fields of a file.
struct Fields<R> {
    reader: BufReader<R>,
    at: u64,
}

impl<R: Read + Seek> Fields<R> {
    /// The next field before `end` that says its length: its number, and where it ends.
    fn next(&mut self, end: u64) -> io::Result<Option<(u64, u64)>> {
        while self.at < end {
            let key = self.varint()?;
            match key & 7 {
                0 => {
                    self.varint()?;
                }
                1 => self.pass_to(self.at + 8)?,
                5 => self.pass_to(self.at + 4)?,
                2 => {
                    let length = self.varint()?;
                    return match self.at.checked_add(length) {
                        Some(field_end) if field_end <= end => Ok(Some((key >> 3, field_end))),
                        _ => Err(no_network("it ends too early")),
                    };
                }
                _ => return Err(no_network("it is no protocol buffer")),
            }
        }
        Ok(None)
    }

    fn varint(&mut self) -> io::Result<u64> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let mut byte = [0];
            self.reader.read_exact(&mut byte)?;
            self.at += 1;
            number |= u64::from(byte[0] & 0x7f) << shift;
            if byte[0] < 0x80 {
                return Ok(number);
            }
        }
        Err(no_network("it is no protocol buffer"))
    }

    /// What lies before `end`.
    fn bytes(&mut self, end: u64) -> io::Result<Vec<u8>> {
        let length = end - self.at;
        if length > MOST_BYTES {
            return Err(no_network("a name or a description in it is too long"));
        }
        let mut bytes = vec![0; length as usize];
        self.reader.read_exact(&mut bytes)?;
        self.at = end;
        Ok(bytes)
    }

    fn pass_to(&mut self, end: u64) -> io::Result<()> {
        let length = end.saturating_sub(self.at);
        let length = i64::try_from(length).map_err(|_| no_network("it ends too early"))?;
        self.reader.seek_relative(length)?;
        self.at = end;
        Ok(())
    }
}

fn no_network(reason: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, reason)
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;

    use super::{
        super::{FLOAT, Network, Node, Tensor},
        *,
    };

    /// Counts what is read of it.
    struct Counted<'a> {
        file: Cursor<&'a [u8]>,
        read: &'a mut usize,
    }

    impl Read for Counted<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let read = self.file.read(buffer)?;
            *self.read += read;
            Ok(read)
        }
    }

    impl Seek for Counted<'_> {
        fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
            self.file.seek(to)
        }
    }

    /// Some operators and weights of a megabyte each between them; the weights are listed among the inputs as old exports do.
    fn heavy() -> Vec<u8> {
        let mut network = Network::least();
        let graph = network.graph();
        for layer in 0..12 {
            let name = format!("weights {layer}");
            graph.nodes.push(Node::new("Conv", &["given", &name], "x"));
            graph.inputs.push(Value::floats(&name, &[1 << 18]));
            graph
                .tensors
                .push(Tensor::new(name, &[1 << 18], FLOAT, vec![7; 1 << 20]));
        }
        graph.inputs.push(Value::floats("mask", &[-1, 3, 8, 8]));
        graph.outputs.push(Value {
            name: "whatever".to_owned(),
            kind: None,
        });
        network.write()
    }

    #[test]
    fn inputs_and_outputs_are_read_and_weights_are_passed_over() {
        let file = heavy();
        let mut read = 0;
        let ports = Ports::read(Counted {
            file: Cursor::new(&file),
            read: &mut read,
        })
        .unwrap();
        let floats = |name: &str, shape: &[i64]| Port {
            name: name.to_owned(),
            kind: PortKind::Tensor(TensorElementType::Float32, Some(shape.to_vec())),
        };
        assert_eq!(
            ports.inputs,
            [floats("given", &[1]), floats("mask", &[-1, 3, 8, 8])]
        );
        let unsaid = Port {
            name: "whatever".to_owned(),
            kind: PortKind::Unsaid,
        };
        assert_eq!(ports.outputs, [floats("found", &[1]), unsaid]);
        assert!(
            file.len() > 12 << 20 && read < 400 << 10,
            "{read} bytes were read"
        );
    }

    #[test]
    fn what_was_freed_is_not_known_before_a_run() {
        let mut network = Network::least();
        network.free_batch().unwrap();
        let ports = Ports::read(Cursor::new(network.write())).unwrap();
        let kind = PortKind::Tensor(TensorElementType::Float32, Some(vec![-1]));
        assert_eq!(ports.inputs[0].kind, kind);
    }

    #[test]
    fn what_is_no_network_or_half_of_one_is_said_to_be() {
        let file = heavy();
        let half = &file[..file.len() / 2];
        for (bytes, reason) in [
            (half, "it ends too early"),
            (&[][..], "it holds no graph"),
            (&b"<!DOCTYPE html><title>Not found</title>"[..], "it"),
        ] {
            let error = Ports::read(Cursor::new(bytes)).unwrap_err();
            assert!(error.to_string().starts_with(reason), "{error}");
        }
    }
}
