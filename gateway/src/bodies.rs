//! Bodies in the log, of the keys that were made for it; of no other.

use http_body_util::BodyExt;
use hyper::Response;

use crate::body::GuestBody;

/// Longest piece, bytes.
const MAX_PIECE: usize = 64 << 10;

/// What a key has asked.
pub(crate) fn asked(key: &str, body: &[u8]) {
    tracing::info!(key, bytes = body.len(), body = %shown(body), "a body of a request");
}

/// The answer, logged as it passes.
pub(crate) fn answered(key: &str, response: Response<GuestBody>) -> Response<GuestBody> {
    let key = key.to_owned();
    let log = move |frame: hyper::body::Frame<bytes::Bytes>| {
        if let Some(data) = frame.data_ref() {
            tracing::info!(key, bytes = data.len(), body = %shown(data), "a piece of an answer");
        }
        frame
    };
    response.map(|body| body.map_frame(log).boxed_unsync())
}

/// As text on one line: a body must not be able to look like a line of the log.
fn shown(bytes: &[u8]) -> String {
    let piece = bytes.get(..MAX_PIECE).unwrap_or(bytes);
    String::from_utf8_lossy(piece).escape_debug().to_string()
}
