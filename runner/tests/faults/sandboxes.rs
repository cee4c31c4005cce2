//! What a session may ask its sandbox to be, the bounds it crosses, and what it leaves behind.

use crate::world::World;
use lodge_proto::ErrorCode;
use lodge_proto::command::CommandBody;
use lodge_proto::event::{EventBody, TurnOutcome};
use lodge_proto::sandbox::SandboxChoices;
use lodge_proto::session::{SessionStatus, Tier};
use lodge_proto::workspace::FindingKind;

fn wanted(workspace: &str, tier: Option<Tier>, profile: Option<&str>) -> CommandBody {
    CommandBody::SessionCreate {
        harness: "pi".to_owned(),
        workspace: workspace.to_owned(),
        model: None,
        thinking_level: None,
        title: None,
        tier,
        profile: profile.map(str::to_owned),
        limits: None,
    }
}

#[tokio::test]
async fn a_session_gets_no_looser_sandbox_than_the_policy_allows() {
    let mut world = World::new();
    world.rig.workspace("wish");
    let unknown = world.refused(None, wanted("wish", None, Some("loose"))).await;
    assert_eq!(unknown.code, ErrorCode::InvalidArgument);
    assert!(
        unknown.message.contains("strict"),
        "it says what there is: {}",
        unknown.message
    );
    let below = world
        .refused(None, wanted("wish", Some(Tier::Process), Some("strict")))
        .await;
    assert_eq!(below.code, ErrorCode::SandboxDenied);
    assert!(below.message.contains("tier"), "{}", below.message);
    let folder = world.rig.data().join("config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("sandbox.toml"), "version = 1\nprofile = \"strict\"\n").unwrap();
    let looser = world.refused(None, wanted("wish", None, Some("minimal"))).await;
    assert_eq!(looser.code, ErrorCode::SandboxDenied);
    assert!(looser.message.contains("profile"), "{}", looser.message);
    std::fs::remove_file(folder.join("sandbox.toml")).unwrap();
    let made = world
        .ok(None, wanted("wish", Some(Tier::Process), Some("development")))
        .await;
    assert_eq!(
        (&made["tier"], &made["profile"]),
        (&"process".into(), &"development".into())
    );
    world.finish();
}

#[tokio::test]
async fn tiers_and_profiles_are_listed_with_what_is_missing() {
    let mut world = World::new();
    let choices: SandboxChoices =
        serde_json::from_value(world.ok(None, CommandBody::SandboxList {}).await).unwrap();
    assert_eq!(choices.default_profile, "development");
    let names: Vec<&str> = choices
        .profiles
        .iter()
        .map(|profile| profile.name.as_str())
        .collect();
    assert_eq!(names, ["minimal", "development", "strict"]);
    let process = choices
        .tiers
        .iter()
        .find(|choice| choice.tier == Tier::Process)
        .unwrap();
    assert!(process.usable, "{process:?}");
    for choice in &choices.tiers {
        assert_eq!(choice.usable, choice.problem.is_none(), "{choice:?}");
    }
    world.finish();
}

#[tokio::test]
async fn a_crossed_bound_fails_the_turn_by_name_and_the_session_goes_on() {
    let mut world = World::new();
    let workspace = world.rig.workspace("bounded");
    let folder = workspace.join(".lodge");
    std::fs::create_dir(&folder).unwrap();
    let policy = folder.join("sandbox.toml");
    std::fs::write(&policy, "version = 1\n[limits]\nwall_seconds = 3\n").unwrap();
    let id = world.session("bounded").await;
    let turn = world.prompt(id, "silent").await;
    let (outcome, error) = world.ended(id, turn).await;
    let error = error.unwrap();
    assert_eq!(
        (outcome, error.code),
        (TurnOutcome::Failed, ErrorCode::LimitExceeded),
        "{error:?}"
    );
    let details = error.details.unwrap();
    assert_eq!(
        (&details["key"], &details["allowed"]),
        (&"limits.wall_seconds".into(), &3.into())
    );
    assert!(details["found"].as_u64().unwrap() >= 3);
    world
        .event(id, 0, "typed error", |event| match event {
            EventBody::AgentError {
                code: ErrorCode::LimitExceeded,
                recoverable: false,
                ..
            } => Some(()),
            _ => None,
        })
        .await;
    world.status(id, SessionStatus::Stopped).await;
    std::fs::remove_file(&policy).unwrap();
    world.run(id, "again").await;
    world.finish();
}

#[tokio::test]
async fn what_a_turn_leaves_that_acts_outside_is_listed_once() {
    let mut world = World::new();
    let workspace = world.rig.workspace("left");
    std::fs::create_dir(workspace.join("sub")).unwrap();
    std::fs::write(workspace.join("file"), "x").unwrap();
    let id = world.session("left").await;
    world.run(id, "nothing yet").await;
    let body = CommandBody::FileWrite {
        path: "sub/.envrc".to_owned(),
        text: "evil".to_owned(),
        expected_version: None,
    };
    world.ok(id, body).await;
    std::fs::hard_link(workspace.join("file"), workspace.join("second")).unwrap();
    world.run(id, "now").await;
    let items = world
        .event(id, 0, "findings", |event| match event {
            EventBody::WorkspaceFindings { items, .. } => Some(items.clone()),
            _ => None,
        })
        .await;
    let of = |kind, path: &str| items.iter().any(|item| item.kind == kind && item.path == path);
    assert!(of(FindingKind::ControlFile, "sub/.envrc"), "{items:?}");
    assert!(of(FindingKind::HardLink, "second"), "{items:?}");
    for text in ["third", "fourth"] {
        world.run(id, text).await;
    }
    let told = world
        .seen(id)
        .events
        .iter()
        .filter(|event| matches!(event.body, EventBody::WorkspaceFindings { .. }))
        .count();
    assert_eq!(told, 1);
    world.finish();
}
