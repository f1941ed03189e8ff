//! Media types by magic bytes, and file names that are safe to hand out.
//!
//! Invariant: what is served as an image was recognised as a raster image by its first bytes; everything else (SVG, HTML,
//! scripts) goes out as `application/octet-stream`, whatever its sender called it.

/// How many first bytes [`sniff`] looks at.
pub const SNIFF_BYTES: usize = 32;

/// What unrecognised bytes are called.
pub const UNKNOWN: &str = "application/octet-stream";

/// The media type of a raster image by its first bytes; [`UNKNOWN`] for everything else.
pub fn sniff(head: &[u8]) -> &'static str {
    let at = |offset: usize, magic: &[u8]| head.get(offset..offset + magic.len()) == Some(magic);
    if at(0, b"\x89PNG\r\n\x1a\n") {
        "image/png"
    } else if at(0, b"\xff\xd8\xff") {
        "image/jpeg"
    } else if at(0, b"RIFF") && at(8, b"WEBP") {
        "image/webp"
    } else if at(0, b"GIF87a") || at(0, b"GIF89a") {
        "image/gif"
    } else if at(4, b"ftypavif") || at(4, b"ftypavis") {
        "image/avif"
    } else if at(0, b"II*\0") || at(0, b"MM\0*") {
        "image/tiff"
    } else if at(0, b"\0\0\x01\0") {
        "image/x-icon"
    } else if at(0, b"BM") && head.len() >= 26 {
        "image/bmp"
    } else {
        UNKNOWN
    }
}

/// `media_type` where it is a raster image that a browser shows without running anything, or a ZIP file, which it only
/// stores; else [`UNKNOWN`].
pub fn harmless(media_type: &str) -> &'static str {
    const HARMLESS: [&str; 9] = [
        "image/png",
        "image/jpeg",
        "image/webp",
        "image/gif",
        "image/avif",
        "image/tiff",
        "image/x-icon",
        "image/bmp",
        "application/zip",
    ];
    HARMLESS
        .into_iter()
        .find(|known| *known == media_type)
        .unwrap_or(UNKNOWN)
}

/// The usual file extension of a media type, without the dot.
pub fn extension(media_type: &str) -> &'static str {
    match media_type {
        "image/png" => "png",
        "image/jpeg" => "jpg",
        "image/webp" => "webp",
        "image/gif" => "gif",
        "image/avif" => "avif",
        "image/tiff" => "tif",
        "image/x-icon" => "ico",
        "image/bmp" => "bmp",
        "application/zip" => "zip",
        _ => "bin",
    }
}

/// The last part of what a sender called a file, fit for people and for [`file_stem`]: no folders, no control signs, no
/// more than 200 characters; `None` where nothing is left.
pub fn clean_name(name: &str) -> Option<String> {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last
        .chars()
        .filter(|sign| !is_unfit(*sign))
        .take(200)
        .collect();
    let trimmed = kept.trim();
    (!trimmed.is_empty() && trimmed.chars().any(|sign| sign != '.')).then(|| trimmed.to_owned())
}

/// Control signs, and the invisible ones that turn the direction of writing and so disguise an extension.
fn is_unfit(sign: char) -> bool {
    sign.is_control()
        || matches!(sign, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// A file name without extension that every file system takes: derived from the image's name, or `image-<index + 1>`.
pub fn file_stem(name: Option<&str>, index: u32) -> String {
    let fallback = || format!("image-{}", index + 1);
    let Some(name) = name.and_then(clean_name) else {
        return fallback();
    };
    let stem = name
        .rsplit_once('.')
        .map_or(name.as_str(), |(stem, _)| stem);
    let safe: String = stem
        .chars()
        .map(|sign| {
            if matches!(sign, '<' | '>' | ':' | '"' | '|' | '?' | '*' | '/' | '\\') {
                '_'
            } else {
                sign
            }
        })
        .take(100)
        .collect();
    let safe = safe.trim_matches([' ', '.']).to_owned();
    if safe.is_empty() || is_reserved_on_windows(&safe) {
        fallback()
    } else {
        safe
    }
}

fn is_reserved_on_windows(stem: &str) -> bool {
    let upper = stem
        .split('.')
        .next()
        .unwrap_or_default()
        .trim_end()
        .to_ascii_uppercase();
    let numbered = |prefix: &str| {
        upper.strip_prefix(prefix).is_some_and(|rest| {
            rest.len() == 1 && rest.bytes().all(|byte| matches!(byte, b'1'..=b'9'))
        })
    };
    matches!(upper.as_str(), "CON" | "PRN" | "AUX" | "NUL") || numbered("COM") || numbered("LPT")
}

/// A `Content-Disposition` that saves as `name`, after RFC 6266: an ASCII fallback, and the whole name after RFC 8187.
pub fn attachment(name: &str) -> String {
    let fallback: String = name
        .chars()
        .map(|sign| {
            if sign.is_ascii_graphic() && !matches!(sign, '"' | '\\' | '%') || sign == ' ' {
                sign
            } else {
                '_'
            }
        })
        .collect();
    let mut encoded = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            encoded.push(char::from(byte));
        } else {
            encoded.push_str(&format!("%{byte:02X}"));
        }
    }
    format!("attachment; filename=\"{fallback}\"; filename*=UTF-8''{encoded}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_raster_images_are_recognised() {
        assert_eq!(sniff(b"\x89PNG\r\n\x1a\n...."), "image/png");
        assert_eq!(sniff(b"\xff\xd8\xff\xe0"), "image/jpeg");
        assert_eq!(sniff(b"RIFF\0\0\0\0WEBPVP8 "), "image/webp");
        assert_eq!(sniff(b"\0\0\0\x1cftypavif"), "image/avif");
        for other in [
            &b""[..],
            b"<svg xmlns",
            b"<!DOCTYPE html>",
            b"BM",
            b"%PDF-1.7",
            b"RIFF\0\0\0\0AVI ",
        ] {
            assert_eq!(sniff(other), UNKNOWN);
        }
        assert_eq!(harmless("image/svg+xml"), UNKNOWN);
        assert_eq!(harmless("text/html"), UNKNOWN);
        assert_eq!(extension(harmless("application/zip")), "zip");
    }

    #[test]
    fn names_are_made_safe() {
        assert_eq!(clean_name("../../etc/passwd").as_deref(), Some("passwd"));
        assert_eq!(clean_name("C:\\Users\\a\\b.jpg").as_deref(), Some("b.jpg"));
        assert_eq!(
            clean_name("a\r\nSet-Cookie: x.jpg").as_deref(),
            Some("aSet-Cookie: x.jpg")
        );
        assert_eq!(clean_name(".."), None);
        assert_eq!(clean_name("a/"), None);
        assert_eq!(file_stem(Some("衬衫 红.jpeg"), 0), "衬衫 红");
        assert_eq!(file_stem(Some("con.txt"), 2), "image-3");
        assert_eq!(file_stem(Some("a<b>:c.png"), 0), "a_b__c");
        assert_eq!(file_stem(Some("evil\u{202e}gpj.exe"), 0), "evilgpj");
        assert_eq!(file_stem(None, 4), "image-5");
    }

    #[test]
    fn attachments_carry_both_names() {
        assert_eq!(
            attachment("红 \"a\".png"),
            "attachment; filename=\"_ _a_.png\"; filename*=UTF-8''%E7%BA%A2%20%22a%22.png"
        );
    }
}
