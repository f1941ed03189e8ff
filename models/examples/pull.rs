//! Fetches models by name, or all that packages have: `cargo run -p atelier-models --example pull -- [NAME…]`.
#![allow(clippy::print_stdout)]

use std::error::Error;

use atelier_models::{ModelStore, Pulled};

fn main() -> Result<(), Box<dyn Error>> {
    let store = ModelStore::open(None)?;
    let mut names: Vec<String> = std::env::args().skip(1).collect();
    if names.is_empty() {
        names = store.automatic().into_iter().map(str::to_owned).collect();
    }
    for name in names {
        match store.pull(&name, &mut |_| ())? {
            Pulled::AlreadyThere(path) => println!("{name}: there already, {}", path.display()),
            Pulled::Fetched(path) => println!("{name}: fetched, {}", path.display()),
            Pulled::Rewritten(path) => println!("{name}: rewritten, {}", path.display()),
        }
    }
    Ok(())
}
