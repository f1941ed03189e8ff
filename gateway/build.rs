//! The page is part of the binary: a build without it would be a gateway that shows nothing.

use std::{env, path::Path, process::exit};

fn main() {
    println!("cargo::rerun-if-changed=web/dist");
    let folder = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default();
    let page = Path::new(&folder).join("web/dist/index.html");
    if !page.is_file() {
        println!(
            "cargo::error=the page is not built: run `make web` first ({} is missing)",
            page.display()
        );
        exit(1);
    }
}
