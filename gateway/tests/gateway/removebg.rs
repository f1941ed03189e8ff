//! The dialect of remove.bg, by hand and by clients that others published.
//!
//! The published clients run where they are installed: `pip install removebg` (PyPI) and, in the folder that
//! `ATELIER_NODE_CLIENTS` names, `npm install remove.bg` (npm). Only the address that they call is changed.

use std::{path::Path, process::Stdio, sync::Arc};

use crate::common::{End, Form, Place, Server, options, png};
use atelier_compose::{ComposeOptions, Composed, compose, to_region};
use atelier_gateway::GatewayOptions;
use atelier_schemas::{ErrorCode, Kind, TaskOptions};
use atelier_stores::{Raster, raster::Channels};
use base64::{Engine as _, engine::general_purpose::STANDARD};
use image::RgbaImage;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

/// A gateway with a pipeline that ends every task: it composes one picture, a red thing half transparent on the right, as the
/// task's options say, with the code that the real one has; or it fails for a file called `broken`.
struct Rig {
    server: Server,
    stop: CancellationToken,
}

/// Where the thing is: left, top, right, bottom.
const THING: (u32, u32, u32, u32) = (200, 240, 600, 560);
const RED: [u8; 3] = [200, 30, 30];
const GROUND: [u8; 3] = [40, 160, 60];

/// The picture and its matte.
fn scene() -> (Raster, Raster) {
    let (mut colors, mut alphas) = (Vec::new(), Vec::new());
    for (y, x) in (0..800_u32).flat_map(|y| (0..1_000_u32).map(move |x| (y, x))) {
        let inside = (THING.0..THING.2).contains(&x) && (THING.1..THING.3).contains(&y);
        let alpha: u8 = match inside {
            true if x < 400 => 255,
            true => 120,
            false => 0,
        };
        let share = f32::from(alpha) / 255.0;
        colors.extend([0, 1, 2].map(|channel| {
            (f32::from(RED[channel]) * share + f32::from(GROUND[channel]) * (1.0 - share)).round()
                as u8
        }));
        alphas.push(alpha);
    }
    (
        Raster::new(1_000, 800, Channels::Rgb, colors).unwrap(),
        Raster::new(1_000, 800, Channels::Gray, alphas).unwrap(),
    )
}

/// What the pipeline makes of the scene, and where its subject is.
fn made(options: &TaskOptions) -> (Composed, &'static str) {
    let (picture, mut matte) = scene();
    if let Some(region) = &options.roi {
        matte = to_region(matte, region).unwrap();
    }
    let mut output = options.output.clone();
    output.shadow.kind = output.shadow.kind_for(Kind::Product);
    let background = png(40, 40, [10, 20, 200, 255]);
    let composed = compose(
        &picture,
        &matte,
        &output,
        Some(&background),
        &ComposeOptions::default(),
    );
    (composed.unwrap(), output.format.media_type())
}

impl Rig {
    async fn new() -> Self {
        Self::with(options()).await
    }

    async fn with(options: GatewayOptions) -> Self {
        let place = Arc::new(Place::new().await);
        let server = place.start_with(options).await;
        let stop = CancellationToken::new();
        let (pipeline, stopped) = (Arc::clone(&place), stop.clone());
        tokio::spawn(stopped.run_until_cancelled_owned(async move {
            let mut done = 0;
            loop {
                let next = pipeline
                    .log
                    .published
                    .lock()
                    .unwrap()
                    .get(done)
                    .map(|row| row.task_id);
                let Some(task_id) = next else {
                    tokio::time::sleep(std::time::Duration::from_millis(5)).await;
                    continue;
                };
                done += 1;
                let task = pipeline.ledger.task(task_id).await.unwrap().unwrap();
                let broken = task.results[0].name.as_deref() == Some("broken.jpg");
                let end = if broken {
                    End::failure(ErrorCode::UndecodableImage)
                } else {
                    let (composed, media_type) = made(&task.options);
                    let file = composed.result;
                    let mut end = pipeline
                        .result(&file.bytes, media_type, (file.width, file.height))
                        .await;
                    if let End::Result(result) = &mut end {
                        result.metadata.subject = composed.subject;
                    }
                    end
                };
                pipeline.finish(task_id, &[end]).await;
            }
        }));
        Self { server, stop }
    }

    /// The picture that the parameters give, at the scene's own size unless they say otherwise.
    async fn picture(&self, parameters: &[(&str, &str)]) -> RgbaImage {
        let mut form = Form::new()
            .file("image_file", "a.jpg", b"x")
            .text("size", "full");
        for (name, value) in parameters {
            form = form.text(name, value);
        }
        let response = self.form(form).await;
        let status = response.status();
        let bytes = response.bytes().await.unwrap();
        assert_eq!(
            status,
            200,
            "{parameters:?}: {}",
            String::from_utf8_lossy(&bytes)
        );
        image::load_from_memory(&bytes).unwrap().into_rgba8()
    }

    async fn form(&self, form: Form) -> reqwest::Response {
        self.server.post_form("/v1.0/removebg", form).await
    }

    async fn last_options(&self) -> Value {
        self.server.json("/api/v1/tasks?limit=1").await["tasks"][0]["options"].clone()
    }

    async fn end(self) {
        self.stop.cancel();
        self.server.stop().await;
    }
}

fn sides(bytes: &[u8]) -> (u32, u32) {
    let picture = image::load_from_memory(bytes).unwrap();
    (picture.width(), picture.height())
}

#[tokio::test]
async fn a_file_comes_back_as_a_picture() {
    let rig = Rig::new().await;
    let request = Form::new()
        .file("image_file", "a.jpg", b"\xff\xd8\xff some jpeg")
        .text("size", "auto");
    let response = rig.form(request).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(
        [
            header("content-type"),
            header("x-width"),
            header("x-height"),
            header("x-type"),
            header("x-credits-charged")
        ],
        ["image/png", "1000", "800", "product", "0"]
    );
    assert_eq!(sides(&response.bytes().await.unwrap()), (1_000, 800));
    rig.end().await;
}

#[tokio::test]
async fn a_preview_is_really_smaller() {
    let rig = Rig::new().await;
    let response = rig
        .form(Form::new().file("image_file", "a.jpg", b"x"))
        .await;
    assert_eq!(response.headers()["x-width"], "559");
    let (width, height) = sides(&response.bytes().await.unwrap());
    assert_eq!((width, height), (559, 447));
    assert!(u64::from(width) * u64::from(height) <= 250_000);
    rig.end().await;
}

#[tokio::test]
async fn every_body_and_both_answers_work() {
    let rig = Rig::new().await;
    let url = rig.server.url("/v1.0/removebg");
    let base64 = STANDARD.encode(b"\xff\xd8\xff some jpeg");
    let form = format!(
        "image_file_b64={}&size=full&bg_color=%2381d4fa&crop=true&crop_margin=30px",
        base64.replace('+', "%2B")
    );
    let request = rig
        .server
        .client
        .post(&url)
        .header("content-type", "application/x-www-form-urlencoded")
        .header("x-api-key", "whatever");
    let response = request.body(form).send().await.unwrap();
    assert_eq!(response.status(), 200);
    let asked = rig.last_options().await;
    assert_eq!(asked["output"]["background"], "#81d4fa");
    assert_eq!(
        (
            asked["output"]["crop"].as_str(),
            asked["output"]["cropMargin"].as_str(),
            asked["output"]["format"].as_str()
        ),
        (Some("subject"), Some("30px"), Some("jpeg"))
    );

    let json = serde_json::json!({ "image_url": "https://a.example/1.jpg", "size": "auto", "type": "person", "crop": false, "scale": null });
    let request = rig
        .server
        .client
        .post(&url)
        .header("accept", "application/json")
        .json(&json);
    let response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert_eq!(response.headers()["content-type"], "application/json");
    let answer: Value = response.json().await.unwrap();
    assert_eq!(
        sides(
            &STANDARD
                .decode(answer["data"]["result_b64"].as_str().unwrap())
                .unwrap()
        ),
        (1_000, 800)
    );
    assert_eq!(
        (
            answer["data"]["foreground_width"].clone(),
            answer["data"]["foreground_top"].clone()
        ),
        (400.into(), 240.into())
    );
    assert_eq!(rig.last_options().await["type"], "portrait");
    rig.end().await;
}

/// Where the picture is red and opaque: left, top, right, bottom (one past the last).
fn red_box(picture: &RgbaImage) -> Option<(u32, u32, u32, u32)> {
    let mut found: Option<(u32, u32, u32, u32)> = None;
    for (x, y, pixel) in picture.enumerate_pixels() {
        let [red, green, blue, alpha] = pixel.0;
        if alpha > 250 && red > 180 && green < 60 && blue < 60 {
            let (left, top, right, bottom) = found.unwrap_or((x, y, x, y));
            found = Some((left.min(x), top.min(y), right.max(x + 1), bottom.max(y + 1)));
        }
    }
    found
}

fn near(found: Option<(u32, u32, u32, u32)>, expected: (u32, u32, u32, u32)) -> bool {
    found.is_some_and(|found| {
        [
            (found.0, expected.0),
            (found.1, expected.1),
            (found.2, expected.2),
            (found.3, expected.3),
        ]
        .iter()
        .all(|(found, expected)| found.abs_diff(*expected) <= 1)
    })
}

#[tokio::test]
async fn crop_scale_and_position_are_seen_in_the_pixels() {
    let rig = Rig::new().await;
    for (parameters, size, red) in [
        (&[][..], (1_000, 800), (200, 240, 400, 560)),
        (&[("crop", "true")], (400, 320), (0, 0, 200, 320)),
        (
            &[("crop", "true"), ("crop_margin", "10% 20px")],
            (440, 384),
            (20, 32, 220, 352),
        ),
        (
            &[("crop", "true"), ("crop_margin", "0px 1px 2px 3px")],
            (404, 322),
            (3, 0, 203, 320),
        ),
        (
            &[("position", "center")],
            (1_000, 800),
            (300, 240, 500, 560),
        ),
        (&[("position", "100% 0%")], (1_000, 800), (600, 0, 800, 320)),
        // 400 × 320 in 1,000 × 800: both sides at once.
        (&[("scale", "100%")], (1_000, 800), (0, 0, 500, 800)),
        (&[("scale", "50%")], (1_000, 800), (250, 200, 500, 600)),
        (
            &[("scale", "50%"), ("position", "0% 100%")],
            (1_000, 800),
            (0, 400, 250, 800),
        ),
        (
            &[("roi", "0% 0% 30% 100%")],
            (1_000, 800),
            (200, 240, 300, 560),
        ),
        (
            &[("roi", "250px 300px 350px 400px")],
            (1_000, 800),
            (250, 300, 350, 400),
        ),
        (
            &[("size", "preview"), ("crop", "true")],
            (400, 320),
            (0, 0, 200, 320),
        ),
    ] {
        let picture = rig.picture(parameters).await;
        assert_eq!((picture.width(), picture.height()), size, "{parameters:?}");
        let found = red_box(&picture);
        assert!(near(found, red), "{parameters:?}: {found:?}, not {red:?}");
    }
    rig.end().await;
}

#[tokio::test]
async fn backgrounds_channels_and_transparency_are_seen_in_the_pixels() {
    let rig = Rig::new().await;
    let at = |picture: &RgbaImage, x: u32, y: u32| picture.get_pixel(x, y).0;
    let png = [("format", "png")];
    let plain = rig.picture(&png).await;
    assert_eq!((at(&plain, 10, 10)[3], at(&plain, 500, 400)[3]), (0, 120));
    let solid = rig.picture(&[("semitransparency", "false")]).await;
    assert_eq!((at(&solid, 10, 10)[3], at(&solid, 500, 400)[3]), (0, 255));
    let green = rig.picture(&[("bg_color", "00ff0080"), png[0]]).await;
    assert_eq!(at(&green, 10, 10), [0, 255, 0, 128]);
    let url = ("bg_image_url", "https://a.example/b.png");
    assert_eq!(
        at(&rig.picture(&[url, png[0]]).await, 10, 10),
        [10, 20, 200, 255]
    );
    let alpha = rig.picture(&[("channels", "alpha")]).await;
    assert_eq!(at(&alpha, 10, 10), [0, 0, 0, 255]);
    assert_eq!(at(&alpha, 300, 400), [255; 4]);
    assert_eq!(at(&alpha, 500, 400), [120, 120, 120, 255]);
    rig.end().await;
}

#[tokio::test]
async fn shadows_are_seen_in_the_pixels() {
    let rig = Rig::new().await;
    // Below the right edge of the thing: nothing but a shadow can be there.
    let darkness = |picture: &RgbaImage| u32::from(picture.get_pixel(390, 565).0[3]);
    assert_eq!(darkness(&rig.picture(&[]).await), 0);
    let drop = rig.picture(&[("shadow_type", "drop")]).await;
    let [red, green, blue, alpha] = drop.get_pixel(390, 565).0;
    assert_eq!([red, green, blue], [0; 3]);
    assert!(alpha > 30, "{alpha}");
    let faint = rig
        .picture(&[("shadow_type", "drop"), ("shadow_opacity", "10")])
        .await;
    assert!(darkness(&faint) > 0 && darkness(&faint) < u32::from(alpha) / 3);
    let contact = rig.picture(&[("shadow_type", "car")]).await;
    assert!(darkness(&contact) > 30);
    assert_eq!(
        contact.get_pixel(300, 220).0[3],
        0,
        "a contact shadow is below, not above"
    );
    assert_eq!(
        rig.picture(&[("shadow_type", "auto")]).await,
        drop,
        "a product's is dropped"
    );
    // With a crop the shadow belongs to the box.
    let cropped = rig
        .picture(&[("shadow_type", "drop"), ("crop", "true")])
        .await;
    assert!(cropped.width() > 400 && cropped.height() > 320);
    rig.end().await;
}

#[tokio::test]
async fn a_zip_holds_colours_and_alpha_of_the_size_that_was_asked_for() {
    let rig = Rig::new().await;
    let form = Form::new()
        .file("image_file", "a.jpg", b"x")
        .text("format", "zip");
    let response = rig.form(form).await;
    assert_eq!(response.status(), 200);
    let header = |name: &str| response.headers()[name].to_str().unwrap().to_owned();
    assert_eq!(header("content-type"), "application/zip");
    assert_eq!([header("x-width"), header("x-height")], ["559", "447"]);
    assert_eq!(
        [header("x-foreground-left"), header("x-foreground-width")],
        ["112", "223"]
    );
    let file = std::io::Cursor::new(response.bytes().await.unwrap());
    let mut archive = zip::ZipArchive::new(file).unwrap();
    assert_eq!(archive.len(), 2);
    for (name, format) in [
        ("color.jpg", image::ImageFormat::Jpeg),
        ("alpha.png", image::ImageFormat::Png),
    ] {
        let mut bytes = Vec::new();
        std::io::Read::read_to_end(&mut archive.by_name(name).unwrap(), &mut bytes).unwrap();
        let picture = image::load_from_memory_with_format(&bytes, format).unwrap();
        assert_eq!((picture.width(), picture.height()), (559, 447), "{name}");
    }
    rig.end().await;
}

#[tokio::test]
async fn errors_are_in_its_form() {
    let rig = Rig::new().await;
    let refused = async |form: Form, status: u16, code: &str| {
        let response = rig.form(form).await;
        let found = response.status().as_u16();
        let body: Value = response.json().await.unwrap();
        assert_eq!(
            (found, body["errors"][0]["code"].as_str()),
            (status, Some(code)),
            "{body}"
        );
        assert!(!body["errors"][0]["title"].as_str().unwrap().is_empty());
    };
    refused(Form::new().text("size", "auto"), 400, "missing_source").await;
    refused(
        Form::new()
            .file("image_file", "a.jpg", b"x")
            .text("image_url", "https://a.example/1.jpg"),
        400,
        "multiple_sources",
    )
    .await;
    refused(
        Form::new().file("image_file", "a.jpg", b""),
        400,
        "invalid_file_type",
    )
    .await;
    refused(
        Form::new().text("image_file_b64", "!!!"),
        400,
        "invalid_image_file_b64",
    )
    .await;
    refused(
        Form::new()
            .file("image_file", "a.jpg", b"x")
            .text("preset", "mine"),
        400,
        "unsupported_parameter",
    )
    .await;
    refused(
        Form::new()
            .file("image_file", "a.jpg", b"x")
            .text("bg_color", "nocolour"),
        400,
        "invalid_bg_color",
    )
    .await;
    refused(
        Form::new()
            .file("image_file", "a.jpg", b"x")
            .text("unheard", "of"),
        400,
        "unknown_parameter",
    )
    .await;
    refused(
        Form::new().file("image_file", "broken.jpg", b"x"),
        400,
        "failed_to_read_image",
    )
    .await;
    let wrong_type = rig
        .server
        .client
        .post(rig.server.url("/v1.0/removebg"))
        .header("content-type", "text/plain")
        .body("x")
        .send()
        .await
        .unwrap();
    assert_eq!(wrong_type.status(), 400);
    assert_eq!(
        wrong_type.json::<Value>().await.unwrap()["errors"][0]["code"],
        "unsupported_media_type"
    );
    rig.end().await;
}

#[tokio::test]
async fn the_wait_is_bounded_and_the_task_goes_on() {
    let place = Place::new().await;
    let server = place
        .start_with(GatewayOptions {
            sync_timeout_ms: 200,
            ..options()
        })
        .await;
    let response = server
        .post_form(
            "/v1.0/removebg",
            Form::new().file("image_file", "a.jpg", b"x"),
        )
        .await;
    assert_eq!(response.status(), 504);
    let location = response.headers()["location"].to_str().unwrap().to_owned();
    assert_eq!(
        response.json::<Value>().await.unwrap()["errors"][0]["code"],
        "timeout"
    );
    assert_eq!(server.json(&location).await["status"], "pending");
    server.stop().await;
}

async fn runs(program: &str, arguments: &[&str]) -> bool {
    let outcome = tokio::process::Command::new(program)
        .args(arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .await;
    outcome.is_ok_and(|status| status.success())
}

async fn run_client(program: &str, script: &str, arguments: &[&str], folder: &Path) -> String {
    let flag = if program == "node" { "-e" } else { "-c" };
    let output = tokio::process::Command::new(program)
        .arg(flag)
        .arg(script)
        .args(arguments)
        .current_dir(folder)
        .env("NO_PROXY", "127.0.0.1")
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{program}: {errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[tokio::test]
async fn the_python_client_works_with_only_the_address_changed() {
    if !runs("python3", &["-c", "import removebg"]).await {
        println!("skipped: no Python client; `pip install removebg` to run this");
        return;
    }
    let rig = Rig::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.jpg"), b"\xff\xd8\xff some jpeg").unwrap();
    let script = r#"
import base64, sys
import removebg.removebg as client
client.API_ENDPOINT = sys.argv[1]
rmbg = client.RemoveBg("a-key", "errors.log")
rmbg.remove_background_from_img_file("in.jpg")
rmbg.remove_background_from_img_url("https://a.example/1.jpg", size="4k", new_file_name="url.png")
rmbg.remove_background_from_base64_img(base64.b64encode(open("in.jpg", "rb").read()), new_file_name="b64.png", bg_color="white")
"#;
    run_client(
        "python3",
        script,
        &[&rig.server.url("/v1.0/removebg")],
        folder.path(),
    )
    .await;
    for (file, expected) in [
        ("in.jpg_no_bg.png", (559, 447)),
        ("url.png", (1_000, 800)),
        ("b64.png", (559, 447)),
    ] {
        assert_eq!(
            sides(&std::fs::read(folder.path().join(file)).unwrap()),
            expected,
            "{file}"
        );
    }
    rig.end().await;
}

#[tokio::test]
async fn the_node_client_works_with_only_the_address_changed() {
    let modules = std::env::var("ATELIER_NODE_CLIENTS").unwrap_or_default();
    let client = Path::new(&modules).join("node_modules/remove.bg/dist/index.js");
    if modules.is_empty() || !client.is_file() || !runs("node", &["--version"]).await {
        println!(
            "skipped: no Node client; `npm install remove.bg` in a folder and name it in ATELIER_NODE_CLIENTS to run this"
        );
        return;
    }
    let rig = Rig::new().await;
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("in.jpg"), b"\xff\xd8\xff some jpeg").unwrap();
    // The address is a constant of the client: it is read with another one in its place.
    let script = r#"
const fs = require("fs"), Module = require("module"), [file, address] = process.argv.slice(1);
const source = fs.readFileSync(file, "utf8").replace("https://api.remove.bg/v1.0/removebg", address);
const loaded = new Module(file); loaded.filename = file; loaded.paths = Module._nodeModulePaths(require("path").dirname(file)); loaded._compile(source, file);
const client = loaded.exports;
(async () => {
  const one = await client.removeBackgroundFromImageFile({ path: "in.jpg", apiKey: "a-key", size: "preview", type: "auto", outputFile: "file.png" });
  const two = await client.removeBackgroundFromImageUrl({ url: "https://a.example/1.jpg", apiKey: "a-key", size: "auto", outputFile: "url.png" });
  const three = await client.removeBackgroundFromImageBase64({ base64img: fs.readFileSync("in.jpg").toString("base64"), apiKey: "a-key", bg_color: "fff", outputFile: "b64.png" });
  let refused = "nothing";
  await client.removeBackgroundFromImageUrl({ url: "https://a.example/1.jpg", apiKey: "a-key", roi: "1px 2px 3px" }).catch(errors => { refused = errors[0].code; });
  console.log(JSON.stringify([one.resultWidth, two.detectedType, three.creditsCharged, refused]));
})().catch(error => { console.error(error); process.exit(1); });
"#;
    let printed = run_client(
        "node",
        script,
        &[client.to_str().unwrap(), &rig.server.url("/v1.0/removebg")],
        folder.path(),
    )
    .await;
    assert_eq!(printed.trim(), r#"["559","product","0","invalid_roi"]"#);
    for (file, expected) in [
        ("file.png", (559, 447)),
        ("url.png", (1_000, 800)),
        ("b64.png", (559, 447)),
    ] {
        assert_eq!(
            sides(&std::fs::read(folder.path().join(file)).unwrap()),
            expected,
            "{file}"
        );
    }
    rig.end().await;
}
