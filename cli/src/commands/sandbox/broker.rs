//! The gateway as the check needs it: the real one, in this process, with a made-up internet behind it.

use lodge_gateway::egress::dial::Resolver;
use lodge_gateway::{Config, Options};
use lodge_probe::broker::{Broker, BrokerRequest, BrokerSession};
use lodge_proto::SessionId;
use lodge_runner::lease::{Egress, Lease, Leases, Listener};
use std::collections::{BTreeMap, HashMap};
use std::io::Write;
use std::net::IpAddr;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::oneshot;
use tracing_subscriber::fmt::MakeWriter;

/// How long the gateway may take to come up.
const PATIENCE: Duration = Duration::from_secs(20);
/// Variable of the key that must not get out.
const KEY_VARIABLE: &str = "LODGE_CHECK_KEY";
/// A demo model, and a provider whose key is held and never used.
const CONFIGURATION: &str = "[gateway]\ndemo = true\n\n[[provider]]\nname = \"held\"\nkind = \"openai\"\n\
    key_env = \"LODGE_CHECK_KEY\"\n";

/// Starts a gateway for each sandbox.
#[derive(Debug)]
pub(super) struct RealGateway;

/// A gateway on a thread of its own.
struct Running {
    key: String,
    foreign_key: String,
    revoke: Option<oneshot::Sender<()>>,
    revoked: mpsc::Receiver<()>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
    log: Log,
}

/// What the gateway wrote.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl Log {
    fn add(&self, bytes: &[u8]) {
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .extend_from_slice(bytes);
    }
}

impl Write for Log {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.add(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl<'a> MakeWriter<'a> for Log {
    type Writer = Self;

    fn make_writer(&'a self) -> Self {
        self.clone()
    }
}

/// The two keys of a gateway that is up.
struct Keys {
    own: String,
    foreign: String,
}

/// How the thread that serves is told what to do.
struct Orders {
    revoke: oneshot::Receiver<()>,
    revoked: mpsc::Sender<()>,
    stop: oneshot::Receiver<()>,
}

impl Broker for RealGateway {
    fn open(&self, request: BrokerRequest) -> Result<Box<dyn BrokerSession>, String> {
        let (revoke, revoke_order) = oneshot::channel();
        let (stop, stop_order) = oneshot::channel();
        let (revoked_by, revoked) = mpsc::channel();
        let (up, is_up) = mpsc::channel();
        let log = Log::default();
        let written = log.clone();
        let orders = Orders {
            revoke: revoke_order,
            revoked: revoked_by,
            stop: stop_order,
        };
        let thread = std::thread::Builder::new()
            .name("gateway".to_owned())
            .spawn(move || {
                let subscriber = tracing_subscriber::fmt().with_writer(written.clone()).finish();
                let _logged = tracing::subscriber::set_default(subscriber);
                if let Err(error) = run(request, &written, &up, orders) {
                    let _ = up.send(Err(error));
                }
            })
            .map_err(|error| error.to_string())?;
        let keys = is_up
            .recv_timeout(PATIENCE)
            .map_err(|error| format!("the gateway does not come up: {error}"))??;
        Ok(Box::new(Running {
            key: keys.own,
            foreign_key: keys.foreign,
            revoke: Some(revoke),
            revoked,
            stop: Some(stop),
            thread: Some(thread),
            log,
        }))
    }
}

fn run(
    request: BrokerRequest,
    log: &Log,
    up: &mpsc::Sender<Result<Keys, String>>,
    orders: Orders,
) -> Result<(), String> {
    let text = |error: &dyn std::fmt::Display| error.to_string();
    let data = tempfile::Builder::new()
        .prefix("lodge-check-")
        .tempdir()
        .map_err(|error| text(&error))?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| text(&error))?;
    let config = config(data.path(), &request).map_err(|error| text(&error))?;
    runtime.block_on(async {
        let (ready, is_ready) = oneshot::channel();
        let (end, ended) = oneshot::channel::<()>();
        let serving = lodge_gateway::serve(
            config,
            || {
                let _ = ready.send(());
            },
            async {
                let _ = ended.await;
            },
        );
        let checking = check(data.path(), request, log, up, (is_ready, orders, end));
        let (served, checked) = tokio::join!(serving, checking);
        served.map_err(|error| text(&error)).and(checked)
    })
}

/// Takes the leases and does what is ordered.
async fn check(
    data: &Path,
    request: BrokerRequest,
    log: &Log,
    up: &mpsc::Sender<Result<Keys, String>>,
    (is_ready, orders, end): (oneshot::Receiver<()>, Orders, oneshot::Sender<()>),
) -> Result<(), String> {
    is_ready.await.map_err(|_| "the gateway ended".to_owned())?;
    let uid = lodge_proto::sock::own_uid();
    let leases = Leases::start(data.join("run/gateway-lease.sock"), uid);
    let own = lease(&leases, request, log).await?;
    let other_dir = data.join("other");
    std::fs::create_dir(&other_dir).map_err(|error| error.to_string())?;
    let deaf = Listener::new(|_| {});
    let foreign = leases
        .open(
            &other_dir,
            (SessionId::new(), "check"),
            (Egress::default(), None),
            deaf,
        )
        .await
        .map_err(|error| error.to_string())?;
    let keys = Keys {
        own: own.key().to_owned(),
        foreign: foreign.key().to_owned(),
    };
    let _ = up.send(Ok(keys));
    let mut own = Some(own);
    let mut stop = orders.stop;
    tokio::select! {
        _ = &mut stop => {}
        ordered = orders.revoke => {
            if ordered.is_ok() {
                // The lease's end is a message to the gateway: the key is dead when the next one was answered.
                drop(own.take());
                let _ = leases.models().await;
                let _ = orders.revoked.send(());
            }
            let _ = stop.await;
        }
    }
    drop((own, foreign));
    let _ = end.send(());
    Ok(())
}

async fn lease(leases: &Leases, request: BrokerRequest, log: &Log) -> Result<Lease, String> {
    let egress = Egress {
        allow: request.allow,
        deny: Vec::new(),
        ports: request.ports,
        ask: false,
    };
    let noted = log.clone();
    let notices = Listener::new(move |notice| noted.add(format!("{notice:?}\n").as_bytes()));
    leases
        .open_on(
            request.listener.into(),
            (SessionId::new(), "check"),
            (egress, None),
            notices,
        )
        .await
        .map_err(|error| error.to_string())
}

fn config(data: &Path, request: &BrokerRequest) -> Result<Config, lodge_gateway::ConfigError> {
    let key = request.provider_key.clone().into();
    let environment = BTreeMap::from([(KEY_VARIABLE.to_owned(), key)]);
    let mut config = Config::parse(&Options::embedded(data), CONFIGURATION, &environment)?;
    config.egress.resolver = resolver(request);
    Ok(config)
}

/// Answers from the request's table: for each name one list a question, the last one again and again.
fn resolver(request: &BrokerRequest) -> Resolver {
    let table: HashMap<String, Vec<Vec<IpAddr>>> = request.names.iter().cloned().collect();
    let asked: Mutex<HashMap<String, usize>> = Mutex::default();
    let answer = move |name: String| {
        let answers = table.get(&name)?;
        let mut asked = asked.lock().unwrap_or_else(PoisonError::into_inner);
        let count = asked.entry(name).or_default();
        let answer = answers.get((*count).min(answers.len().checked_sub(1)?))?;
        *count += 1;
        Some(answer.clone())
    };
    Resolver::new(move |name| {
        let found = answer(name).ok_or_else(|| std::io::Error::from(std::io::ErrorKind::NotFound));
        Box::pin(async move { found })
    })
    .with_routes(request.reroute.iter().copied().collect())
}

impl BrokerSession for Running {
    fn key(&self) -> String {
        self.key.clone()
    }

    fn foreign_key(&self) -> String {
        self.foreign_key.clone()
    }

    fn revoke(&mut self) {
        if let Some(revoke) = self.revoke.take() {
            let _ = revoke.send(());
            let _ = self.revoked.recv_timeout(PATIENCE);
        }
    }

    fn log(&self) -> String {
        let log = self.log.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&log).into_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
