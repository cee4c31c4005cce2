//! The closed list of methods and paths. Whatever is not on it is not forwarded: batches, fine-tuning and administration of
//! the provider's account would act on everybody's behalf.

use hyper::{HeaderMap, Method};

use super::Dialect;
use super::stored::{self, Action, Stored};

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operation {
    /// `sse` is set where the path, not the body, says whether and how the answer streams.
    Generate {
        model: Option<String>,
        sse: Option<bool>,
    },
    CountTokens {
        model: Option<String>,
    },
    Embed {
        model: Option<String>,
    },
    /// Makes a long conversation short, by a model.
    Compact,
    /// Responses over a WebSocket.
    Socket,
    /// Objects stored at the provider.
    Stored(Stored),
    ListModels,
    GetModel(String),
    /// `HEAD` on the root, which some clients send to see whether anybody is there.
    Probe,
}

/// A request that is on the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Route {
    pub dialect: Dialect,
    pub operation: Operation,
    /// The native path, beginning with `/`; empty for a probe.
    pub path: String,
}

/// Why a request is not on the list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RouteError {
    #[error("{method} {path} is not available through this gateway")]
    Unknown { method: Method, path: String },
    #[error("the provider does not speak the dialect of {path}")]
    Dialect { path: String },
}

impl Route {
    /// Finds the route for a native path among the dialects the provider speaks.
    pub fn find(
        dialects: &[Dialect],
        headers: &HeaderMap,
        method: &Method,
        path: &str,
        query: Option<&str>,
    ) -> Result<Self, RouteError> {
        if *method == Method::HEAD && matches!(path, "" | "/") {
            let dialect = dialects.first().copied().unwrap_or(Dialect::Chat);
            return Ok(Self {
                dialect,
                operation: Operation::Probe,
                path: String::new(),
            });
        }
        let unknown = || RouteError::Unknown {
            method: method.clone(),
            path: shown(path),
        };
        if !path.bytes().all(is_plain)
            || path.contains("//")
            || path.split('/').any(|part| matches!(part, "." | ".."))
        {
            return Err(unknown());
        }
        let is_socket = *method == Method::GET && path == "/v1/responses" && wants_websocket(headers);
        let found = if is_socket {
            Some((Some(Dialect::Responses), Operation::Socket))
        } else {
            native(method, path, query)
        };
        let (native, operation) = found.ok_or_else(unknown)?;
        let dialect = match native {
            Some(dialect) => dialect,
            // Anthropic's and OpenAI's lists of models have the same path.
            None => listing_dialect(dialects, headers),
        };
        if !dialects.contains(&dialect) {
            return Err(RouteError::Dialect { path: shown(path) });
        }
        Ok(Self {
            dialect,
            operation,
            path: path.to_owned(),
        })
    }
}

impl Route {
    /// Whether its body is the bytes of a file, with or without a form around them.
    pub fn takes_a_file(&self) -> bool {
        let Operation::Stored(stored) = &self.operation else {
            return false;
        };
        match stored.action {
            // Gemini is told of a file first.
            Action::Upload => self.dialect != Dialect::Gemini,
            Action::Continue(_) => true,
            _ => false,
        }
    }
}

fn native(method: &Method, path: &str, query: Option<&str>) -> Option<(Option<Dialect>, Operation)> {
    let generate = Operation::Generate {
        model: None,
        sse: None,
    };
    if let Some((dialect, stored)) = stored::find(method, path, query) {
        return Some((dialect, Operation::Stored(stored)));
    }
    let found = match (method, path) {
        (&Method::POST, "/v1/chat/completions") => (Some(Dialect::Chat), generate),
        (&Method::POST, "/v1/responses") => (Some(Dialect::Responses), generate),
        (&Method::POST, "/v1/responses/compact") => (Some(Dialect::Responses), Operation::Compact),
        (&Method::POST, "/v1/responses/input_tokens") => {
            (Some(Dialect::Responses), Operation::CountTokens { model: None })
        }
        (&Method::POST, "/v1/messages") => (Some(Dialect::Messages), generate),
        (&Method::POST, "/v1/messages/count_tokens") => {
            (Some(Dialect::Messages), Operation::CountTokens { model: None })
        }
        (&Method::POST, "/v1/embeddings") => (Some(Dialect::Chat), Operation::Embed { model: None }),
        (&Method::GET, "/v1/models") => (None, Operation::ListModels),
        (&Method::GET, "/v1beta/models") => (Some(Dialect::Gemini), Operation::ListModels),
        (&Method::POST, _) => {
            let (model, action) = path.strip_prefix("/v1beta/models/")?.split_once(':')?;
            (Some(Dialect::Gemini), gemini(segment(model)?, action, query)?)
        }
        (&Method::GET, _) => match path.strip_prefix("/v1beta/models/") {
            Some(model) => (Some(Dialect::Gemini), Operation::GetModel(segment(model)?)),
            None => (
                None,
                Operation::GetModel(
                    path.strip_prefix("/v1/models/")
                        .filter(|id| !id.is_empty())?
                        .to_owned(),
                ),
            ),
        },
        _ => return None,
    };
    Some(found)
}

fn gemini(model: String, action: &str, query: Option<&str>) -> Option<Operation> {
    let sse = || query.is_some_and(|query| query.split('&').any(|pair| pair == "alt=sse"));
    match action {
        "generateContent" => Some(Operation::Generate {
            model: Some(model),
            sse: None,
        }),
        "streamGenerateContent" => Some(Operation::Generate {
            model: Some(model),
            sse: Some(sse()),
        }),
        "embedContent" | "batchEmbedContents" => Some(Operation::Embed { model: Some(model) }),
        "countTokens" => Some(Operation::CountTokens { model: Some(model) }),
        _ => None,
    }
}

fn wants_websocket(headers: &HeaderMap) -> bool {
    let upgrade = headers.get("upgrade").and_then(|value| value.to_str().ok());
    upgrade.is_some_and(|protocol| protocol.eq_ignore_ascii_case("websocket"))
}

/// A part of a path that names something.
pub(super) fn segment(model: &str) -> Option<String> {
    (!model.is_empty() && !model.contains(['/', ':'])).then(|| model.to_owned())
}

/// No percent-encoding: two spellings of one path are how a closed list is walked around.
fn is_plain(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"/-._~:@+".contains(&byte)
}

/// A path as it may stand in an error.
fn shown(path: &str) -> String {
    path.chars().filter(|char| !char.is_control()).take(200).collect()
}

fn listing_dialect(dialects: &[Dialect], headers: &HeaderMap) -> Dialect {
    let wanted = if headers.contains_key("anthropic-version") {
        Dialect::Messages
    } else {
        Dialect::Chat
    };
    let has = |dialect: &Dialect| *dialect != Dialect::Gemini;
    if dialects.contains(&wanted) {
        wanted
    } else {
        dialects.iter().copied().find(has).unwrap_or(wanted)
    }
}

/// The dialect of a request that matches nothing, for the error it gets.
pub fn guess(headers: &HeaderMap, path: &str) -> Dialect {
    if path.contains("/v1beta") || headers.contains_key("x-goog-api-key") {
        Dialect::Gemini
    } else if path.contains("/messages")
        || headers.contains_key("anthropic-version")
        || headers.contains_key("x-api-key")
    {
        Dialect::Messages
    } else if path.contains("/responses") {
        Dialect::Responses
    } else {
        Dialect::Chat
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Dialect; 4] = [
        Dialect::Chat,
        Dialect::Responses,
        Dialect::Messages,
        Dialect::Gemini,
    ];

    fn find(method: &Method, path: &str) -> Result<Route, RouteError> {
        Route::find(&ALL, &HeaderMap::new(), method, path, Some("alt=sse"))
    }

    #[test]
    fn the_list() {
        let dialect = |path| find(&Method::POST, path).unwrap().dialect;
        assert_eq!(dialect("/v1/chat/completions"), Dialect::Chat);
        assert_eq!(dialect("/v1/responses"), Dialect::Responses);
        assert_eq!(dialect("/v1/messages"), Dialect::Messages);
        assert_eq!(dialect("/v1/messages/count_tokens"), Dialect::Messages);
        let route = find(
            &Method::POST,
            "/v1beta/models/gemini-3.8-flash:streamGenerateContent",
        )
        .unwrap();
        let operation = Operation::Generate {
            model: Some("gemini-3.8-flash".into()),
            sse: Some(true),
        };
        assert_eq!(route.operation, operation);
        assert_eq!(find(&Method::HEAD, "/").unwrap().operation, Operation::Probe);
        assert_eq!(dialect("/v1/embeddings"), Dialect::Chat);
        assert_eq!(dialect("/v1beta/models/m:embedContent"), Dialect::Gemini);
        assert_eq!(
            find(&Method::POST, "/v1/responses/compact").unwrap().operation,
            Operation::Compact
        );
        assert_eq!(
            find(&Method::POST, "/v1/responses/input_tokens")
                .unwrap()
                .operation,
            Operation::CountTokens { model: None }
        );
    }

    #[test]
    fn stored_objects() {
        use super::super::Action::{Change, Continue, Create, Delete, List, Read, Upload};
        use crate::asked::Kind::{Cache, Container, Conversation, File, Response, Upload as Begun};
        let of = |id: &str| id.to_owned();
        for (method, path, kind, action) in [
            ("GET", "/v1/responses/r", Response, Read(of("r"))),
            ("DELETE", "/v1/responses/r", Response, Delete(of("r"))),
            ("GET", "/v1/responses/r/input_items", Response, Read(of("r"))),
            ("POST", "/v1/responses/r/cancel", Response, Change(of("r"))),
            ("POST", "/v1/conversations", Conversation, Create),
            ("POST", "/v1/conversations/c", Conversation, Change(of("c"))),
            ("POST", "/v1/conversations/c/items", Conversation, Change(of("c"))),
            ("GET", "/v1/conversations/c/items/i", Conversation, Read(of("c"))),
            (
                "DELETE",
                "/v1/conversations/c/items/i",
                Conversation,
                Change(of("c")),
            ),
            ("DELETE", "/v1/conversations/c", Conversation, Delete(of("c"))),
            ("POST", "/v1/files", File, Upload),
            ("GET", "/v1/files", File, List),
            ("GET", "/v1/files/f/content", File, Read(of("f"))),
            ("DELETE", "/v1/files/f", File, Delete(of("f"))),
            ("POST", "/v1/containers", Container, Create),
            ("POST", "/v1/containers/c/files", Container, Change(of("c"))),
            (
                "GET",
                "/v1/containers/c/files/f/content",
                Container,
                Read(of("c")),
            ),
            ("POST", "/v1beta/cachedContents", Cache, Create),
            (
                "PATCH",
                "/v1beta/cachedContents/x",
                Cache,
                Change(of("cachedContents/x")),
            ),
            ("GET", "/v1beta/files", File, List),
            ("DELETE", "/v1beta/files/x", File, Delete(of("files/x"))),
            ("POST", "/upload/v1beta/files", File, Upload),
            (
                "POST",
                "/upload/v1beta/files?upload_id=u&key=k",
                Begun,
                Continue(of("u")),
            ),
        ] {
            let (path, query) = path
                .split_once('?')
                .map_or((path, None), |(path, query)| (path, Some(query)));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let route = Route::find(&ALL, &HeaderMap::new(), &method, path, query).unwrap();
            let stored = Operation::Stored(Stored { kind, action });
            assert_eq!(route.operation, stored, "{method} {path}");
        }
        let mut headers = HeaderMap::new();
        headers.insert(
            "anthropic-version",
            hyper::header::HeaderValue::from_static("2023-06-01"),
        );
        let route = Route::find(&ALL, &headers, &Method::POST, "/v1/files", None).unwrap();
        assert_eq!(route.dialect, Dialect::Messages);
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, path) in [
            (Method::GET, "/v1/chat/completions"),
            (Method::DELETE, "/v1/models/x"),
            (Method::POST, "/upload/v1beta/files"),
            (Method::PUT, "/v1/files"),
            (Method::POST, "/v1/files/f/content"),
            (Method::POST, "/v1/uploads"),
            (Method::POST, "/v1/batches"),
            (Method::POST, "/v1/vector_stores"),
            (Method::GET, "/v1/conversations"),
            (Method::GET, "/v1/conversations/c/items/i/x"),
            (Method::POST, "/v1beta/files/x"),
            (Method::GET, "/v1beta/files/x:download"),
            (Method::PUT, "/v1beta/cachedContents/x"),
            (Method::GET, "/v1/responses/resp_1/cancel"),
            (Method::DELETE, "/v1/responses/resp_1/input_items"),
            (Method::GET, "/v1/responses/"),
            (Method::POST, "/v1/conversations/"),
            (Method::POST, "/v1/responses/compact/.."),
            (Method::POST, "/v1/messages/batches"),
            (Method::POST, "/v1/messages/../files"),
            (Method::POST, "/v1//messages"),
            (Method::POST, "/v1/messages%2fbatches"),
            (Method::POST, "/v1beta/models/a/b:generateContent"),
            (Method::POST, "/v1beta/models/m:batchGenerateContent"),
            (Method::GET, "/v1/models/../files"),
            (Method::GET, "/v1/models/"),
            (Method::GET, "/"),
        ] {
            assert!(find(&method, path).is_err(), "{method} {path}");
        }
    }

    #[test]
    fn only_what_the_provider_speaks() {
        let found = Route::find(
            &[Dialect::Messages],
            &HeaderMap::new(),
            &Method::POST,
            "/v1/chat/completions",
            None,
        );
        assert_eq!(
            found,
            Err(RouteError::Dialect {
                path: "/v1/chat/completions".into()
            })
        );
        let models = Route::find(
            &[Dialect::Messages],
            &HeaderMap::new(),
            &Method::GET,
            "/v1/models",
            None,
        );
        assert_eq!(models.unwrap().dialect, Dialect::Messages);
    }
}
