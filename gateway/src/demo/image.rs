//! Images that a request holds, as far as this model looks at them: what can be counted and compared.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::fmt::{self, Write as _};

/// An image as it arrived.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// As the request says.
    media_type: String,
    bytes: usize,
    /// The first 12 hexadecimal digits of SHA-256.
    hash: String,
    /// Width and height in pixels, of a PNG.
    sides: Option<(u32, u32)>,
}

impl fmt::Display for Image {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} bytes, ", self.media_type, self.bytes)?;
        if let Some((width, height)) = self.sides {
            write!(f, "{width}x{height}, ")?;
        }
        write!(f, "sha256 {}", self.hash)
    }
}

/// The images among the parts of a chat-shaped content.
pub fn images(content: Option<&Value>) -> Vec<Image> {
    let parts = content.and_then(Value::as_array);
    parts.into_iter().flatten().filter_map(image).collect()
}

/// The image of a part, whichever dialect it is of.
pub fn image(part: &Value) -> Option<Image> {
    let text = |value: &Value| value.as_str().map(str::to_owned);
    match part["type"].as_str() {
        Some("image_url") => of_url(part["image_url"]["url"].as_str()?),
        Some("input_image") => of_url(part["image_url"].as_str()?),
        Some("image") => {
            let source = &part["source"];
            Some(of_data(text(&source["media_type"])?, source["data"].as_str()?))
        }
        Some(_) => None,
        None => {
            let inline = part.get("inlineData").or_else(|| part.get("inline_data"))?;
            let media_type = text(&inline["mimeType"]).or_else(|| text(&inline["mime_type"]))?;
            Some(of_data(media_type, inline["data"].as_str()?))
        }
    }
}

fn of_url(url: &str) -> Option<Image> {
    let (head, data) = url.strip_prefix("data:")?.split_once(',')?;
    let media_type = head.split(';').next().unwrap_or_default();
    Some(of_data(media_type.to_owned(), data))
}

fn of_data(media_type: String, data: &str) -> Image {
    let bytes = STANDARD.decode(data).unwrap_or_default();
    let mut hash = String::with_capacity(12);
    for byte in &Sha256::digest(&bytes)[..6] {
        let _ = write!(hash, "{byte:02x}");
    }
    Image {
        media_type,
        bytes: bytes.len(),
        hash,
        sides: sides(&bytes),
    }
}

fn sides(bytes: &[u8]) -> Option<(u32, u32)> {
    let side = |at: usize| {
        let four = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u32::from_be_bytes(four))
    };
    (bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR"))
        .then(|| Some((side(16)?, side(20)?)))
        .flatten()
}

/// What is said of images.
pub fn described(images: &[Image]) -> String {
    let each: Vec<String> = images.iter().map(Image::to_string).collect();
    match images.len() {
        0 => "I received no image".to_owned(),
        1 => format!("I received 1 image: {}", each.join("; ")),
        count => format!("I received {count} images: {}", each.join("; ")),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test that panics has failed.
mod tests {
    use super::*;
    use serde_json::json;

    const DATA: &str =
        "iVBORw0KGgoAAAANSUhEUgAAAAIAAAADCAYAAAC56t6BAAAAC0lEQVR4nGNgQAUAAA8AAfqu9kAAAAAASUVORK5CYII=";

    #[test]
    fn every_dialect_tells_the_same_of_an_image() {
        let url = format!("data:image/png;base64,{DATA}");
        let parts = [
            json!({ "type": "image_url", "image_url": { "url": url } }),
            json!({ "type": "input_image", "image_url": url }),
            json!({ "type": "image", "source": { "type": "base64", "media_type": "image/png", "data": DATA } }),
            json!({ "inlineData": { "mimeType": "image/png", "data": DATA } }),
            json!({ "inline_data": { "mime_type": "image/png", "data": DATA } }),
        ];
        let told: Vec<String> = parts
            .iter()
            .map(|part| image(part).unwrap().to_string())
            .collect();
        assert!(
            told[0].starts_with("image/png, 68 bytes, 2x3, sha256 "),
            "{}",
            told[0]
        );
        assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
        assert_eq!(images(Some(&json!([{ "type": "text", "text": "x" }]))), []);
    }

    #[test]
    fn what_is_no_base64_has_no_bytes() {
        let broken = json!({ "inlineData": { "mimeType": "image/png", "data": "%%" } });
        assert!(
            image(&broken)
                .unwrap()
                .to_string()
                .starts_with("image/png, 0 bytes, sha256 e3b0c44298fc")
        );
    }
}
