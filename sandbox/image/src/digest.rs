//! SHA-256, as hexadecimal text.

use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use sha2::{Digest, Sha256};

use crate::error::ImageError;
use crate::manifest::Artifact;

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes
        .iter()
        .fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
            let _ = write!(text, "{byte:02x}");
            text
        })
}

pub(crate) fn of_bytes(bytes: &[u8]) -> String {
    hex(&Sha256::digest(bytes))
}

/// A writer that takes the digest of what passes.
pub(crate) struct Hashing<W> {
    inner: W,
    hash: Sha256,
    pub(crate) written: u64,
}

impl<W: Write> Hashing<W> {
    pub(crate) fn new(inner: W) -> Self {
        Self {
            inner,
            hash: Sha256::new(),
            written: 0,
        }
    }

    pub(crate) fn finish(self) -> (W, String) {
        (self.inner, hex(&self.hash.finalize()))
    }
}

impl<W: Write> Write for Hashing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes)?;
        self.hash.update(&bytes[..written]);
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

pub(crate) fn of_file(path: &Path) -> Result<(String, u64), ImageError> {
    let failed = || ImageError::file("read", path);
    let mut file = File::open(path).map_err(failed())?;
    let mut hashing = Hashing::new(io::sink());
    let mut chunk = vec![0; 1 << 18];
    loop {
        let got = file.read(&mut chunk).map_err(failed())?;
        if got == 0 {
            break;
        }
        hashing.write_all(&chunk[..got]).map_err(failed())?;
    }
    let size = hashing.written;
    Ok((hashing.finish().1, size))
}

/// The file `name` in `folder` as part of a manifest.
pub(crate) fn artifact(folder: &Path, name: &str) -> Result<Artifact, ImageError> {
    let (sha256, size) = of_file(&folder.join(name))?;
    Ok(Artifact {
        file: name.to_owned(),
        sha256,
        size,
    })
}
