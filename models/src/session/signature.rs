//! Whether a network's inputs and outputs are those of its catalogue row.

use ort::{
    session::Session as OrtSession,
    value::{Outlet, TensorElementType, ValueType},
};

use crate::{
    Model, Purpose,
    catalogue::{Element, Input, Output},
    onnx::{Port, PortKind, Ports},
};

/// What the row says, and what the file has instead.
pub(super) struct Mismatch {
    pub expected: String,
    pub found: String,
}

/// What a file's inputs and outputs are, once they are known to be those of its row.
pub(super) struct Signature {
    pub input_names: Vec<String>,
    pub output_names: Vec<String>,
    /// Whether all of them leave their first dimension open, as the row does.
    pub batch_is_free: bool,
}

/// What goes into an open network and what comes out.
pub(super) fn ports(session: &OrtSession) -> Ports {
    let port = |outlet: &Outlet| Port {
        name: outlet.name().to_owned(),
        kind: match outlet.dtype() {
            ValueType::Tensor { ty, shape, .. } => PortKind::Tensor(*ty, Some(shape.to_vec())),
            _ => PortKind::NoTensor,
        },
    };
    Ports {
        inputs: session.inputs().iter().map(port).collect(),
        outputs: session.outputs().iter().map(port).collect(),
    }
}

/// Compares a network's inputs and outputs with its row; answers with the names to use. What a file does not say of them fits.
pub(super) fn check(model: &Model, ports: &Ports) -> Result<Signature, Mismatch> {
    let mut input_names = Vec::new();
    if let Some(Input {
        name,
        element,
        shape,
        ..
    }) = &model.input
    {
        let wanted = match element {
            Element::F32 => TensorElementType::Float32,
            Element::U8 => TensorElementType::Uint8,
        };
        let inputs = &ports.inputs;
        input_names.push(find(inputs, "input", name.as_deref(), wanted, shape)?);
        let trimap = model.trimap.as_ref();
        if let Some((name, trimap)) =
            trimap.and_then(|trimap| Some((trimap.name.as_ref()?, trimap)))
        {
            let element = TensorElementType::Float32;
            input_names.push(find(inputs, "input", Some(name), element, &trimap.shape)?);
        }
        // A network that wants more than it is given fails with every picture.
        if inputs.len() != input_names.len() && model.purpose != Purpose::Prompted {
            let all: Vec<_> = inputs.iter().map(describe).collect();
            return Err(Mismatch {
                expected: match input_names.len() {
                    1 => "1 input".to_owned(),
                    count => format!("{count} inputs"),
                },
                found: format!("inputs {}", all.join(", ")),
            });
        }
    }
    let find_output = |output: &Output| {
        find(
            &ports.outputs,
            "output",
            output.name.as_deref(),
            TensorElementType::Float32,
            &output.shape,
        )
    };
    let output_names: Vec<String> = model
        .outputs
        .iter()
        .map(find_output)
        .collect::<Result<_, _>>()?;
    let used = |port: &&Port| {
        let mut names = input_names.iter().chain(&output_names);
        names.any(|used| *used == port.name)
    };
    let mut used = ports.inputs.iter().chain(&ports.outputs).filter(used);
    Ok(Signature {
        batch_is_free: used.all(|port| first_side(port) == Some(-1)),
        input_names,
        output_names,
    })
}

fn first_side(port: &Port) -> Option<i64> {
    match &port.kind {
        PortKind::Tensor(_, Some(shape)) => shape.first().copied(),
        _ => None,
    }
}

fn find(
    ports: &[Port],
    role: &str,
    name: Option<&str>,
    element: TensorElementType,
    shape: &[i64],
) -> Result<String, Mismatch> {
    let expected = format!(
        "{role} {}{element:?}{shape:?}",
        name.map(|name| format!("`{name}` ")).unwrap_or_default()
    );
    let port = match name {
        Some(name) => ports.iter().find(|port| port.name == name),
        None => ports.first(),
    };
    let Some(port) = port else {
        let names: Vec<_> = ports.iter().map(describe).collect();
        return Err(Mismatch {
            expected,
            found: format!("{role}s {}", names.join(", ")),
        });
    };
    let fits = match &port.kind {
        PortKind::Tensor(found, sides) => {
            let fits = |sides: &Vec<i64>| shape_fits(shape, sides);
            *found == element && sides.as_ref().is_none_or(fits)
        }
        PortKind::NoTensor => false,
        PortKind::Unsaid => true,
    };
    if fits {
        Ok(port.name.clone())
    } else {
        Err(Mismatch {
            expected,
            found: describe(port),
        })
    }
}

/// -1 on either side is any.
fn shape_fits(expected: &[i64], found: &[i64]) -> bool {
    expected.len() == found.len()
        && expected
            .iter()
            .zip(found)
            .all(|(expected, found)| *expected == -1 || *found == -1 || expected == found)
}

fn describe(port: &Port) -> String {
    let name = &port.name;
    match &port.kind {
        PortKind::Tensor(element, Some(shape)) => format!("`{name}` {element:?}{shape:?}"),
        PortKind::Tensor(element, None) => format!("`{name}` {element:?}"),
        PortKind::NoTensor => format!("`{name}`, no tensor"),
        PortKind::Unsaid => format!("`{name}`"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_dimension_fits_where_either_side_leaves_it_open() {
        assert!(shape_fits(&[-1, 3, 320, 320], &[1, 3, 320, 320]));
        assert!(shape_fits(&[1, 3, 320, 320], &[-1, 3, 320, 320]));
        assert!(!shape_fits(&[1, 3, 320, 320], &[1, 3, 640, 640]));
        assert!(!shape_fits(&[1, 3, 320], &[1, 3, 320, 320]));
    }

    #[test]
    fn what_a_file_does_not_say_fits() {
        let element = TensorElementType::Float32;
        let of = |kind| {
            let port = Port {
                name: "matte".to_owned(),
                kind,
            };
            find(&[port], "output", None, element, &[-1, 1, 8, 8])
                .map_err(|mismatch| mismatch.found)
        };
        assert_eq!(of(PortKind::Unsaid).unwrap(), "matte");
        assert!(of(PortKind::Tensor(element, None)).is_ok());
        let halves = PortKind::Tensor(TensorElementType::Float16, None);
        assert_eq!(of(halves).unwrap_err(), "`matte` Float16");
        assert_eq!(of(PortKind::NoTensor).unwrap_err(), "`matte`, no tensor");
    }
}
