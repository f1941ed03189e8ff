//! How a trimap goes into a network that takes one.

use serde::Deserialize;

use super::Model;

/// How a trimap goes in.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrimapInput {
    /// The name of its own input; absent where it is the fourth channel of the picture's.
    #[serde(default)]
    pub name: Option<String>,
    /// Dimensions of its own input, one channel; -1 is any. Absent where it has none.
    #[serde(default)]
    pub shape: Vec<i64>,
    /// What background, unknown and subject become. Not brought to the picture's mean and deviation.
    pub levels: [f32; 3],
    /// Both sides are multiples of this, in pixels; what is missing to the right and below is filled with zeros.
    pub multiple_px: u32,
    /// A picture whose longest side is longer is made smaller, in pixels: such networks need memory by the square of it.
    pub longest_side_px: u32,
}

/// What is wrong with the row of a network that takes a trimap.
pub(super) fn check(model: &Model) -> Result<(), &'static str> {
    let (Some(input), Some(trimap)) = (&model.input, &model.trimap) else {
        return Err("a network that takes a trimap has an `input` and a `trimap`");
    };
    let any_size =
        |shape: &[i64], channels: i64| matches!(shape, [_, found, -1, -1] if *found == channels);
    let fits = match &trimap.name {
        None => trimap.shape.is_empty() && any_size(&input.shape, 4),
        Some(_) => any_size(&input.shape, 3) && any_size(&trimap.shape, 1),
    };
    if !fits {
        return Err(
            "a network that takes a trimap has one input [batch, 4, -1, -1], or one [batch, 3, -1, -1] and a named one [batch, 1, -1, -1]",
        );
    }
    if trimap.multiple_px == 0 || trimap.longest_side_px < trimap.multiple_px {
        return Err("`multiple_px` is at least 1, and `longest_side_px` at least that");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Catalogue, Purpose};

    fn row(input: &str, trimap: &str) -> String {
        format!(
            "[[model]]\nname = \"a\"\npurpose = \"matte_with_trimap\"\nsummary = \"\"\nlicense = \"\"\nfile = \"a.onnx\"\n\
             [[model.source]]\nkind = \"own_file\"\n\
             [model.input]\nelement = \"f32\"\nshape = {input}\nchannel_order = \"rgb\"\nscaling = \"by_255\"\n\
             mean = [0.5, 0.5, 0.5]\ndeviation = [0.5, 0.5, 0.5]\n\
             [[model.output]]\nshape = [-1, 1, -1, -1]\nnormalization = \"clamp\"\n{trimap}"
        )
    }

    const TRIMAP: &str =
        "[model.trimap]\nlevels = [0.0, 0.5, 1.0]\nmultiple_px = 32\nlongest_side_px = 1024\n";

    #[test]
    fn rows_name_one_input_of_four_channels_or_two() {
        let named = format!("{TRIMAP}name = \"trimap\"\nshape = [-1, 1, -1, -1]\n");
        for (input, trimap) in [
            ("[-1, 4, -1, -1]", TRIMAP),
            ("[1, 3, -1, -1]", named.as_str()),
        ] {
            let catalogue = Catalogue::parse(&row(input, trimap)).unwrap();
            assert_eq!(catalogue.names_for(Purpose::MatteWithTrimap), ["a"]);
        }
        let nothing = TRIMAP.replace("multiple_px = 32", "multiple_px = 0");
        for (input, trimap) in [
            ("[-1, 4, -1, -1]", ""),
            ("[-1, 3, -1, -1]", TRIMAP),
            ("[-1, 4, -1, -1]", named.as_str()),
            ("[-1, 4, 320, 320]", TRIMAP),
            ("[-1, 4, -1, -1]", nothing.as_str()),
        ] {
            let error = Catalogue::parse(&row(input, trimap)).unwrap_err();
            assert!(error.to_string().contains("model `a`"), "{error}");
        }
    }

    #[test]
    fn a_network_that_takes_none_has_no_trimap() {
        let plain = row("[-1, 3, 320, 320]", TRIMAP).replace("matte_with_trimap", "matte");
        assert!(Catalogue::parse(&plain).is_err());
    }
}
