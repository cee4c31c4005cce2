//! The container tier: Docker and Podman over their API.
//!
//! A session's container is started once and stays warm: every further command is one fork of guest init in it, so
//! there is no pool, and `exec` of the engine is never used. Guest init connects to a socket that only it is shown; its
//! frames and the asker's are passed on as bytes. When either side ends, the container is killed and removed. Should
//! `lodge-tier` be killed itself, guest init sees the end of its stream, ends everything and leaves, and the engine
//! removes the container; what a kill in between leaves is swept at the next start.

mod compile;
mod engine;
mod error;
mod idmap;
mod image;
mod owner;
mod stage;
mod sweep;
mod verify;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bollard::Docker;
use bollard::container::AttachContainerResults;
use bollard::errors::Error;
use bollard::models::ContainerCreateBody;
use bollard::query_parameters::{
    AttachContainerOptions, CreateContainerOptions, RemoveContainerOptions, StartContainerOptions,
    WaitContainerOptions,
};
use futures_util::StreamExt;
use lodge_sandbox::launch::EngineHint;
use rustix::net::RecvFlags;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, Interest};
use tokio::net::UnixStream;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{sleep, timeout};

pub use engine::{Engine, Make, allowed, candidates, connect};
pub use error::ContainerError;

use crate::request::Job;
use owner::Owner;
use stage::Stage;
use verify::Opening;

/// Until guest init has connected.
const START_LIMIT: Duration = Duration::from_mins(1);
/// Until a killed container is gone.
const REMOVE_LIMIT: Duration = Duration::from_secs(20);
const REMOVE_PAUSE: Duration = Duration::from_millis(20);
/// What guest init may say before it is ready, in bytes; what it says later is not kept.
const MAX_SAID: usize = 16 << 10;
/// Bytes that are on their way in one direction.
const CHUNK: usize = 64 << 10;

/// Runs one sandbox until either end of its stream ends, or TERM or INT comes.
pub async fn run(job: Job) -> Result<(), ContainerError> {
    let mut ended = Ended::listen()?;
    let uid = rustix::process::geteuid().as_raw();
    let Job { request, mux } = job;
    let (plan, state) = (&request.plan, &request.tools.state);
    let image = lodge_image::current(state)?;
    let (docker, engine) = connect(&request.engine, uid).await?;
    allowed(&engine, request.hosted, uid)?;
    let id = image::ensure(&docker, &image).await?;
    let owner =
        Owner::this().ok_or_else(|| ContainerError::system("read /proc")(io::ErrorKind::NotFound.into()))?;
    let stage = Stage::prepare(plan, state, owner, compile::SECCOMP)?;
    let body = compile::compile(
        plan,
        &compile::Site {
            engine: &engine,
            image: &id,
            sources: &stage.sources,
            mux: &stage.mux(),
            seccomp: &stage.filter(),
            labels: sweep::labels(state, owner)?,
        },
    )?;
    let mux = stream(mux)?;
    // From here on there may be a container, so nothing returns before it is removed.
    let container = Container::create(&docker, body, owner).await?;
    let outcome = tokio::select! {
        outcome = container.serve(stage, mux) => outcome,
        () = ended.wait() => Ok(()),
    };
    let removed = container.remove().await;
    let swept = sweep::sweep(&docker, state).await;
    outcome.and(removed).and(swept.map(drop))
}

/// Removes what killed launchers of this installation left in the engine; gives the number of containers.
pub async fn sweep(hint: &EngineHint, state: &Path) -> Result<usize, ContainerError> {
    let (docker, _) = connect(hint, rustix::process::geteuid().as_raw()).await?;
    sweep::sweep(&docker, state).await
}

fn stream(mux: OwnedFd) -> Result<UnixStream, ContainerError> {
    let failed = |error| ContainerError::system("use the framed stream")(error);
    let stream = std::os::unix::net::UnixStream::from(mux);
    stream.set_nonblocking(true).map_err(failed)?;
    UnixStream::from_std(stream).map_err(failed)
}

/// The signals that ask for an end.
struct Ended {
    term: Signal,
    int: Signal,
}

impl Ended {
    fn listen() -> Result<Self, ContainerError> {
        let on = |kind| signal(kind).map_err(ContainerError::system("wait for signals"));
        Ok(Self {
            term: on(SignalKind::terminate())?,
            int: on(SignalKind::interrupt())?,
        })
    }

    async fn wait(&mut self) {
        tokio::select! {
            _ = self.term.recv() => {}
            _ = self.int.recv() => {}
        }
    }
}

/// A container that exists in the engine.
struct Container<'a> {
    docker: &'a Docker,
    id: String,
}

impl<'a> Container<'a> {
    fn known(docker: &'a Docker, id: String) -> Self {
        Self { docker, id }
    }

    async fn create(
        docker: &'a Docker,
        body: ContainerCreateBody,
        owner: Owner,
    ) -> Result<Self, ContainerError> {
        let options = CreateContainerOptions {
            name: Some(format!("lodge-{owner}")),
            ..CreateContainerOptions::default()
        };
        let made = docker
            .create_container(Some(options), body)
            .await
            .map_err(ContainerError::engine("make a container"))?;
        Ok(Self::known(docker, made.id))
    }

    /// Starts it, checks it, and passes frames on until one end is gone.
    async fn serve(&self, stage: Stage, mux: UnixStream) -> Result<(), ContainerError> {
        let words = self.listen().await?;
        match self.converse(stage, mux).await {
            Err(ContainerError::Ended { .. }) => Err(ContainerError::Ended { said: words.now() }),
            outcome => outcome,
        }
    }

    async fn converse(&self, stage: Stage, mut mux: UnixStream) -> Result<(), ContainerError> {
        let init = tokio::select! {
            init = self.start(&stage) => init?,
            () = gone(&mux) => return Ok(()),
        };
        let (mut init, first) = tokio::select! {
            opened = Opening::new(init).verify(&stage.expected) => opened?,
            () = gone(&mux) => return Ok(()),
        };
        stage.unmount();
        // Nobody else may connect: the listener is closed, and its directory has served.
        drop(stage);
        if mux.write_all(&first).await.is_err() {
            return Ok(());
        }
        pass(&mut mux, &mut init).await;
        Ok(())
    }

    async fn start(&self, stage: &Stage) -> Result<UnixStream, ContainerError> {
        self.docker
            .start_container(&self.id, None::<StartContainerOptions>)
            .await
            .map_err(ContainerError::engine("start the container"))?;
        let slow = |_| ContainerError::Slow {
            action: "start guest init",
            patience: START_LIMIT,
        };
        tokio::select! {
            accepted = timeout(START_LIMIT, stage.listener.accept()) => match accepted.map_err(slow)? {
                Ok((init, _)) => Ok(init),
                Err(error) => Err(ContainerError::system("take guest init's connection")(error)),
            },
            () = self.over() => Err(ContainerError::Ended { said: String::new() }),
        }
    }

    /// Until it does not run any more.
    async fn over(&self) {
        let options = WaitContainerOptions {
            condition: "not-running".to_owned(),
        };
        let mut waiting = pin!(self.docker.wait_container(&self.id, Some(options)));
        // Whatever the answer is, it comes when the container is over.
        let _ = waiting.next().await;
    }

    /// Takes down what guest init complains of.
    async fn listen(&self) -> Result<Words, ContainerError> {
        let options = AttachContainerOptions {
            stream: true,
            stderr: true,
            ..AttachContainerOptions::default()
        };
        let AttachContainerResults { mut output, input } = self
            .docker
            .attach_container(&self.id, Some(options))
            .await
            .map_err(ContainerError::engine("listen to the container"))?;
        let words = Words::default();
        let kept = words.clone();
        tokio::spawn(async move {
            let _input = input;
            while let Some(Ok(said)) = output.next().await {
                kept.keep(&said.into_bytes());
            }
        });
        Ok(words)
    }

    /// Kills and removes it; returns when it is gone.
    async fn remove(&self) -> Result<(), ContainerError> {
        let gone = async {
            let options = || RemoveContainerOptions {
                force: true,
                v: true,
                ..RemoveContainerOptions::default()
            };
            loop {
                match self.docker.remove_container(&self.id, Some(options())).await {
                    Ok(()) | Err(Error::DockerResponseServerError { status_code: 404, .. }) => return Ok(()),
                    // The engine is at it already, because the container ended by itself.
                    Err(Error::DockerResponseServerError { status_code: 409, .. }) => {
                        sleep(REMOVE_PAUSE).await;
                    }
                    Err(source) => return Err(ContainerError::engine("remove the container")(source)),
                }
            }
        };
        let slow = |_| ContainerError::Slow {
            action: "remove the container",
            patience: REMOVE_LIMIT,
        };
        timeout(REMOVE_LIMIT, gone).await.map_err(slow)?
    }
}

/// What guest init said on its standard error, as far as it is kept.
#[derive(Debug, Clone, Default)]
struct Words(Arc<Mutex<Vec<u8>>>);

impl Words {
    fn keep(&self, said: &[u8]) {
        let mut words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MAX_SAID.saturating_sub(words.len());
        words.extend_from_slice(&said[..said.len().min(room)]);
    }

    fn now(&self) -> String {
        let words = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&words).into_owned()
    }
}

/// Until nobody holds the other end of `mux`; for ever when there is something to read from it.
async fn gone(mux: &UnixStream) {
    let peek = || {
        let mut byte = [0; 1];
        rustix::net::recv(mux, &mut byte, RecvFlags::PEEK | RecvFlags::DONTWAIT)
            .map(|(got, _)| got)
            .map_err(io::Error::from)
    };
    match mux.async_io(Interest::READABLE, peek).await {
        Ok(0) | Err(_) => {}
        Ok(_) => std::future::pending().await,
    }
}

/// Copies both ways until either end is gone; then what was under way has arrived.
async fn pass(mux: &mut UnixStream, init: &mut UnixStream) {
    let (mut from_asker, mut to_asker) = mux.split();
    let (mut from_init, mut to_init) = init.split();
    // Errors mean the same as the end: nobody is there any more.
    tokio::select! {
        _ = copy(&mut from_asker, &mut to_init) => {}
        _ = copy(&mut from_init, &mut to_asker) => {}
    }
}

/// One direction, a chunk at a time: a slow reader holds the writer up.
async fn copy(from: &mut (impl AsyncRead + Unpin), to: &mut (impl AsyncWrite + Unpin)) -> io::Result<()> {
    let mut chunk = vec![0; CHUNK];
    loop {
        let got = from.read(&mut chunk).await?;
        if got == 0 {
            return Ok(());
        }
        to.write_all(&chunk[..got]).await?;
    }
}
