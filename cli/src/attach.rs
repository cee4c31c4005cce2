//! Finds the runner of a data directory, or starts one for the call.

use crate::client::link::Link;
use crate::client::local_actor;
use crate::config::{Config, roots};
use crate::data::DataDir;
use crate::failure::Failure;
use crate::supervise::child::READY_WITHIN;
use crate::supervise::lock::{self, ClientLock};
use crate::supervise::{Plan, Supervisor};
use std::path::PathBuf;
use std::time::Duration;

/// A runner that answers, for as long as this lives.
#[derive(Debug)]
pub struct Attachment {
    data: DataDir,
    lock: ClientLock,
    /// Set where this call started the runner.
    own: Option<Supervisor>,
}

impl Attachment {
    /// Uses the runner that is there; else starts gateway, history and runner. Sessions of a runner started here
    /// may also work in `workspaces`.
    pub async fn open(data: &DataDir, workspaces: &[PathBuf]) -> anyhow::Result<Self> {
        data.create()?;
        let shared = data.clone();
        let lock = tokio::task::spawn_blocking(move || ClientLock::share(&shared)).await??;
        let own = if answers(data).await? {
            None
        } else {
            Some(start(data, workspaces).await?)
        };
        Ok(Self {
            data: data.clone(),
            lock,
            own,
        })
    }

    /// A connection to the runner.
    pub async fn link(&self) -> anyhow::Result<Link> {
        Link::connect(&self.socket(), local_actor()).await
    }

    /// Where the runner listens.
    pub fn socket(&self) -> PathBuf {
        self.data.runner_socket()
    }

    /// Ends the use: a runner that was started here is stopped as soon as no other call uses it.
    pub async fn close(self) -> anyhow::Result<()> {
        if let Some(own) = self.own {
            let lock = self.lock;
            let last = tokio::task::spawn_blocking(move || lock.into_last()).await??;
            own.stop().await;
            drop(last);
        }
        Ok(())
    }
}

/// Whether a runner answers. One that somebody is just starting is waited for.
async fn answers(data: &DataDir) -> Result<bool, Failure> {
    let end = tokio::time::Instant::now() + READY_WITHIN;
    loop {
        if lodge_proto::sock::connect(&data.runner_socket()).is_ok() {
            return Ok(true);
        }
        if lock::holder(data)?.is_none() || tokio::time::Instant::now() >= end {
            return Ok(false);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn start(data: &DataDir, workspaces: &[PathBuf]) -> Result<Supervisor, Failure> {
    let config = Config::read(data)?;
    let mut allowed = roots(&config.workspaces)?;
    allowed.extend(workspaces.iter().cloned());
    config.check_agents(data, &allowed)?;
    Supervisor::start(&Plan {
        data: data.clone(),
        listen: None,
        workspaces: allowed,
        ask_permissions: false,
    })
    .await
}
