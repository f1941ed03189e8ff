//! Taking one file out of a wheel (zip) or an npm package (tar.gz).
//!
//! Names inside an archive are compared, never used as paths, and no more than the expected length is ever written.

use std::{
    collections::HashMap,
    fs::File,
    io::{self, BufReader, Read, Seek, SeekFrom, Write},
    path::Path,
};

use serde::Deserialize;

/// Longest list of pieces that is read, in bytes.
const MAX_INDEX_BYTES: u64 = 1 << 20;

/// What is wrong with an archive.
#[derive(Debug)]
pub(super) enum ArchiveError {
    /// The disk.
    Io(io::Error),
    /// Its contents.
    Bad(String),
}

/// Writes a file through to the disk.
pub(super) fn write_synced(
    path: &Path,
    write: impl FnOnce(&mut File) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = File::create(path)?;
    write(&mut file)?;
    file.sync_all()
}

/// Takes `member` of the wheel at `package` out to `target`.
pub(super) fn take_member(
    package: &Path,
    member: &str,
    size_bytes: u64,
    target: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(), ArchiveError> {
    let file = File::open(package).map_err(ArchiveError::Io)?;
    let mut archive = zip::ZipArchive::new(BufReader::new(file))
        .map_err(|error| ArchiveError::Bad(error.to_string()))?;
    let mut member = archive
        .by_name(member)
        .map_err(|error| ArchiveError::Bad(format!("`{member}`: {error}")))?;
    if member.size() != size_bytes {
        let reason = format!(
            "`{}` has {} bytes, expected {size_bytes}",
            member.name(),
            member.size()
        );
        return Err(ArchiveError::Bad(reason));
    }
    let mut target = File::create(target).map_err(ArchiveError::Io)?;
    copy(&mut member, &mut target, size_bytes, &mut 0, on_bytes)?;
    target.sync_all().map_err(ArchiveError::Io)
}

#[derive(Deserialize)]
struct IndexEntry {
    size: u64,
    chunks: Vec<IndexChunk>,
}

#[derive(Deserialize)]
struct IndexChunk {
    /// The piece's file name: its own hash.
    hash: String,
    /// First byte, and the one after the last.
    offsets: [u64; 2],
}

/// Joins the pieces that `index` of the npm package at `package` lists under `entry`, out to `target`.
///
/// The pieces stand in the archive in any order, so each is written at its offset as it comes by.
pub(super) fn join_chunks(
    package: &Path,
    index: &str,
    entry: &str,
    size_bytes: u64,
    target: &Path,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(), ArchiveError> {
    let chunks = read_index(package, index, entry, size_bytes)?;
    let folder = index.rsplit_once('/').map_or("", |(folder, _)| folder);
    let mut waiting: HashMap<String, [u64; 2]> = HashMap::new();
    for chunk in chunks {
        let path = format!("package/{folder}/{}", chunk.hash);
        if waiting.insert(path, chunk.offsets).is_some() {
            return Err(ArchiveError::Bad(format!(
                "piece `{}` is listed twice",
                chunk.hash
            )));
        }
    }
    let mut target = File::create(target).map_err(ArchiveError::Io)?;
    target.set_len(size_bytes).map_err(ArchiveError::Io)?;
    let mut done_bytes = 0;
    for_each_entry(package, &mut |path, content| {
        if let Some([start, end]) = waiting.remove(path) {
            target
                .seek(SeekFrom::Start(start))
                .map_err(ArchiveError::Io)?;
            copy(content, &mut target, end - start, &mut done_bytes, on_bytes)?;
        }
        Ok(!waiting.is_empty())
    })?;
    if let Some(missing) = waiting.keys().next() {
        return Err(ArchiveError::Bad(format!("piece `{missing}` is missing")));
    }
    target.sync_all().map_err(ArchiveError::Io)
}

/// The pieces of `entry`, checked to cover exactly `size_bytes`.
fn read_index(
    package: &Path,
    index: &str,
    entry: &str,
    size_bytes: u64,
) -> Result<Vec<IndexChunk>, ArchiveError> {
    let wanted = format!("package/{index}");
    let mut text = None;
    for_each_entry(package, &mut |path, content| {
        if path != wanted {
            return Ok(true);
        }
        let mut bytes = Vec::new();
        content
            .take(MAX_INDEX_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| ArchiveError::Bad(error.to_string()))?;
        text = Some(bytes);
        Ok(false)
    })?;
    let text = text.ok_or_else(|| ArchiveError::Bad(format!("`{index}` is missing")))?;
    let mut entries: HashMap<String, serde_json::Value> = serde_json::from_slice(&text)
        .map_err(|error| ArchiveError::Bad(format!("`{index}`: {error}")))?;
    let found = entries
        .remove(entry)
        .ok_or_else(|| ArchiveError::Bad(format!("`{index}` lists no `{entry}`")))?;
    let IndexEntry { size, mut chunks } = serde_json::from_value(found)
        .map_err(|error| ArchiveError::Bad(format!("`{index}`, `{entry}`: {error}")))?;
    chunks.sort_by_key(|chunk| chunk.offsets[0]);
    let mut end = 0;
    for chunk in &chunks {
        if chunk.offsets[0] != end || chunk.offsets[1] <= end {
            return Err(ArchiveError::Bad(format!(
                "the pieces of `{entry}` leave a gap or overlap at byte {end}"
            )));
        }
        end = chunk.offsets[1];
    }
    if end != size_bytes || size != size_bytes {
        return Err(ArchiveError::Bad(format!(
            "the pieces of `{entry}` make {end} bytes, expected {size_bytes}"
        )));
    }
    Ok(chunks)
}

/// Calls `visit` with each file's path and contents until it answers false.
fn for_each_entry(
    package: &Path,
    visit: &mut dyn FnMut(&str, &mut dyn Read) -> Result<bool, ArchiveError>,
) -> Result<(), ArchiveError> {
    let file = File::open(package).map_err(ArchiveError::Io)?;
    let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(BufReader::with_capacity(
        1 << 18,
        file,
    )));
    let bad = |error: io::Error| ArchiveError::Bad(error.to_string());
    for entry in archive.entries().map_err(bad)? {
        let mut entry = entry.map_err(bad)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        if !visit(&path, &mut entry)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Copies exactly `length` bytes; faults of the reader are the archive's, faults of the writer the disk's.
fn copy(
    from: &mut dyn Read,
    to: &mut File,
    length: u64,
    done_bytes: &mut u64,
    on_bytes: &mut dyn FnMut(u64),
) -> Result<(), ArchiveError> {
    let mut buffer = vec![0; 1 << 18];
    let mut left = length;
    loop {
        let read = from
            .read(&mut buffer)
            .map_err(|error| ArchiveError::Bad(error.to_string()))?;
        if read as u64 > left || (read == 0 && left > 0) {
            return Err(ArchiveError::Bad(format!(
                "a member is not {length} bytes long"
            )));
        }
        if read == 0 {
            return Ok(());
        }
        to.write_all(&buffer[..read]).map_err(ArchiveError::Io)?;
        left -= read as u64;
        *done_bytes += read as u64;
        on_bytes(*done_bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn npm_package(folder: &Path, files: &[(&str, &[u8])]) -> std::path::PathBuf {
        let path = folder.join("package");
        let gz = flate2::write::GzEncoder::new(
            File::create(&path).unwrap(),
            flate2::Compression::fast(),
        );
        let mut archive = tar::Builder::new(gz);
        for (name, bytes) in files {
            let mut header = tar::Header::new_gnu();
            header.set_size(bytes.len() as u64);
            header.set_mode(0o644);
            archive.append_data(&mut header, name, *bytes).unwrap();
        }
        archive.into_inner().unwrap().finish().unwrap();
        path
    }

    fn join(files: &[(&str, &[u8])], size_bytes: u64) -> Result<Vec<u8>, ArchiveError> {
        let folder = tempfile::tempdir().unwrap();
        let package = npm_package(folder.path(), files);
        let target = folder.path().join("unpacked");
        join_chunks(
            &package,
            "dist/resources.json",
            "/m",
            size_bytes,
            &target,
            &mut |_| (),
        )?;
        Ok(std::fs::read(target).unwrap())
    }

    const INDEX: &[u8] = br#"{"/m":{"size":7,"chunks":[{"hash":"b","offsets":[4,7]},{"hash":"a","offsets":[0,4]}]}}"#;

    #[test]
    fn pieces_are_joined_by_offset_whatever_their_order() {
        let files: &[(&str, &[u8])] = &[
            ("package/dist/b", b"efg"),
            ("package/dist/resources.json", INDEX),
            ("package/dist/a", b"abcd"),
        ];
        assert_eq!(join(files, 7).unwrap(), b"abcdefg");
    }

    #[test]
    fn pieces_that_do_not_fit_are_refused() {
        let index: (&str, &[u8]) = ("package/dist/resources.json", INDEX);
        let reason = |files: &[(&str, &[u8])], size| match join(files, size).unwrap_err() {
            ArchiveError::Bad(reason) => reason,
            ArchiveError::Io(error) => panic!("{error}"),
        };
        assert!(reason(&[index, ("package/dist/a", b"abcd")], 7).contains("missing"));
        assert!(
            reason(
                &[
                    index,
                    ("package/dist/a", b"abc"),
                    ("package/dist/b", b"efg")
                ],
                7
            )
            .contains("not 4 bytes")
        );
        assert!(
            reason(
                &[
                    index,
                    ("package/dist/a", b"abcde"),
                    ("package/dist/b", b"efg")
                ],
                7
            )
            .contains("not 4 bytes")
        );
        assert!(reason(&[index], 8).contains("expected 8"));
        let gap: &[u8] = br#"{"/m":{"size":7,"chunks":[{"hash":"b","offsets":[5,7]},{"hash":"a","offsets":[0,4]}]}}"#;
        assert!(reason(&[("package/dist/resources.json", gap)], 7).contains("gap"));
    }

    #[test]
    fn a_wheel_gives_one_member_of_the_right_length() {
        let folder = tempfile::tempdir().unwrap();
        let package = folder.path().join("package");
        let mut writer = zip::ZipWriter::new(File::create(&package).unwrap());
        writer
            .start_file("a/b.onnx", zip::write::SimpleFileOptions::default())
            .unwrap();
        writer.write_all(b"weights").unwrap();
        writer.finish().unwrap();
        let target = folder.path().join("unpacked");
        take_member(&package, "a/b.onnx", 7, &target, &mut |_| ()).unwrap();
        assert_eq!(std::fs::read(&target).unwrap(), b"weights");
        assert!(matches!(
            take_member(&package, "a/b.onnx", 8, &target, &mut |_| ()),
            Err(ArchiveError::Bad(_))
        ));
        assert!(matches!(
            take_member(&package, "c", 7, &target, &mut |_| ()),
            Err(ArchiveError::Bad(_))
        ));
    }
}
