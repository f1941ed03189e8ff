//! A picture's kind by its first bytes, and its size by its header; nothing is decoded.
//!
//! Invariant: reads only what it is given, never past it, in time that grows no faster than the length. What the header
//! claims is not yet true: decoders check again.

use atelier_schemas::BlobRef;
use atelier_stores::{BlobError, Blobs};

use crate::{HeaderError, IngestError, options::IngestOptions};

/// Most headers lie within this; where one does not, the whole file is read.
const PREFIX_BYTES: u64 = 64 * 1024;

/// Kinds of pictures that are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// JPEG.
    Jpeg,
    /// PNG.
    Png,
    /// WebP.
    WebP,
    /// GIF.
    Gif,
    /// Windows bitmap.
    Bmp,
    /// TIFF and `BigTIFF`.
    Tiff,
    /// Windows icon or cursor.
    Ico,
}

/// Width and height in pixels.
type Size = (u32, u32);

/// Why a size cannot be read from some bytes.
#[derive(Debug, PartialEq, Eq)]
enum Stop {
    /// The bytes end before the size is known.
    NeedMore,
    /// More bytes would not help.
    Broken(&'static str),
}

impl Format {
    /// The kind of a file that begins with `first`.
    ///
    /// # Errors
    /// [`HeaderError::Empty`] or [`HeaderError::UnknownFormat`].
    pub fn of(first: &[u8]) -> Result<Self, HeaderError> {
        let known: [(&[u8], Self); 12] = [
            (b"\xff\xd8\xff", Self::Jpeg),
            (b"\x89PNG\r\n\x1a\n", Self::Png),
            (b"GIF87a", Self::Gif),
            (b"GIF89a", Self::Gif),
            (b"BM", Self::Bmp),
            (b"II*\0", Self::Tiff),
            (b"MM\0*", Self::Tiff),
            (b"II+\0", Self::Tiff),
            (b"MM\0+", Self::Tiff),
            (b"\0\0\x01\0", Self::Ico),
            (b"\0\0\x02\0", Self::Ico),
            (b"RIFF", Self::WebP),
        ];
        if first.is_empty() {
            return Err(HeaderError::Empty);
        }
        match known.into_iter().find(|(magic, _)| first.starts_with(magic)) {
            Some((_, Self::WebP)) if first.get(8..12) != Some(b"WEBP") => Err(unknown(first)),
            Some((_, format)) => Ok(format),
            None => Err(unknown(first)),
        }
    }

    /// Its media type.
    pub fn media_type(self) -> &'static str {
        match self {
            Self::Jpeg => "image/jpeg",
            Self::Png => "image/png",
            Self::WebP => "image/webp",
            Self::Gif => "image/gif",
            Self::Bmp => "image/bmp",
            Self::Tiff => "image/tiff",
            Self::Ico => "image/x-icon",
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::WebP => "WebP",
            Self::Gif => "GIF",
            Self::Bmp => "BMP",
            Self::Tiff => "TIFF",
            Self::Ico => "ICO",
        }
    }

    fn size(self, file: &[u8]) -> Result<Size, Stop> {
        match self {
            Self::Jpeg => jpeg_size(file),
            Self::Png => png_size(file),
            Self::WebP => webp_size(file),
            Self::Gif => Ok((u32::from(le16(file, 6)?), u32::from(le16(file, 8)?))),
            Self::Bmp => bmp_size(file),
            Self::Tiff => tiff_size(file),
            Self::Ico => ico_size(file),
        }
    }
}

/// Checks kind and claimed size of the blob `key` of `bytes` bytes, and says what is known of it.
///
/// # Errors
/// [`IngestError`] where it is no picture, its header is broken, or it claims too much; or the store fails.
pub async fn inspect(
    blobs: &dyn Blobs,
    key: &atelier_schemas::BlobKey,
    bytes: u64,
    options: &IngestOptions,
) -> Result<BlobRef, IngestError> {
    if bytes > options.max_bytes {
        return Err(IngestError::TooLarge { limit_bytes: options.max_bytes });
    }
    let missing = |error| match error {
        BlobError::NotFound(key) => IngestError::UploadMissing(key),
        other => IngestError::Blob(other),
    };
    let prefix = blobs.get_range(key, 0..PREFIX_BYTES).await.map_err(missing)?;
    let format = Format::of(&prefix)?;
    let mut size = format.size(&prefix);
    if size == Err(Stop::NeedMore) && bytes > prefix.len() as u64 {
        size = format.size(&blobs.get(key).await.map_err(missing)?);
    }
    let (width, height) = size.map_err(|stop| HeaderError::Broken {
        format: format.name(),
        reason: match stop {
            Stop::NeedMore => "it is cut off",
            Stop::Broken(reason) => reason,
        },
    })?;
    check_size(width, height, format, options)?;
    Ok(BlobRef { key: key.clone(), media_type: format.media_type().to_owned(), bytes, width, height })
}

fn check_size(width: u32, height: u32, format: Format, options: &IngestOptions) -> Result<(), HeaderError> {
    if width == 0 || height == 0 {
        return Err(HeaderError::Broken { format: format.name(), reason: "its width or height is 0" });
    }
    let too_many = |limit| Err(HeaderError::TooManyPixels { width, height, limit });
    if width.max(height) > options.max_side_px {
        return too_many(format!("{} a side (`max_side_px`)", options.max_side_px));
    }
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return too_many(format!("{} in all (`max_pixels`)", options.max_pixels));
    }
    Ok(())
}

fn unknown(first: &[u8]) -> HeaderError {
    let shown: Vec<String> = first.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    HeaderError::UnknownFormat { first_bytes: shown.join(" ") }
}

fn png_size(file: &[u8]) -> Result<Size, Stop> {
    if bytes_at::<4>(file, 12)? != *b"IHDR" {
        return Err(Stop::Broken("its first chunk is not IHDR"));
    }
    Ok((be32(file, 16)?, be32(file, 20)?))
}

/// Walks the segments to the first start-of-frame.
fn jpeg_size(file: &[u8]) -> Result<Size, Stop> {
    let mut at = 2;
    loop {
        if byte_at(file, at)? != 0xff {
            // Some writers leave bytes between segments; decoders skip them, too.
            at += 1;
            continue;
        }
        match byte_at(file, at + 1)? {
            0xff | 0x00 => at += 1,
            0x01 | 0xd0..=0xd8 => at += 2,
            0xd9 | 0xda => return Err(Stop::Broken("the picture begins before its size is told")),
            0xc0..=0xc3 | 0xc5..=0xc7 | 0xc9..=0xcb | 0xcd..=0xcf => {
                return Ok((u32::from(be16(file, at + 7)?), u32::from(be16(file, at + 5)?)));
            }
            _ => at += 2 + usize::from(be16(file, at + 2)?.max(2)),
        }
    }
}

fn webp_size(file: &[u8]) -> Result<Size, Stop> {
    match &bytes_at::<4>(file, 12)? {
        b"VP8 " => Ok((u32::from(le16(file, 26)? & 0x3fff), u32::from(le16(file, 28)? & 0x3fff))),
        b"VP8L" => {
            let bits = u32::from_le_bytes(bytes_at(file, 21)?);
            Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [w0, w1, w2, h0, h1, h2] = bytes_at::<6>(file, 24)?;
            Ok((u32::from_le_bytes([w0, w1, w2, 0]) + 1, u32::from_le_bytes([h0, h1, h2, 0]) + 1))
        }
        _ => Err(Stop::Broken("its first chunk is none of VP8, VP8L and VP8X")),
    }
}

fn bmp_size(file: &[u8]) -> Result<Size, Stop> {
    if u32::from_le_bytes(bytes_at(file, 14)?) == 12 {
        return Ok((u32::from(le16(file, 18)?), u32::from(le16(file, 20)?)));
    }
    let (width, height) = (i32::from_le_bytes(bytes_at(file, 18)?), i32::from_le_bytes(bytes_at(file, 22)?));
    // A negative height means rows from the top; a negative width means nothing.
    let width = u32::try_from(width).map_err(|_| Stop::Broken("its width is negative"))?;
    Ok((width, height.unsigned_abs()))
}

/// The largest of its pictures.
fn ico_size(file: &[u8]) -> Result<Size, Stop> {
    let count = usize::from(le16(file, 4)?);
    let side = |at| byte_at(file, at).map(|side| if side == 0 { 256 } else { u32::from(side) });
    let sizes = (0..count).map(|entry| Ok((side(6 + entry * 16)?, side(7 + entry * 16)?)));
    let sizes: Vec<Size> = sizes.collect::<Result<_, Stop>>()?;
    sizes.into_iter().max_by_key(|(width, height)| width * height).ok_or(Stop::Broken("it holds no picture"))
}

/// Width and height among the tags of the first directory.
fn tiff_size(file: &[u8]) -> Result<Size, Stop> {
    let little = file.starts_with(b"II");
    let number = |at: usize, length: usize| -> Result<u64, Stop> {
        let bytes = file.get(at..at.saturating_add(length)).ok_or(Stop::NeedMore)?;
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        Ok(if little { bytes.iter().rev().fold(0, fold) } else { bytes.iter().fold(0, fold) })
    };
    let place = |at: usize, length: usize| {
        usize::try_from(number(at, length)?).map_err(|_| Stop::Broken("its directory lies beyond any file"))
    };
    let big = number(2, 2)? == 43;
    let (offset_bytes, count_bytes, entry_bytes) = if big { (8, 8, 20) } else { (4, 2, 12) };
    let directory = place(if big { 8 } else { 4 }, offset_bytes)?;
    let count = place(directory, count_bytes)?;
    let (mut width, mut height) = (None, None);
    for entry in 0..count {
        let at = directory.saturating_add(count_bytes).saturating_add(entry.saturating_mul(entry_bytes));
        let tag = number(at, 2)?;
        if tag != 256 && tag != 257 {
            continue;
        }
        let value_bytes = match number(at + 2, 2)? {
            3 => 2,
            4 => 4,
            16 => 8,
            _ => return Err(Stop::Broken("its width or height is no whole number")),
        };
        let value = number(at + if big { 12 } else { 8 }, value_bytes)?;
        let value = u32::try_from(value).map_err(|_| Stop::Broken("its width or height is beyond any picture"))?;
        *(if tag == 256 { &mut width } else { &mut height }) = Some(value);
        if let (Some(width), Some(height)) = (width, height) {
            return Ok((width, height));
        }
    }
    Err(Stop::Broken("its first directory tells no width or height"))
}

fn byte_at(file: &[u8], at: usize) -> Result<u8, Stop> {
    file.get(at).copied().ok_or(Stop::NeedMore)
}

fn bytes_at<const LENGTH: usize>(file: &[u8], at: usize) -> Result<[u8; LENGTH], Stop> {
    let bytes = file.get(at..at.saturating_add(LENGTH)).ok_or(Stop::NeedMore)?;
    bytes.try_into().map_err(|_| Stop::NeedMore)
}

fn le16(file: &[u8], at: usize) -> Result<u16, Stop> {
    bytes_at(file, at).map(u16::from_le_bytes)
}

fn be16(file: &[u8], at: usize) -> Result<u16, Stop> {
    bytes_at(file, at).map(u16::from_be_bytes)
}

fn be32(file: &[u8], at: usize) -> Result<u32, Stop> {
    bytes_at(file, at).map(u32::from_be_bytes)
}
