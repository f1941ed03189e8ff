//! What kind of file it is, by its first bytes.

use super::DecodeError;

/// Kinds of files that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG, baseline and progressive.
    Jpeg,
    /// PNG and the first picture of APNG.
    Png,
    /// WebP, lossy and lossless.
    WebP,
    /// GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and `BigTIFF`.
    Tiff,
    /// Windows icons and cursors.
    Ico,
}

impl Format {
    /// The kind of `file`, told by its first bytes.
    ///
    /// # Errors
    /// [`DecodeError::Empty`], [`DecodeError::UnsupportedFormat`] for known kinds that are not read,
    /// [`DecodeError::UnknownFormat`] for all else.
    pub fn of(file: &[u8]) -> Result<Self, DecodeError> {
        let starts = |magic: &[u8]| file.starts_with(magic);
        if file.is_empty() {
            return Err(DecodeError::Empty);
        }
        if starts(b"\xff\xd8\xff") {
            return Ok(Self::Jpeg);
        }
        if starts(b"\x89PNG\r\n\x1a\n") {
            return Ok(Self::Png);
        }
        if starts(b"RIFF") && file.get(8..12) == Some(b"WEBP") {
            return Ok(Self::WebP);
        }
        if starts(b"GIF87a") || starts(b"GIF89a") {
            return Ok(Self::Gif);
        }
        if starts(b"BM") {
            return Ok(Self::Bmp);
        }
        if [&b"II*\0"[..], b"MM\0*", b"II+\0", b"MM\0+"]
            .into_iter()
            .any(starts)
        {
            return Ok(Self::Tiff);
        }
        if starts(&[0, 0, 1, 0]) || starts(&[0, 0, 2, 0]) {
            return Ok(Self::Ico);
        }
        Err(unread_format(file).map_or_else(
            || DecodeError::UnknownFormat {
                first_bytes: first_bytes(file),
            },
            |name| DecodeError::UnsupportedFormat { name },
        ))
    }
}

/// The name of a known kind that is not read.
fn unread_format(file: &[u8]) -> Option<&'static str> {
    let starts = |magic: &[u8]| file.starts_with(magic);
    if file.get(4..8) == Some(b"ftyp") {
        return Some(match file.get(8..12) {
            Some(b"avif" | b"avis") => "AVIF",
            Some(b"heic" | b"heix" | b"hevc" | b"hevx" | b"heim" | b"heis" | b"mif1" | b"msf1") => {
                "HEIC"
            }
            Some(b"crx ") => "camera raw",
            _ => "video",
        });
    }
    let known: [(&[u8], &str); 14] = [
        (b"\xff\x0a", "JPEG XL"),
        (b"\0\0\0\x0cJXL \r\n\x87\n", "JPEG XL"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\xff\x4f\xff\x51", "JPEG 2000"),
        (b"%PDF", "PDF"),
        (b"%!PS", "PostScript"),
        (b"8BPS", "Photoshop"),
        (b"<svg", "SVG"),
        (b"<?xml", "SVG"),
        (b"DDS ", "DDS"),
        (b"v/1\x01", "OpenEXR"),
        (b"#?RADIANCE", "Radiance HDR"),
        (b"qoif", "QOI"),
        (b"\x1aE\xdf\xa3", "video"),
    ];
    known
        .into_iter()
        .find(|(magic, _)| starts(magic))
        .map(|(_, name)| name)
}

fn first_bytes(file: &[u8]) -> String {
    let shown: Vec<String> = file
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    shown.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_but_unread_kinds_are_named() {
        for (file, expected) in [
            (&b"\0\0\0\x20ftypavif\0\0\0\0"[..], "AVIF"),
            (b"\0\0\0\x18ftypheic\0\0\0\0", "HEIC"),
            (b"\xff\x0a\xfa", "JPEG XL"),
            (b"%PDF-1.7", "PDF"),
        ] {
            assert!(
                matches!(Format::of(file), Err(DecodeError::UnsupportedFormat { name }) if name == expected)
            );
        }
        assert!(matches!(Format::of(b""), Err(DecodeError::Empty)));
        assert!(matches!(
            Format::of(b"hello"),
            Err(DecodeError::UnknownFormat { .. })
        ));
        assert!(matches!(
            Format::of(b"\x89"),
            Err(DecodeError::UnknownFormat { .. })
        ));
    }
}
