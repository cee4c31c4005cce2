//! Puts the built browser UI into the binary: every file of `frontend/dist`, plain and compressed, with its `ETag`.
//!
//! Where the UI was not built, a page that says so takes its place: Rust builds without Node.

use std::error::Error;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::{env, fs};

const PLACEHOLDER: &str = "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n<title>Lodge</title>\n\
    <h1>The browser UI is not part of this build</h1>\n\
    <p>Build it, then build Lodge again:</p>\n\
    <pre>cd frontend &amp;&amp; npm ci &amp;&amp; npm run build</pre>\n\
    <p>The API answers all the same: <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a></p>\n</html>\n";

/// Files shorter than this gain nothing by compression.
const MIN_COMPRESSED: usize = 512;

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=build.rs");
    let dist = Path::new(&env::var("CARGO_MANIFEST_DIR")?).join("../frontend/dist");
    // Cargo runs this again and again while a watched path is missing. The folder is ignored by git.
    let _ = fs::create_dir_all(&dist);
    println!("cargo:rerun-if-changed={}", dist.display());

    let out = PathBuf::from(env::var("OUT_DIR")?).join("ui");
    if out.exists() {
        fs::remove_dir_all(&out)?;
    }
    fs::create_dir_all(&out)?;

    let mut files = Vec::new();
    if dist.join("index.html").is_file() {
        collect(&dist, &dist, &mut files)?;
    } else {
        files.push(("index.html".to_owned(), PLACEHOLDER.as_bytes().to_vec()));
    }
    files.sort();
    let mut table = String::from("pub(super) static ASSETS: &[Asset] = &[\n");
    for (number, (name, bytes)) in files.iter().enumerate() {
        table.push_str(&entry(&out, number, name, bytes)?);
    }
    table.push_str("];\n");
    fs::write(out.join("assets.rs"), table)?;
    Ok(())
}

/// All files below `folder`, with their paths below `root`. Compressed copies a build step left are made anew.
fn collect(root: &Path, folder: &Path, files: &mut Vec<(String, Vec<u8>)>) -> Result<(), Box<dyn Error>> {
    for item in fs::read_dir(folder)? {
        let path = item?.path();
        if path.is_dir() {
            collect(root, &path, files)?;
        } else if !matches!(
            path.extension().and_then(|e| e.to_str()),
            Some("br" | "gz" | "map")
        ) {
            let name = path
                .strip_prefix(root)?
                .to_str()
                .ok_or("a file name of the UI is not UTF-8")?;
            files.push((name.to_owned(), fs::read(&path)?));
        }
    }
    Ok(())
}

/// Writes a file's variants and returns its line of the table.
fn entry(out: &Path, number: usize, name: &str, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
    let mime = mime_guess::from_path(name).first_or_octet_stream();
    let mime = if mime.type_() == "text" || mime.subtype() == "javascript" {
        format!("{}; charset=utf-8", mime.essence_str())
    } else {
        mime.essence_str().to_owned()
    };
    let etag = &blake3::hash(bytes).to_hex()[..32];
    let plain = include(out, &format!("{number}"), bytes)?;
    let brotli = variant(out, &format!("{number}.br"), bytes, &brotli(bytes)?)?;
    let gzip = variant(out, &format!("{number}.gz"), bytes, &gzip(bytes)?)?;
    let mut line = String::new();
    writeln!(
        line,
        "    Asset {{ path: {name:?}, mime: {mime:?}, etag: {etag:?}, plain: {plain}, brotli: {brotli}, gzip: {gzip} }},"
    )?;
    Ok(line)
}

fn variant(out: &Path, file: &str, plain: &[u8], packed: &[u8]) -> Result<String, Box<dyn Error>> {
    if plain.len() < MIN_COMPRESSED || packed.len() >= plain.len() {
        return Ok("None".to_owned());
    }
    Ok(format!("Some({})", include(out, file, packed)?))
}

fn include(out: &Path, file: &str, bytes: &[u8]) -> Result<String, Box<dyn Error>> {
    fs::write(out.join(file), bytes)?;
    Ok(format!(
        "include_bytes!(concat!(env!(\"OUT_DIR\"), \"/ui/{file}\"))"
    ))
}

fn is_release() -> bool {
    env::var("PROFILE").is_ok_and(|profile| profile == "release")
}

fn brotli(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let quality = if is_release() { 11 } else { 4 };
    let params = brotli::enc::BrotliEncoderParams {
        quality,
        lgwin: 22,
        ..Default::default()
    };
    let mut packed = Vec::new();
    brotli::BrotliCompress(&mut &bytes[..], &mut packed, &params)?;
    Ok(packed)
}

fn gzip(bytes: &[u8]) -> Result<Vec<u8>, Box<dyn Error>> {
    let level = flate2::Compression::new(if is_release() { 9 } else { 4 });
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}
