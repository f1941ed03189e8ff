//! How close each network comes to itself in 32 bits when it runs in fewer, and what it costs, over a folder of photographs.
//! `cargo run --release -p atelier-models --example agreement -- FOLDER [MODEL …]`
//!
//! One thread for each network, so that the times are a core's. The networks take turns with every photograph.

use std::{error::Error, path::PathBuf, time::Duration};

use atelier_models::{
    ModelStore, Picture, ProviderChoice, Runtime, Segmenter, SessionOptions,
    segment::reference::Difference,
};

/// What one network did over all photographs.
struct Tried {
    segmenter: Segmenter,
    times: Vec<Duration>,
    differences: Vec<Difference>,
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: agreement FOLDER [MODEL …]")?;
    let mut names: Vec<String> = arguments.collect();
    if names.is_empty() {
        names = ["u2netp", "u2net", "isnet-general-use"]
            .map(String::from)
            .into();
    }
    let files = std::fs::read_dir(folder)?.map(|entry| entry.map(|entry| entry.path()));
    let mut files: Vec<PathBuf> = files.collect::<Result<_, _>>()?;
    files.sort();
    let store = ModelStore::open(None)?;
    let options = SessionOptions {
        intra_threads: Some(1),
        ..SessionOptions::default()
    };
    let in_bfloat16 = Runtime::load(&store, ProviderChoice::Openvino)?;
    let in_eight_bits = Runtime::load(&store, ProviderChoice::OpenvinoInt8)?;
    for name in &names {
        let exact = Segmenter::open(&in_bfloat16.on_cpu(), &store, name, &options)?;
        let mut tried = Vec::new();
        for runtime in [&in_bfloat16, &in_eight_bits] {
            tried.push(Tried {
                segmenter: Segmenter::open(runtime, &store, name, &options)?,
                times: Vec::new(),
                differences: Vec::new(),
            });
        }
        for file in &files {
            let image = image::open(file)?.into_rgb8();
            let picture = Picture {
                width: image.width(),
                height: image.height(),
                channels: 3,
                pixels: &image,
            };
            let expected = exact.segment(&picture)?.0;
            for one in &mut tried {
                let (found, elapsed) = one.segmenter.segment(&picture)?;
                one.times.push(elapsed);
                one.differences
                    .push(Difference::between(&found.alpha, &expected.alpha));
            }
        }
        for one in tried {
            one.print(name);
        }
    }
    Ok(())
}

impl Tried {
    fn print(mut self, name: &str) {
        self.times.sort();
        let mut flipped: Vec<f64> = self
            .differences
            .iter()
            .map(|difference| 100.0 * difference.flipped_share)
            .collect();
        flipped.sort_by(f64::total_cmp);
        let count = flipped.len().max(1);
        let mean = |values: &mut dyn Iterator<Item = f64>| values.sum::<f64>() / count as f64;
        println!(
            "{name} on {}: {} photographs, median {:.0} ms; of the pixels flip: mean {:.3} %, median {:.3}, nine of ten up to \
             {:.3}, most {:.3}; mean difference {:.2} of 255",
            self.segmenter.session().provider(),
            flipped.len(),
            self.times.get(count / 2).map_or(0.0, Duration::as_secs_f64) * 1e3,
            mean(&mut flipped.iter().copied()),
            flipped.get(count / 2).copied().unwrap_or_default(),
            flipped.get(count * 9 / 10).copied().unwrap_or_default(),
            flipped.last().copied().unwrap_or_default(),
            mean(&mut self.differences.iter().map(|difference| difference.mean)),
        );
    }
}
