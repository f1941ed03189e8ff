//! `atelier cutout`, as someone at the shell uses it: no server, one line per failure, status 0 only if all worked.
#![allow(clippy::unwrap_used)]

use std::{
    fs,
    io::Write as _,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use tempfile::TempDir;

fn samples() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples")
}

fn atelier(folder: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    command
        .env("ATELIER_DATA_DIR", folder.join("data"))
        .current_dir(folder)
        .arg("cutout")
        .args(["--quality", "low"]);
    command
}

fn run(command: &mut Command) -> Output {
    command.stdin(Stdio::null()).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn one_picture_is_written_beside_itself() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let output = run(atelier(folder.path()).arg("dress.jpg"));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let picture = image::open(folder.path().join("dress.cutout.png"))
        .unwrap()
        .into_rgba8();
    assert_eq!(picture.dimensions(), (400, 502));
    assert!(picture.get_pixel(200, 150)[3] > 240 && picture.get_pixel(5, 495)[3] < 15);
}

#[test]
fn a_folder_goes_to_a_folder_and_a_broken_picture_is_one_line() {
    let folder = TempDir::new().unwrap();
    let pictures = folder.path().join("pictures/deeper");
    fs::create_dir_all(&pictures).unwrap();
    fs::copy(samples().join("dress.jpg"), pictures.join("dress.jpg")).unwrap();
    fs::copy(
        samples().join("fur-hat.jpg"),
        folder.path().join("pictures/hat.jpg"),
    )
    .unwrap();
    fs::write(
        folder.path().join("pictures/broken.jpg"),
        b"\xff\xd8\xff\xe0 and no more",
    )
    .unwrap();
    fs::write(
        folder.path().join("pictures/notes.txt"),
        "no picture by its name",
    )
    .unwrap();
    let output = run(atelier(folder.path()).args([
        "pictures",
        "-o",
        "out",
        "--format",
        "webp",
        "--background",
        "#fff",
    ]));
    assert_eq!(output.status.code(), Some(1), "one picture failed");
    let failures: Vec<String> = text(&output.stderr)
        .lines()
        .filter(|line| line.contains("broken.jpg"))
        .map(str::to_owned)
        .collect();
    assert_eq!(failures.len(), 1, "{}", text(&output.stderr));
    assert!(!text(&output.stderr).contains("notes.txt"));
    let dress = image::open(folder.path().join("out/deeper/dress.webp"))
        .unwrap()
        .into_rgba8();
    let corner = dress.get_pixel(4, 496);
    assert!(
        corner[0] > 235 && corner[1] > 235 && corner[2] > 235,
        "the ground must be white, is {corner:?}"
    );
    assert!(folder.path().join("out/hat.webp").is_file());
    assert!(
        !folder.path().join("data").exists(),
        "no server, nothing kept"
    );
}

#[test]
fn standard_input_to_standard_output() {
    let folder = TempDir::new().unwrap();
    let mut child = atelier(folder.path())
        .args(["-", "--only-mask"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(&fs::read(samples().join("slippers.jpg")).unwrap())
        .unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{}", text(&output.stderr));
    let mask = image::load_from_memory(&output.stdout).unwrap();
    assert_eq!((mask.width(), mask.height()), (400, 533));
    assert_eq!(mask.color().channel_count(), 1);
}

#[test]
fn what_is_wrong_is_said_in_one_line() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    for (arguments, word) in [
        (vec!["missing.jpg"], "missing.jpg"),
        (vec!["--background", "white", "dress.jpg"], "white"),
        (
            vec!["--model", "no-such-model", "dress.jpg"],
            "no-such-model",
        ),
        (
            vec!["--model", "birefnet-general", "dress.jpg"],
            "birefnet-general",
        ),
    ] {
        let output = run(atelier(folder.path()).args(&arguments));
        let said = text(&output.stderr);
        assert!(
            !output.status.success() && said.contains(word),
            "{arguments:?}: {said}"
        );
        assert!(said.lines().count() <= 2, "{arguments:?}: {said}");
    }
}

#[test]
fn what_is_there_is_not_overwritten_unasked() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    fs::write(folder.path().join("dress.cutout.png"), "precious").unwrap();
    let output = run(atelier(folder.path()).arg("dress.jpg"));
    assert!(!output.status.success());
    assert_eq!(
        fs::read(folder.path().join("dress.cutout.png")).unwrap(),
        b"precious"
    );
    assert!(text(&output.stderr).contains("--overwrite"));
    assert!(
        run(atelier(folder.path()).args(["dress.jpg", "--overwrite"]))
            .status
            .success()
    );
    assert_ne!(
        fs::read(folder.path().join("dress.cutout.png")).unwrap(),
        b"precious"
    );
}

#[test]
fn a_report_is_a_line_of_json_about_each_picture() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let output = run(atelier(folder.path()).args(["dress.jpg", "--report"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let lines = text(&output.stdout);
    assert_eq!(lines.lines().count(), 1, "{lines}");
    let line: serde_json::Value = serde_json::from_str(&lines).unwrap();
    assert_eq!(line["picture"], "dress.jpg");
    assert_eq!(line["result"], "dress.cutout.png");
    let metadata = &line["metadata"];
    assert_eq!(metadata["dimensions"]["width"], 400);
    let matting = &metadata["matting"];
    assert!(
        ["portrait", "product"].contains(&matting["processor"].as_str().unwrap()),
        "{matting}"
    );
    let steps = matting["steps"].as_array().unwrap();
    assert!(
        steps
            .iter()
            .any(|step| step["name"] == "u2netp" && step["ms"].as_f64().unwrap() > 0.0)
    );
    let mixed = run(atelier(folder.path()).args(["-", "--report"]));
    assert!(
        !mixed.status.success() && text(&mixed.stderr).contains("--output"),
        "{}",
        text(&mixed.stderr)
    );
}

#[test]
fn who_names_the_model_and_asks_for_no_report_gets_the_same_picture() {
    let folder = TempDir::new().unwrap();
    for name in ["astronaut.jpg", "sneakers.jpg"] {
        fs::copy(samples().join(name), folder.path().join(name)).unwrap();
    }
    let cut = |more: &[&str], into: &str| {
        let mut command = atelier(folder.path());
        command.args(["astronaut.jpg", "sneakers.jpg", "--model", "u2netp"]);
        let output = run(command.args(["-o", into]).args(more));
        assert!(output.status.success(), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let report = cut(&["--report"], "reported");
    assert!(report.contains("\"faces\":[{"), "{report}");
    cut(&[], "alone");
    for name in ["astronaut.png", "sneakers.png"] {
        let [reported, alone] = ["reported", "alone"]
            .map(|into| fs::read(folder.path().join(into).join(name)).unwrap());
        assert!(reported == alone, "{name}");
    }
}

fn read_marks(folder: &Path, pictures: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_atelier"));
    run(command
        .env("ATELIER_DATA_DIR", folder.join("data"))
        .current_dir(folder)
        .args(["watermark", "read"])
        .args(pictures))
}

#[test]
fn a_payload_is_read_back_and_none_where_there_is_none() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let marked = [
        "--invisible-mark",
        "C0ffee01",
        "--watermark-text",
        "© Atelier",
    ];
    let output = run(atelier(folder.path())
        .args(["dress.jpg", "--format", "jpeg", "--background", "#d8c8b8"])
        .args(marked));
    assert!(output.status.success(), "{}", text(&output.stderr));

    let output = read_marks(folder.path(), &["dress.cutout.jpg"]);
    let said = text(&output.stdout);
    assert!(
        said.starts_with("dress.cutout.jpg: c0ffee01 (32 bits), confidence "),
        "{said}"
    );
    assert!(output.status.success());

    let output = read_marks(
        folder.path(),
        &["dress.cutout.jpg", "dress.jpg", "missing.jpg"],
    );
    assert!(!output.status.success());
    assert!(text(&output.stdout).ends_with("dress.jpg: no mark found\n"));
    assert!(text(&output.stderr).starts_with("missing.jpg: "));
}

#[test]
fn a_picture_is_laid_on_where_it_was_asked_for() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let mark = image::RgbImage::from_pixel(10, 10, image::Rgb([255, 0, 0]));
    mark.save(folder.path().join("mark.png")).unwrap();
    let output = run(atelier(folder.path()).args([
        "dress.jpg",
        "--background",
        "#ffffff",
        "--watermark",
        "mark.png",
        "--watermark-position",
        "0,100",
        "--watermark-opacity",
        "1",
        "--watermark-scale",
        "0.1",
    ]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let result = image::open(folder.path().join("dress.cutout.png"))
        .unwrap()
        .into_rgb8();
    let red = |x: u32, y: u32| result.get_pixel(x, y).0 == [255, 0, 0];
    assert!(red(1, 500) && red(38, 463) && !red(42, 500) && !red(1, 458));
    for (arguments, word) in [
        (["--watermark", "missing.png"], "missing.png"),
        (["--invisible-mark", "c0ffee"], "c0ffee"),
        (["--watermark-opacity", "0.5"], "nothing to mark with"),
        (["--watermark-position", "middle"], "middle"),
    ] {
        let output = run(atelier(folder.path())
            .args(["dress.jpg", "--overwrite"])
            .args(arguments));
        assert!(
            !output.status.success() && text(&output.stderr).contains(word),
            "{arguments:?}"
        );
    }
}

/// A trimap of `dress.jpg`: the middle is the dress, the border background, unless `levels` says otherwise.
fn trimap_of_dress(path: &Path, levels: impl Fn(u32, u32) -> u8) {
    let trimap = image::GrayImage::from_fn(400, 502, |x, y| image::Luma([levels(x, y)]));
    trimap.save(path).unwrap();
}

#[test]
fn a_trimap_decides_what_it_knows_and_the_report_tells_of_it() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let trimap = folder.path().join("known.png");
    trimap_of_dress(&trimap, |x, y| match (x, y) {
        (150..250, 100..400) => 254,
        (0..110 | 290.., _) | (_, 0..60 | 440..) => 3,
        _ => 90,
    });
    let output =
        run(atelier(folder.path()).args(["dress.jpg", "--trimap", "known.png", "--report"]));
    assert!(output.status.success(), "{}", text(&output.stderr));
    let report: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let matting = &report["metadata"]["matting"];
    assert_eq!(matting["trimap"]["origin"], "given", "{report}");
    assert_eq!(report["metadata"]["model"]["name"], "closed-form");
    let picture = image::open(folder.path().join("dress.cutout.png"))
        .unwrap()
        .into_rgba8();
    let alpha = |x: u32, y: u32| picture.get_pixel(x, y)[3];
    assert_eq!((alpha(200, 250), alpha(10, 250)), (255, 0));
}

#[test]
fn a_trimap_that_does_not_fit_is_one_line_that_says_why() {
    let folder = TempDir::new().unwrap();
    fs::copy(samples().join("dress.jpg"), folder.path().join("dress.jpg")).unwrap();
    let trimap = folder.path().join("known.png");
    let refused = || {
        let output = run(atelier(folder.path()).args(["dress.jpg", "--trimap", "known.png"]));
        assert!(!output.status.success());
        text(&output.stderr)
    };
    image::GrayImage::new(40, 30).save(&trimap).unwrap();
    let said = refused();
    assert!(
        said.contains("40 × 30") && said.contains("400 × 502"),
        "{said}"
    );
    trimap_of_dress(&trimap, |x, _| if x < 200 { 0 } else { 128 });
    let said = refused();
    assert!(
        said.contains("no pixel of it is surely the subject"),
        "{said}"
    );
    trimap_of_dress(&trimap, |_, _| 128);
    assert!(refused().contains("all of it is unknown"));
}

#[test]
fn several_pictures_take_their_trimaps_from_a_folder() {
    let folder = TempDir::new().unwrap();
    let (pictures, trimaps) = (folder.path().join("in"), folder.path().join("trimaps"));
    fs::create_dir_all(&pictures).unwrap();
    fs::create_dir_all(&trimaps).unwrap();
    for name in ["a.jpg", "b.jpg"] {
        fs::copy(samples().join("dress.jpg"), pictures.join(name)).unwrap();
    }
    trimap_of_dress(&trimaps.join("a.png"), |x, _| if x < 200 { 0 } else { 255 });
    let output = run(atelier(folder.path()).args(["in", "-o", "out", "--trimap", "trimaps"]));
    let said = text(&output.stderr);
    assert!(
        !output.status.success() && said.contains("b.jpg: there is no trimap"),
        "{said}"
    );
    let picture = image::open(folder.path().join("out/a.png"))
        .unwrap()
        .into_rgba8();
    assert_eq!(
        (picture.get_pixel(199, 9)[3], picture.get_pixel(200, 9)[3]),
        (0, 255)
    );
    let output = run(atelier(folder.path()).args(["in", "-o", "out", "--trimap", "trimaps/a.png"]));
    assert!(text(&output.stderr).contains("a trimap belongs to one picture"));
}
