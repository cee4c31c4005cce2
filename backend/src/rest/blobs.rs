//! Images of prompts: raw bytes in, raw bytes out. They live at the user's runner.

use super::error::{ApiError, ErrorAnswer};
use crate::auth::extract::User;
use crate::server::{App, Shared};
use crate::upstream::transfer::{self, Download, TransferError};
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::StreamExt as _;
use http::header::{
    CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_LENGTH, CONTENT_SECURITY_POLICY, CONTENT_TYPE, VARY,
};
use http::{HeaderMap, HeaderValue, StatusCode};
use lodge_proto::blob::{IMAGE_TYPES, MAX_BLOB, is_hash};
use lodge_proto::relay::Rights;
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use utoipa::ToSchema;

/// Transfers at a time, of all users; more wait.
pub(crate) const TRANSFERS: usize = 16;
/// Pieces of a download that wait for the client.
const AHEAD: usize = 4;
/// Time within which a client takes a piece.
const TAKEN_WITHIN: Duration = Duration::from_secs(30);
/// An image is no page: whoever opens it as one gets nothing that runs.
const CSP: &str = "default-src 'none'; sandbox";

/// The bytes of an image.
#[derive(ToSchema)]
#[schema(value_type = String, format = Binary)]
#[allow(dead_code, reason = "it only describes a body")]
pub(crate) struct ImageBytes(Vec<u8>);

/// Keeps an image, whose bytes are the body, for prompts that name it.
///
/// What it is is told by its bytes: PNG, JPEG, GIF or WebP, at most 10 MiB. Twice the same is the same image. One that
/// no session uses is forgotten after a day.
#[utoipa::path(post, path = "/api/v1/blobs", tag = "images",
    request_body(content = ImageBytes, content_type = "application/octet-stream", description = "The image"),
    responses(
        (status = 200, body = Object, description = "`hash`, `media_type` and `size`: the `blob` of an `image` part"),
        (status = 413, body = ErrorAnswer, description = "More than 10 MiB"),
        (status = 415, body = ErrorAnswer, description = "None of the four kinds"),
        (status = 507, body = ErrorAnswer, description = "The user's images are 512 MiB already"),
    ))]
pub(crate) async fn upload(
    State(app): State<Shared>,
    user: User,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    if user.actor.rights < Rights::Own {
        return Err(ErrorBody::new(ErrorCode::Forbidden, "this account may only look").into());
    }
    let announced = headers
        .get(CONTENT_LENGTH)
        .and_then(|length| length.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > MAX_BLOB as u64) {
        let error = ErrorBody::new(
            ErrorCode::InvalidArgument,
            format!("an image has at most {MAX_BLOB} bytes"),
        );
        let error = error.with_details(json!({ "reason": "too_large", "allowed": MAX_BLOB }));
        return Err(refused(error));
    }
    let _room = room(&app).await?;
    let address = app.relay.locate(&user.actor.account).await;
    let pieces = std::pin::pin!(body.into_data_stream());
    let address = address.map_err(|error| failed(&error.into()))?;
    let blob = transfer::put(&address, &user.actor, pieces).await;
    Ok(Json(json!(blob.map_err(|error| failed(&error))?)))
}

/// An image of the user's.
#[utoipa::path(get, path = "/api/v1/blobs/{hash}", tag = "images",
    params(("hash" = String, Path, description = "SHA-256 of the image, 64 hexadecimal digits")), responses(
    (status = 200, body = ImageBytes, content_type = "image/*", description = "The image, as an attachment"),
    (status = 404, body = ErrorAnswer),
))]
pub(crate) async fn download(
    State(app): State<Shared>,
    user: User,
    Path(hash): Path<String>,
) -> Result<Response, ApiError> {
    if !is_hash(&hash) {
        let message = "an image is named by its SHA-256 hash, 64 hexadecimal digits in lower case";
        return Err(ErrorBody::new(ErrorCode::InvalidArgument, message).into());
    }
    let room = room(&app).await?;
    let address = app.relay.locate(&user.actor.account).await;
    let address = address.map_err(|error| failed(&error.into()))?;
    let download = transfer::get(&address, &user.actor, &hash).await;
    let download = download.map_err(|error| failed(&error))?;
    let headers = headers(&download, &hash);
    Ok((headers, stream(&app, download, room)).into_response())
}

/// What keeps a browser from taking an image for anything else.
fn headers(download: &Download, hash: &str) -> HeaderMap {
    let media_type = IMAGE_TYPES
        .into_iter()
        .find(|known| *known == download.blob.media_type)
        .unwrap_or("application/octet-stream");
    let end = media_type.rsplit('/').next().unwrap_or("bin");
    let disposition = format!("attachment; filename=\"image-{}.{end}\"", &hash[..8]);
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(CONTENT_LENGTH, download.blob.size.into());
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(CSP));
    // The bytes of a hash never change; a day bounds what stays behind in a browser.
    headers.insert(
        CACHE_CONTROL,
        HeaderValue::from_static("private, max-age=86400, immutable"),
    );
    headers.insert(VARY, HeaderValue::from_static("Cookie"));
    if let Ok(disposition) = HeaderValue::from_str(&disposition) {
        headers.insert(CONTENT_DISPOSITION, disposition);
    }
    headers
}

/// The bytes of a download. A client that does not take them in time gets no more, and its room is free.
fn stream(app: &App, mut download: Download, room: OwnedSemaphorePermit) -> Body {
    let (pieces, taken) = mpsc::channel::<Result<Bytes, TransferError>>(AHEAD);
    app.tasks.spawn(async move {
        let _room = room;
        loop {
            let piece = match download.next().await {
                Ok(Some(piece)) => Ok(piece),
                Ok(None) => return,
                Err(error) => Err(error),
            };
            let last = piece.is_err();
            let sent = tokio::time::timeout(TAKEN_WITHIN, pieces.send(piece)).await;
            if last || !matches!(sent, Ok(Ok(()))) {
                return;
            }
        }
    });
    let pieces = futures_util::stream::unfold(taken, |mut taken| async move {
        let piece = taken.recv().await?;
        Some((piece, taken))
    });
    Body::from_stream(pieces.fuse())
}

async fn room(app: &App) -> Result<OwnedSemaphorePermit, ApiError> {
    let room = Arc::clone(&app.transfers).acquire_owned().await;
    room.map_err(|_| ErrorBody::new(ErrorCode::Unavailable, "the backend stops").into())
}

fn failed(error: &TransferError) -> ApiError {
    refused(error.to_body())
}

/// The statuses that HTTP has for what is wrong with an image.
fn refused(error: ErrorBody) -> ApiError {
    let reason = error
        .details
        .as_ref()
        .and_then(|details| details["reason"].as_str());
    match reason {
        Some("too_large") => ApiError::with_status(StatusCode::PAYLOAD_TOO_LARGE, error),
        Some("media_type") => ApiError::with_status(StatusCode::UNSUPPORTED_MEDIA_TYPE, error),
        _ => error.into(),
    }
}

/// The routes of this module.
pub(crate) fn routes() -> Router<Shared> {
    Router::new()
        .route("/api/v1/blobs", post(upload))
        .route("/api/v1/blobs/{hash}", get(download))
}
