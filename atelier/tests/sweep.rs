//! `atelier sweep`, as an operator uses it.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Duration, SystemTime},
};

use tempfile::TempDir;

fn sweep(folder: &Path, arguments: &[&str]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_atelier"))
        .current_dir(folder)
        .env("ATELIER_DATA_DIR", folder.join("data"))
        .arg("sweep")
        .args(arguments)
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap()
}

fn make_old(file: &Path) {
    let days_ago = SystemTime::now() - Duration::from_hours(32 * 24);
    fs::File::open(file)
        .unwrap()
        .set_modified(days_ago)
        .unwrap();
}

#[test]
fn what_nobody_refers_to_is_set_aside_and_then_erased() {
    let folder = TempDir::new().unwrap();
    assert!(sweep(folder.path(), &[]).starts_with("old enough to be asked about: 0;"));
    let blobs = find_blobs(folder.path());
    // What is under a name is not read: only its name and its time count.
    let (old, new) = (
        blobs.join("ab").join("c".repeat(62)),
        blobs.join("ab").join("d".repeat(62)),
    );
    let aside = blobs.join("aside").join(format!("ab{}", "c".repeat(62)));
    for file in [&old, &new] {
        fs::write(file, "a picture").unwrap();
    }
    make_old(&old);
    let said = sweep(folder.path(), &["--dry-run"]);
    assert!(said.contains("would be set aside: 1"), "{said}");
    assert!(old.exists());

    let said = sweep(folder.path(), &[]);
    assert!(said.contains("; set aside: 1; erased: 0;"), "{said}");
    assert!(!old.exists() && aside.exists() && new.exists());
    let said = sweep(folder.path(), &[]);
    assert!(said.contains("; set aside: 0; erased: 0;"), "{said}");
    make_old(&aside);
    let said = sweep(folder.path(), &[]);
    assert!(said.contains("; set aside: 0; erased: 1;"), "{said}");
    assert!(!aside.exists() && new.exists());
}

/// Where the blobs are in the data folder.
fn find_blobs(folder: &Path) -> PathBuf {
    let data = folder.join("data");
    [data.join("blobs"), data.join("blobs/blobs")]
        .into_iter()
        .find(|place| place.join("aside").exists())
        .unwrap()
}
