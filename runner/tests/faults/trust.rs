//! What a workspace brings for its harness: trusted by digest, shown by a copy, off again by any change.

use crate::world::World;
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, NotifyLevel};
use lodge_proto::relay::Rights;
use lodge_proto::session::SessionStatus;

fn inspect() -> CommandBody {
    CommandBody::WorkspaceInspect {
        workspace: "brings".to_owned(),
        harness: "pi".to_owned(),
    }
}

fn trust(digest: &str) -> CommandBody {
    CommandBody::WorkspaceTrust {
        workspace: "brings".to_owned(),
        harness: "pi".to_owned(),
        digest: digest.to_owned(),
    }
}

fn distrust() -> CommandBody {
    CommandBody::WorkspaceDistrust {
        workspace: "brings".to_owned(),
        harness: "pi".to_owned(),
        digest: None,
    }
}

fn read(path: &str) -> CommandBody {
    CommandBody::FileRead {
        path: path.to_owned(),
        offset: None,
        limit: None,
    }
}

#[tokio::test]
async fn what_is_trusted_stays_what_it_was_for_the_life_of_the_sandbox() {
    let mut world = World::new();
    let root = world.rig.workspace("brings");
    let settings = root.join(".pi/settings.json");
    std::fs::create_dir_all(root.join(".pi")).unwrap();
    std::fs::create_dir_all(root.join("tools")).unwrap();
    std::fs::write(&settings, r#"{"extensions": ["../tools/run.js"]}"#).unwrap();
    std::fs::write(root.join("tools/run.js"), "1").unwrap();
    let looked = world.ok(None, inspect()).await;
    assert_eq!(looked["trusted"], false);
    let paths: Vec<&str> = looked["files"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|file| file["path"].as_str())
        .collect();
    assert_eq!(paths, [".pi/settings.json", "tools/run.js"]);
    let conflict = world.refused(None, trust("00")).await;
    assert_eq!(conflict.code, ErrorCode::Conflict, "{conflict:?}");
    let trusted = world.ok(None, trust(looked["digest"].as_str().unwrap())).await;
    assert_eq!(trusted["trusted"], true);
    world.restart_runner().await;
    assert_eq!(world.ok(None, inspect()).await["trusted"], true);

    let id = world.session("brings").await;
    // From outside the files change; the guest sees what was trusted, and cannot change it.
    std::fs::write(root.join("tools/run.js"), "2").unwrap();
    assert_eq!(world.ok(id, read("tools/run.js")).await["text"], "1");
    for path in ["tools/run.js", ".pi/settings.json"] {
        let write = CommandBody::FileWrite {
            path: path.to_owned(),
            text: "3".to_owned(),
            expected_version: None,
        };
        let refused = world.refused(id, write).await;
        assert!(refused.message.contains("protected"), "{path}: {refused:?}");
    }
    world.ok(id, CommandBody::SessionClose {}).await;
    world.status(id, SessionStatus::Stopped).await;
    world.ok(id, CommandBody::SessionResume {}).await;
    world.status(id, SessionStatus::Idle).await;
    assert_eq!(world.ok(id, read("tools/run.js")).await["text"], "2");
    let said: Vec<&String> = world
        .seen(id)
        .events
        .iter()
        .filter_map(|event| match &event.body {
            EventBody::Notify {
                level: NotifyLevel::Warning,
                message,
            } => Some(message),
            _ => None,
        })
        .collect();
    assert!(
        said.iter()
            .any(|text| text.contains("is off") && text.contains("tools/run.js")),
        "{said:?}"
    );
    world.finish();
}

#[tokio::test]
async fn trust_is_listed_taken_back_and_not_a_viewers() {
    let mut world = World::new();
    let root = world.rig.workspace("brings");
    let nothing = world.refused(None, trust("00")).await;
    assert_eq!(nothing.code, ErrorCode::NotFound, "{nothing:?}");
    std::fs::write(root.join(".mcp.json"), "{}").unwrap();
    let digest = world.ok(None, inspect()).await["digest"].clone();
    let digest = digest.as_str().unwrap();
    let mut viewer = world.another(Rights::View);
    for body in [
        inspect(),
        trust(digest),
        distrust(),
        CommandBody::WorkspaceTrusted {},
    ] {
        assert_eq!(viewer.refused(None, body).await.code, ErrorCode::Forbidden);
    }
    for _ in 0..2 {
        world.ok(None, trust(digest)).await;
        let listed = world.ok(None, CommandBody::WorkspaceTrusted {}).await;
        assert_eq!(listed["trusted"].as_array().unwrap().len(), 1);
        assert_eq!(listed["trusted"][0]["files"][0], ".mcp.json");
    }
    // Also of a workspace that is gone.
    std::fs::remove_dir_all(&root).unwrap();
    world.ok(None, distrust()).await;
    let again = world.refused(None, distrust()).await;
    assert_eq!(again.code, ErrorCode::NotFound, "{again:?}");
    world.finish();
}
