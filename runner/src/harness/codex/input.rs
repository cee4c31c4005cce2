//! Prompts as codex takes them.

use super::super::shared::prompt_text;
use super::Codex;
use crate::fold::Cx;
use lodge_proto::part::Part;
use serde_json::{Value, json};

impl Codex {
    /// The input of a turn: its text, then its images.
    pub(super) fn input(&self, cx: &mut Cx<'_>, parts: &[Part]) -> Value {
        let mut input = self.text_input(parts);
        for part in parts {
            if let Part::Image { blob, .. } = part {
                let url = format!("data:{};base64,{}", blob.media_type, cx.blob(blob));
                input.push(json!({ "type": "image", "url": url }));
            }
        }
        input.into()
    }

    /// The text of a prompt. A command that names a skill brings the skill along.
    fn text_input(&self, parts: &[Part]) -> Vec<Value> {
        let text = prompt_text(parts);
        if text.is_empty() {
            return Vec::new();
        }
        let name = text
            .strip_prefix('/')
            .map(|command| command.split_whitespace().next().unwrap_or_default());
        if let Some((name, path)) = name.and_then(|name| self.skills.get_key_value(name)) {
            let text = text.replacen('/', "$", 1);
            return vec![
                json!({ "type": "text", "text": text, "text_elements": [] }),
                json!({ "type": "skill", "name": name, "path": path }),
            ];
        }
        vec![json!({ "type": "text", "text": text, "text_elements": [] })]
    }
}
