//! `lodgectl provider add`.

use super::{connect, key};
use crate::admin::{self, preset, refused};
use crate::failure::Failure;
use crate::terminal::{print_json, println};
use clap::Args;
use lodge_proto::ErrorCode;
use lodge_proto::control::{ModelSetup, ProviderSetup, PutProviderRequest, SetProviderKeyRequest};
use serde_json::json;
use std::path::{Path, PathBuf};

#[derive(Debug, Args)]
pub(in crate::admin) struct Add {
    name: String,
    /// `anthropic`, `openai`, `openai_compatible` or `gemini` [default: as the name says].
    #[arg(long)]
    kind: Option<String>,
    /// Needed for `openai_compatible`, but for the names above.
    #[arg(long)]
    base_url: Option<String>,
    /// Read no key: the server asks for none, or `lodgectl account add` brings them.
    #[arg(long, conflicts_with_all = ["key", "key_file"])]
    no_key: bool,
    /// Read a key although servers of this name ask for none.
    #[arg(long)]
    key: bool,
    /// Read the key from this file instead of standard input.
    #[arg(long, value_name = "FILE")]
    key_file: Option<PathBuf>,
    /// A model it has, with what is known of it: `ID`, or `ID:CONTEXT` or `ID:CONTEXT:OUTPUT` in tokens. Several times, for
    /// several [default: a short list of the kind, or those that the server lists].
    #[arg(long = "model", value_name = "ID", value_parser = model)]
    models: Vec<ModelSetup>,
    /// It serves Responses besides Chat Completions (`openai_compatible` only).
    #[arg(long)]
    responses: bool,
    /// Its requests cost nothing although it has a key.
    #[arg(long)]
    free: bool,
    /// Ask its streams of Chat Completions for their usage, where a client does not.
    #[arg(long = "add-usage")]
    with_usage: bool,
    /// It may be plain HTTP on another machine: the key crosses the network in clear.
    #[arg(long)]
    insecure_http: bool,
    /// A tool that runs at the provider and that sessions may use, with its price: `web_search=0.01` is a cent a call.
    #[arg(long = "tool", value_name = "NAME=USD", value_parser = tool)]
    tools: Vec<(String, f64)>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The numbers stand at the end, because names of models have colons too (`llama3:8b`).
fn model(text: &str) -> Result<ModelSetup, String> {
    let mut parts = text.rsplitn(3, ':');
    let numbers: Vec<Option<u64>> = [parts.next(), parts.next()]
        .into_iter()
        .map(|part| part.and_then(|part| part.parse().ok()))
        .collect();
    let before = |count: usize| {
        let mut rest = text;
        for _ in 0..count {
            rest = rest.rsplit_once(':').map_or(rest, |(rest, _)| rest);
        }
        rest.to_owned()
    };
    let has = text.matches(':').count();
    let (id, context_window, max_output) = match (numbers[0], numbers[1]) {
        (Some(output), Some(context)) if has >= 2 => (before(2), context, output),
        (Some(context), _) if has >= 1 => (before(1), context, 0),
        _ => (text.to_owned(), 0, 0),
    };
    if id.is_empty() {
        return Err("a model needs an id: `ID`, `ID:CONTEXT` or `ID:CONTEXT:OUTPUT`".to_owned());
    }
    Ok(ModelSetup {
        id,
        context_window,
        max_output,
        ..ModelSetup::default()
    })
}

fn tool(text: &str) -> Result<(String, f64), String> {
    let parsed = text
        .split_once('=')
        .and_then(|(name, price)| Some((name.to_owned(), price.parse().ok()?)));
    parsed.ok_or_else(|| "is written as a name and dollars a call: `web_search=0.01`".to_owned())
}

/// Adds a provider, or replaces what is known of it.
pub(in crate::admin) async fn add(socket: &Path, add: &Add) -> anyhow::Result<()> {
    let preset = preset::of(&add.name);
    let reads_key = add.key || add.key_file.is_some() || !add.no_key && !preset.is_local;
    let key = if reads_key {
        key::read(
            add.key_file.as_deref(),
            &format!("lodgectl provider add {}", add.name),
        )?
    } else {
        String::new()
    };
    let kind = add.kind.clone().unwrap_or_else(|| preset.kind.to_owned());
    let base_url = add.base_url.clone().unwrap_or_else(|| preset.base_url.to_owned());
    let has_key = !key.is_empty();
    let is_plain = add.models.is_empty()
        && !add.responses
        && !add.free
        && !add.with_usage
        && !add.insecure_http
        && add.tools.is_empty();
    // Without a key only servers of one's own are whole; others wait for their accounts.
    let is_whole = has_key || kind == "openai_compatible";
    if is_plain && is_whole {
        let request = SetProviderKeyRequest {
            name: add.name.clone(),
            kind,
            key,
            base_url,
            sealed: None,
        };
        let answer = admin::connect(socket).await?.set_provider_key(request).await;
        answer.map_err(|status| refused(&status))?;
        return said(add, has_key);
    }
    if base_url.is_empty() && kind == "openai_compatible" {
        let failure = Failure::new(
            ErrorCode::InvalidArgument,
            "base_url: is needed for kind `openai_compatible`",
        );
        return Err(failure.mend("add --base-url http://127.0.0.1:PORT/v1").into());
    }
    let provider = ProviderSetup {
        name: add.name.clone(),
        kind,
        base_url,
        insecure_http: add.insecure_http,
        responses: add.responses,
        free: add.free,
        add_usage: add.with_usage,
        models: add.models.clone(),
        provider_tools: add.tools.iter().cloned().collect(),
        ..ProviderSetup::default()
    };
    let request = PutProviderRequest {
        provider: Some(provider),
        key,
        sealed: None,
    };
    let answer = connect(socket).await?.put_provider(request).await;
    answer.map_err(|status| refused(&status))?;
    said(add, has_key)
}

fn said(add: &Add, has_key: bool) -> anyhow::Result<()> {
    let name = &add.name;
    if add.json {
        return print_json(&json!({ "name": name, "has_key": has_key }));
    }
    if has_key {
        println(&format!("the key of {name} is stored, sealed"));
    } else {
        println(&format!("{name} is added, without a key"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn models_are_read_with_their_colons() {
        let read = |text: &str| {
            let model = model(text).unwrap();
            (model.id, model.context_window, model.max_output)
        };
        for (text, id, context, output) in [
            ("m", "m", 0, 0),
            ("m:1000", "m", 1000, 0),
            ("m:1000:20", "m", 1000, 20),
            ("llama3:8b", "llama3:8b", 0, 0),
            ("llama3:8b:1000", "llama3:8b", 1000, 0),
            ("llama3:8b:1000:20", "llama3:8b", 1000, 20),
        ] {
            assert_eq!(read(text), (id.to_owned(), context, output), "{text}");
        }
        assert!(model(":1").is_err() && model("").is_err());
        assert!(tool("web_search=0.01").is_ok() && tool("web_search").is_err());
    }
}
