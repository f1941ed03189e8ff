//! Which pictures there are, and where each result goes.

use std::{
    fs, io,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::bail;
use atelier_schemas::ImageFormat;

use crate::cli::CutoutArgs;

/// What a picture in a folder ends in; a picture that is named itself may end in anything.
pub const EXTENSIONS: [&str; 10] = [
    "jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "ico", "jfif",
];

/// One picture to cut out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    /// Its path; `None` is standard input.
    pub source: Option<PathBuf>,
    /// Where the result goes.
    pub destination: Destination,
    /// Its trimap's path.
    pub trimap: Option<PathBuf>,
}

/// Where a result goes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    StandardOutput,
    File(PathBuf),
}

impl Destination {
    /// The file's path; `None` is standard output.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::StandardOutput => None,
            Self::File(path) => Some(path),
        }
    }
}

impl Job {
    /// What people call it.
    pub fn label(&self) -> String {
        self.source.as_ref().map_or_else(
            || "standard input".to_owned(),
            |path| path.display().to_string(),
        )
    }
}

/// Every picture that is to be cut out, in the order of the arguments, and a line for each that cannot be.
pub fn jobs(arguments: &CutoutArgs) -> anyhow::Result<(Vec<Job>, Vec<String>)> {
    let format: ImageFormat = arguments.format.into();
    let mut found = Vec::new();
    let mut failures = Vec::new();
    for input in &arguments.inputs {
        if input.as_os_str() == "-" {
            found.push((None, PathBuf::from("stdin")));
        } else if input.is_dir() {
            let before = found.len();
            if let Err(error) = search(input, input, &mut found) {
                failures.push(format!("{}: {error}", input.display()));
            }
            found[before..].sort();
        } else if input.is_file() {
            let name = input.file_name().map_or_else(PathBuf::new, PathBuf::from);
            found.push((Some(input.clone()), name));
        } else {
            failures.push(format!(
                "{}: there is no such file or folder",
                input.display()
            ));
        }
    }
    if found.iter().filter(|(source, _)| source.is_none()).count() > 1 {
        bail!("`-` can be given once: standard input holds one picture");
    }
    if let Some(trimap) = &arguments.trimap
        && found.len() > 1
        && !trimap.is_dir()
    {
        bail!(
            "--trimap {}: a trimap belongs to one picture, and there are {}; give a folder with one of the same name for each",
            trimap.display(),
            found.len()
        );
    }
    let into_folder =
        arguments.inputs.len() > 1 || arguments.inputs.iter().any(|input| input.is_dir());
    let mut jobs = Vec::new();
    let mut taken = std::collections::HashSet::new();
    for (source, relative) in found {
        let destination = destination(arguments, source.as_deref(), &relative, format, into_folder);
        if let Destination::File(path) = &destination {
            if path.exists() && !arguments.overwrite {
                failures.push(format!(
                    "{}: {} is already there; --overwrite writes it anew",
                    relative.display(),
                    path.display()
                ));
                continue;
            }
            if !taken.insert(path.clone()) {
                failures.push(format!(
                    "{}: another picture goes to {} too; rename one",
                    relative.display(),
                    path.display()
                ));
                continue;
            }
        }
        let trimap = match &arguments.trimap {
            Some(trimap) => match trimap_of(&relative, trimap) {
                Ok(trimap) => Some(trimap),
                Err(failure) => {
                    failures.push(failure);
                    continue;
                }
            },
            None => None,
        };
        jobs.push(Job {
            source,
            destination,
            trimap,
        });
    }
    Ok((jobs, failures))
}

/// The trimap of a picture: the file that was named, or the one of the picture's name in that folder.
fn trimap_of(picture: &Path, trimap: &Path) -> Result<PathBuf, String> {
    if !trimap.is_dir() {
        return Ok(trimap.to_owned());
    }
    let beside = trimap.join(picture);
    EXTENSIONS
        .iter()
        .map(|extension| beside.with_extension(extension))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            format!(
                "{}: there is no trimap of that name in {}",
                picture.display(),
                trimap.display()
            )
        })
}

fn destination(
    arguments: &CutoutArgs,
    source: Option<&Path>,
    relative: &Path,
    format: ImageFormat,
    into_folder: bool,
) -> Destination {
    let extension = format.extension();
    match (&arguments.output, source) {
        (None, None) => Destination::StandardOutput,
        (None, Some(path)) => Destination::File(path.with_extension(format!("cutout.{extension}"))),
        (Some(output), _) if into_folder || output.is_dir() => {
            Destination::File(output.join(relative).with_extension(extension))
        }
        (Some(output), _) => Destination::File(output.clone()),
    }
}

/// Pictures below `folder` by their extension, with their paths relative to `root`. Results of an earlier run are left out.
fn search(
    root: &Path,
    folder: &Path,
    found: &mut Vec<(Option<PathBuf>, PathBuf)>,
) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let extension = path
            .extension()
            .and_then(|extension| extension.to_str())
            .unwrap_or_default()
            .to_ascii_lowercase();
        let is_result = path
            .file_stem()
            .and_then(|stem| stem.to_str())
            .is_some_and(|stem| stem.ends_with(".cutout"));
        if path.is_dir() {
            search(root, &path, found)?;
        } else if EXTENSIONS.contains(&extension.as_str()) && !is_result {
            let relative = path.strip_prefix(root).unwrap_or(&path).to_owned();
            found.push((Some(path), relative));
        }
    }
    Ok(())
}

/// Temporary files are private to their owner; a result should be as readable as any other file of this user.
pub fn make_readable(file: &tempfile::NamedTempFile) -> io::Result<()> {
    file.as_file()
        .set_permissions(fs::Permissions::from_mode(0o644))
}
