//! Sessions that have less than their user, those of another Linux user, and those whose runner is not heard of.

use lodge_proto::control::lease_reply::Reply;
use lodge_proto::control::lease_request::Request;
use lodge_proto::control::{Access, LeaseNarrow, ListModelsRequest, SetUserRequest};

use super::{Scene, ann, answered, inside, named, own_uid, refused, users};
use crate::admin::admin;
use crate::budget::{ASK, RESERVED, address, settings};
use crate::common::Running;
use crate::common::guest::{Guest, post};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;

#[tokio::test]
async fn a_session_has_less_than_its_user_and_keeps_it() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let narrow = |budget, rpm| LeaseNarrow {
        access: Some(Access {
            providers: vec!["anthropic".into()],
            ..Access::default()
        }),
        budget,
        rpm,
        ..LeaseNarrow::default()
    };
    let session = scene.session("s", Some(narrow(RESERVED * 3, 2))).await;
    assert!(!session.lease.models.is_empty());
    assert!(
        session
            .lease
            .models
            .iter()
            .all(|model| model.provider == "anthropic")
    );
    let scope = format!("session:{}/s", own_uid());
    answered(&session, &mut upstream).await;
    assert_eq!(scene.limit(&scope).await, RESERVED * 3);

    // After a restart of the gateway: the same bounds, with no word of the runner.
    let Scene { data, gateway, .. } = scene;
    gateway.kill().await;
    let gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let mut runner = Runner::connect(data.path());
    let Reply::Granted(granted) = runner.resume(&session).await else {
        panic!("not resumed");
    };
    assert!(granted.models.iter().all(|model| model.provider == "anthropic"));
    let mut admin = admin(data.path()).await;
    let mut scene = Scene {
        address: address(&mut admin).await,
        users: users(data.path()).await,
        runner,
        data,
        gateway,
        admin,
    };
    let other = Guest::connect(&session.socket)
        .await
        .send(post(
            "/local/v1/chat/completions",
            &session.lease.virtual_key,
            ASK,
        ))
        .await;
    assert_eq!(other.status(), 403);
    answered(&session, &mut upstream).await;
    answered(&session, &mut upstream).await;
    let (status, body) = refused(&session).await;
    assert!(
        status == 429 && body.contains("this session has used up its requests a minute"),
        "{body}"
    );

    // Opened again it may ask for less, and never gets more than it was left.
    let wider = scene.session("s", Some(narrow(RESERVED * 30, 0))).await;
    assert_eq!(scene.limit(&scope).await, RESERVED * 3);
    answered(&wider, &mut upstream).await;
    let smaller = scene.session("s", Some(narrow(RESERVED, 0))).await;
    assert_eq!(scene.limit(&scope).await, RESERVED);
    let (status, body) = refused(&smaller).await;
    assert!(status == 402 && body.contains("this session"), "{body}");
}

#[tokio::test]
async fn a_runner_of_another_uid_is_heard_only_where_the_uid_has_a_name() {
    let mut upstream = Upstream::start().await;
    let bob = format!("[[user]]\nname = 'bob'\nuid = {}\n", own_uid());
    for (users, is_heard) in [("", false), (bob.as_str(), true)] {
        let data = tempfile::tempdir().unwrap();
        let settings = settings(upstream.port) + users;
        // The gateway is another's: this process is not of its uid.
        let change = |config: &mut lodge_gateway::Config| config.peer_uid = own_uid() + 1;
        let _gateway = Running::start_with(data.path(), &settings, change).await;
        let mut runner = Runner::connect(data.path());
        let models = Request::Models(ListModelsRequest::default());
        assert_eq!(runner.try_call(models, None).await.is_some(), is_heard);
        if is_heard {
            let session = runner.session(data.path(), "bobs", 0).await;
            answered(&session, &mut upstream).await;
        }
    }
}

/// With both users at one gateway, which takes root.
#[tokio::test]
async fn another_linux_user_holds_leases_only_while_it_is_known_by_name() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let uid = 70002;
    let Some(mut stranger) = Runner::of_uid(scene.data.path(), uid) else {
        // The test above has shown who is heard.
        return;
    };
    let models = || Request::Models(ListModelsRequest::default());
    assert!(stranger.try_call(models(), None).await.is_none());
    let bob = SetUserRequest {
        uid: Some(uid.into()),
        team: Some("compilers".into()),
        ..named("bob", true)
    };
    scene.set(bob).await.unwrap();
    scene.set(ann()).await.unwrap();
    let mut known = Runner::of_uid(scene.data.path(), uid).unwrap();
    let session = known.session(scene.data.path(), "bobs", 0).await;
    let anns = scene.session("anns", None).await;
    answered(&session, &mut upstream).await;
    answered(&anns, &mut upstream).await;
    let mut by = scene.usage("user").await;
    by.sort();
    assert_eq!(by, [("ann".to_owned(), 1), ("bob".to_owned(), 1)]);
    assert_eq!(scene.usage("team").await, [("compilers".to_owned(), 2)]);
    // Nobody ends or resumes the lease of another uid.
    assert!(matches!(scene.runner.resume(&session).await, Reply::Error(_)));
    // Removed, its sessions end with the next request, and its runner is not heard any more.
    scene.remove("bob").await.unwrap();
    assert_eq!(refused(&session).await.0, 401);
    assert!(known.try_call(models(), None).await.is_none());
    answered(&anns, &mut upstream).await;
}

#[tokio::test]
async fn a_lease_that_is_not_renewed_cuts_its_streams() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let data = scene.data.path().to_owned();
    let session = scene.runner.session(&data, "s", 6).await;
    let (answer, mut exchange) = tokio::join!(inside(&session), async {
        let mut exchange = upstream.next().await;
        exchange.begin_stream().await;
        exchange
            .chunk("data: {\"type\":\"message_start\",\"message\":{\"usage\":{\"input_tokens\":1}}}\n\n")
            .await;
        exchange
    });
    assert_eq!(answer.status(), 200);
    exchange.chunk("data: {\"type\":\"ping\"}\n\n").await;
    exchange.cancelled().await;
    drop(answer);
}
