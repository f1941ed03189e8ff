//! PAM, netpbm's P7: the three eight-bit kinds that [`Raster`] knows, and nothing else.
//!
//! Invariant: a header is believed only when it matches the bytes that are already in memory, so a hostile one
//! costs nothing.

use bytes::Bytes;

use super::{Bytewise, Channels, PAM_MEDIA_TYPE, Raster, RasterError};

/// No header that Atelier writes is longer; the search for its end stops here.
const MAX_HEADER_BYTES: usize = 256;
const HEADER_END: &[u8] = b"ENDHDR\n";

impl Raster {
    /// Media type of [`Raster::to_pam`].
    pub const MEDIA_TYPE: &'static str = PAM_MEDIA_TYPE;

    /// Header and pixels in one piece, ready to be stored.
    pub fn to_pam(&self) -> Vec<u8> {
        let header = self.header();
        let mut pam = Vec::with_capacity(header.len() + self.data.len());
        pam.extend_from_slice(header.as_bytes());
        pam.extend_from_slice(&self.data);
        pam
    }

    /// The same, in the memory of the pixels where it can grow.
    pub(super) fn into_pam(self) -> Vec<u8> {
        let header = self.header();
        let mut pam = self.into_data();
        let pixels = pam.len();
        pam.reserve_exact(header.len());
        pam.extend_from_slice(header.as_bytes());
        pam.copy_within(..pixels, header.len());
        pam[..header.len()].copy_from_slice(header.as_bytes());
        pam
    }

    fn header(&self) -> String {
        format!(
            "P7\nWIDTH {}\nHEIGHT {}\nDEPTH {}\nMAXVAL 255\nTUPLTYPE {}\nENDHDR\n",
            self.width,
            self.height,
            self.channels.count(),
            tuple_type(self.channels),
        )
    }

    /// Reads what [`Raster::to_pam`] wrote. The pixels stay in the memory they came in.
    ///
    /// # Errors
    /// [`RasterError::Malformed`], [`RasterError::Empty`] or [`RasterError::LengthMismatch`].
    pub fn from_pam(pam: Bytes) -> Result<Self, RasterError> {
        let header_length = header_length(&pam)?;
        let header = Header::parse(pam.get(..header_length).unwrap_or_default())?;
        let Header {
            width,
            height,
            channels,
        } = header;
        let pixels = pam.slice(header_length..);
        Self::of(width, height, channels, Bytewise::Shared(pixels))
    }
}

fn tuple_type(channels: Channels) -> &'static str {
    match channels {
        Channels::Gray => "GRAYSCALE",
        Channels::Rgb => "RGB",
        Channels::Rgba => "RGB_ALPHA",
    }
}

fn header_length(pam: &[u8]) -> Result<usize, RasterError> {
    if !pam.starts_with(b"P7\n") {
        return Err(RasterError::Malformed("it does not begin with `P7`"));
    }
    let head = pam
        .get(..MAX_HEADER_BYTES.min(pam.len()))
        .unwrap_or_default();
    head.windows(HEADER_END.len())
        .position(|window| window == HEADER_END)
        .map(|start| start + HEADER_END.len())
        .ok_or(RasterError::Malformed("its header has no end"))
}

struct Header {
    width: u32,
    height: u32,
    channels: Channels,
}

impl Header {
    fn parse(bytes: &[u8]) -> Result<Self, RasterError> {
        let text = std::str::from_utf8(bytes)
            .map_err(|_| RasterError::Malformed("its header is not text"))?;
        let (mut width, mut height, mut depth, mut maximum) = (None, None, None, None);
        for line in text.lines().skip(1) {
            let Some((name, value)) = line.split_once(' ') else {
                continue;
            };
            let slot = match name {
                "WIDTH" => &mut width,
                "HEIGHT" => &mut height,
                "DEPTH" => &mut depth,
                "MAXVAL" => &mut maximum,
                _ => continue,
            };
            let number: u32 = value
                .trim()
                .parse()
                .map_err(|_| RasterError::Malformed("its header has a bad number"))?;
            if slot.replace(number).is_some() {
                return Err(RasterError::Malformed("its header names a value twice"));
            }
        }
        if maximum != Some(255) {
            return Err(RasterError::Malformed(
                "its samples are not eight bits (MAXVAL 255)",
            ));
        }
        let channels = match depth {
            Some(1) => Channels::Gray,
            Some(3) => Channels::Rgb,
            Some(4) => Channels::Rgba,
            _ => return Err(RasterError::Malformed("its DEPTH is not 1, 3 or 4")),
        };
        let (Some(width), Some(height)) = (width, height) else {
            return Err(RasterError::Malformed("its header lacks WIDTH or HEIGHT"));
        };
        Ok(Self {
            width,
            height,
            channels,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn any_raster() -> impl Strategy<Value = Raster> {
        let channels = prop_oneof![
            Just(Channels::Gray),
            Just(Channels::Rgb),
            Just(Channels::Rgba)
        ];
        (1_u32..20, 1_u32..20, channels).prop_flat_map(|(width, height, channels)| {
            let length = width as usize * height as usize * channels.count();
            prop::collection::vec(any::<u8>(), length)
                .prop_map(move |data| Raster::new(width, height, channels, data).unwrap())
        })
    }

    proptest! {
        #[test]
        fn pam_round_trips(raster in any_raster()) {
            prop_assert_eq!(&Raster::from_pam(raster.to_pam().into()).unwrap(), &raster);
            prop_assert_eq!(raster.to_pam(), raster.into_pam());
        }

        #[test]
        fn garbage_never_panics(mut bytes in prop::collection::vec(any::<u8>(), 0..300), magic in any::<bool>()) {
            if magic {
                bytes.splice(0..0, *b"P7\n");
            }
            prop_assert!(Raster::from_pam(bytes.into()).is_err());
        }
    }

    #[test]
    fn hostile_headers_are_refused() {
        for header in [
            "P7\nWIDTH 4294967295\nHEIGHT 4294967295\nDEPTH 4\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH 60000\nHEIGHT 60000\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH 0\nHEIGHT 0\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH -1\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH 1\nWIDTH 2\nHEIGHT 1\nDEPTH 3\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH 1\nHEIGHT 1\nDEPTH 2\nMAXVAL 255\nENDHDR\n",
            "P7\nWIDTH 1\nHEIGHT 1\nDEPTH 1\nMAXVAL 65535\nENDHDR\n",
            "P7\nHEIGHT 1\nDEPTH 1\nMAXVAL 255\nENDHDR\n",
            "P7\n",
            "P6\n1 1\n255\n",
            "",
        ] {
            assert!(
                Raster::from_pam(Bytes::from_static(header.as_bytes())).is_err(),
                "{header}"
            );
        }
    }
}
