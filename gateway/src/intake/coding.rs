//! Bodies that come compressed: unpacked to be read, within the bound that all bodies have.
//!
//! One coding, one frame and nothing after it: where two decoders may disagree on what a body is, the checks here would
//! be of something else than what the provider reads.

use std::io::Read;

use brotli::enc::StandardAlloc;
use brotli::{BrotliDecompressStream, BrotliResult, BrotliState};
use flate2::bufread::GzDecoder;
use flate2::{Decompress, FlushDecompress, Status};
use hyper::HeaderMap;
use hyper::header::CONTENT_ENCODING;

use crate::dialect::WireError;

/// Bytes that are unpacked at once.
const PIECE: usize = 64 << 10;

/// How a body is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Coding {
    Gzip,
    Brotli,
    Zstd,
    /// The zlib format, as RFC 9110 has it.
    Deflate,
}

/// Why a body cannot be unpacked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Undecodable {
    /// More than the limit comes out of it.
    TooLarge,
    /// Not that coding, damaged, or cut off.
    Broken,
    /// Something follows its end.
    Trailing,
}

impl Coding {
    /// What the headers say; none: the body is plain.
    pub(super) fn of(headers: &HeaderMap) -> Result<Option<Self>, WireError> {
        let values = headers.get_all(CONTENT_ENCODING).iter();
        let mut named = values
            .flat_map(|value| value.to_str().unwrap_or("?").split(','))
            .map(str::trim)
            .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
        let Some(name) = named.next() else {
            return Ok(None);
        };
        let refuse = |name: &str| {
            let shown: String = name.chars().filter(|char| !char.is_control()).take(20).collect();
            WireError::compressed(&shown)
        };
        if let Some(second) = named.next() {
            return Err(refuse(&format!("{name}, {second}")));
        }
        let coding = match name.to_ascii_lowercase().as_str() {
            "gzip" | "x-gzip" => Self::Gzip,
            "br" => Self::Brotli,
            "zstd" => Self::Zstd,
            "deflate" => Self::Deflate,
            _ => return Err(refuse(name)),
        };
        Ok(Some(coding))
    }

    /// As people call it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Gzip => "gzip",
            Self::Brotli => "brotli",
            Self::Zstd => "zstd",
            Self::Deflate => "deflate",
        }
    }

    /// Unpacks it, to `most` bytes and no further. Takes as long as that many bytes take.
    pub(super) fn decode(self, coded: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
        match self {
            Self::Gzip => {
                let mut decoder = GzDecoder::new(coded);
                let plain = bounded(&mut decoder, most)?;
                ended(decoder.into_inner(), plain)
            }
            Self::Zstd => zstd(coded, most),
            Self::Deflate => deflate(coded, most),
            Self::Brotli => brotli(coded, most),
        }
    }
}

fn bounded(decoder: &mut impl Read, most: usize) -> Result<Vec<u8>, Undecodable> {
    let mut plain = Vec::new();
    let limit = (most as u64).saturating_add(1);
    let read = decoder.take(limit).read_to_end(&mut plain);
    read.map_err(|_| Undecodable::Broken)?;
    if plain.len() > most {
        return Err(Undecodable::TooLarge);
    }
    Ok(plain)
}

fn ended(rest: &[u8], plain: Vec<u8>) -> Result<Vec<u8>, Undecodable> {
    if rest.is_empty() {
        Ok(plain)
    } else {
        Err(Undecodable::Trailing)
    }
}

fn zstd(coded: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
    let broken = |_: std::io::Error| Undecodable::Broken;
    let mut decoder = zstd::stream::read::Decoder::with_buffer(coded)
        .map_err(broken)?
        .single_frame();
    // A frame may ask for a window of any size; one for as much as may come out is enough, and 8 MiB is what all have.
    let window = usize::BITS - most.leading_zeros();
    decoder.window_log_max(window.clamp(23, 27)).map_err(broken)?;
    let plain = bounded(&mut decoder, most)?;
    ended(decoder.finish(), plain)
}

fn deflate(coded: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
    let mut inflate = Decompress::new(true);
    let mut plain = Vec::new();
    let mut at = 0;
    loop {
        plain.reserve(PIECE);
        let before = (at, plain.len());
        let status = inflate.decompress_vec(&coded[at..], &mut plain, FlushDecompress::None);
        at = usize::try_from(inflate.total_in()).unwrap_or(coded.len());
        if plain.len() > most {
            return Err(Undecodable::TooLarge);
        }
        match status {
            Ok(Status::StreamEnd) => return ended(&coded[at..], plain),
            Ok(_) if before != (at, plain.len()) => {}
            _ => return Err(Undecodable::Broken),
        }
    }
}

fn brotli(coded: &[u8], most: usize) -> Result<Vec<u8>, Undecodable> {
    let alloc = StandardAlloc::default;
    let mut state = BrotliState::new(alloc(), alloc(), alloc());
    let mut plain = Vec::new();
    let mut piece = vec![0; PIECE];
    let (mut left, mut at, mut total) = (coded.len(), 0, 0);
    loop {
        let (mut room, mut made) = (piece.len(), 0);
        let result = BrotliDecompressStream(
            &mut left, &mut at, coded, &mut room, &mut made, &mut piece, &mut total, &mut state,
        );
        plain.extend_from_slice(&piece[..made]);
        if plain.len() > most {
            return Err(Undecodable::TooLarge);
        }
        match result {
            BrotliResult::ResultSuccess => return ended(&coded[at..], plain),
            BrotliResult::NeedsMoreOutput => {}
            // There is no more.
            BrotliResult::NeedsMoreInput | BrotliResult::ResultFailure => return Err(Undecodable::Broken),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use super::*;

    const ALL: [Coding; 4] = [Coding::Gzip, Coding::Brotli, Coding::Zstd, Coding::Deflate];

    fn encode(coding: Coding, plain: &[u8]) -> Vec<u8> {
        let level = flate2::Compression::default();
        match coding {
            Coding::Gzip => {
                let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Deflate => {
                let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), level);
                encoder.write_all(plain).unwrap();
                encoder.finish().unwrap()
            }
            Coding::Zstd => zstd::encode_all(plain, 3).unwrap(),
            Coding::Brotli => {
                let mut coded = Vec::new();
                let parameters = brotli::enc::BrotliEncoderParams {
                    quality: 5,
                    ..Default::default()
                };
                brotli::BrotliCompress(&mut &*plain, &mut coded, &parameters).unwrap();
                coded
            }
        }
    }

    #[test]
    fn what_was_packed_comes_out_and_everything_else_is_refused() {
        let plain =
            b"{\"model\":\"m\",\"text\":\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa, b, cc\"}".repeat(20);
        for coding in ALL {
            let coded = encode(coding, &plain);
            assert_eq!(
                coding.decode(&coded, plain.len()),
                Ok(plain.clone()),
                "{coding:?}"
            );
            let small = coding.decode(&coded, plain.len() - 1);
            assert_eq!(small, Err(Undecodable::TooLarge), "{coding:?}");
            for length in 0..coded.len() {
                let cut = coding.decode(&coded[..length], plain.len());
                assert_eq!(cut, Err(Undecodable::Broken), "{coding:?} {length}");
            }
            for rest in [&b"\0"[..], b"x", &coded] {
                let more = [&coded, rest].concat();
                let more = coding.decode(&more, plain.len() * 3);
                assert_eq!(more, Err(Undecodable::Trailing), "{coding:?}");
            }
        }
    }

    #[test]
    fn a_bomb_costs_as_much_as_its_bound() {
        let zeros = vec![0; 64 << 20];
        for coding in ALL {
            let bomb = encode(coding, &zeros);
            assert!(bomb.len() < 1 << 20, "{coding:?}");
            assert_eq!(
                coding.decode(&bomb, 1 << 20),
                Err(Undecodable::TooLarge),
                "{coding:?}"
            );
        }
    }

    #[test]
    fn one_coding_and_a_known_one() {
        let of = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(CONTENT_ENCODING, value.parse().unwrap());
            }
            Coding::of(&headers).map_err(|error| error.status)
        };
        assert_eq!(of(&[]), Ok(None));
        assert_eq!(of(&["identity"]), Ok(None));
        assert_eq!(of(&["GZIP"]), Ok(Some(Coding::Gzip)));
        assert_eq!(of(&["identity, br"]), Ok(Some(Coding::Brotli)));
        for refused in [&["gzip, br"][..], &["gzip", "gzip"], &["compress"], &["zstd, x"]] {
            assert_eq!(of(refused), Err(415), "{refused:?}");
        }
    }
}
