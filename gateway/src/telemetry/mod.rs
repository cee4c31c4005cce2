//! Spans for a collector of OpenTelemetry, where one is configured: OTLP over HTTP.
//!
//! What leaves is a closed list of fields, made here from figures and names of the configuration; no span of a library and
//! no text of a request is ever in it. Off, it costs a look at a pointer.
//!
//! - here: a span from its begin to its end; [`settings`]: where to; [`export`]: sending; [`wire`]: its form

mod export;
mod settings;
mod wire;

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::sync::mpsc::{Receiver, Sender, channel};
use tokio_util::sync::CancellationToken;

use crate::proxy::Upstream;
use crate::seal::random;
pub use settings::Settings;
pub(crate) use settings::VARIABLES;
use wire::{Span, number, text};

/// Spans that wait at a time.
const WAITING: usize = 2048;
/// At the end of the process, for what waits.
const LAST: Duration = Duration::from_secs(2);

/// The way of spans out of the process; none where no collector is configured.
#[derive(Debug, Default)]
pub(crate) struct Telemetry {
    sender: Option<Sender<Span>>,
    /// Taken by the one task that sends.
    waiting: Mutex<Option<Receiver<Span>>>,
    settings: Option<Settings>,
    end: CancellationToken,
    sent: AtomicU64,
    dropped: Arc<AtomicU64>,
}

/// What the spans of one request have in common.
pub(crate) type Trace = [u8; 16];

impl Telemetry {
    pub(crate) fn new(settings: Option<Settings>) -> Self {
        let (sender, receiver) = settings.as_ref().map(|_| channel(WAITING)).unzip();
        Self {
            sender,
            waiting: Mutex::new(receiver),
            settings,
            ..Self::default()
        }
    }

    /// For the attempts at one request; none: they need no spans.
    pub(crate) fn trace(&self) -> Option<Trace> {
        self.sender.as_ref()?;
        random().ok()
    }

    /// Begins a span. Without a trace, none.
    pub(crate) fn begin(&self, trace: Option<Trace>, name: String) -> Option<Begun> {
        let (sender, trace) = (self.sender.clone()?, trace?);
        Some(Begun {
            sender,
            dropped: Arc::clone(&self.dropped),
            span: Span {
                trace: trace.to_vec(),
                id: random::<8>().ok()?.to_vec(),
                name,
                kind: wire::CLIENT,
                start: nanos(),
                ..Span::default()
            },
        })
    }

    /// Sends until [`Self::finish`]; at once over where nothing is to be sent.
    pub(crate) async fn run(&self, upstream: &Upstream) {
        let receiver = self.waiting.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let (Some(settings), Some(receiver)) = (&self.settings, receiver) {
            export::run(self, settings, upstream, receiver, self.end.clone()).await;
        }
    }

    /// Gives what waits two seconds to get out.
    pub(crate) async fn finish(&self, running: tokio::task::JoinHandle<()>) {
        self.end.cancel();
        let mut running = running;
        if tokio::time::timeout(LAST, &mut running).await.is_err() {
            running.abort();
        }
    }

    /// Spans that were taken by the collector, and that were not.
    pub(crate) fn counts(&self) -> Option<(u64, u64)> {
        self.sender.as_ref()?;
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Some((read(&self.sent), read(&self.dropped)))
    }
}

/// A span that has begun.
#[derive(Debug)]
pub(crate) struct Begun {
    sender: Sender<Span>,
    dropped: Arc<AtomicU64>,
    span: Span,
}

impl Begun {
    /// A name of the configuration, of a convention, or of a model.
    pub(crate) fn text(&mut self, key: &'static str, value: impl Into<String>) {
        self.span.attributes.push(text(key, value));
    }

    pub(crate) fn number(&mut self, key: &'static str, value: u64) {
        self.span.attributes.push(number(key, value));
    }

    /// Ends it. `error`: a word of few, by the conventions.
    pub(crate) fn end(mut self, error: Option<String>) {
        if let Some(error) = error {
            self.text("error.type", error);
            self.span.status = Some(wire::Status { code: wire::ERROR });
        }
        self.span.end = nanos().max(self.span.start);
        if self.sender.try_send(self.span).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }
}

fn nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}
