//! Terminals: a shell in the sandbox that outlives the connection and the runner.

use crate::world::World;
use lodge_proto::command::CommandBody;
use lodge_proto::relay::{Rights, ToClient};
use lodge_proto::workspace::{TerminalExit, TerminalInfo};
use lodge_proto::{ErrorCode, SessionId};

const OPEN: CommandBody = CommandBody::TerminalOpen { rows: 24, cols: 80 };

async fn open(world: &mut World, id: SessionId) -> u32 {
    let info: TerminalInfo = serde_json::from_value(world.ok(id, OPEN).await).unwrap();
    assert_eq!((info.rows, info.cols), (24, 80));
    info.terminal_id
}

async fn closed(world: &mut World, terminal: u32) -> TerminalExit {
    world
        .until("end of the terminal", |peer| {
            peer.controls.iter().find_map(|control| match control {
                ToClient::TerminalClosed {
                    terminal_id, exit, ..
                } if *terminal_id == terminal => Some(exit.clone()),
                _ => None,
            })
        })
        .await
}

#[tokio::test]
async fn a_terminal_echoes_resizes_and_says_how_it_ended() {
    let mut world = World::new();
    let id = world.session("terminal").await;
    let terminal = open(&mut world, id).await;
    world
        .type_in(terminal, "echo one-$((1 + 1))-$TERM; pwd; tty\n")
        .await;
    world.shows(terminal, "one-2-xterm-256color").await;
    world.shows(terminal, "/terminal").await;
    world.shows(terminal, "/dev/pts/").await;
    world
        .ok(
            id,
            CommandBody::TerminalResize {
                terminal_id: terminal,
                rows: 50,
                cols: 132,
            },
        )
        .await;
    world.type_in(terminal, "stty size\n").await;
    world.shows(terminal, "50 132").await;
    let list = world.ok(id, CommandBody::TerminalList {}).await;
    assert_eq!(list["terminals"][0]["rows"], 50);
    // Ctrl-C reaches the foreground job and not the shell. What is typed before the next prompt goes with the job, and a
    // shell that is about to start a program would take the signal for the program's.
    world.type_in(terminal, "PS1=rea; PS1=${PS1}dy:\n").await;
    world
        .type_in(terminal, "sh -c 'echo up-$((3 + 4)); exec sleep 1000'\n")
        .await;
    world.shows(terminal, "up-7").await;
    world.type_in(terminal, "\u{3}").await;
    world.shows_after(terminal, "up-7", "ready:").await;
    world.type_in(terminal, "echo still-$((2 + 2))\n").await;
    world.shows(terminal, "still-4").await;
    world.type_in(terminal, "exit 7\n").await;
    assert_eq!(closed(&mut world, terminal).await.code, Some(7));
    let list = world.ok(id, CommandBody::TerminalList {}).await;
    assert_eq!(list["terminals"].as_array().unwrap().len(), 0);
    world.finish();
}

#[tokio::test]
async fn a_terminal_outlives_the_runner_and_shows_what_was_shown() {
    let mut world = World::new();
    let id = world.session("outlives").await;
    let terminal = open(&mut world, id).await;
    world
        .type_in(terminal, "kept=before; echo shown-$((3 + 3))\n")
        .await;
    world.shows(terminal, "shown-6").await;
    world.restart_runner().await;
    world
        .ok(
            id,
            CommandBody::TerminalAttach {
                terminal_id: terminal,
            },
        )
        .await;
    world.shows(terminal, "shown-6").await;
    world.type_in(terminal, "echo $kept-$((4 + 4))\n").await;
    world.shows(terminal, "before-8").await;
    world
        .ok(
            id,
            CommandBody::TerminalClose {
                terminal_id: terminal,
            },
        )
        .await;
    assert_eq!(closed(&mut world, terminal).await.signal, Some(9));
    // With its sandbox a terminal ends too.
    let second = open(&mut world, id).await;
    world.ok(id, CommandBody::SessionClose {}).await;
    closed(&mut world, second).await;
    world.finish();
}

#[tokio::test]
async fn a_terminal_is_its_owners_and_its_sessions() {
    let mut world = World::new();
    let id = world.session("mine").await;
    let other = world.session("other").await;
    let terminal = open(&mut world, id).await;
    let attach = CommandBody::TerminalAttach {
        terminal_id: terminal,
    };
    assert_eq!(
        world.refused(other, attach.clone()).await.code,
        ErrorCode::NotFound
    );
    let sized = CommandBody::TerminalOpen { rows: 0, cols: 80 };
    assert_eq!(world.refused(id, sized).await.code, ErrorCode::InvalidArgument);
    let mut viewer = world.another(Rights::View);
    for body in [OPEN, attach, CommandBody::TerminalList {}] {
        assert_eq!(viewer.refused(id, body).await.code, ErrorCode::Forbidden);
    }
    viewer.type_in(terminal, "echo intruded > intruded\n").await;
    // Somebody who has not attached cannot type either.
    let mut stranger = world.another(Rights::Own);
    stranger.ok(None, CommandBody::WorkspaceList {}).await;
    stranger.type_in(terminal, "echo intruded > intruded\n").await;
    stranger.ok(None, CommandBody::WorkspaceList {}).await;
    viewer.ok(None, CommandBody::WorkspaceList {}).await;
    world.type_in(terminal, "echo mine-$((5 + 5)); ls\n").await;
    world.shows(terminal, "mine-10").await;
    assert!(!world.rig.workspace("mine").join("intruded").exists());
    world.finish();
}

#[tokio::test]
async fn a_flood_on_a_terminal_holds_up_no_turn() {
    let mut world = World::new();
    let id = world.session("flood").await;
    let terminal = open(&mut world, id).await;
    world.type_in(terminal, "yes flooding\n").await;
    world.shows(terminal, "flooding").await;
    world.run(id, "stream 50 1").await;
    world.type_in(terminal, "\u{3}").await;
    world.type_in(terminal, "echo dry-$((6 + 6))\n").await;
    world.shows(terminal, "dry-12").await;
    world.finish();
}
