//! The closed list of methods and paths. Whatever is not on it is not forwarded: stored files, batches,
//! fine-tuning and administration of the provider's account would act on everybody's behalf.

use hyper::{HeaderMap, Method};

use super::Dialect;

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
    /// Responses over a WebSocket.
    Socket,
    /// Reads or deletes a stored response.
    StoredResponse(String),
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

fn native(method: &Method, path: &str, query: Option<&str>) -> Option<(Option<Dialect>, Operation)> {
    let generate = Operation::Generate {
        model: None,
        sse: None,
    };
    let found = match (method, path) {
        (&Method::POST, "/v1/chat/completions") => (Some(Dialect::Chat), generate),
        (&Method::POST, "/v1/responses") => (Some(Dialect::Responses), generate),
        (&Method::POST, "/v1/messages") => (Some(Dialect::Messages), generate),
        (&Method::POST, "/v1/messages/count_tokens") => {
            (Some(Dialect::Messages), Operation::CountTokens { model: None })
        }
        (&Method::POST, "/v1/embeddings") => (Some(Dialect::Chat), Operation::Embed { model: None }),
        (&Method::GET | &Method::DELETE, _) if path.starts_with("/v1/responses/") => {
            (Some(Dialect::Responses), stored_response(method, path)?)
        }
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

/// `/v1/responses/ID`, and to be read `/v1/responses/ID/input_items`.
fn stored_response(method: &Method, path: &str) -> Option<Operation> {
    let id = path.strip_prefix("/v1/responses/")?;
    let id = match id.strip_suffix("/input_items") {
        Some(id) if *method == Method::GET => id,
        _ => id,
    };
    segment(id).map(Operation::StoredResponse)
}

fn segment(model: &str) -> Option<String> {
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
        for (method, path) in [
            (Method::GET, "/v1/responses/resp_1"),
            (Method::DELETE, "/v1/responses/resp_1"),
            (Method::GET, "/v1/responses/resp_1/input_items"),
        ] {
            let stored = Operation::StoredResponse("resp_1".into());
            assert_eq!(find(&method, path).unwrap().operation, stored);
        }
    }

    #[test]
    fn everything_else_is_refused() {
        for (method, path) in [
            (Method::GET, "/v1/chat/completions"),
            (Method::DELETE, "/v1/models/x"),
            (Method::POST, "/v1/files"),
            (Method::POST, "/v1/responses/resp_1/cancel"),
            (Method::GET, "/v1/responses/resp_1/cancel"),
            (Method::DELETE, "/v1/responses/resp_1/input_items"),
            (Method::GET, "/v1/responses/"),
            (Method::POST, "/v1/conversations"),
            (Method::POST, "/v1/responses/compact/.."),
            (Method::POST, "/v1/messages/batches"),
            (Method::POST, "/v1/messages/../files"),
            (Method::POST, "/v1//messages"),
            (Method::POST, "/v1/messages%2fbatches"),
            (Method::POST, "/v1beta/models/a/b:generateContent"),
            (Method::POST, "/v1beta/models/m:batchGenerateContent"),
            (Method::POST, "/v1beta/cachedContents"),
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
