//! A session in the tiers that have an engine of their own: the same turn, files, Git and terminal.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::session::{SessionStatus, Tier};
use lodge_proto::workspace::TerminalInfo;
use std::path::Path;
use std::time::Duration;

/// An emulated machine on a loaded host takes its time.
const PATIENCE: Duration = Duration::from_mins(3);

/// Everything that a session does inside, in this tier.
async fn works(tier: Tier) {
    let mut world = World::new();
    world.set_patience(PATIENCE);
    let state = world.rig.data().join("sandbox");
    std::fs::create_dir_all(&state).unwrap();
    std::os::unix::fs::symlink(guest_image(), state.join("images")).unwrap();
    let workspace = world.rig.workspace("tier");
    std::fs::write(workspace.join("file.txt"), "from the host\n").unwrap();
    let body = CommandBody::SessionCreate {
        harness: "pi".to_owned(),
        workspace: "tier".to_owned(),
        model: None,
        thinking_level: None,
        title: None,
        tier: Some(tier),
        profile: None,
        limits: None,
    };
    let created = world.ok(None, body).await;
    assert_eq!(created["tier"], serde_json::json!(tier));
    let id = created["id"].as_str().unwrap().parse().unwrap();
    world.subscribe(id, None).await;
    world.status(id, SessionStatus::Idle).await;
    world.run(id, "tool 2").await;
    let read = CommandBody::FileRead {
        path: "file.txt".to_owned(),
        offset: None,
        limit: None,
    };
    let read = world.ok(id, read).await;
    assert_eq!(read["text"], "from the host\n");
    let write = CommandBody::FileWrite {
        path: "file.txt".to_owned(),
        text: "from the guest\n".to_owned(),
        expected_version: Some(read["version"].as_str().unwrap().to_owned()),
    };
    world.ok(id, write).await;
    assert_eq!(
        std::fs::read_to_string(workspace.join("file.txt")).unwrap(),
        "from the guest\n"
    );
    let status = world.ok(id, CommandBody::GitStatus {}).await;
    assert_eq!(status["repository"], false);
    let open = CommandBody::TerminalOpen { rows: 24, cols: 80 };
    let terminal: TerminalInfo = serde_json::from_value(world.ok(id, open).await).unwrap();
    let terminal = terminal.terminal_id;
    world
        .type_in(terminal, "echo in-$((20 + 2)) $(cat file.txt); stty size\n")
        .await;
    world.shows(terminal, "in-22 from the guest").await;
    world.shows(terminal, "24 80").await;
    // The shim, and with it the sandbox, outlives the runner in every tier.
    world.restart_runner().await;
    world.run(id, "again").await;
    world.ok(id, CommandBody::SessionClose {}).await;
    world.status(id, SessionStatus::Stopped).await;
    assert!(
        world.rig.all_gone(Duration::from_secs(20)).await,
        "{:?} are left",
        world.rig.processes()
    );
    world.finish();
}

/// The guest image that all tests of this machine share.
fn guest_image() -> std::path::PathBuf {
    let target = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-data/sandbox");
    let state = std::env::var_os("LODGE_TEST_SANDBOX").map_or(target, Into::into);
    let images = state.join("images");
    assert!(
        images.join("current/manifest.json").is_file(),
        "there is no guest image in {}: the tests of lodge-tier build it (cargo test -p lodge-tier)",
        images.display()
    );
    images.canonicalize().unwrap()
}

#[tokio::test]
async fn a_session_works_in_a_container() {
    works(Tier::Container).await;
}

#[tokio::test]
async fn a_session_works_in_a_virtual_machine() {
    works(Tier::Microvm).await;
}
