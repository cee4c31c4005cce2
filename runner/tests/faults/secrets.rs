//! What nobody else on the machine may read.

use crate::support::stubs::KEY;
use crate::world::World;
use lodge_proto::command::CommandBody;
use std::path::Path;

/// Part of every prompt of the test.
const MARK: &str = "nobody-may-read-this-prompt";

fn holds(bytes: &[u8], needle: &str) -> bool {
    bytes
        .windows(needle.len())
        .any(|window| window == needle.as_bytes())
}

/// Processes whose arguments hold the text.
fn in_arguments(text: &str) -> Vec<String> {
    let processes = std::fs::read_dir("/proc").unwrap().filter_map(Result::ok);
    let lines =
        processes.filter_map(|entry| Some((entry.path(), std::fs::read(entry.path().join("cmdline")).ok()?)));
    lines
        .filter(|(_, line)| holds(line, text))
        .map(|(path, line)| format!("{}: {}", path.display(), String::from_utf8_lossy(&line)))
        .collect()
}

/// Log files below a directory. A session's journal is its record, and as private as the session.
fn logs(directory: &Path, found: &mut Vec<std::path::PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if entry.file_name() == "journal" {
            continue;
        }
        if entry.file_type().unwrap().is_dir() {
            logs(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "log") {
            found.push(path);
        }
    }
}

#[tokio::test]
async fn neither_key_nor_prompt_is_in_any_argument_list_or_log() {
    let mut world = World::new();
    let id = world.session("secret").await;
    let harness = world.rig.harnesses()[0];
    let environment = std::fs::read(format!("/proc/{}/environ", harness.as_raw_nonzero())).unwrap();
    assert!(holds(&environment, KEY), "the key is in use, in the guest only");
    let turn = world
        .prompt(id, &format!("{MARK}\ngarbage\nstderr {MARK}\nsilent"))
        .await;
    world
        .until("the answer", |peer| {
            peer.seen(id).answers().contains(MARK).then_some(())
        })
        .await;
    let root = world.rig.root().to_str().unwrap().to_owned();
    assert!(!in_arguments(&root).is_empty(), "arguments can be seen");
    let check = |world: &World| {
        for secret in [KEY, MARK] {
            assert_eq!(in_arguments(secret), Vec::<String>::new());
        }
        let mut found = Vec::new();
        logs(&world.rig.data(), &mut found);
        assert!(found.len() >= 2, "the runner's and the shim's: {found:?}");
        for path in found {
            let text = std::fs::read(&path).unwrap();
            for secret in [KEY, MARK] {
                assert!(!holds(&text, secret), "{secret} is in {}", path.display());
            }
        }
    };
    check(&world);
    world.ok(id, CommandBody::Abort {}).await;
    world.ended(id, turn).await;
    // A harness that dies with the prompt on its lips, and a start that fails, are logged without it.
    let turn = world.prompt(id, &format!("stderr {MARK}\nexit 3")).await;
    world.ended(id, turn).await;
    world.restart_runner().await;
    world.run(id, MARK).await;
    check(&world);
    world.finish();
}
