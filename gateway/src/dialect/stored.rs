//! The part of the closed list that is about objects stored at a provider: conversations, files, containers, caches.
//!
//! Batches, fine-tuning, vector stores and stored prompts are not on it.

use hyper::Method;

use super::Dialect;
use super::route::segment;
use crate::asked::Kind;

/// What is done with an object stored at a provider, or with all of a kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub kind: Kind,
    pub action: Action,
}

/// Ids are as requests name them: those of Gemini begin with `files/` or `cachedContents/`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Makes one of what a JSON body says.
    Create,
    /// Makes one of the bytes of the body, or begins to.
    Upload,
    /// Goes on with an upload, by its id.
    Continue(String),
    /// Those of the caller.
    List,
    /// Reads one, or something in it.
    Read(String),
    /// Changes one, or something in it.
    Change(String),
    /// Deletes the object itself.
    Delete(String),
}

impl Action {
    /// The object that must be the caller's.
    pub fn id(&self) -> Option<&str> {
        match self {
            Self::Create | Self::Upload | Self::List => None,
            Self::Continue(id) | Self::Read(id) | Self::Change(id) | Self::Delete(id) => Some(id),
        }
    }
}

/// The dialect is none where two have the same path.
pub(super) fn find(method: &Method, path: &str, query: Option<&str>) -> Option<(Option<Dialect>, Stored)> {
    let stored = |dialect, kind, action| Some((dialect, Stored { kind, action }));
    if let Some(path) = path.strip_prefix("/v1beta/") {
        let (kind, action) = gemini(method, path)?;
        return stored(Some(Dialect::Gemini), kind, action);
    }
    if path == "/upload/v1beta/files" && *method == Method::POST {
        let (kind, action) = upload(query.unwrap_or_default())?;
        return stored(Some(Dialect::Gemini), kind, action);
    }
    let mut parts = path.strip_prefix("/v1/")?.split('/');
    let (collection, id) = (parts.next()?, parts.next());
    let rest: Vec<&str> = parts.collect();
    let id = match id {
        Some(id) => Some(segment(id)?),
        None => None,
    };
    if rest.iter().any(|part| segment(part).is_none()) {
        return None;
    }
    match collection {
        "responses" => stored(
            Some(Dialect::Responses),
            Kind::Response,
            response(method, id?, &rest)?,
        ),
        "conversations" => {
            let action = conversation(method, id, &rest)?;
            stored(Some(Dialect::Responses), Kind::Conversation, action)
        }
        "containers" => {
            let action = container(method, id, &rest)?;
            stored(Some(Dialect::Responses), Kind::Container, action)
        }
        // Anthropic's and OpenAI's have the same paths.
        "files" => stored(None, Kind::File, file(method, id, &rest)?),
        _ => None,
    }
}

/// An upload to Gemini, which is begun without an id and goes on with one. A second id, or anything else that the query could
/// turn it into, is not on the list.
fn upload(query: &str) -> Option<(Kind, Action)> {
    let mut id = None;
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.split_once('=')? {
            ("upload_id", of) if id.is_none() && !of.is_empty() => id = Some(of),
            // The key does not leave the gateway.
            ("upload_protocol", "resumable") | ("alt", "json") | ("key", _) => {}
            _ => return None,
        }
    }
    Some(match id {
        Some(id) => (Kind::Upload, Action::Continue(id.to_owned())),
        None => (Kind::File, Action::Upload),
    })
}

fn response(method: &Method, id: String, rest: &[&str]) -> Option<Action> {
    match (method.as_str(), rest) {
        ("GET", [] | ["input_items"]) => Some(Action::Read(id)),
        ("POST", ["cancel"]) => Some(Action::Change(id)),
        ("DELETE", []) => Some(Action::Delete(id)),
        _ => None,
    }
}

fn conversation(method: &Method, id: Option<String>, rest: &[&str]) -> Option<Action> {
    match (method.as_str(), id, rest) {
        ("POST", None, []) => Some(Action::Create),
        ("GET", Some(id), [] | ["items"] | ["items", _]) => Some(Action::Read(id)),
        ("POST", Some(id), [] | ["items"]) | ("DELETE", Some(id), ["items", _]) => Some(Action::Change(id)),
        ("DELETE", Some(id), []) => Some(Action::Delete(id)),
        _ => None,
    }
}

fn container(method: &Method, id: Option<String>, rest: &[&str]) -> Option<Action> {
    match (method.as_str(), id, rest) {
        ("POST", None, []) => Some(Action::Create),
        ("GET", None, []) => Some(Action::List),
        ("GET", Some(id), [] | ["files"] | ["files", _] | ["files", _, "content"]) => Some(Action::Read(id)),
        ("POST", Some(id), ["files"]) | ("DELETE", Some(id), ["files", _]) => Some(Action::Change(id)),
        ("DELETE", Some(id), []) => Some(Action::Delete(id)),
        _ => None,
    }
}

fn file(method: &Method, id: Option<String>, rest: &[&str]) -> Option<Action> {
    match (method.as_str(), id, rest) {
        ("POST", None, []) => Some(Action::Upload),
        ("GET", None, []) => Some(Action::List),
        ("GET", Some(id), [] | ["content"]) => Some(Action::Read(id)),
        ("DELETE", Some(id), []) => Some(Action::Delete(id)),
        _ => None,
    }
}

fn gemini(method: &Method, path: &str) -> Option<(Kind, Action)> {
    let (collection, id) = path
        .split_once('/')
        .map_or((path, None), |(all, id)| (all, Some(id)));
    let kind = match collection {
        "cachedContents" => Kind::Cache,
        "files" => Kind::File,
        _ => return None,
    };
    if let Some(id) = id {
        segment(id)?;
    }
    let id = id.map(|_| path.to_owned());
    let action = match (method.as_str(), id) {
        ("POST", None) if kind == Kind::Cache => Action::Create,
        ("GET", None) => Action::List,
        ("GET", Some(id)) => Action::Read(id),
        ("PATCH", Some(id)) if kind == Kind::Cache => Action::Change(id),
        ("DELETE", Some(id)) => Action::Delete(id),
        _ => return None,
    };
    Some((kind, action))
}
