//! A short list of models per kind, for the picker of somebody who has configured nothing but a key.
//!
//! A request may name any model the provider has; this list is only what is offered.

use super::{Kind, Model};
use crate::demo;

/// Id, name, context window, most output tokens, efforts of reasoning.
type Row = (&'static str, &'static str, u64, u64, &'static [&'static str]);

/// What every model of these families takes; newer ones may take more.
const EFFORTS: &[&str] = &["low", "medium", "high"];

const ANTHROPIC: [Row; 4] = [
    ("claude-opus-5-5", "Claude Opus 5.5", 1_000_000, 0, EFFORTS),
    ("claude-sonnet-5-5", "Claude Sonnet 5.5", 1_000_000, 0, EFFORTS),
    ("claude-haiku-5-5", "Claude Haiku 5.5", 1_000_000, 0, &[]),
    ("claude-sonnet-4-6", "Claude Sonnet 4.6", 1_000_000, 0, EFFORTS),
];

const OPENAI: [Row; 4] = [
    ("gpt-5.6-sol", "GPT-5.6 Sol", 1_050_000, 0, EFFORTS),
    ("gpt-5.6-terra", "GPT-5.6 Terra", 1_050_000, 0, EFFORTS),
    ("gpt-5.6-luna", "GPT-5.6 Luna", 1_050_000, 0, EFFORTS),
    ("gpt-5.3-codex", "GPT-5.3-Codex", 400_000, 0, EFFORTS),
];

const GEMINI: [Row; 3] = [
    (
        "gemini-3.8-flash",
        "Gemini 3.8 Flash",
        1_000_000,
        0,
        &["low", "high"],
    ),
    (
        "gemini-3.1-pro-preview",
        "Gemini 3.1 Pro Preview",
        0,
        0,
        &["low", "high"],
    ),
    (
        "gemini-3.5-flash-lite",
        "Gemini 3.5 Flash Lite",
        1_000_000,
        0,
        &["low", "high"],
    ),
];

pub(super) fn models(kind: Kind) -> Vec<Model> {
    let rows: &[Row] = match kind {
        Kind::Anthropic => &ANTHROPIC,
        Kind::Openai => &OPENAI,
        Kind::Gemini => &GEMINI,
        Kind::OpenaiCompatible => &[],
        Kind::Demo => return vec![demo_model()],
    };
    let model = |&(id, name, context_window, max_output, efforts): &Row| Model {
        name: name.to_owned(),
        context_window,
        max_output,
        reasoning: true,
        images: true,
        efforts: efforts.iter().map(|&effort| effort.to_owned()).collect(),
        ..Model::named(id)
    };
    rows.iter().map(model).collect()
}

fn demo_model() -> Model {
    Model {
        name: demo::MODEL_NAME.to_owned(),
        context_window: demo::CONTEXT_WINDOW,
        max_output: demo::MAX_OUTPUT,
        reasoning: true,
        images: true,
        ..Model::named(demo::MODEL)
    }
}
