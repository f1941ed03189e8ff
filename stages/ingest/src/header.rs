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
        match known
            .into_iter()
            .find(|(magic, _)| first.starts_with(magic))
        {
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
        return Err(IngestError::TooLarge {
            limit_bytes: options.max_bytes,
        });
    }
    let missing = |error| match error {
        BlobError::NotFound(key) => IngestError::UploadMissing(key),
        other => IngestError::Blob(other),
    };
    let prefix = blobs
        .get_range(key, 0..PREFIX_BYTES)
        .await
        .map_err(missing)?;
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
    Ok(BlobRef {
        key: key.clone(),
        media_type: format.media_type().to_owned(),
        bytes,
        width,
        height,
    })
}

fn check_size(
    width: u32,
    height: u32,
    format: Format,
    options: &IngestOptions,
) -> Result<(), HeaderError> {
    if width == 0 || height == 0 {
        return Err(HeaderError::Broken {
            format: format.name(),
            reason: "its width or height is 0",
        });
    }
    let too_many = |limit| {
        Err(HeaderError::TooManyPixels {
            width,
            height,
            limit,
        })
    };
    if width.max(height) > options.max_side_px {
        return too_many(format!("{} a side (`max_side_px`)", options.max_side_px));
    }
    if u64::from(width) * u64::from(height) > options.max_pixels {
        return too_many(format!("{} in all (`max_pixels`)", options.max_pixels));
    }
    Ok(())
}

fn unknown(first: &[u8]) -> HeaderError {
    let shown: Vec<String> = first
        .iter()
        .take(8)
        .map(|byte| format!("{byte:02x}"))
        .collect();
    HeaderError::UnknownFormat {
        first_bytes: shown.join(" "),
    }
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
                return Ok((
                    u32::from(be16(file, at + 7)?),
                    u32::from(be16(file, at + 5)?),
                ));
            }
            _ => at += 2 + usize::from(be16(file, at + 2)?.max(2)),
        }
    }
}

fn webp_size(file: &[u8]) -> Result<Size, Stop> {
    match &bytes_at::<4>(file, 12)? {
        b"VP8 " => Ok((
            u32::from(le16(file, 26)? & 0x3fff),
            u32::from(le16(file, 28)? & 0x3fff),
        )),
        b"VP8L" => {
            let bits = u32::from_le_bytes(bytes_at(file, 21)?);
            Ok(((bits & 0x3fff) + 1, ((bits >> 14) & 0x3fff) + 1))
        }
        b"VP8X" => {
            let [w0, w1, w2, h0, h1, h2] = bytes_at::<6>(file, 24)?;
            Ok((
                u32::from_le_bytes([w0, w1, w2, 0]) + 1,
                u32::from_le_bytes([h0, h1, h2, 0]) + 1,
            ))
        }
        _ => Err(Stop::Broken(
            "its first chunk is none of VP8, VP8L and VP8X",
        )),
    }
}

fn bmp_size(file: &[u8]) -> Result<Size, Stop> {
    if u32::from_le_bytes(bytes_at(file, 14)?) == 12 {
        return Ok((u32::from(le16(file, 18)?), u32::from(le16(file, 20)?)));
    }
    let (width, height) = (
        i32::from_le_bytes(bytes_at(file, 18)?),
        i32::from_le_bytes(bytes_at(file, 22)?),
    );
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
    sizes
        .into_iter()
        .max_by_key(|(width, height)| width * height)
        .ok_or(Stop::Broken("it holds no picture"))
}

/// Width and height among the tags of the first directory.
fn tiff_size(file: &[u8]) -> Result<Size, Stop> {
    let little = file.starts_with(b"II");
    let number = |at: usize, length: usize| -> Result<u64, Stop> {
        let bytes = file
            .get(at..at.saturating_add(length))
            .ok_or(Stop::NeedMore)?;
        let fold = |value: u64, byte: &u8| (value << 8) | u64::from(*byte);
        Ok(if little {
            bytes.iter().rev().fold(0, fold)
        } else {
            bytes.iter().fold(0, fold)
        })
    };
    let place = |at: usize, length: usize| {
        usize::try_from(number(at, length)?)
            .map_err(|_| Stop::Broken("its directory lies beyond any file"))
    };
    let big = number(2, 2)? == 43;
    let (offset_bytes, count_bytes, entry_bytes) = if big { (8, 8, 20) } else { (4, 2, 12) };
    let directory = place(if big { 8 } else { 4 }, offset_bytes)?;
    let count = place(directory, count_bytes)?;
    let (mut width, mut height) = (None, None);
    for entry in 0..count {
        let at = directory
            .saturating_add(count_bytes)
            .saturating_add(entry.saturating_mul(entry_bytes));
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
        let value = u32::try_from(value)
            .map_err(|_| Stop::Broken("its width or height is beyond any picture"))?;
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
    let bytes = file
        .get(at..at.saturating_add(LENGTH))
        .ok_or(Stop::NeedMore)?;
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

#[cfg(test)]
mod tests {
    use image::{DynamicImage, ImageFormat, RgbaImage};

    use super::*;

    const KINDS: [(Format, ImageFormat); 7] = [
        (Format::Jpeg, ImageFormat::Jpeg),
        (Format::Png, ImageFormat::Png),
        (Format::WebP, ImageFormat::WebP),
        (Format::Gif, ImageFormat::Gif),
        (Format::Bmp, ImageFormat::Bmp),
        (Format::Tiff, ImageFormat::Tiff),
        (Format::Ico, ImageFormat::Ico),
    ];

    fn encoded(format: ImageFormat, width: u32, height: u32) -> Vec<u8> {
        let picture = DynamicImage::from(RgbaImage::from_pixel(
            width,
            height,
            image::Rgba([9, 200, 30, 255]),
        ));
        let picture = if format == ImageFormat::Jpeg {
            picture.to_rgb8().into()
        } else {
            picture
        };
        let mut file = std::io::Cursor::new(Vec::new());
        picture.write_to(&mut file, format).unwrap();
        file.into_inner()
    }

    fn size_of(file: &[u8]) -> Result<Size, Stop> {
        Format::of(file).unwrap().size(file)
    }

    #[test]
    fn every_kind_tells_its_size() {
        for (format, by_image) in KINDS {
            for (width, height) in [(1, 1), (200, 7), (31, 255)] {
                let file = encoded(by_image, width, height);
                assert_eq!(Format::of(&file).unwrap(), format);
                assert_eq!(format.size(&file), Ok((width, height)), "{format:?}");
            }
        }
    }

    #[test]
    fn a_header_that_is_cut_off_asks_for_more_and_never_reads_past_its_end() {
        for (format, by_image) in KINDS {
            let file = encoded(by_image, 20, 10);
            for length in 0..file.len().min(400) {
                let cut = format.size(&file[..length]);
                assert!(
                    cut == Err(Stop::NeedMore) || cut == Ok((20, 10)),
                    "{format:?} of {length}: {cut:?}"
                );
            }
        }
    }

    #[test]
    fn garbage_behind_a_magic_never_panics() {
        let mut state = 7_u64;
        for (format, by_image) in KINDS {
            let file = encoded(by_image, 20, 10);
            for _ in 0..20_000 {
                let mut broken = file.clone();
                broken.truncate(200);
                for _ in 0..6 {
                    state = state
                        .wrapping_mul(6_364_136_223_846_793_005)
                        .wrapping_add(1_442_695_040_888_963_407);
                    let at = (state >> 33) as usize % broken.len();
                    broken[at] = if state & 64 == 0 {
                        (state >> 8) as u8
                    } else {
                        0xff
                    };
                }
                // Only the absence of a panic counts here; any answer is possible.
                let _ = format.size(&broken);
            }
        }
    }

    #[test]
    fn sizes_that_only_the_rarer_headers_tell() {
        let core_bmp = [
            &b"BM"[..],
            &[0; 12],
            &12_u32.to_le_bytes(),
            &300_u16.to_le_bytes(),
            &200_u16.to_le_bytes(),
        ]
        .concat();
        assert_eq!(size_of(&core_bmp), Ok((300, 200)));
        let top_down = [
            &b"BM"[..],
            &[0; 12],
            &40_u32.to_le_bytes(),
            &5_i32.to_le_bytes(),
            &(-9_i32).to_le_bytes(),
        ]
        .concat();
        assert_eq!(size_of(&top_down), Ok((5, 9)));
        let lossy = [
            &b"RIFF\0\0\0\0WEBPVP8 "[..],
            &[0; 10],
            &640_u16.to_le_bytes(),
            &480_u16.to_le_bytes(),
        ]
        .concat();
        assert_eq!(size_of(&lossy), Ok((640, 480)));
        let extended = [
            &b"RIFF\0\0\0\0WEBPVP8X"[..],
            &[0; 8],
            &[0x3f, 0x42, 0x0f],
            &[1, 0, 0],
        ]
        .concat();
        assert_eq!(size_of(&extended), Ok((1_000_000, 2)));
        let big_tiff = [
            &b"MM\0+\0\x08\0\0"[..],
            &16_u64.to_be_bytes(),
            &2_u64.to_be_bytes(),
            &[1, 0, 0, 16, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 3, 0],
            &[1, 1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 1, 0, 9, 0, 0, 0, 0, 0, 0],
        ];
        assert_eq!(size_of(&big_tiff.concat()), Ok((768, 9)));
        let endless_directory = [
            &b"II*\0"[..],
            &8_u32.to_le_bytes(),
            &u16::MAX.to_le_bytes(),
            &[2; 600],
        ]
        .concat();
        assert_eq!(size_of(&endless_directory), Err(Stop::NeedMore));
        let far_directory = [&b"II+\0\x08\0\0\0"[..], &u64::MAX.to_le_bytes()].concat();
        assert_eq!(size_of(&far_directory), Err(Stop::NeedMore));
    }

    #[test]
    fn the_kind_is_told_by_the_first_bytes() {
        assert_eq!(Format::of(b""), Err(HeaderError::Empty));
        let others: [&[u8]; 5] = [
            b"hello",
            b"RIFF\0\0\0\0WAVEfmt ",
            b"RIFF",
            b"%PDF-1.7",
            b"\x1f\x8b\x08",
        ];
        for file in others {
            assert!(matches!(
                Format::of(file),
                Err(HeaderError::UnknownFormat { .. })
            ));
        }
    }

    #[test]
    fn limits_name_their_option() {
        let options = IngestOptions {
            max_side_px: 1_000,
            max_pixels: 500_000,
            ..IngestOptions::default()
        };
        assert_eq!(check_size(1_000, 500, Format::Png, &options), Ok(()));
        let side = check_size(1_001, 1, Format::Png, &options)
            .unwrap_err()
            .to_string();
        assert!(
            side.contains("1001 × 1") && side.contains("max_side_px"),
            "{side}"
        );
        let area = check_size(1_000, 501, Format::Png, &options)
            .unwrap_err()
            .to_string();
        assert!(area.contains("max_pixels"), "{area}");
        assert!(matches!(
            check_size(0, 5, Format::Gif, &options),
            Err(HeaderError::Broken { format: "GIF", .. })
        ));
    }

    /// On odd and broken files, whoever else can read a size agrees with ours.
    #[test]
    fn sizes_agree_with_the_decoders_on_odd_files() {
        let data =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/data/malformed");
        let mut folders = vec![data];
        let (mut compared, mut agreed) = (0, 0);
        while let Some(folder) = folders.pop() {
            let Ok(entries) = std::fs::read_dir(&folder) else {
                eprintln!("skipped: no data");
                return;
            };
            for path in entries.map(|entry| entry.unwrap().path()) {
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let file = std::fs::read(&path).unwrap();
                let Ok(format) = Format::of(&file) else {
                    continue;
                };
                let ours = format.size(&file);
                // An icon's directory may lie about a PNG within; decoders read that PNG.
                if format == Format::Ico {
                    continue;
                }
                let reader = image::ImageReader::new(std::io::Cursor::new(&file))
                    .with_guessed_format()
                    .unwrap();
                if let Ok(theirs) = reader.into_dimensions() {
                    compared += 1;
                    agreed += usize::from(ours == Ok(theirs));
                    if ours != Ok(theirs) {
                        eprintln!("{}: ours {ours:?}, theirs {theirs:?}", path.display());
                    }
                }
            }
        }
        assert!(compared > 50, "{compared}");
        assert_eq!(agreed, compared);
    }
}
