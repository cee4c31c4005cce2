//! Requests and answers between every two dialects.

mod golden;
mod property;
mod requests;
mod signed;
mod streams;
mod tools;

use std::sync::Arc;

use serde_json::json;

use super::stream::Events;
use super::*;
use crate::price::tests::provider;
use crate::provider::{Kind, Model};

const ALL: [Dialect; 4] = [
    Dialect::Chat,
    Dialect::Responses,
    Dialect::Messages,
    Dialect::Gemini,
];

fn generate(dialect: Dialect, stream: bool) -> Operation {
    let is_gemini = dialect == Dialect::Gemini;
    Operation::Generate {
        model: is_gemini.then(|| "m".to_owned()),
        sse: (is_gemini && stream).then_some(true),
    }
}

/// A provider that speaks the dialect, and nothing else where that can be.
fn speaks(dialect: Dialect) -> ProviderSpec {
    let kind = match dialect {
        Dialect::Chat => Kind::OpenaiCompatible,
        Dialect::Responses => Kind::Openai,
        Dialect::Messages => Kind::Anthropic,
        Dialect::Gemini => Kind::Gemini,
    };
    provider(kind, "https://p.example")
}

fn keeper() -> Keeper {
    Keeper::new(&Arc::default(), "s", "p", "n")
}

/// The request as a provider of that dialect gets it, and what is lost.
fn asked(
    caller: Dialect,
    to: (Dialect, &ProviderSpec),
    model: &str,
    body: &Value,
) -> (Value, String, Translation) {
    let stream = body["stream"] == true;
    let body = body.to_string();
    let (written, translation) = request(
        (caller, &generate(caller, stream)),
        to,
        body.as_bytes(),
        model,
        keeper(),
    )
    .unwrap();
    let lost: Vec<String> = translation.lost.0.iter().cloned().collect();
    (
        serde_json::from_slice(&written).unwrap(),
        lost.join(" "),
        translation,
    )
}

fn translation(provider: Dialect, caller: Dialect) -> Translation {
    Translation {
        caller,
        provider,
        stream: true,
        wanted: Wanted {
            usage: true,
            array: false,
        },
        lost: Lost::default(),
        back: Back {
            names: Names::default(),
            keeper: keeper(),
        },
    }
}

/// Everything a body says, and whether it ended as if complete.
async fn played(translation: &Translation, pieces: Vec<Vec<u8>>) -> (String, bool) {
    let frames = pieces.into_iter().map(|piece| {
        Ok::<_, Box<dyn std::error::Error + Send + Sync>>(hyper::body::Frame::data(piece.into()))
    });
    let incoming = http_body_util::StreamBody::new(futures_util::stream::iter(frames)).boxed_unsync();
    let mut body = stream::body(translation, incoming);
    let mut text = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => text.extend_from_slice(&frame.into_data().unwrap()),
            Err(_) => return (String::from_utf8(text).unwrap(), false),
        }
    }
    (String::from_utf8(text).unwrap(), true)
}

async fn translated(provider: Dialect, caller: Dialect, script: &str, cut: usize) -> (String, bool) {
    let pieces = script.as_bytes().chunks(cut).map(<[u8]>::to_vec).collect();
    played(&translation(provider, caller), pieces).await
}
