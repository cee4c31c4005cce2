//! Objects stored at providers: made, named, listed and deleted by those they were issued to, at the account that has them.

use bytes::Bytes;
use http_body_util::Full;
use hyper::{Method, Request};
use serde_json::{Value, json};

use crate::common::guest::{self, Guest};
use crate::common::runner::Runner;
use crate::common::upstream::Received;
use crate::routing::{Scene, key};

fn settings(port: u16) -> String {
    format!(
        "[[provider]]\nname = 'openai'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\n\
         key_env = 'PROVIDER_KEY'\nprovider_tools = {{ container = 0.03 }}\n\
         [[provider.account]]\nname = 'second'\nkey_env = 'SECOND_KEY'\n\
         [[provider]]\nname = 'plain'\nkind = 'openai'\nbase_url = 'http://127.0.0.1:{port}/v1'\nkey_env = 'PROVIDER_KEY'\n\
         [[provider]]\nname = 'anthropic'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         [[provider]]\nname = 'gemini'\nkind = 'gemini'\nbase_url = 'http://127.0.0.1:{port}'\nkey_env = 'PROVIDER_KEY'\n\
         [[provider.account]]\nname = 'second'\nkey_env = 'SECOND_KEY'\n"
    )
}

const FORM: &str = "multipart/form-data; boundary=x";
const BYTES: &[u8] =
    b"--x\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n\xff\x00\r\n--x--\r\n";

fn request(
    scene: &Scene,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
) -> Request<Full<Bytes>> {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header("host", "127.0.0.1:8377");
    if !headers.iter().any(|(name, _)| *name == "content-type") {
        request = request.header("content-type", "application/json");
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request
        .header("x-api-key", &scene.session.lease.virtual_key)
        .body(Full::new(body.into()))
        .unwrap()
}

/// Sends a request that the provider answers like this, with 200; what the provider got, and what came back.
async fn ask(
    scene: &mut Scene,
    (method, path): (&str, &str),
    headers: &[(&str, &str)],
    body: impl Into<Bytes>,
    answers: &[&str],
) -> (Vec<Received>, u16, Value) {
    let request = request(scene, method, path, headers, body);
    let answers: Vec<_> = answers
        .iter()
        .map(|body| ("200 OK", "content-type: application/json\r\n", *body))
        .collect();
    let (got, response) = scene.send(request, &answers).await;
    let (status, body) = guest::json(response).await;
    (got, status, body)
}

/// Another session's guest, whose key is in the scene from now on.
async fn stranger(scene: &mut Scene) {
    scene.session = Runner::connect(scene.data.path())
        .session(scene.data.path(), "stranger", 0)
        .await;
    scene.guest = Guest::connect(&scene.session.socket).await;
}

/// A request that names a file.
fn input(id: &str) -> String {
    format!(
        r#"{{"model":"m","input":[{{"role":"user","content":[{{"type":"input_file","file_id":"{id}"}}]}}]}}"#
    )
}

#[tokio::test]
async fn files_are_their_owners_and_stay_at_their_account() {
    let mut scene = Scene::with(settings).await;
    let files = "/openai/v1/files";
    let object =
        |id: &str| json!({ "id": id, "object": "file", "purpose": "user_data", "bytes": 2 }).to_string();
    let form = [("content-type", FORM)];
    let (got, status, body) = ask(&mut scene, ("POST", files), &form, BYTES, &[&object("file-1")]).await;
    assert_eq!((status, &body["id"]), (200, &json!("file-1")));
    assert_eq!(
        (got[0].line.as_str(), got[0].body.as_slice()),
        ("POST /v1/files HTTP/1.1", BYTES)
    );
    assert_eq!(got[0].header("content-type"), Some(FORM));
    let account = key(&got[0]).to_owned();
    ask(&mut scene, ("POST", files), &form, BYTES, &[&object("file-2")]).await;
    scene.restart().await;
    for path in ["/openai/v1/files/file-1", "/openai/v1/files/file-1/content"] {
        let (got, status, _) = ask(&mut scene, ("GET", path), &[], "", &["{}"]).await;
        assert_eq!((status, key(&got[0])), (200, account.as_str()), "{path}");
    }
    // Named in a request, it binds that to its account.
    let responses = ("POST", "/openai/v1/responses");
    let (got, status, _) = ask(&mut scene, responses, &[], input("file-1"), &["{}"]).await;
    assert_eq!((status, key(&got[0])), (200, account.as_str()));
    // A list is made of one's own, each as the provider tells of it, the newest first; the provider's list is not asked for.
    let answers = [object("file-2"), object("file-1")];
    let answers: Vec<&str> = answers.iter().map(String::as_str).collect();
    let (got, status, list) = listed(&mut scene, "/openai/v1/files?purpose=user_data", &answers).await;
    assert_eq!(status, 200);
    assert_eq!(
        got,
        ["GET /v1/files/file-1 HTTP/1.1", "GET /v1/files/file-2 HTTP/1.1"]
    );
    assert_eq!(
        (&list["object"], &list["has_more"]),
        (&json!("list"), &json!(false))
    );
    let (_, _, page) = listed(&mut scene, "/openai/v1/files?limit=1", &answers[..1]).await;
    assert_eq!(
        (&page["last_id"], &page["has_more"]),
        (&json!("file-2"), &json!(true))
    );
    let (_, _, page) = listed(&mut scene, "/openai/v1/files?limit=1&after=file-2", &answers[1..]).await;
    assert_eq!(
        (&page["data"][0]["id"], &page["has_more"]),
        (&json!("file-1"), &json!(false))
    );
    assert!(scene.upstream.is_untouched());
    only_their_owner_has_them(scene, &account).await;
}

/// Deletes the first file, and has another session ask for the second.
async fn only_their_owner_has_them(mut scene: Scene, account: &str) {
    let files = "/openai/v1/files";
    // It is nobody's then.
    let (got, status, _) = ask(
        &mut scene,
        ("DELETE", "/openai/v1/files/file-1"),
        &[],
        "",
        &["{}"],
    )
    .await;
    assert_eq!((status, key(&got[0])), (200, account));
    let gone = ("GET", "/openai/v1/files/file-1");
    assert_eq!(ask(&mut scene, gone, &[], "", &[]).await.1, 404);
    let (_, status, body) = ask(&mut scene, ("POST", files), &[], "{}", &[]).await;
    assert!(
        status == 400 && body.to_string().contains("multipart/form-data"),
        "{body}"
    );

    stranger(&mut scene).await;
    for (method, path) in [
        ("GET", "/openai/v1/files/file-2"),
        ("GET", "/openai/v1/files/file-2/content"),
        ("DELETE", "/openai/v1/files/file-2"),
    ] {
        let (_, status, body) = ask(&mut scene, (method, path), &[], "", &[]).await;
        assert!(
            status == 404 && body.to_string().contains("not issued to you"),
            "{body}"
        );
    }
    assert_eq!(
        ask(
            &mut scene,
            ("POST", "/openai/v1/responses"),
            &[],
            input("file-2"),
            &[]
        )
        .await
        .1,
        404
    );
    let (_, status, list) = listed(&mut scene, files, &[]).await;
    assert_eq!((status, &list["data"]), (200, &json!([])));
    assert!(scene.upstream.is_untouched());
}

/// The same for a list, whose objects are asked for in any order.
async fn listed(scene: &mut Scene, path: &str, objects: &[&str]) -> (Vec<String>, u16, Value) {
    let sent = request(scene, "GET", path, &[], "");
    let answer = scene.guest.send(sent);
    let respond = async {
        let mut lines = Vec::new();
        for _ in objects {
            let mut exchange = scene.upstream.next().await;
            let line = exchange.request.line.clone();
            let is_it = |object: &&&str| {
                let id: Value = serde_json::from_str(object).unwrap();
                let id = id["id"].as_str().or(id["name"].as_str()).unwrap().to_owned();
                line.contains(&format!("{id} "))
            };
            let object = objects.iter().find(is_it).unwrap();
            exchange
                .answer(
                    "200 OK",
                    "content-type: application/json\r\nconnection: close\r\n",
                    object,
                )
                .await;
            lines.push(line);
        }
        lines.sort();
        lines
    };
    let (response, lines) = tokio::join!(answer, respond);
    let (status, list) = guest::json(response).await;
    (lines, status, list)
}

#[tokio::test]
async fn an_object_that_is_gone_leaves_the_list() {
    let mut scene = Scene::with(settings).await;
    let files = "/anthropic/v1/files";
    let version = ("anthropic-version", "2023-06-01");
    let form = [("content-type", FORM), version];
    let object = r#"{"id":"file_1","type":"file"}"#;
    let (got, status, _) = ask(
        &mut scene,
        ("POST", "/anthropic/v1/files?beta=true"),
        &form,
        BYTES,
        &[object],
    )
    .await;
    assert_eq!(
        (status, got[0].line.as_str()),
        (200, "POST /v1/files?beta=true HTTP/1.1")
    );
    let sent = request(
        &scene,
        "GET",
        &format!("{files}?beta=true&limit=5"),
        &[version],
        "",
    );
    let (got, response) = scene.send(sent, &[("404 Gone", "", "{}")]).await;
    assert_eq!(got[0].line, "GET /v1/files/file_1?beta=true HTTP/1.1");
    assert_eq!(got[0].header("anthropic-version"), Some("2023-06-01"));
    let empty = json!({ "data": [], "first_id": null, "last_id": null, "has_more": false });
    assert_eq!(guest::json(response).await, (200, empty.clone()));
    // It is not asked for again.
    assert_eq!(listed(&mut scene, files, &[]).await.2, empty);
}

#[tokio::test]
async fn conversations_and_containers_are_their_owners() {
    let mut scene = Scene::with(settings).await;
    let conversations = ("POST", "/openai/v1/conversations");
    let body = r#"{ "items":[{"type":"message","role":"user","content":"x"}] }"#;
    let made = r#"{"id":"conv_1","object":"conversation"}"#;
    let (got, status, _) = ask(&mut scene, conversations, &[], body, &[made]).await;
    assert_eq!((status, got[0].body.as_slice()), (200, body.as_bytes()));
    let account = key(&got[0]).to_owned();
    let (_, status, _) = ask(
        &mut scene,
        ("POST", "/openai/v1/containers"),
        &[],
        r#"{"name":"x"}"#,
        &[r#"{"id":"cntr_1","object":"container"}"#],
    )
    .await;
    assert_eq!(status, 200);
    let paths = [
        ("GET", "/openai/v1/conversations/conv_1", ""),
        ("POST", "/openai/v1/conversations/conv_1", r#"{"metadata":{}}"#),
        ("POST", "/openai/v1/conversations/conv_1/items", body),
        ("GET", "/openai/v1/conversations/conv_1/items", ""),
        ("GET", "/openai/v1/conversations/conv_1/items/msg_1", ""),
        ("DELETE", "/openai/v1/conversations/conv_1/items/msg_1", ""),
        (
            "POST",
            "/openai/v1/responses",
            r#"{"model":"m","conversation":"conv_1"}"#,
        ),
        ("GET", "/openai/v1/containers/cntr_1/files/cfile_1/content", ""),
        ("GET", "/openai/v1/containers/cntr_1", ""),
    ];
    for (method, path, body) in paths {
        let (got, status, _) = ask(&mut scene, (method, path), &[], body, &["{}"]).await;
        assert_eq!((status, key(&got[0])), (200, account.as_str()), "{method} {path}");
    }
    // What an item refers to must be the caller's too, and a container gets nobody else's file.
    let foreign = r#"{"items":[{"role":"user","content":[{"type":"input_file","file_id":"file-9"}]}]}"#;
    assert_eq!(ask(&mut scene, conversations, &[], foreign, &[]).await.1, 404);
    let into = ("POST", "/openai/v1/containers/cntr_1/files");
    assert_eq!(
        ask(&mut scene, into, &[], r#"{"file_id":"file-9"}"#, &[]).await.1,
        404
    );
    let form = [("content-type", FORM)];
    // In a form the id of another one's file could hide.
    assert_eq!(ask(&mut scene, into, &form, BYTES, &[]).await.1, 415);
    // Where no price is named, none is made.
    let (_, status, text) = ask(&mut scene, ("POST", "/plain/v1/containers"), &[], "{}", &[]).await;
    assert!(
        status == 403 && text.to_string().contains("`container`"),
        "{text}"
    );

    let virtual_key = scene.session.lease.virtual_key.clone();
    stranger(&mut scene).await;
    for (method, path, body) in paths {
        assert_eq!(
            ask(&mut scene, (method, path), &[], body, &[]).await.1,
            404,
            "{method} {path}"
        );
    }
    assert_ne!(scene.session.lease.virtual_key, virtual_key);
    assert!(scene.upstream.is_untouched());
}

#[tokio::test]
async fn an_upload_to_gemini_goes_on_through_the_gateway() {
    let mut scene = Scene::with(settings).await;
    let start = [
        ("x-goog-upload-protocol", "resumable"),
        ("x-goog-upload-command", "start"),
    ];
    let upload = "/gemini/upload/v1beta/files";
    let sent = request(&scene, "POST", upload, &start, r#"{"file":{"displayName":"x"}}"#);
    let headers = "x-goog-upload-url: https://elsewhere.example/upload/v1beta/files?upload_id=u-1%2F&upload_protocol=resumable\r\n\
                   x-goog-upload-control-url: https://elsewhere.example/x\r\n";
    let (got, response) = scene.send(sent, &[("200 OK", headers, "")]).await;
    let account = got[0].header("x-goog-api-key").unwrap().to_owned();
    let on = response.headers()["x-goog-upload-url"]
        .to_str()
        .unwrap()
        .to_owned();
    assert_eq!(
        on,
        "http://127.0.0.1:8377/gemini/upload/v1beta/files?upload_id=u-1%2F&upload_protocol=resumable"
    );
    assert!(response.headers().get("x-goog-upload-control-url").is_none());
    drop(guest::text(response).await);
    let path = on.strip_prefix("http://127.0.0.1:8377").unwrap();
    let bytes = [
        ("x-goog-upload-command", "upload, finalize"),
        ("content-type", "application/octet-stream"),
    ];
    let file = r#"{"file":{"name":"files/abc-1","uri":"https://generativelanguage.googleapis.com/v1beta/files/abc-1"}}"#;
    let (got, status, _) = ask(&mut scene, ("POST", path), &bytes, BYTES, &[file]).await;
    assert_eq!((status, got[0].body.as_slice()), (200, BYTES));
    assert_eq!(got[0].header("x-goog-api-key"), Some(account.as_str()));
    assert!(
        got[0]
            .line
            .contains("?upload_id=u-1%2F&upload_protocol=resumable ")
    );
    let generate = ("POST", "/gemini/v1beta/models/m:generateContent");
    let named = r#"{"contents":[{"parts":[{"fileData":{"fileUri":"https://generativelanguage.googleapis.com/v1beta/files/abc-1"}}]}]}"#;
    let (got, status, _) = ask(&mut scene, generate, &[], named, &["{}"]).await;
    assert_eq!(
        (status, got[0].header("x-goog-api-key")),
        (200, Some(account.as_str()))
    );
    let (lines, _, list) = listed(&mut scene, "/gemini/v1beta/files", &[r#"{"name":"files/abc-1"}"#]).await;
    assert_eq!(lines, ["GET /v1beta/files/abc-1 HTTP/1.1"]);
    assert_eq!(list, json!({ "files": [{ "name": "files/abc-1" }] }));
    // A name of the caller's choice could be somebody's who comes later; other protocols could carry one unseen.
    for (headers, body) in [
        (&start[..], r#"{"file":{"name":"files/mine"}}"#),
        (&start[1..], "{}"),
        (&[("x-goog-upload-protocol", "multipart")], "{}"),
    ] {
        let (_, status, _) = ask(&mut scene, ("POST", upload), headers, body, &[]).await;
        assert!(matches!(status, 400 | 403), "{body}");
    }
    let (_, status, body) = ask(
        &mut scene,
        ("POST", "/gemini/v1beta/cachedContents"),
        &[],
        "{}",
        &[],
    )
    .await;
    assert!(
        status == 403 && body.to_string().contains("cached_content"),
        "{body}"
    );

    // Another beginning, or another's upload, does not hide behind one's own.
    let again = [("x-goog-upload-command", "Start, upload, finalize")];
    assert_eq!(ask(&mut scene, ("POST", path), &again, "{}", &[]).await.1, 400);
    let twice = format!("{path}&upload_id=u-2");
    assert_eq!(ask(&mut scene, ("POST", &twice), &bytes, BYTES, &[]).await.1, 404);

    stranger(&mut scene).await;
    assert_eq!(ask(&mut scene, ("POST", path), &bytes, BYTES, &[]).await.1, 404);
    assert_eq!(ask(&mut scene, generate, &[], named, &[]).await.1, 404);
    assert!(scene.upstream.is_untouched());
}
