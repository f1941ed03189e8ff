//! Whether a network's inputs and outputs are those of its catalogue row.

use ort::{
    session::Session as OrtSession,
    value::{Outlet, TensorElementType, ValueType},
};

use crate::{
    Model, Purpose,
    catalogue::{Element, Input, Output},
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

/// Compares a file's inputs and outputs with its row; answers with the names to use.
pub(super) fn check(model: &Model, session: &OrtSession) -> Result<Signature, Mismatch> {
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
        let inputs = session.inputs();
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
            session.outputs(),
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
    let used = |outlet: &&Outlet| {
        let name = outlet.name();
        input_names
            .iter()
            .chain(&output_names)
            .any(|used| used == name)
    };
    let mut outlets = session
        .inputs()
        .iter()
        .chain(session.outputs())
        .filter(used);
    Ok(Signature {
        batch_is_free: outlets.all(|outlet| first_side(outlet) == Some(-1)),
        input_names,
        output_names,
    })
}

fn first_side(outlet: &Outlet) -> Option<i64> {
    match outlet.dtype() {
        ValueType::Tensor { shape, .. } => shape.first().copied(),
        _ => None,
    }
}

fn find(
    outlets: &[Outlet],
    role: &str,
    name: Option<&str>,
    element: TensorElementType,
    shape: &[i64],
) -> Result<String, Mismatch> {
    let expected = format!(
        "{role} {}{element:?}{shape:?}",
        name.map(|name| format!("`{name}` ")).unwrap_or_default()
    );
    let outlet = match name {
        Some(name) => outlets.iter().find(|outlet| outlet.name() == name),
        None => outlets.first(),
    };
    let Some(outlet) = outlet else {
        let names: Vec<_> = outlets.iter().map(describe).collect();
        return Err(Mismatch {
            expected,
            found: format!("{role}s {}", names.join(", ")),
        });
    };
    let fits = match outlet.dtype() {
        ValueType::Tensor {
            ty, shape: found, ..
        } => *ty == element && shape_fits(shape, found),
        _ => false,
    };
    if fits {
        Ok(outlet.name().to_owned())
    } else {
        Err(Mismatch {
            expected,
            found: describe(outlet),
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

fn describe(outlet: &Outlet) -> String {
    match outlet.dtype() {
        ValueType::Tensor { ty, shape, .. } => {
            format!("`{}` {ty:?}{:?}", outlet.name(), &shape[..])
        }
        _ => format!("`{}`, no tensor", outlet.name()),
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
}
