//! The egress broker of a sandbox that was started from the command line: in this process, without a gateway.

use super::scene::Scene;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::terminal::{complain, one_line};
use lodge_gateway::egress::decisions::{Access, Decisions, Outcome, Question};
use lodge_gateway::egress::{EgressPolicy, Settings, Unlisted};
use lodge_gateway::{Config, Options};
use lodge_proto::ErrorCode;
use lodge_sandbox::policy::{Net, Policy, Unlisted as Else};
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::net::UnixListener;
use std::sync::Arc;
use std::thread::JoinHandle;
use tokio::sync::oneshot;

/// A broker on its own thread; it stops when this is dropped.
#[derive(Debug)]
pub(in crate::commands) struct Egress {
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl Egress {
    /// Serves the scene's socket by its policy. Where the policy has no network, nothing is allowed.
    pub(super) fn serve(data: &DataDir, scene: &mut Scene) -> anyhow::Result<Self> {
        let listener = scene.gateway.take();
        let policy = egress_policy(&scene.policy)?;
        let settings = settings(data)?;
        Self::start(listener, policy, settings, Arc::new(Told))
    }

    /// Serves any listener.
    pub(in crate::commands) fn start(
        listener: Option<UnixListener>,
        policy: EgressPolicy,
        settings: Settings,
        decisions: Arc<dyn Decisions>,
    ) -> anyhow::Result<Self> {
        let Some(listener) = listener else {
            return Ok(Self {
                stop: None,
                thread: None,
            });
        };
        listener.set_nonblocking(true)?;
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()?;
        let (stop, stopped) = oneshot::channel::<()>();
        let thread = std::thread::Builder::new()
            .name("egress".to_owned())
            .spawn(move || {
                runtime.block_on(async move {
                    let Ok(listener) = tokio::net::UnixListener::from_std(listener) else {
                        return;
                    };
                    let shutdown = async {
                        let _ = stopped.await;
                    };
                    lodge_gateway::egress::serve(listener, policy, settings, decisions, shutdown).await;
                });
            })?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }
}

impl Drop for Egress {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// The operator's bounds and exceptions, `[egress]` of the configuration.
fn settings(data: &DataDir) -> anyhow::Result<Settings> {
    crate::config::Config::read(data)?;
    let text = match std::fs::read_to_string(data.config()) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        read => read?,
    };
    let options = Options::embedded(data.path());
    // The keys of providers are the gateway's: none is read here.
    Ok(Config::parse(&options, &text, &BTreeMap::new())?.egress)
}

/// The broker's rules out of a sandbox's.
pub(super) fn egress_policy(policy: &Policy) -> anyhow::Result<EgressPolicy> {
    let Net::Broker {
        allow,
        deny,
        ports,
        unlisted,
    } = &policy.net
    else {
        return Ok(EgressPolicy::default());
    };
    let list = |set: &BTreeSet<String>| set.iter().cloned().collect::<Vec<_>>();
    let ports: Vec<u32> = ports.iter().copied().map(u32::from).collect();
    let unlisted = match unlisted {
        Else::Deny => Unlisted::Deny,
        Else::Ask => Unlisted::Ask,
    };
    EgressPolicy::new(&list(allow), &list(deny), &ports, unlisted).map_err(|error| {
        Failure::new(ErrorCode::InvalidArgument, error.to_string())
            .mend("mend that list; examples/config/sandbox.toml explains every key")
            .into()
    })
}

/// Says on standard error what was refused.
#[derive(Debug)]
struct Told;

impl Decisions for Told {
    fn access(&self, access: Access) {
        if access.outcome == Outcome::Denied {
            let place = format!("{}:{}", access.host, access.port);
            let why = if access.reason.is_empty() {
                &access.rule
            } else {
                &access.reason
            };
            complain(&format!(
                "lodge: no connection to {}: {}",
                one_line(&place, 80),
                one_line(why, 120)
            ));
        }
    }

    /// There is no dialog beside a command that may own the terminal. That it is refused is told by `access`.
    fn ask(&self, _: &Question) -> bool {
        false
    }

    fn closed(&self, _: &str) {}
}
