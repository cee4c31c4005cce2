//! What goes to the server.

use super::super::shared::prompt_text;
use super::{Asked, OpenCode, wire};
use crate::fold::{Cx, DeliveryId};
use lodge_proto::part::Part;
use serde_json::{Value, json};

impl OpenCode {
    /// Sends a request; returns its id and its delivery.
    pub(super) fn ask(
        &mut self,
        cx: &mut Cx<'_>,
        method: &str,
        path: &str,
        body: Option<Value>,
        asked: Asked,
    ) -> (String, DeliveryId) {
        let id = cx.new_id().to_string();
        self.pending.insert(id.clone(), asked);
        let mut line = json!({ "id": id, "method": method, "path": path });
        if let Some(body) = body {
            line["body"] = body;
        }
        let delivery = cx.send(&line);
        (id, delivery)
    }

    /// Sends a request about the session's conversation.
    pub(super) fn ask_session(
        &mut self,
        cx: &mut Cx<'_>,
        method: &str,
        what: &str,
        body: Option<Value>,
        asked: Asked,
    ) -> (String, DeliveryId) {
        let session = self.session.as_deref().unwrap_or_default();
        let path = if what.is_empty() {
            format!("/session/{session}")
        } else {
            format!("/session/{session}/{what}")
        };
        self.ask(cx, method, &path, body, asked)
    }

    pub(super) fn send_prompt(&mut self, cx: &mut Cx<'_>, parts: &[Part]) -> DeliveryId {
        self.used = true;
        let (what, body) = self.prompt_body(cx, parts);
        self.ask_session(cx, "POST", &what, Some(body), Asked::Prompt).1
    }

    /// Path and body that give a prompt: a slash command has its own.
    fn prompt_body(&self, cx: &mut Cx<'_>, parts: &[Part]) -> (String, Value) {
        let text = prompt_text(parts);
        let model = cx
            .wanted_model()
            .filter(|model| cx.offers(model))
            .and_then(|model| model.split_once('/'))
            .map(|(provider, id)| (format!("{}{provider}", wire::PROVIDER_PREFIX), id.to_owned()));
        let command = text
            .strip_prefix('/')
            .map(|rest| rest.split_once(char::is_whitespace).unwrap_or((rest, "")))
            .filter(|(name, _)| self.commands.iter().any(|known| known == name));
        let mut body = match command {
            Some((name, arguments)) => {
                let mut body = json!({ "command": name, "arguments": arguments.trim() });
                let images = blocks(cx, "", parts);
                if !images.is_empty() {
                    body["parts"] = images.into();
                }
                body
            }
            None => json!({ "parts": blocks(cx, &text, parts) }),
        };
        if let Some((provider, id)) = model {
            body["model"] = if command.is_some() {
                format!("{provider}/{id}").into()
            } else {
                json!({ "providerID": provider, "modelID": id })
            };
        }
        if let Some(agent) = &self.agent {
            body["agent"] = agent.clone().into();
        }
        if let Some(level) = cx
            .wanted_thinking_level()
            .filter(|level| levels(cx).contains(level))
        {
            body["variant"] = level.into();
        }
        let what = if command.is_some() {
            "command"
        } else {
            "prompt_async"
        };
        (what.to_owned(), body)
    }
}

/// Thinking levels of the model in use.
fn levels(cx: &Cx<'_>) -> &'static [&'static str] {
    let models = cx
        .launch()
        .map(|launch| launch.models.as_slice())
        .unwrap_or_default();
    let wanted = models
        .iter()
        .find(|model| Some(model.id.as_str()) == cx.wanted_model());
    match wanted.or(models.first()) {
        Some(model) if model.reasoning => &wire::LEVELS,
        _ => &[],
    }
}

pub(super) fn level_names(cx: &Cx<'_>) -> Vec<String> {
    levels(cx).iter().map(|level| (*level).to_owned()).collect()
}

/// The thinking levels follow the model.
pub(super) fn offer_levels(cx: &mut Cx<'_>) {
    let levels = level_names(cx);
    cx.capabilities(|can| can.thinking_levels = levels);
}

/// A text, and the images of a prompt.
pub(super) fn blocks(cx: &mut Cx<'_>, text: &str, parts: &[Part]) -> Vec<Value> {
    let mut blocks = Vec::new();
    if !text.is_empty() {
        blocks.push(json!({ "type": "text", "text": text }));
    }
    for part in parts {
        if let Part::Image { blob, .. } = part {
            let url = format!("data:{};base64,{}", blob.media_type, cx.blob(blob));
            let name = blob.name.as_deref().unwrap_or("image");
            blocks.push(json!({ "type": "file", "mime": blob.media_type, "filename": name, "url": url }));
        }
    }
    blocks
}
