use proptest::prelude::*;

use super::*;
use crate::asked::Kind;
use crate::dialect::Dialect;

struct Scene {
    _directory: tempfile::TempDir,
    objects: Arc<Objects>,
}

impl Scene {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let (state, _) = State::open(&directory.path().join("state.db")).unwrap();
        Self {
            objects: Arc::new(Objects::new(Arc::new(state), &[])),
            _directory: directory,
        }
    }

    fn owns(&self, owner: &str, id: &str) -> bool {
        self.objects.account("p", owner, id).is_some()
    }

    /// Passes an answer to `owner` in pieces of these sizes.
    fn pass(&self, owner: &str, dialect: Dialect, lines: bool, answer: &str, cut: usize) {
        let mut tap = Tap::new(Arc::clone(&self.objects), issuer(owner), dialect, lines);
        for piece in answer.as_bytes().chunks(cut) {
            tap.data(piece);
        }
        tap.end();
    }
}

fn issuer(owner: &str) -> Issuer {
    Issuer {
        provider: "p".into(),
        account: "default".into(),
        owner: owner.into(),
    }
}

const STREAM: &str = "event: response.created\r\ndata: {\"type\":\"response.created\",\"response\":{\"id\":\"resp_1\",\"object\":\
    \"response\",\"conversation\":{\"id\":\"conv_1\"},\"output\":[]}}\r\n\r\ndata: {\"type\":\"response.output_item.done\",\"item\":\
    {\"id\":\"ci_1\",\"container_id\":\"cntr_1\",\"content\":[{\"annotations\":[{\"type\":\"container_file_citation\",\"file_id\":\"cfile_1\"},\
    {\"type\":\"file_citation\",\"file_id\":\"said\"}]}]}}\n\ndata: {\"type\":\"response.output_text.delta\",\"delta\":\"resp_said 😀\"}\n\ndata: [DONE]";

#[test]
fn ids_are_learned_wherever_the_bytes_are_cut() {
    for cut in 1..80 {
        let scene = Scene::new();
        scene.pass("a", Dialect::Responses, true, STREAM, cut);
        for id in ["resp_1", "conv_1", "ci_1", "cntr_1", "cfile_1"] {
            assert!(scene.owns("a", id), "{id} at {cut}");
            assert!(!scene.owns("b", id), "{id} at {cut}");
        }
        assert!(!scene.owns("a", "resp_said") && !scene.owns("a", "said"));
        assert_eq!(scene.objects.account("other", "a", "resp_1"), None);
    }
}

#[test]
fn whole_answers_and_the_containers_of_the_other_dialect() {
    let scene = Scene::new();
    let answer = r#"{"id":"resp_2","object":"response","output":[{"id":"msg_1","content":[{"text":"{\"id\":\"x\"}"}]}]}"#;
    scene.pass("a", Dialect::Responses, false, answer, 7);
    assert!(scene.owns("a", "resp_2") && scene.owns("a", "msg_1") && !scene.owns("a", "x"));
    let stream = "data: {\"type\":\"message_delta\",\"delta\":{\"container\":{\"id\":\"container_1\"}}}\n\ndata: {\"content_block\":\
        {\"type\":\"bash_code_execution_tool_result\",\"content\":{\"content\":[{\"file_id\":\"file_1\"}]}}}\n\n\
        data: {\"content_block\":{\"type\":\"tool_use\",\"content\":{\"content\":[{\"file_id\":\"file_2\"}]}}}\n\n";
    scene.pass("a", Dialect::Messages, true, stream, 9);
    assert!(scene.owns("a", "container_1") && scene.owns("a", "file_1") && !scene.owns("a", "file_2"));
}

#[test]
fn an_id_never_changes_hands_and_every_mention_must_be_owned() {
    let scene = Scene::new();
    scene.pass("a", Dialect::Responses, true, STREAM, 100);
    scene.pass("b", Dialect::Responses, true, STREAM, 100);
    assert!(scene.owns("a", "resp_1") && !scene.owns("b", "resp_1"));
    let object = |id: &str| Object {
        kind: Kind::Response,
        id: id.into(),
    };
    let pinned = |owner: &str, ids: &[&str]| {
        let objects: Vec<_> = ids.iter().map(|id| object(id)).collect();
        scene
            .objects
            .pinned("p", owner, &objects)
            .map_err(|error| error.status)
    };
    assert_eq!(pinned("a", &[]), Ok(None));
    assert_eq!(pinned("a", &["resp_1", "conv_1"]), Ok(Some("default".to_owned())));
    assert_eq!(pinned("a", &["resp_1", "resp_9"]), Err(404));
    assert_eq!(pinned("b", &["resp_1"]), Err(404));
    let elsewhere = Issuer {
        account: "second".into(),
        ..issuer("a")
    };
    scene.objects.issue(&elsewhere, Kind::Response, "resp_3");
    assert_eq!(pinned("a", &["resp_1", "resp_3"]), Err(400));
}

#[test]
fn the_table_is_bounded_for_each_owner() {
    let scene = Scene::new();
    scene.objects.issue(&issuer("b"), Kind::File, "kept");
    for count in 0..=MAX_OWNED {
        scene
            .objects
            .issue(&issuer("a"), Kind::Response, &format!("resp_{count}"));
    }
    assert!(!scene.owns("a", "resp_0") && scene.owns("a", "resp_1") && scene.owns("b", "kept"));
    scene
        .objects
        .issue(&issuer("a"), Kind::Response, &"x".repeat(300));
    assert!(!scene.owns("a", &"x".repeat(300)));
}

#[test]
fn what_a_request_makes_is_its_owners_until_it_is_deleted() {
    let scene = Scene::new();
    let pass = |owner: &str, kind, answer: &str| {
        let objects = Arc::clone(&scene.objects);
        let mut tap = Tap::made(objects, issuer(owner), Dialect::Chat, kind);
        tap.data(answer.as_bytes());
        tap.end();
    };
    pass("a", Kind::File, r#"{"id":"file-1","object":"file"}"#);
    pass("a", Kind::File, r#"{"id":"file_2","type":"file"}"#);
    pass(
        "a",
        Kind::Upload,
        r#"{"file":{"name":"files/3","uri":"https://x"}}"#,
    );
    pass(
        "a",
        Kind::Conversation,
        r#"{"id":"conv_1","object":"conversation"}"#,
    );
    pass("a", Kind::Cache, r#"{"name":"cachedContents/1"}"#);
    pass("b", Kind::Container, r#"{"id":"cntr_1","object":"container"}"#);
    let files = || -> Vec<String> {
        let owned = scene.objects.owned("p", "a", Kind::File);
        owned.into_iter().map(|(id, _)| id).collect()
    };
    assert_eq!(files(), ["files/3", "file_2", "file-1"]);
    assert!(scene.owns("a", "conv_1") && scene.owns("a", "cachedContents/1") && scene.owns("b", "cntr_1"));
    // An answer that is something else issues nothing.
    for (kind, answer) in [
        (Kind::File, r#"{"id":"file-9","object":"list"}"#),
        (Kind::Cache, r#"{"name":"files/9"}"#),
        (Kind::Conversation, r#"{"id":"file-9","object":"file"}"#),
    ] {
        pass("a", kind, answer);
    }
    assert!(!scene.owns("a", "file-9") && !scene.owns("a", "files/9"));
    scene.objects.forget("p", "file_2");
    assert_eq!(files(), ["files/3", "file-1"]);
    pass("b", Kind::File, r#"{"id":"file_2","type":"file"}"#);
    assert!(scene.owns("b", "file_2") && !scene.owns("a", "file_2"));
}

proptest! {
    #[test]
    fn arbitrary_answers_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..200), lines: bool, cut in 1..50_usize) {
        let scene = Scene::new();
        let mut tap = Tap::new(Arc::clone(&scene.objects), issuer("a"), Dialect::Responses, lines);
        for piece in bytes.chunks(cut) {
            tap.data(piece);
        }
        tap.end();
        tap.end();
    }
}
