//! Images to and from a runner: each on a connection of its own, so that none holds up a session's events, and the
//! socket itself holds back whoever is faster than the other side.

use super::connection::{FrameReader, Payload, RunnerConnection, UpstreamError};
use super::encode;
use super::placement::{PlacementError, RunnerAddress};
use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use lodge_proto::blob::{MAX_BLOB, PIECE};
use lodge_proto::frame::Kind;
use lodge_proto::part::BlobRef;
use lodge_proto::relay::{Actor, ToRunner};
use lodge_proto::{ErrorBody, ErrorCode, Outcome, Response};
use std::time::Duration;
use tokio::io::AsyncWriteExt as _;
use tokio::net::unix::OwnedWriteHalf;

/// The one transfer of a connection.
const CHANNEL: u32 = 1;
/// Longest time for an image to be taken, or to begin to come.
const LIMIT: Duration = Duration::from_secs(100);

/// Why an image was not transferred.
#[derive(Debug, thiserror::Error)]
pub enum TransferError {
    #[error(transparent)]
    Upstream(#[from] UpstreamError),
    #[error("the image broke off: {0}")]
    Source(String),
    #[error("the runner refused the image: {0}")]
    Refused(ErrorBody),
    #[error("the transfer took longer than {} s", LIMIT.as_secs())]
    Late,
    #[error("the runner's answer could not be read")]
    Answer(#[source] serde_json::Error),
}

impl From<PlacementError> for TransferError {
    fn from(error: PlacementError) -> Self {
        Self::Upstream(error.into())
    }
}

impl TransferError {
    /// The error as clients see it.
    pub fn to_body(&self) -> ErrorBody {
        match self {
            Self::Refused(error) => error.clone(),
            Self::Upstream(error) => error.to_body(),
            Self::Source(_) => ErrorBody::new(ErrorCode::InvalidArgument, self.to_string()),
            Self::Late => ErrorBody::new(ErrorCode::DeadlineExceeded, self.to_string()),
            Self::Answer(_) => ErrorBody::new(ErrorCode::Internal, self.to_string()),
        }
    }
}

/// Gives an image to a runner: its bytes as they come, at most 10 MiB. It is durable when this returns.
pub async fn put<E: std::fmt::Display>(
    address: &RunnerAddress,
    actor: &Actor,
    body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<BlobRef, TransferError> {
    tokio::time::timeout(LIMIT, put_without_limit(address, actor, body))
        .await
        .map_err(|_| TransferError::Late)?
}

/// The same with bytes that are at hand.
pub async fn put_bytes(
    address: &RunnerAddress,
    actor: &Actor,
    bytes: Vec<u8>,
) -> Result<BlobRef, TransferError> {
    let body = futures_util::stream::iter([Ok::<_, std::convert::Infallible>(Bytes::from(bytes))]);
    put(address, actor, body).await
}

async fn put_without_limit<E: std::fmt::Display>(
    address: &RunnerAddress,
    actor: &Actor,
    mut body: impl Stream<Item = Result<Bytes, E>> + Unpin,
) -> Result<BlobRef, TransferError> {
    let mut transfer = Transfer::begin(address, &ToRunner::BlobPut { actor: actor.clone() }).await?;
    let mut ended = false;
    loop {
        tokio::select! {
            // The runner may refuse before it has all.
            answer = transfer.answer() => return answer,
            piece = body.next(), if !ended => match piece {
                Some(Ok(bytes)) => transfer.send(&bytes).await?,
                Some(Err(error)) => return Err(TransferError::Source(error.to_string())),
                None => {
                    ended = true;
                    transfer.piece(&[]).await?;
                }
            },
        }
    }
}

/// Asks a runner for an image.
pub async fn get(address: &RunnerAddress, actor: &Actor, hash: &str) -> Result<Download, TransferError> {
    let request = ToRunner::BlobGet {
        actor: actor.clone(),
        hash: hash.to_owned(),
    };
    let begun = async {
        let mut transfer = Transfer::begin(address, &request).await?;
        let blob = transfer.answer().await?;
        if blob.size > MAX_BLOB as u64 {
            let what = format!("an image of {} bytes", blob.size);
            return Err(UpstreamError::Protocol(what).into());
        }
        Ok(Download { blob, transfer })
    };
    tokio::time::timeout(LIMIT, begun)
        .await
        .map_err(|_| TransferError::Late)?
}

/// An image that comes.
#[derive(Debug)]
pub struct Download {
    /// What it is.
    pub blob: BlobRef,
    transfer: Transfer,
}

impl Download {
    /// Its next bytes; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Bytes>, TransferError> {
        let next = self.transfer.next_piece();
        tokio::time::timeout(LIMIT, next)
            .await
            .map_err(|_| TransferError::Late)?
    }
}

#[derive(Debug)]
struct Transfer {
    reader: FrameReader,
    writer: OwnedWriteHalf,
}

impl Transfer {
    async fn begin(address: &RunnerAddress, request: &ToRunner) -> Result<Self, TransferError> {
        let connection = RunnerConnection::connect(address).await?;
        let (reader, writer) = connection.into_halves();
        let mut transfer = Self { reader, writer };
        let mut frame = Vec::new();
        encode::control(CHANNEL, request, &mut frame).map_err(UpstreamError::from)?;
        transfer.write(&frame).await?;
        Ok(transfer)
    }

    async fn write(&mut self, frame: &[u8]) -> Result<(), TransferError> {
        let written = self.writer.write_all(frame).await;
        Ok(written.map_err(UpstreamError::Write)?)
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<(), TransferError> {
        // An empty piece would be the end.
        for piece in bytes.chunks(PIECE) {
            self.piece(piece).await?;
        }
        Ok(())
    }

    async fn piece(&mut self, piece: &[u8]) -> Result<(), TransferError> {
        let mut frame = Vec::with_capacity(piece.len() + lodge_proto::frame::HEADER_LEN);
        // No terminal has this number: that is what tells an image's pieces from what is typed.
        encode::blob(CHANNEL, 0, piece, &mut frame).map_err(UpstreamError::from)?;
        self.write(&frame).await
    }

    /// What the runner says to the request. Dropping the future loses nothing.
    async fn answer(&mut self) -> Result<BlobRef, TransferError> {
        loop {
            while let Some((header, payload)) = self.reader.next_buffered()? {
                let (Kind::Reply, CHANNEL, Payload::Text(text)) = (header.kind, header.channel, payload)
                else {
                    continue;
                };
                let response: Response = serde_json::from_str(text).map_err(TransferError::Answer)?;
                return match response.outcome {
                    Outcome::Ok(value) => serde_json::from_value(value).map_err(TransferError::Answer),
                    Outcome::Error(error) => Err(TransferError::Refused(error)),
                };
            }
            self.fill().await?;
        }
    }

    async fn next_piece(&mut self) -> Result<Option<Bytes>, TransferError> {
        loop {
            while let Some((header, payload)) = self.reader.next_buffered()? {
                if let (Kind::Blob, CHANNEL, Payload::Bytes(bytes)) = (header.kind, header.channel, payload) {
                    return Ok((!bytes.is_empty()).then(|| Bytes::copy_from_slice(bytes)));
                }
            }
            self.fill().await?;
        }
    }

    async fn fill(&mut self) -> Result<(), TransferError> {
        if self.reader.fill().await? {
            Ok(())
        } else {
            Err(UpstreamError::Closed.into())
        }
    }
}
