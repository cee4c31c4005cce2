//! What a key may use: as JSON on the listeners where it works, and over gRPC; asked again while the gateway runs.

use http_body_util::Full;
use hyper::{Method, Request};
use lodge_proto::control::{Access, CreateKeyRequest, ListModelsRequest, VirtualKey};
use serde_json::{Value, json};
use tonic::Code;

use crate::admin::admin;
use crate::budget::{address, of_user, send};
use crate::common::guest::{Guest, json as read_json};
use crate::common::runner::Runner;
use crate::common::upstream::Upstream;
use crate::common::{PROVIDER_KEY, Running, soon};

const CATALOG: &str = "/lodge/v1/models";

/// Two models with a price and one whose price the table knows, a chain, a name for one alone, and a local server.
fn settings(port: u16) -> String {
    format!(
        "[[provider]]\nname = 'anthropic'\nkind = 'anthropic'\nbase_url = 'http://127.0.0.1:9'\nkey_env = 'PROVIDER_KEY'\n\
         models = [{{ id = 'm', name = 'M', max_output = 100, context_window = 5000, images = true, \
         efforts = ['low', 'high'], price = {{ input = 2, output = 10.5 }} }}, {{ id = 'dear', context_window = 4000, \
         tools = false, price = {{ input = 200, output = 1000 }} }}, {{ id = 'claude-sonnet-5-5' }}]\n\
         [[provider]]\nname = 'local'\nkind = 'openai_compatible'\nbase_url = 'http://127.0.0.1:{port}/v1'\n\
         [[alias]]\nprovider = 'anthropic'\nname = 'best'\ntargets = ['anthropic/m', 'anthropic/dear']\n\
         [[alias]]\nprovider = 'anthropic'\nname = 'cheap'\ntargets = ['anthropic/m']\n"
    )
}

fn get(method: Method, path: &str, key: Option<&str>) -> Request<Full<bytes::Bytes>> {
    let mut request = Request::builder().method(method).uri(path).header("host", "x");
    if let Some(key) = key {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    request.body(Full::default()).unwrap()
}

fn ids(catalog: &Value) -> Vec<String> {
    let models = catalog["models"].as_array().unwrap().iter();
    models
        .map(|model| {
            format!(
                "{}/{}",
                model["provider"].as_str().unwrap(),
                model["id"].as_str().unwrap()
            )
        })
        .collect()
}

fn find<'a>(catalog: &'a Value, id: &str) -> &'a Value {
    let mut models = catalog["models"].as_array().unwrap().iter();
    models.find(|model| model["id"] == id).unwrap()
}

/// What the settings say, and what is known besides.
fn check(catalog: &Value) {
    assert_eq!(catalog["version"], 1);
    let model = find(catalog, "m");
    let expected = json!({
        "id": "m", "provider": "anthropic", "name": "M", "context_window": 5000, "max_output": 100, "images": true,
        "tools": true, "reasoning": true, "efforts": ["low", "high"],
        "price": { "source": "configuration", "input": 2.0, "output": 10.5, "cache_read": 2.0, "cache_write": 2.5,
                   "cache_write_1h": 4.0 },
    });
    for (name, value) in expected.as_object().unwrap() {
        assert_eq!(model[name], *value, "{name} in {model}");
    }
    let native = json!({ "name": "anthropic_messages", "native": true, "base_path": "/anthropic" });
    let translated = json!({ "name": "openai_chat", "native": false, "base_path": "/anthropic/v1" });
    let dialects = model["dialects"].as_array().unwrap();
    assert!(dialects[0] == native && dialects.contains(&translated), "{model}");
    // A chain can do what each of it can.
    let best = find(catalog, "best");
    assert_eq!(best["targets"], json!(["anthropic/m", "anthropic/dear"]));
    assert_eq!(
        (&best["context_window"], &best["images"], &best["tools"]),
        (&json!(4000), &json!(false), &json!(false))
    );
    // What the configuration leaves open the table knows.
    let known = find(catalog, "claude-sonnet-5-5");
    assert!(known["context_window"].as_u64() > Some(100_000), "{known}");
    assert!(
        known["price"]["source"]
            .as_str()
            .unwrap()
            .starts_with("genai-prices"),
        "{known}"
    );
    let local = find(catalog, "llama");
    assert_eq!(
        (&local["context_window"], &local["price"]["source"]),
        (&json!(8192), &json!("free"))
    );
    assert!(local["listed_at"].as_u64() > Some(0), "{local}");
    assert!(!catalog.to_string().contains(PROVIDER_KEY));
}

#[tokio::test]
async fn a_session_reads_what_it_may_use_on_its_own_socket() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    upstream
        .next()
        .await
        .answer(
            "200 OK",
            "",
            "{\"data\":[{\"id\":\"llama\",\"max_model_len\":8192}]}",
        )
        .await;
    let session = Runner::connect(data.path()).session(data.path(), "s", 0).await;
    let key = session.lease.virtual_key.as_str();
    let ask = async |method, path, key| {
        let mut guest = Guest::connect(&session.socket).await;
        let answer = guest.send(get(method, path, key)).await;
        read_json(answer).await
    };
    // The list of the local server is read beside everything else.
    let catalog = soon("the local model is listed", async {
        loop {
            let (status, catalog) = ask(Method::GET, CATALOG, Some(key)).await;
            assert_eq!(status, 200, "{catalog}");
            if ids(&catalog).contains(&"local/llama".to_owned()) {
                return catalog;
            }
            tokio::task::yield_now().await;
        }
    })
    .await;
    check(&catalog);

    // A closed list: one path, one method, and only with the key.
    for (method, path) in [
        (Method::POST, CATALOG),
        (Method::GET, "/lodge/v1/models/m"),
        (Method::GET, "/lodge/v1/keys"),
        (Method::GET, "/lodge"),
    ] {
        assert_eq!(ask(method, path, Some(key)).await.0, 404, "{path}");
    }
    assert_eq!(ask(Method::GET, CATALOG, None).await.0, 401);
    assert_eq!(ask(Method::GET, CATALOG, Some("lodge-sk-other")).await.0, 401);
}

#[tokio::test]
async fn a_key_sees_no_model_that_it_may_not_use() {
    let data = tempfile::tempdir().unwrap();
    let upstream = Upstream::start().await;
    let policy = "[[model_policy]]\nmodel = 'claude-*'\ndeny = 'not here'\n";
    let settings = format!("{}{policy}", settings(upstream.port));
    let _gateway = Running::start(data.path(), &settings).await;
    let mut client = admin(data.path()).await;
    let make = |models: &[&str], parent: &str| CreateKeyRequest {
        key: Some(VirtualKey {
            access: Some(Access {
                models: models.iter().map(|&model| model.to_owned()).collect(),
                ..Access::default()
            }),
            parent: parent.to_owned(),
            ..of_user("ann")
        }),
        budgets: Vec::new(),
    };
    let wide = client.create_key(make(&[], "")).await.unwrap().into_inner();
    let narrow = client.create_key(make(&["m"], "")).await.unwrap().into_inner();
    let parent = narrow.key.unwrap().id;
    let child = client.create_key(make(&[], &parent)).await.unwrap().into_inner();
    let address = address(&mut client).await;
    let all = [
        "anthropic/m",
        "anthropic/dear",
        "anthropic/best",
        "anthropic/cheap",
    ];
    // The chain may run on what the key may not: it is not for it.
    let few = ["anthropic/m", "anthropic/cheap"];
    for (made, expected) in [
        (&wide.secret, &all[..]),
        (&narrow.secret, &few[..]),
        (&child.secret, &few[..]),
    ] {
        let (status, catalog) = read_json(send(address, get(Method::GET, CATALOG, Some(made))).await).await;
        assert_eq!(
            (status, ids(&catalog)),
            (200, expected.iter().map(|&id| id.to_owned()).collect())
        );
    }
    // The same for an administrator who asks for a key.
    let of = |key: &str| ListModelsRequest {
        key: key.to_owned(),
        refresh: false,
    };
    let listed = client
        .list_models(of(&child.key.unwrap().id))
        .await
        .unwrap()
        .into_inner()
        .models;
    let listed: Vec<_> = listed.iter().map(|model| model.id.as_str()).collect();
    assert_eq!(listed, ["m", "cheap"]);
    let unknown = client.list_models(of("key-none")).await.unwrap_err();
    assert_eq!(unknown.code(), Code::NotFound);
}

#[tokio::test]
async fn providers_are_asked_again_and_keep_what_they_listed_last() {
    let data = tempfile::tempdir().unwrap();
    let mut upstream = Upstream::start().await;
    let _gateway = Running::start(data.path(), &settings(upstream.port)).await;
    let refresh = ListModelsRequest {
        key: String::new(),
        refresh: true,
    };
    let mut listed = Vec::new();
    // At the start, then each time it is wanted; the last time it is broken.
    for (status, body) in [
        ("200 OK", "{\"data\":[{\"id\":\"one\"}]}"),
        ("200 OK", "{\"data\":[{\"id\":\"one\"},{\"id\":\"two\"}]}"),
        ("500 Oh", "{}"),
    ] {
        let mut client = admin(data.path()).await;
        let request = refresh.clone();
        let asking = tokio::spawn(async move { client.list_models(request).await.unwrap().into_inner() });
        // The first may come from the start of the gateway, and then another one follows.
        let answer = soon("the models are listed", async {
            let mut asking = asking;
            loop {
                tokio::select! {
                    answer = &mut asking => return answer.unwrap(),
                    mut exchange = upstream.next() => {
                        assert_eq!(exchange.request.line, "GET /v1/models HTTP/1.1");
                        exchange.answer(status, "connection: close\r\n", body).await;
                    }
                }
            }
        })
        .await;
        let own = answer.models.iter().filter(|model| model.provider == "local");
        let at = own.clone().map(|model| model.listed_at).max();
        listed.push((
            own.map(|model| model.id.clone()).collect::<Vec<_>>(),
            answer.problems.len(),
            at,
        ));
    }
    let [one, two, down] = &listed[..] else {
        panic!("{listed:?}");
    };
    assert_eq!((one.0.len(), one.1), (1, 0), "{listed:?}");
    assert_eq!((two.0.len(), two.1), (2, 0), "{listed:?}");
    assert_eq!((&down.0, down.1, down.2), (&two.0, 1, two.2), "{listed:?}");
    assert!(two.2 >= one.2 && one.2 > Some(0), "{listed:?}");
}
