//! What a session may be made of, and policies that a workspace brings along.

use crate::world::{World, create, create_with};
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::EventBody;
use lodge_proto::session::SessionStatus;

#[tokio::test]
async fn what_does_not_exist_or_leads_out_of_the_roots_is_refused_by_name() {
    let mut world = World::new();
    let inside = world.rig.workspace("inside");
    let roots = inside.parent().unwrap();
    let outside = world.rig.root().join("outside");
    std::fs::create_dir_all(outside.join("deeper")).unwrap();
    std::fs::write(roots.join("file"), "text").unwrap();
    std::os::unix::fs::symlink(&outside, roots.join("link")).unwrap();
    for (workspace, code) in [
        ("missing", ErrorCode::NotFound),
        ("file", ErrorCode::InvalidArgument),
        ("link", ErrorCode::SandboxDenied),
        ("link/deeper", ErrorCode::SandboxDenied),
        ("inside/../../../outside", ErrorCode::SandboxDenied),
        ("/", ErrorCode::SandboxDenied),
    ] {
        let refused = world.refused(None, create(workspace)).await;
        assert_eq!(refused.code, code, "{workspace}: {refused:?}");
        assert!(!refused.message.is_empty());
    }
    let harness = world.refused(None, create_with("nobody", "inside", None)).await;
    assert_eq!(harness.code, ErrorCode::NotFound);
    assert!(harness.message.contains("nobody"), "{}", harness.message);
    let model = world
        .refused(None, create_with("pi", "inside", Some("fake/none")))
        .await;
    assert_eq!(model.code, ErrorCode::NotFound);
    assert!(
        model.message.contains("fake/fake-1"),
        "says what there is: {}",
        model.message
    );
    // Through the default root by an absolute path it is the same workspace.
    let whole = inside.to_str().unwrap().to_owned();
    let made = world
        .ok(None, create_with("pi", &whole, Some("fake/fake-1")))
        .await;
    assert_eq!(made["model"], "fake/fake-1");
    for name in ["", "../up", "a/b", ".hidden"] {
        let body = CommandBody::WorkspaceCreate {
            name: name.to_owned(),
        };
        assert_eq!(
            world.refused(None, body).await.code,
            ErrorCode::InvalidArgument,
            "{name}"
        );
    }
    world.finish();
}

/// No session is made under this policy, and none that was made before starts; the error names file and key.
async fn policy_is_refused(policy: &str, key: &str) {
    let mut world = World::new();
    let directory = world.rig.workspace("policy").join(".lodge");
    let id = world.session("policy").await;
    world.ok(id, CommandBody::SessionClose {}).await;
    world.status(id, SessionStatus::Stopped).await;
    std::fs::create_dir_all(&directory).unwrap();
    std::fs::write(directory.join("sandbox.toml"), policy).unwrap();
    let made = world.refused(None, create("policy")).await;
    let error = world.refused(id, CommandBody::SessionResume {}).await;
    assert_eq!(made, error, "said at once as well as later");
    world.status(id, SessionStatus::Failed).await;
    assert_eq!(world.state(id).await.last_error.as_ref(), Some(&error));
    assert_eq!(error.code, ErrorCode::SandboxDenied, "{error:?}");
    for named in ["policy/.lodge/sandbox.toml", key] {
        assert!(
            error.message.contains(named),
            "{named} is not in: {}",
            error.message
        );
    }
    let refused = world.refused(id, CommandBody::SessionResume {}).await;
    assert_eq!(refused, error);
    assert!(world.rig.harnesses().is_empty());
    // Mended, the session goes on.
    std::fs::remove_file(directory.join("sandbox.toml")).unwrap();
    world.ok(id, CommandBody::SessionResume {}).await;
    world.status(id, SessionStatus::Idle).await;
    world.run(id, "hello").await;
    let reported = world.seen(id).events.iter();
    let reported = reported.filter(|event| matches!(event.body, EventBody::AgentError { .. }));
    assert!(reported.count() <= 2);
    world.finish();
}

#[tokio::test]
async fn an_unknown_key_of_a_workspace_policy_keeps_the_harness_from_starting() {
    policy_is_refused("version = 1\n[fs]\nreed = []\n", "reed").await;
}

#[tokio::test]
async fn a_workspace_policy_that_would_loosen_keeps_the_harness_from_starting() {
    policy_is_refused("version = 1\n[fs]\nread = [\"/root\"]\n", "fs.read").await;
}
