//! Writes `reference/` anew: the photograph, and what the `cpu` provider makes of it.
//! `cargo run -p atelier-models --example reference`

use std::{error::Error, fs, path::Path};

use atelier_models::{
    ModelStore, ProviderChoice, Runtime, Segmenter, SessionOptions, segment::reference,
};
use image::imageops::FilterType;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("reference");
    let photograph =
        image::open(Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples/fur-hat.jpg"))?;
    let photograph = photograph
        .resize_to_fill(160, 160, FilterType::Triangle)
        .into_rgb8();
    let file = folder.join("fur-hat-160x160.rgb");
    if fs::read(&file).ok().as_deref() != Some(photograph.as_raw().as_slice()) {
        fs::write(&file, photograph.as_raw())?;
        return Err(
            "the photograph has changed and is part of this program: run it once more".into(),
        );
    }
    let store = ModelStore::open(None)?;
    let runtime = Runtime::load(&store, ProviderChoice::Cpu)?;
    for name in ["u2netp", "u2net", "isnet-general-use"] {
        let segmenter = Segmenter::open(&runtime, &store, name, &SessionOptions::default())?;
        let side = reference::MATTE_SIDE_PX;
        fs::write(
            folder.join(format!("{name}-{side}x{side}.gray")),
            reference::matte_of(&segmenter)?.alpha,
        )?;
    }
    Ok(())
}
