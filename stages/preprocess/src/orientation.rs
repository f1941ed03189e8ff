//! EXIF orientation: found in a block of EXIF, and applied to pixels.

/// Moves cache lines, not single pixels, when rows become columns.
const TILE_PX: usize = 32;

/// The orientation that a block of EXIF asks for, 1 to 8; 1 where the block is broken or says nothing.
pub(crate) fn of_exif(exif: &[u8]) -> u8 {
    let tiff = exif.strip_prefix(b"Exif\0\0").unwrap_or(exif);
    find_orientation(tiff)
        .filter(|value| (1..=8).contains(value))
        .unwrap_or(1)
}

/// Looks the tag up in the first directory; a block that breaks off says nothing.
fn find_orientation(tiff: &[u8]) -> Option<u8> {
    const ORIENTATION: u16 = 0x0112;
    const SHORT: u16 = 3;
    const LONG: u16 = 4;
    let little_endian = match tiff.get(..4)? {
        b"II*\0" => true,
        b"MM\0*" => false,
        _ => return None,
    };
    let short = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(2)?)?.try_into().ok()?;
        Some(if little_endian {
            u16::from_le_bytes(bytes)
        } else {
            u16::from_be_bytes(bytes)
        })
    };
    let long = |at: usize| {
        let bytes = tiff.get(at..at.checked_add(4)?)?.try_into().ok()?;
        Some(if little_endian {
            u32::from_le_bytes(bytes)
        } else {
            u32::from_be_bytes(bytes)
        })
    };
    let directory = long(4)? as usize;
    let entries = usize::from(short(directory)?);
    for index in 0..entries {
        let entry = directory + 2 + index * 12;
        if short(entry)? != ORIENTATION {
            continue;
        }
        let value = match short(entry + 2)? {
            SHORT => u32::from(short(entry + 8)?),
            LONG => long(entry + 8)?,
            _ => return None,
        };
        return u8::try_from(value).ok();
    }
    None
}

/// Turns and mirrors `N`-byte pixels upright; answers with the new width and height. 1 and unknown values change nothing.
pub(crate) fn apply<const N: usize>(
    mut data: Vec<u8>,
    width: u32,
    height: u32,
    orientation: u8,
) -> (Vec<u8>, u32, u32) {
    let (width_px, height_px) = (width as usize, height as usize);
    let pixels = data.as_chunks_mut::<N>().0;
    match orientation {
        2 => pixels.chunks_exact_mut(width_px).for_each(<[_]>::reverse),
        3 => pixels.reverse(),
        4 => flip_rows(pixels, width_px, height_px),
        5..=8 => {
            return (
                transpose::<N>(pixels, width_px, height_px, orientation),
                height,
                width,
            );
        }
        _ => {}
    }
    (data, width, height)
}

fn flip_rows<const N: usize>(pixels: &mut [[u8; N]], width_px: usize, height_px: usize) {
    let (top, bottom) = pixels.split_at_mut(height_px / 2 * width_px);
    for (upper, lower) in top
        .chunks_exact_mut(width_px)
        .zip(bottom.chunks_exact_mut(width_px).rev())
    {
        upper.swap_with_slice(lower);
    }
}

/// The four orientations that exchange rows and columns.
fn transpose<const N: usize>(
    pixels: &[[u8; N]],
    width_px: usize,
    height_px: usize,
    orientation: u8,
) -> Vec<u8> {
    let mut turned = vec![[0; N]; pixels.len()];
    // 6 and 7 put the first row into the last column; 7 and 8 put the first column into the last row.
    let (first_row_last, first_column_last) =
        (matches!(orientation, 6 | 7), matches!(orientation, 7 | 8));
    for tile_y in (0..height_px).step_by(TILE_PX) {
        for tile_x in (0..width_px).step_by(TILE_PX) {
            for x in tile_x..(tile_x + TILE_PX).min(width_px) {
                let target_y = if first_column_last {
                    width_px - 1 - x
                } else {
                    x
                };
                for y in tile_y..(tile_y + TILE_PX).min(height_px) {
                    let target_x = if first_row_last { height_px - 1 - y } else { y };
                    turned[target_y * height_px + target_x] = pixels[y * width_px + x];
                }
            }
        }
    }
    turned.into_flattened()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_eight_orientations() {
        // 1 2 3
        // 4 5 6
        let upright = vec![1, 2, 3, 4, 5, 6];
        for (orientation, expected, size) in [
            (1, [1, 2, 3, 4, 5, 6], (3, 2)),
            (2, [3, 2, 1, 6, 5, 4], (3, 2)),
            (3, [6, 5, 4, 3, 2, 1], (3, 2)),
            (4, [4, 5, 6, 1, 2, 3], (3, 2)),
            (5, [1, 4, 2, 5, 3, 6], (2, 3)),
            (6, [4, 1, 5, 2, 6, 3], (2, 3)),
            (7, [6, 3, 5, 2, 4, 1], (2, 3)),
            (8, [3, 6, 2, 5, 1, 4], (2, 3)),
            (9, [1, 2, 3, 4, 5, 6], (3, 2)),
        ] {
            let (data, width, height) = apply::<1>(upright.clone(), 3, 2, orientation);
            assert_eq!(
                (data.as_slice(), (width, height)),
                (expected.as_slice(), size),
                "orientation {orientation}"
            );
        }
    }

    #[test]
    fn tiles_do_not_show() {
        let (width, height) = (TILE_PX as u32 * 2 + 5, TILE_PX as u32 + 3);
        let pixels: Vec<u8> = (0..width * height * 3)
            .map(|index| (index * 7 % 251) as u8)
            .collect();
        // Four quarter turns are none.
        let mut turned = (pixels.clone(), width, height);
        for _ in 0..4 {
            turned = apply::<3>(turned.0, turned.1, turned.2, 6);
        }
        assert_eq!(turned, (pixels, width, height));
    }

    #[test]
    fn broken_exif_says_nothing() {
        for exif in [
            &b""[..],
            b"II",
            b"II*\0\xff\xff\xff\xff",
            b"II*\0\x08\0\0\0\xff\xff",
            b"Exif\0\0MM\0*\0\0\0\x08\0\x01",
        ] {
            assert_eq!(of_exif(exif), 1);
        }
        let with = |kind: u8, value: u8| {
            let mut exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0".to_vec();
            exif.extend_from_slice(&[kind, 0, 0, 0, 1, 0, value, 0, 0]);
            of_exif(&exif)
        };
        assert_eq!(with(3, 6), 6);
        assert_eq!(with(3, 9), 1);
        assert_eq!(with(2, 6), 1);
    }
}
