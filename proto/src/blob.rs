//! Images that are stored apart from messages: what they may be, and how much of them there may be.

/// Longest blob, in bytes: 10 MiB.
pub const MAX_BLOB: usize = 10 * 1024 * 1024;
/// Images of one prompt.
pub const MAX_PROMPT_IMAGES: usize = 16;
/// Bytes that the images of one prompt may have together, 10 MiB: in base64 and with the prompt's text they are to
/// fit into one line of 16 MiB.
pub const MAX_PROMPT_BLOBS: u64 = 10 * 1024 * 1024;
/// Longest name of a blob, in characters.
pub const MAX_NAME: usize = 200;
/// Bytes that one `Blob` frame of a transfer carries at most.
pub const PIECE: usize = 64 * 1024;
/// The media types of images that are taken.
pub const IMAGE_TYPES: [&str; 4] = ["image/png", "image/jpeg", "image/gif", "image/webp"];

/// The media type of an image by its first bytes, whatever anybody says it is; `None` where it is none that is taken.
pub fn image_type(bytes: &[u8]) -> Option<&'static str> {
    let [png, jpeg, gif, webp] = IMAGE_TYPES;
    if bytes.starts_with(b"\x89PNG\r\n\x1a\n") && bytes.get(12..16) == Some(b"IHDR") {
        Some(png)
    } else if bytes.starts_with(b"\xff\xd8\xff") {
        Some(jpeg)
    } else if bytes.starts_with(b"GIF87a") || bytes.starts_with(b"GIF89a") {
        Some(gif)
    } else if bytes.starts_with(b"RIFF") && bytes.get(8..12) == Some(b"WEBP") {
        Some(webp)
    } else {
        None
    }
}

/// Whether `text` is a blob's hash: 64 hexadecimal digits, in lower case.
pub fn is_hash(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_image_is_told_by_its_bytes() {
        let png = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0";
        assert_eq!(image_type(png), Some("image/png"));
        assert_eq!(image_type(&png[..15]), None, "cut before its header");
        assert_eq!(image_type(b"\xff\xd8\xff\xe0"), Some("image/jpeg"));
        assert_eq!(image_type(b"GIF89a;"), Some("image/gif"));
        assert_eq!(image_type(b"RIFF\0\0\0\0WEBPVP8 "), Some("image/webp"));
        for none in [&b"<svg xmlns='x'/>"[..], b"RIFF\0\0\0\0WAVE", b"GIF90a", b""] {
            assert_eq!(image_type(none), None, "{none:?}");
        }
    }

    #[test]
    fn a_hash_is_no_path() {
        assert!(is_hash(&"a0".repeat(32)));
        for none in [
            "",
            "../../etc/passwd",
            &"A0".repeat(32),
            &"a".repeat(63),
            &"a".repeat(65),
        ] {
            assert!(!is_hash(none), "{none}");
        }
    }
}
