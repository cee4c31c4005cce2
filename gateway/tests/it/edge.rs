//! Many requests at once at the edge of a budget, before a provider of our own that keeps its own count.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use lodge_proto::control::CreateKeyRequest;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use crate::admin::admin;
use crate::budget::{ASK, RESERVED, address, budget, of_user, send, settings, settled};
use crate::common::Running;
use crate::common::guest::{self, post};

/// A provider that counts what it has been asked for and what it has said, in nano-dollars at its own prices.
pub(crate) struct Counting {
    pub(crate) port: u16,
    /// Requests whose body it has read.
    pub(crate) asked: Arc<AtomicU64>,
    pub(crate) billed: Arc<AtomicU64>,
    /// Answers that may be finished.
    pub(crate) finish: Arc<Semaphore>,
}

impl Counting {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let counting = Self {
            port: listener.local_addr().unwrap().port(),
            asked: Arc::default(),
            billed: Arc::default(),
            finish: Arc::new(Semaphore::new(0)),
        };
        let (asked, billed, finish) = (
            Arc::clone(&counting.asked),
            Arc::clone(&counting.billed),
            Arc::clone(&counting.finish),
        );
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let serve = converse(
                    stream,
                    Arc::clone(&asked),
                    Arc::clone(&billed),
                    Arc::clone(&finish),
                );
                tokio::spawn(serve);
            }
        });
        counting
    }
}

/// Bills the input at once, each delta before it is sent, and states the sum at the end.
async fn converse(
    mut stream: TcpStream,
    asked: Arc<AtomicU64>,
    billed: Arc<AtomicU64>,
    finish: Arc<Semaphore>,
) -> Option<()> {
    let mut buffer = Vec::new();
    loop {
        while !buffer.windows(ASK.len()).any(|window| window == ASK.as_bytes()) {
            if stream.read_buf(&mut buffer).await.ok()? == 0 {
                return None;
            }
        }
        buffer.clear();
        billed.fetch_add(30 * 2000, Ordering::SeqCst);
        asked.fetch_add(1, Ordering::SeqCst);
        let mut chunk = String::from(
            "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
        );
        let mut add = |data: &str| {
            let event = format!("data: {data}\n\n");
            let head = std::mem::take(&mut chunk);
            format!("{head}{:x}\r\n{event}\r\n", event.len())
        };
        let start =
            add(r#"{"type":"message_start","message":{"usage":{"input_tokens":30,"output_tokens":0}}}"#);
        stream.write_all(start.as_bytes()).await.ok()?;
        for _ in 0..5 {
            billed.fetch_add(2 * 10_000, Ordering::SeqCst);
            let delta = add(r#"{"type":"content_block_delta","delta":{"text":"ab"}}"#);
            stream.write_all(delta.as_bytes()).await.ok()?;
        }
        tokio::select! {
            permit = finish.acquire() => permit.ok()?.forget(),
            // A gateway that is gone gets no end, and takes nobody else's.
            _ = stream.read_u8() => return None,
        }
        let end = add(
            r#"{"type":"message_delta","delta":{"stop_reason":"end_turn"},"usage":{"output_tokens":10}}"#,
        );
        stream
            .write_all(format!("{end}0\r\n\r\n").as_bytes())
            .await
            .ok()?;
    }
}

/// What a whole answer of it costs.
pub(crate) const TURN: u64 = 30 * 2000 + 10 * 10_000;

#[tokio::test]
async fn two_hundred_at_once_at_the_edge_of_a_budget() {
    let data = tempfile::tempdir().unwrap();
    let counting = Counting::start().await;
    let _gateway = Running::start(data.path(), &settings(counting.port)).await;
    let mut admin = admin(data.path()).await;
    let address = address(&mut admin).await;
    let limit = RESERVED * 50 + RESERVED / 2;
    let request = CreateKeyRequest {
        key: Some(of_user("ann")),
        budgets: vec![budget("", "day", limit)],
    };
    let made = admin.create_key(request).await.unwrap().into_inner();
    let ask = || async { send(address, post("/anthropic/v1/messages", &made.secret, ASK)).await };
    let answers = futures_util::future::join_all((0..200).map(|_| ask())).await;
    // Nothing is finished, so everything that was let in is reserved at this moment.
    let (passed, refused): (Vec<_>, Vec<_>) = answers.into_iter().partition(|answer| answer.status() == 200);
    assert_eq!((passed.len(), refused.len()), (50, 150));
    assert!(refused.iter().all(|answer| answer.status() == 402));
    assert_eq!(counting.asked.load(Ordering::SeqCst), 50);
    counting.finish.add_permits(50);
    for answer in passed {
        guest::bytes(answer).await;
    }
    let scope = format!("key:{}", made.key.unwrap().id);
    let now = settled(&mut admin, &scope).await;
    assert_eq!(now.spent, 50 * TURN);
    assert_eq!(now.spent, counting.billed.load(Ordering::SeqCst));
}
