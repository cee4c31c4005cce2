//! A runner with everything around it.

use crate::peer::Peer;
use crate::support::rig::Rig;
use crate::support::stubs::{History, Leases};
use lodge_proto::SessionId;
use lodge_proto::command::CommandBody;
use lodge_proto::relay::Rights;
use lodge_proto::session::SessionStatus;
use serde_json::Value;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tokio::process::Child;

#[derive(Debug)]
pub(crate) struct World {
    peer: Peer,
    pub(crate) history: History,
    pub(crate) leases: Option<Leases>,
    runner: Child,
    // Last: what still runs is ended after everything above.
    pub(crate) rig: Arc<Rig>,
}

impl Deref for World {
    type Target = Peer;
    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl DerefMut for World {
    fn deref_mut(&mut self) -> &mut Peer {
        &mut self.peer
    }
}

impl World {
    pub(crate) fn new() -> Self {
        Self::with(Rig::new())
    }

    pub(crate) fn with(rig: Rig) -> Self {
        let mut world = Self::without_gateway(rig);
        world.start_gateway();
        world
    }

    pub(crate) fn without_gateway(rig: Rig) -> Self {
        let rig = Arc::new(rig);
        let history = History::serve(&rig.data().join("run/history.sock"));
        Self {
            peer: Peer::new(Arc::clone(&rig), Rights::Own),
            history,
            leases: None,
            runner: rig.spawn_runner(),
            rig,
        }
    }

    pub(crate) fn start_gateway(&mut self) {
        // The one before lets go of its socket first.
        self.leases = None;
        self.leases = Some(Leases::serve(&self.rig.data().join("run/gateway-lease.sock")));
    }

    /// Another client.
    pub(crate) fn another(&self, rights: Rights) -> Peer {
        Peer::new(Arc::clone(&self.rig), rights)
    }

    /// `kill -9`.
    pub(crate) async fn kill_runner(&mut self) {
        self.runner.kill().await.unwrap();
    }

    pub(crate) fn start_runner(&mut self) {
        self.runner = self.rig.spawn_runner();
    }

    pub(crate) async fn restart_runner(&mut self) {
        self.kill_runner().await;
        self.start_runner();
    }

    /// A session in a workspace of its name that nobody knows more of yet than its id.
    pub(crate) async fn make(&mut self, workspace: &str) -> SessionId {
        self.rig.workspace(workspace);
        let created = self.ok(None, create(workspace)).await;
        let id = created["id"].as_str().unwrap().parse().unwrap();
        self.subscribe(id, None).await;
        id
    }

    /// A session with its harness at work.
    pub(crate) async fn session(&mut self, workspace: &str) -> SessionId {
        let id = self.make(workspace).await;
        self.status(id, SessionStatus::Idle).await;
        id
    }

    /// What the fake harness noted, of one kind.
    pub(crate) fn truth(&self, id: SessionId, kind: &str) -> Vec<String> {
        let path = self.rig.session_home(id).join("truth.jsonl");
        let text = std::fs::read_to_string(path).unwrap();
        let lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines
            .filter(|line| line["kind"] == kind)
            .map(|line| line["text"].as_str().unwrap().to_owned())
            .collect()
    }

    /// At the end of a test: the logs are whole and history was told no two stories.
    pub(crate) fn finish(&self) {
        self.peer.finish();
        assert_eq!(self.history.faults(), Vec::<String>::new());
    }
}

/// A session of the fake harness.
pub(crate) fn create(workspace: &str) -> CommandBody {
    create_with("pi", workspace, None)
}

pub(crate) fn create_with(harness: &str, workspace: &str, model: Option<&str>) -> CommandBody {
    CommandBody::SessionCreate {
        harness: harness.to_owned(),
        workspace: workspace.to_owned(),
        model: model.map(str::to_owned),
        thinking_level: None,
        title: None,
        tier: None,
        profile: None,
        limits: None,
    }
}
