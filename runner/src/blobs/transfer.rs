//! Images on their way between a relay and this runner, as binary frames beside everything else of a connection.

use super::{Blobs, Result, too_large};
use crate::conns::{Outbox, ReplyPort};
use bytes::Bytes;
use lodge_proto::blob::{MAX_BLOB, PIECE};
use lodge_proto::frame::{self, Header, Kind};
use lodge_proto::part::BlobRef;
use lodge_proto::relay::{Actor, Rights};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::json;
use std::sync::Arc;
use tokio::sync::OwnedSemaphorePermit;

/// Bytes of a download that may wait for the relay.
const AHEAD: usize = 512 * 1024;

/// The transfers of one connection.
#[derive(Debug)]
pub struct Transfers {
    blobs: Blobs,
    outbox: Outbox,
    upload: Option<Upload>,
}

/// An image that comes in, one a connection.
#[derive(Debug)]
struct Upload {
    channel: u32,
    account: String,
    /// Its first bytes; none are taken after an error, which was told.
    bytes: Option<Vec<u8>>,
    permit: Option<OwnedSemaphorePermit>,
}

impl Transfers {
    /// None so far.
    pub fn new(blobs: Blobs, outbox: Outbox) -> Self {
        Self {
            blobs,
            outbox,
            upload: None,
        }
    }

    /// An image is about to come on this channel. Waits while too many do.
    pub async fn begin(&mut self, channel: u32, actor: Actor) {
        let refused = if actor.rights < Rights::Own {
            Some(ErrorBody::new(ErrorCode::Forbidden, "you may only look"))
        } else if self.upload.is_some() {
            let message = "an image is under way on this connection already";
            Some(ErrorBody::new(ErrorCode::Busy, message))
        } else {
            None
        };
        if let Some(error) = refused {
            reply(&self.outbox, channel, Err(error));
            // What comes nevertheless is taken and dropped.
            if self.upload.is_none() {
                self.upload = Some(Upload {
                    channel,
                    account: actor.account,
                    bytes: None,
                    permit: None,
                });
            }
            return;
        }
        let transfers = Arc::clone(&self.blobs.inner.transfers);
        self.upload = Some(Upload {
            channel,
            account: actor.account,
            bytes: Some(Vec::new()),
            permit: transfers.acquire_owned().await.ok(),
        });
    }

    /// Takes a piece of the image that comes on this channel; an empty one is its end.
    pub fn piece(&mut self, channel: u32, piece: &[u8]) {
        let Some(upload) = self.upload.as_mut().filter(|upload| upload.channel == channel) else {
            return;
        };
        if !piece.is_empty() {
            let Some(bytes) = &mut upload.bytes else { return };
            if bytes.len() + piece.len() > MAX_BLOB {
                upload.bytes = None;
                upload.permit = None;
                reply(&self.outbox, channel, Err(too_large()));
            } else {
                bytes.extend_from_slice(piece);
            }
            return;
        }
        let Some(Upload {
            account,
            bytes: Some(bytes),
            permit,
            ..
        }) = self.upload.take()
        else {
            return;
        };
        let (blobs, outbox) = (self.blobs.clone(), self.outbox.clone());
        tokio::spawn(async move {
            let _permit = permit;
            reply(&outbox, channel, blobs.put(&account, bytes).await);
        });
    }

    /// Sends an image.
    pub fn send(&self, channel: u32, actor: Actor, hash: String) {
        let (blobs, outbox) = (self.blobs.clone(), self.outbox.clone());
        tokio::spawn(async move {
            let _permit = Arc::clone(&blobs.inner.transfers).acquire_owned().await;
            match blobs.get(&actor.account, &hash).await {
                Ok((blob, bytes)) => {
                    reply(&outbox, channel, Ok(blob));
                    pieces(&outbox, channel, &bytes).await;
                }
                Err(error) => reply(&outbox, channel, Err(error)),
            }
        });
    }
}

/// The bytes, never far ahead of the relay, and an empty piece at the end.
async fn pieces(outbox: &Outbox, channel: u32, bytes: &[u8]) {
    let header = Header::new(Kind::Blob).channel(channel);
    for piece in bytes.chunks(PIECE).chain([&[][..]]) {
        outbox.below(AHEAD).await;
        let mut out = Vec::with_capacity(frame::HEADER_LEN + piece.len());
        if frame::encode(&header, piece, &mut out).is_err() || !outbox.send(Bytes::from(out)) {
            return;
        }
    }
}

fn reply(outbox: &Outbox, channel: u32, result: Result<BlobRef>) {
    let port = ReplyPort {
        outbox: outbox.clone(),
        channel,
        id: "blob".to_owned(),
    };
    port.send(result.map(|blob| json!(blob)));
}
