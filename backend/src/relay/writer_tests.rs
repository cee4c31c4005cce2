//! When the writer writes, and when it gives up.

use super::hub::{Attachment, Hub};
use super::signal::CloseReason;
use super::socket::Presence;
use super::writer::{self, End};
use crate::auth::secret::TokenHash;
use futures_util::Sink;
use lodge_proto::SessionId;
use lodge_proto::frame::{Header, Kind, flags};
use lodge_proto::relay::{Actor, Rights};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};
use tokio::time::{Instant, sleep, sleep_until};
use tokio_tungstenite::tungstenite::{Error, Message};

/// What reached the wire: a flush, with the messages before it.
#[derive(Debug, Default)]
struct Wire {
    pending: Vec<Message>,
    flushed: Vec<(Duration, Vec<Message>)>,
}

/// A WebSocket that remembers what it was told, or one whose client takes nothing.
struct FakeSink {
    wire: Arc<Mutex<Wire>>,
    start: Instant,
    stuck: bool,
}

impl Sink<Message> for FakeSink {
    type Error = Error;

    fn poll_ready(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }

    fn start_send(self: Pin<&mut Self>, message: Message) -> Result<(), Error> {
        self.wire.lock().unwrap().pending.push(message);
        Ok(())
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        if self.stuck {
            return Poll::Pending;
        }
        let mut wire = self.wire.lock().unwrap();
        let messages = std::mem::take(&mut wire.pending);
        if !messages.is_empty() {
            wire.flushed.push((self.start.elapsed(), messages));
        }
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<(), Error>> {
        Poll::Ready(Ok(()))
    }
}

/// A client that follows one session of a hub.
struct Scene {
    hub: Arc<Hub>,
    attachment: Attachment,
    sink: FakeSink,
    wire: Arc<Mutex<Wire>>,
    start: Instant,
}

impl Scene {
    fn new(stuck: bool) -> Self {
        let hub = Arc::new(Hub::new("local", Arc::default()));
        let actor = Actor {
            account: "local".into(),
            name: "local".into(),
            rights: Rights::Own,
        };
        let attachment = hub.attach(actor, TokenHash([0; 32]));
        let join = format!(r#"{{"type":"join","session_id":"{}"}}"#, SessionId::new());
        let header = Header::new(Kind::Control)
            .channel(attachment.channel)
            .session(1)
            .flags(flags::FOR_RELAY);
        hub.frame(&header, &join);
        let (wire, start) = (Arc::<Mutex<Wire>>::default(), Instant::now());
        let sink = FakeSink {
            wire: Arc::clone(&wire),
            start,
            stuck,
        };
        Self {
            hub,
            attachment,
            sink,
            wire,
            start,
        }
    }

    fn event(&self, flags: u16) {
        self.hub
            .frame(&Header::new(Kind::Event).session(1).flags(flags), "{}");
    }

    async fn at(&self, millis: u64) {
        sleep_until(self.start + Duration::from_millis(millis)).await;
    }

    /// When what number of messages left.
    fn flushes(&self) -> Vec<(u128, usize)> {
        let wire = self.wire.lock().unwrap();
        wire.flushed
            .iter()
            .map(|(at, messages)| (at.as_millis(), messages.len()))
            .collect()
    }
}

fn far_away() -> SystemTime {
    SystemTime::now() + Duration::from_hours(1)
}

/// Runs the writer beside `script`, until the script ends.
async fn beside(scene: &mut Scene, script: impl AsyncFnOnce(&Scene)) {
    let stuck = FakeSink {
        wire: Arc::clone(&scene.wire),
        start: scene.start,
        stuck: true,
    };
    let mut sink = std::mem::replace(&mut scene.sink, stuck);
    let (presence, written) = (Presence::new(far_away()), AtomicU64::new(0));
    tokio::select! {
        end = writer::run(&mut sink, &scene.attachment, &presence, &written) => panic!("{end:?}"),
        () = script(scene) => {}
    }
}

#[tokio::test(start_paused = true)]
async fn an_event_after_a_quiet_window_leaves_at_once_and_a_stream_once_a_window() {
    let mut scene = Scene::new(false);
    beside(&mut scene, async |scene| {
        // Welcome and `runner_lost` leave at 0.
        scene.at(100).await;
        scene.event(0);
        for millis in 101..120 {
            scene.at(millis).await;
            scene.event(0);
        }
        scene.at(200).await;
        scene.event(0);
        scene.at(300).await;
    })
    .await;
    let mut flushes = scene.flushes();
    assert_eq!(flushes.remove(0), (0, 2));
    assert_eq!(flushes.remove(0), (100, 1), "at once");
    assert_eq!(flushes.pop(), Some((200, 1)), "at once again");
    let stream: usize = flushes.iter().map(|(_, count)| count).sum();
    assert_eq!(stream, 19);
    assert!(flushes.len() <= 3, "at most once a window: {flushes:?}");
    assert!(
        flushes.windows(2).all(|pair| pair[1].0 - pair[0].0 >= 8),
        "{flushes:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn what_is_urgent_does_not_wait_and_takes_the_rest_along() {
    let mut scene = Scene::new(false);
    beside(&mut scene, async |scene| {
        scene.at(100).await;
        scene.event(0);
        scene.at(102).await;
        scene.event(0);
        scene.at(104).await;
        scene.event(flags::URGENT);
        scene.at(200).await;
    })
    .await;
    assert_eq!(scene.flushes()[1..], [(100, 1), (104, 2)]);
}

#[tokio::test(start_paused = true)]
async fn thirty_seconds_without_a_byte_end_it_and_slow_progress_does_not() {
    let mut scene = Scene::new(true);
    let presence = Presence::new(far_away());
    let written = AtomicU64::new(0);
    let progress = async {
        for _ in 0..5 {
            sleep(Duration::from_secs(20)).await;
            presence.heard();
            written.fetch_add(1, Ordering::Relaxed);
        }
        std::future::pending::<()>().await;
    };
    let end = tokio::select! {
        end = writer::run(&mut scene.sink, &scene.attachment, &presence, &written) => end,
        () = progress => unreachable!(),
    };
    assert!(matches!(end, End::Close(CloseReason::NoProgress)), "{end:?}");
    let seconds = scene.start.elapsed().as_secs();
    assert!(
        (130..=160).contains(&seconds),
        "30 s after the last byte at 100 s, looked at every 30 s: {seconds}"
    );
}

#[tokio::test(start_paused = true)]
async fn a_silent_client_is_pinged_and_then_given_up() {
    let mut scene = Scene::new(false);
    let (presence, written) = (Presence::new(far_away()), AtomicU64::new(0));
    let end = writer::run(&mut scene.sink, &scene.attachment, &presence, &written).await;
    assert!(matches!(end, End::Close(CloseReason::Silent)), "{end:?}");
    assert_eq!(scene.start.elapsed().as_secs(), 45);
    let wire = scene.wire.lock().unwrap();
    let pings: Vec<u64> = wire
        .flushed
        .iter()
        .filter(|(_, messages)| matches!(messages[..], [Message::Ping(_)]))
        .map(|(at, _)| at.as_secs())
        .collect();
    assert_eq!(pings, [20, 40]);
}

#[tokio::test(start_paused = true)]
async fn the_end_of_the_login_is_the_end_of_its_socket() {
    let mut scene = Scene::new(false);
    let (presence, written) = (Presence::new(SystemTime::now()), AtomicU64::new(0));
    let end = writer::run(&mut scene.sink, &scene.attachment, &presence, &written).await;
    assert!(matches!(end, End::Close(CloseReason::LoginEnded)), "{end:?}");
}

#[tokio::test(start_paused = true)]
async fn a_long_text_leaves_in_fragments() {
    let mut scene = Scene::new(false);
    beside(&mut scene, async |scene| {
        let text = format!("\"{}\"", "x".repeat(20_000));
        scene
            .hub
            .frame(&Header::new(Kind::Reply).channel(scene.attachment.channel), &text);
        scene.at(10).await;
    })
    .await;
    let wire = scene.wire.lock().unwrap();
    let frames: Vec<_> = wire.flushed.iter().flat_map(|(_, messages)| messages).collect();
    let last: Vec<bool> = frames
        .iter()
        .map(|message| match message {
            Message::Frame(frame) => frame.header().is_final,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(
        last,
        [true, true, false, false, true],
        "welcome, runner_lost, and the text in three"
    );
}
