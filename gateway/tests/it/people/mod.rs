//! People by name: whose budgets a session or a key spends from, and what holds for all that is theirs.

mod sessions;

use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::Ordering;

use hyper_util::rt::TokioIo;
use lodge_proto::control::gateway_admin_client::GatewayAdminClient;
use lodge_proto::control::gateway_users_client::GatewayUsersClient;
use lodge_proto::control::{
    CreateKeyRequest, LeaseNarrow, ListBudgetsRequest, ListKeysRequest, ListUsageRequest, ListUsersRequest,
    RemoveUserRequest, SetBudgetRequest, SetUserRequest, User, VirtualKey,
};
use tonic::Code;
use tonic::transport::Channel;

use crate::admin::admin;
use crate::budget::{ASK, RESERVED, address, budget, of_user, send, settings, settled};
use crate::common::Running;
use crate::common::guest::{self, Guest, post};
use crate::common::runner::{Runner, Session};
use crate::common::upstream::Upstream;
use crate::edge::{Counting, TURN};
use crate::ops::entries;

const MESSAGES: &str = "/anthropic/v1/messages";
const ANSWER: &str =
    r#"{"type":"message","model":"m","content":[],"usage":{"input_tokens":10,"output_tokens":3}}"#;

struct Scene {
    data: tempfile::TempDir,
    gateway: Running,
    admin: GatewayAdminClient<Channel>,
    users: GatewayUsersClient<Channel>,
    address: SocketAddr,
    runner: Runner,
}

async fn users(data: &Path) -> GatewayUsersClient<Channel> {
    let socket = data.join("run/gateway-admin.sock");
    let connect = tower::service_fn(move |_| {
        let socket = socket.clone();
        async move { tokio::net::UnixStream::connect(socket).await.map(TokioIo::new) }
    });
    let endpoint = tonic::transport::Endpoint::from_static("http://gateway");
    GatewayUsersClient::new(endpoint.connect_with_connector(connect).await.unwrap())
}

fn own_uid() -> u32 {
    lodge_proto::sock::own_uid()
}

fn named(name: &str, create: bool) -> SetUserRequest {
    SetUserRequest {
        name: name.into(),
        create,
        ..SetUserRequest::default()
    }
}

/// A user whose sessions are those of the uid that runs the tests.
fn ann() -> SetUserRequest {
    SetUserRequest {
        uid: Some(own_uid().into()),
        team: Some("compilers".into()),
        org: Some("acme".into()),
        ..named("ann", true)
    }
}

impl Scene {
    async fn new(port: u16) -> Self {
        Self::with(port, "").await
    }

    async fn with(port: u16, more: &str) -> Self {
        let data = tempfile::tempdir().unwrap();
        let gateway = Running::start(data.path(), &(settings(port) + more)).await;
        let mut admin = admin(data.path()).await;
        Self {
            address: address(&mut admin).await,
            users: users(data.path()).await,
            runner: Runner::connect(data.path()),
            data,
            gateway,
            admin,
        }
    }

    async fn set(&mut self, request: SetUserRequest) -> Result<User, tonic::Status> {
        let set = self.users.set_user(request).await?;
        Ok(set.into_inner().user.unwrap())
    }

    async fn remove(&mut self, name: &str) -> Result<(), tonic::Status> {
        let request = RemoveUserRequest { name: name.into() };
        self.users.remove_user(request).await.map(drop)
    }

    async fn budget(&mut self, scope: &str, limit: u64) {
        let request = SetBudgetRequest {
            budget: Some(budget(scope, "month", limit)),
            remove: false,
        };
        self.admin.set_budget(request).await.unwrap();
    }

    async fn limit(&mut self, scope: &str) -> u64 {
        let request = ListBudgetsRequest { scope: scope.into() };
        let listed = self.admin.list_budgets(request).await.unwrap().into_inner();
        listed.budgets[0].limit
    }

    async fn key(&mut self, key: VirtualKey) -> Result<(VirtualKey, String), tonic::Status> {
        let request = CreateKeyRequest {
            key: Some(key),
            budgets: Vec::new(),
        };
        let made = self.admin.create_key(request).await?.into_inner();
        Ok((made.key.unwrap(), made.secret))
    }

    async fn session(&mut self, name: &str, narrow: Option<LeaseNarrow>) -> Session {
        let data = self.data.path().to_owned();
        self.runner.session_narrowed(&data, name, 0, (None, narrow)).await
    }

    /// Names and costs, the largest first.
    async fn usage(&mut self, by: &str) -> Vec<(String, u64)> {
        let request = ListUsageRequest {
            by: by.into(),
            ..ListUsageRequest::default()
        };
        let rows = self.admin.list_usage(request).await.unwrap().into_inner().rows;
        rows.into_iter().map(|row| (row.name, row.requests)).collect()
    }
}

async fn inside(session: &Session) -> hyper::Response<hyper::body::Incoming> {
    let mut guest = Guest::connect(&session.socket).await;
    guest.send(post(MESSAGES, &session.lease.virtual_key, ASK)).await
}

/// A request of the session that is answered.
async fn answered(session: &Session, upstream: &mut Upstream) {
    let (response, ()) = tokio::join!(inside(session), async {
        let mut exchange = upstream.next().await;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", ANSWER)
            .await;
    });
    assert_eq!(response.status(), 200);
    guest::bytes(response).await;
}

/// Why a request of the session is refused.
async fn refused(session: &Session) -> (u16, String) {
    let response = inside(session).await;
    let status = response.status().as_u16();
    (status, guest::text(response).await)
}

#[tokio::test]
async fn a_uids_sessions_spend_from_its_user_its_team_and_its_organisation() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let session = scene.session("s", None).await;
    let uid = own_uid();
    answered(&session, &mut upstream).await;
    // The session was there before its user: the next request is the user's.
    scene.set(ann()).await.unwrap();
    answered(&session, &mut upstream).await;
    for scope in ["user:ann", "team:compilers", "org:acme", &format!("user:{uid}")] {
        scene.budget(scope, RESERVED - 1).await;
        let (status, body) = refused(&session).await;
        let name = scope.split_once(':').unwrap().1;
        assert!(
            status == 402 && body.contains(&format!("`{name}`")),
            "{scope}: {body}"
        );
        let (kind, _) = scope.split_once(':').unwrap();
        assert!(body.contains(&format!("of the {kind} ")), "{scope}: {body}");
        scene.budget(scope, RESERVED * 100).await;
    }
    let known: std::collections::BTreeMap<_, _> = scene.usage("user").await.into_iter().collect();
    assert_eq!(known, [("ann".to_owned(), 1), (uid.to_string(), 1)].into());
    let teams: std::collections::BTreeMap<_, _> = scene.usage("team").await.into_iter().collect();
    assert_eq!(teams, [("compilers".to_owned(), 1), (String::new(), 1)].into());

    // Another team from the next request on; what was used stays where it was used.
    let moved = SetUserRequest {
        team: Some("linkers".into()),
        ..named("ann", false)
    };
    scene.set(moved).await.unwrap();
    scene.budget("team:compilers", 0).await;
    answered(&session, &mut upstream).await;
    let teams: std::collections::BTreeMap<_, _> = scene.usage("organisation").await.into_iter().collect();
    assert_eq!(teams["acme"], 2);

    // Without a user the uid is by itself again.
    scene.budget("user:ann", 0).await;
    assert_eq!(refused(&session).await.0, 402);
    scene.remove("ann").await.unwrap();
    answered(&session, &mut upstream).await;
    assert_eq!(scene.limit("user:ann").await, 0);
    let known: std::collections::BTreeMap<_, _> = scene.usage("user").await.into_iter().collect();
    assert_eq!(known, [("ann".to_owned(), 2), (uid.to_string(), 2)].into());
}

#[tokio::test]
async fn two_users_at_once_at_the_edge_of_their_teams_budget() {
    let counting = Counting::start().await;
    let mut scene = Scene::new(counting.port).await;
    scene.set(ann()).await.unwrap();
    let bob = SetUserRequest {
        team: Some("compilers".into()),
        ..named("bob", true)
    };
    scene.set(bob).await.unwrap();
    scene.budget("team:compilers", RESERVED * 7 + RESERVED / 2).await;
    let session = scene.session("s", None).await;
    let (_, secret) = scene.key(of_user("bob")).await.unwrap();
    let address = scene.address;
    let anns = futures_util::future::join_all((0..20).map(|_| inside(&session)));
    let bobs = (0..20).map(|_| send(address, post(MESSAGES, &secret, ASK)));
    let (anns, bobs) = tokio::join!(anns, futures_util::future::join_all(bobs));
    // Nothing is finished, so everything that was let in is reserved at this moment.
    let (passed, refused): (Vec<_>, Vec<_>) = anns
        .into_iter()
        .chain(bobs)
        .partition(|answer| answer.status() == 200);
    assert_eq!((passed.len(), refused.len()), (7, 33));
    assert!(refused.iter().all(|answer| answer.status() == 402));
    assert_eq!(counting.asked.load(Ordering::SeqCst), 7);
    counting.finish.add_permits(7);
    for answer in passed {
        guest::bytes(answer).await;
    }
    let now = settled(&mut scene.admin, "team:compilers").await;
    assert_eq!(now.spent, 7 * TURN);
    assert_eq!(now.spent, counting.billed.load(Ordering::SeqCst));
    assert_eq!(scene.usage("team").await, [("compilers".to_owned(), 7)]);
}

#[tokio::test]
async fn a_key_belongs_to_the_team_of_its_user() {
    let upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let of_team = |user: &str, team: &str| VirtualKey {
        team: team.into(),
        ..of_user(user)
    };
    // Made before its user was known, and for another team.
    let (_, early) = scene.key(of_team("ann", "linkers")).await.unwrap();
    scene.set(ann()).await.unwrap();
    let error = scene.key(of_team("ann", "linkers")).await.unwrap_err();
    assert_eq!(error.code(), Code::InvalidArgument);
    assert!(error.message().contains("compilers"), "{error}");
    let (made, late) = scene.key(of_user("ann")).await.unwrap();
    assert_eq!((made.team.as_str(), made.org.as_str()), ("compilers", "acme"));
    let (_, by_uid) = scene.key(of_user(&own_uid().to_string())).await.unwrap();
    let listed = scene
        .admin
        .list_keys(ListKeysRequest {})
        .await
        .unwrap()
        .into_inner();
    assert!(
        listed.keys.iter().all(|key| key.team == "compilers"),
        "{listed:?}"
    );
    scene.budget("team:compilers", 0).await;
    for secret in [&early, &late, &by_uid] {
        let answer = send(scene.address, post(MESSAGES, secret, ASK)).await;
        let (status, body) = guest::json(answer).await;
        assert!(status == 402 && body.to_string().contains("compilers"), "{body}");
    }
    // Of a user without a team the key's own holds.
    let (_, other) = scene.key(of_team("cid", "compilers")).await.unwrap();
    scene.set(named("cid", true)).await.unwrap();
    let answer = send(scene.address, post(MESSAGES, &other, ASK)).await;
    assert_eq!(answer.status(), 402);
}

#[tokio::test]
async fn a_users_limits_hold_for_all_its_sessions_and_keys_together() {
    let mut upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    let one = SetUserRequest {
        concurrency: Some(1),
        ..ann()
    };
    scene.set(one).await.unwrap();
    let (_, secret) = scene.key(of_user("ann")).await.unwrap();
    let session = scene.session("s", None).await;
    let asking = tokio::spawn(async move { inside(&session).await });
    let mut exchange = upstream.next().await;
    let second = send(scene.address, post(MESSAGES, &secret, ASK)).await;
    let (status, body) = guest::json(second).await;
    assert!(
        status == 429
            && body
                .to_string()
                .contains("this user has used up its requests at a time"),
        "{body}"
    );
    exchange
        .answer("200 OK", "content-type: application/json\r\n", ANSWER)
        .await;
    guest::bytes(asking.await.unwrap()).await;
    // The provider serves one request a connection.
    drop(exchange);
    // A change of something else does not hand out the minute's requests again.
    let rpm = SetUserRequest {
        rpm: Some(1),
        concurrency: Some(0),
        ..named("ann", false)
    };
    scene.set(rpm).await.unwrap();
    let sending = send(scene.address, post(MESSAGES, &secret, ASK));
    let (first, ()) = tokio::join!(sending, async {
        let mut exchange = upstream.next().await;
        exchange
            .answer("200 OK", "content-type: application/json\r\n", ANSWER)
            .await;
    });
    assert_eq!(first.status(), 200);
    let moved = SetUserRequest {
        team: Some("linkers".into()),
        ..named("ann", false)
    };
    scene.set(moved).await.unwrap();
    let answer = send(scene.address, post(MESSAGES, &secret, ASK)).await;
    assert_eq!(answer.status(), 429);
    let after: u64 = answer.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&after), "{after}");
}

#[tokio::test]
async fn who_cannot_be_is_refused_and_every_change_is_in_the_audit() {
    let upstream = Upstream::start().await;
    let file = "[[user]]\nname = 'filed'\nuid = 70001\nteam = 'ops'\n";
    let mut scene = Scene::with(upstream.port, file).await;
    scene.set(ann()).await.unwrap();
    let with_uid = |name: &str, uid: i64| SetUserRequest {
        uid: Some(uid),
        ..named(name, true)
    };
    for (request, code, words) in [
        (named("ann", true), Code::AlreadyExists, "user set"),
        (named("nobody", false), Code::NotFound, "nobody"),
        (with_uid("bob", own_uid().into()), Code::InvalidArgument, "`ann`"),
        (with_uid("bob", 70001), Code::InvalidArgument, "`filed`"),
        (with_uid("bob", 1 << 40), Code::InvalidArgument, "uid"),
        (named("1001", true), Code::InvalidArgument, "digits"),
        (named("a:b", true), Code::InvalidArgument, "name"),
        (named("filed", true), Code::AlreadyExists, "filed"),
        (named("filed", false), Code::FailedPrecondition, "lodge.toml"),
    ] {
        let error = scene.set(request.clone()).await.unwrap_err();
        assert_eq!(error.code(), code, "{request:?}");
        assert!(error.message().contains(words), "{request:?}: {error}");
    }
    assert_eq!(
        scene.remove("filed").await.unwrap_err().code(),
        Code::FailedPrecondition
    );
    assert_eq!(scene.remove("bob").await.unwrap_err().code(), Code::NotFound);
    let no_uid = SetUserRequest {
        uid: Some(-1),
        ..named("ann", false)
    };
    let changed = scene.set(no_uid).await.unwrap();
    assert_eq!((changed.uid, changed.team.as_str()), (None, "compilers"));
    scene.remove("ann").await.unwrap();

    let listed = scene
        .users
        .list_users(ListUsersRequest {})
        .await
        .unwrap()
        .into_inner();
    let listed: Vec<_> = listed
        .users
        .iter()
        .map(|user| (user.name.as_str(), user.configured))
        .collect();
    assert_eq!(listed, [("filed", true)]);
    let audit = entries(scene.data.path()).await;
    let of_ann: Vec<_> = audit
        .iter()
        .filter(|entry| entry.target == "user:ann" && entry.outcome == "ok")
        .map(|entry| entry.action.as_str())
        .collect();
    assert_eq!(of_ann, ["user.remove", "user.set", "user.add"]);
    let refusals = audit
        .iter()
        .filter(|entry| entry.outcome == "InvalidArgument")
        .count();
    assert_eq!(refusals, 5);
}

#[tokio::test]
async fn users_outlive_the_gateway_and_the_file_holds_before_them() {
    let upstream = Upstream::start().await;
    let mut scene = Scene::new(upstream.port).await;
    scene.set(ann()).await.unwrap();
    let Scene { data, gateway, .. } = scene;
    gateway.stop().await;
    let file = format!("[[user]]\nname = 'filed'\nuid = {}\nteam = 'ops'\n", own_uid());
    let _gateway = Running::start(data.path(), &(settings(upstream.port) + &file)).await;
    let listed = users(data.path()).await.list_users(ListUsersRequest {}).await;
    let listed = listed.unwrap().into_inner().users;
    let ann = listed.iter().find(|user| user.name == "ann").unwrap();
    let filed = listed.iter().find(|user| user.name == "filed").unwrap();
    assert_eq!((ann.uid, ann.team.as_str()), (None, "compilers"));
    assert_eq!((filed.uid, filed.configured), (Some(own_uid()), true));
}
