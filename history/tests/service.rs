//! The service as its clients see it: gRPC over the Unix socket.
#![allow(clippy::unwrap_used)]

mod support;

use lodge_history::{Access, Config, Error, MAX_MESSAGE_JSON_BYTES, MAX_RESPONSE_BYTES, serve, verify};
use lodge_proto::history::read_client::ReadClient;
use lodge_proto::history::search_client::SearchClient;
use lodge_proto::history::write_client::WriteClient;
use lodge_proto::history::{
    DeleteSessionRequest, GetSessionRequest, ListMessagesRequest, ListSessionsRequest, ListTurnsRequest,
    PutSessionRequest, SearchMessagesRequest,
};
use lodge_proto::{SessionId, TurnId};
use std::os::unix::fs::PermissionsExt;
use support::{channel, session, turn};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tonic::Code;
use tonic::transport::Channel;

struct Service {
    config: Config,
    stop: oneshot::Sender<()>,
    task: JoinHandle<Result<(), Error>>,
}

impl Service {
    async fn start(config: Config) -> Self {
        let (stop, stopped) = oneshot::channel::<()>();
        let (ready, listening) = oneshot::channel();
        let served = config.clone();
        let task = tokio::spawn(serve(served, move || ready.send(()).unwrap(), async {
            let _ = stopped.await;
        }));
        listening.await.expect("the service did not start");
        Self { config, stop, task }
    }

    async fn in_directory(directory: &tempfile::TempDir) -> Self {
        Self::start(Config::in_data_dir(directory.path())).await
    }

    fn write(&self) -> WriteClient<Channel> {
        WriteClient::new(channel(&self.config.socket))
    }

    fn read(&self) -> ReadClient<Channel> {
        ReadClient::new(channel(&self.config.socket)).max_decoding_message_size(MAX_RESPONSE_BYTES)
    }

    async fn stop(self) -> Result<(), Error> {
        self.stop.send(()).unwrap();
        self.task.await.unwrap()
    }
}

#[tokio::test]
async fn every_call_works_and_survives_a_restart() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let (id, kept) = (
        SessionId::new(),
        turn(SessionId::new(), TurnId::new(), 0, &["keep me", "x"]),
    );
    let put = PutSessionRequest {
        session: Some(session(id, 5)),
    };
    service.write().put_session(put).await.unwrap();
    let answer = service
        .write()
        .append_turn(kept.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.message_version, answer.already_stored), (2, false));
    let delete = DeleteSessionRequest {
        session_id: id.to_string(),
    };
    service.write().delete_session(delete).await.unwrap();
    service.stop().await.unwrap();

    let service = Service::in_directory(&directory).await;
    let answer = service
        .write()
        .append_turn(kept.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!((answer.message_version, answer.already_stored), (2, true));
    let gone = GetSessionRequest {
        session_id: id.to_string(),
    };
    assert_eq!(
        service.read().get_session(gone).await.unwrap_err().code(),
        Code::NotFound
    );
    let sessions = service
        .read()
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap()
        .into_inner();
    let session_id = kept.session.unwrap().session_id;
    assert_eq!(sessions.sessions.len(), 1);
    assert_eq!(sessions.sessions[0].session_id, session_id);
    let turns = ListTurnsRequest {
        session_id: session_id.clone(),
        ..ListTurnsRequest::default()
    };
    assert_eq!(
        service.read().list_turns(turns).await.unwrap().into_inner().turns,
        [kept.turn.unwrap()]
    );
    let query = SearchMessagesRequest {
        query: "keep".into(),
        ..SearchMessagesRequest::default()
    };
    let mut search = SearchClient::new(channel(&service.config.socket));
    let hits = search.search_messages(query).await.unwrap().into_inner().hits;
    assert_eq!(
        (hits.len(), &*hits[0].snippet, &hits[0].session_id),
        (1, "keep me", &session_id)
    );
    let database = service.config.database.clone();
    service.stop().await.unwrap();
    assert_eq!(verify(&database).unwrap().messages, 2);
}

#[tokio::test]
async fn pages_follow_their_cursor() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let id = SessionId::new();
    service
        .write()
        .append_turn(turn(id, TurnId::new(), 0, &["a", "b", "c", "d", "e"]))
        .await
        .unwrap();
    for (backwards, expected) in [
        (false, [vec![0, 1], vec![2, 3], vec![4]]),
        (true, [vec![3, 4], vec![1, 2], vec![0]]),
    ] {
        let mut cursor = String::new();
        for indexes in expected {
            let request = ListMessagesRequest {
                session_id: id.to_string(),
                cursor,
                limit: 2,
                backwards,
            };
            let page = service.read().list_messages(request).await.unwrap().into_inner();
            assert_eq!(page.messages.iter().map(|m| m.index).collect::<Vec<_>>(), indexes);
            cursor = page.next_cursor;
        }
        assert_eq!(cursor, "");
    }
}

#[tokio::test]
async fn wrong_requests_say_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let id = SessionId::new();
    let gap = service
        .write()
        .append_turn(turn(id, TurnId::new(), 3, &["x"]))
        .await
        .unwrap_err();
    assert_eq!(gap.code(), Code::InvalidArgument);
    assert_eq!(gap.message(), "messages[0].index is 3, expected 0");
    let mut broken = turn(id, TurnId::new(), 0, &["x"]);
    broken.messages[0].json = b"{no".to_vec();
    let broken = service.write().append_turn(broken).await.unwrap_err();
    assert_eq!(broken.code(), Code::InvalidArgument);
    assert!(
        broken
            .message()
            .starts_with("messages[0].json: expected UTF-8 JSON"),
        "{broken}"
    );
    let cursor = ListSessionsRequest {
        cursor: "garbage".into(),
        limit: 0,
    };
    let cursor = service.read().list_sessions(cursor).await.unwrap_err();
    assert_eq!(cursor.code(), Code::InvalidArgument);
    assert!(cursor.message().starts_with("cursor:"), "{cursor}");
    let no_id = GetSessionRequest {
        session_id: "7".into(),
    };
    let no_id = service.read().get_session(no_id).await.unwrap_err();
    assert_eq!(
        (no_id.code(), no_id.message()),
        (Code::InvalidArgument, "session_id: expected a UUID")
    );
    let mut search = SearchClient::new(channel(&service.config.socket));
    let empty = search
        .search_messages(SearchMessagesRequest::default())
        .await
        .unwrap_err();
    assert_eq!(empty.code(), Code::InvalidArgument);
}

#[tokio::test]
async fn the_largest_message_goes_in_and_out() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let id = SessionId::new();
    let mut large = turn(id, TurnId::new(), 0, &["x"]);
    large.messages[0].json = format!("{{\"a\":\"{}\"}}", "x".repeat(MAX_MESSAGE_JSON_BYTES - 8)).into_bytes();
    service.write().append_turn(large.clone()).await.unwrap();
    let request = ListMessagesRequest {
        session_id: id.to_string(),
        ..ListMessagesRequest::default()
    };
    let page = service.read().list_messages(request).await.unwrap().into_inner();
    assert!(page.messages == large.messages);
}

#[tokio::test]
async fn the_owner_map_decides_who_may_call() {
    let directory = tempfile::tempdir().unwrap();
    let map = directory.path().join("owners");
    let own = lodge_proto::sock::own_uid();
    let say = |text: String| {
        std::fs::write(&map, text).unwrap();
        std::fs::set_permissions(&map, std::fs::Permissions::from_mode(0o600)).unwrap();
    };
    say(format!("{} somebody\n", own + 1));
    let config = Config {
        access: Access::Map(map.clone()),
        ..Config::in_data_dir(directory.path())
    };
    let service = Service::start(config).await;
    let list = || ListSessionsRequest::default();
    let refused = service.read().list_sessions(list()).await.unwrap_err();
    assert_eq!(refused.code(), Code::Unauthenticated);
    // From the next connection on, this uid is ada; then it is grace, who sees nothing of it.
    say(format!("{own} ada\n"));
    service
        .write()
        .append_turn(turn(SessionId::new(), TurnId::new(), 0, &["x"]))
        .await
        .unwrap();
    assert_eq!(
        service
            .read()
            .list_sessions(list())
            .await
            .unwrap()
            .into_inner()
            .sessions
            .len(),
        1
    );
    say(format!("{own} grace\n"));
    assert_eq!(
        service
            .read()
            .list_sessions(list())
            .await
            .unwrap()
            .into_inner()
            .sessions
            .len(),
        0
    );
}

#[tokio::test]
async fn a_second_service_on_the_same_data_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let second = serve(service.config.clone(), || panic!("ready"), std::future::pending()).await;
    assert!(
        matches!(second, Err(Error::Open(lodge_history::OpenError::Locked { .. }))),
        "{second:?}"
    );
    service
        .read()
        .list_sessions(ListSessionsRequest::default())
        .await
        .unwrap();
}

#[tokio::test]
async fn a_stop_finishes_the_calls_under_way() {
    let directory = tempfile::tempdir().unwrap();
    let service = Service::in_directory(&directory).await;
    let id = SessionId::new();
    let mut client = service.write();
    client
        .put_session(PutSessionRequest {
            session: Some(session(id, 5)),
        })
        .await
        .unwrap();
    let mut large = turn(id, TurnId::new(), 0, &["x"]);
    large.messages[0].json = format!("{{\"a\":\"{}\"}}", "x".repeat(8 << 20)).into_bytes();
    let database = service.config.database.clone();
    let (answer, stopped) = tokio::join!(client.append_turn(large), service.stop());
    stopped.unwrap();
    // Answered or refused, what was acknowledged is stored; a call that never reached the service is neither.
    let stored = verify(&database).unwrap().messages;
    assert_eq!(stored, u64::from(answer.is_ok()), "{answer:?}");
}
