//! Requests as a provider reads them.

mod chat;
mod gemini;
mod messages;
mod responses;

use serde_json::{Value, json};

use super::effort::Effort;
use super::kept::Keeper;
use super::model::{Chat, Lost, Part, Role, Turn};
use crate::dialect::Dialect;
use crate::provider::{Kind, Model};

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct To<'a> {
    pub(super) dialect: Dialect,
    pub(super) kind: Kind,
    pub(super) model: &'a str,
    /// What is known of the model.
    pub(super) known: Option<&'a Model>,
    /// What the model wants back with its calls.
    pub(super) keeper: &'a Keeper,
}

impl To<'_> {
    /// The model's own word for how hard to think: the hardest that is not above what was asked for, or its least. One of
    /// three that all know, where its own are unknown; none for not at all.
    fn effort(&self, asked: Effort) -> Option<&str> {
        let own = self.known.map_or(&[][..], |model| &model.efforts);
        let words = own
            .iter()
            .filter_map(|word| Some((Effort::parse(word)?, word.as_str())));
        let thinking: Vec<(Effort, &str)> = words.filter(|(effort, _)| *effort != Effort::None).collect();
        if asked == Effort::None || thinking.is_empty() {
            return asked.word();
        }
        let fits = thinking.iter().filter(|(effort, _)| *effort <= asked).max();
        fits.or(thinking.iter().min()).map(|(_, word)| *word)
    }
}

pub(super) fn request(to: &To<'_>, chat: &mut Chat, lost: &mut Lost) -> Value {
    let most = to.known.map_or(0, |model| model.max_output);
    if let Some(asked) = chat.max_tokens.filter(|asked| most > 0 && *asked > most) {
        // Harnesses ask for what their own vendor's models can; others refuse more than they have.
        tracing::debug!(asked, most, "the limit of output is the model's");
        chat.max_tokens = Some(most);
        lost.note("max_tokens");
    }
    match to.dialect {
        Dialect::Chat => chat::request(chat, to, lost),
        Dialect::Responses => responses::request(chat, to, lost),
        Dialect::Messages => messages::request(chat, to, lost),
        Dialect::Gemini => gemini::request(chat, to, lost),
    }
}

/// A schema of a tool; every dialect wants that of an object.
fn schema(schema: &Value) -> Value {
    if schema["type"] == "object" {
        return schema.clone();
    }
    match schema {
        Value::Object(fields) if !fields.is_empty() && !fields.contains_key("type") => {
            let mut schema = schema.clone();
            schema["type"] = json!("object");
            schema
        }
        _ => json!({ "type": "object", "properties": {} }),
    }
}

/// Where what is under way began: the turn after the last one in which the user said something beside results.
fn under_way(turns: &[Turn]) -> usize {
    let spoke = |turn: &Turn| {
        turn.role == Role::User && turn.parts.iter().any(|part| !matches!(part, Part::Result { .. }))
    };
    turns.iter().rposition(spoke).map_or(0, |last| last + 1)
}
