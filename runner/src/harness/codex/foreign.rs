//! Inputs of recorded transcripts: what another client asked of codex.

use super::dialogs::read_answer;
use super::{Call, Codex};
use crate::fold::Cx;
use lodge_proto::command::CommandBody;
use lodge_proto::part::Part;
use serde_json::Value;

impl Codex {
    pub(super) fn foreign(&mut self, cx: &mut Cx<'_>, line: &[u8]) -> Option<CommandBody> {
        let input: Value = serde_json::from_slice(line).ok()?;
        let id = input.get("id")?;
        let Some(method) = input.get("method").and_then(Value::as_str) else {
            let result = input.get("result").cloned().unwrap_or_default();
            cx.answered(|native| native.get("id") == Some(id), read_answer(&result));
            return None;
        };
        let call = match method {
            "initialize" => Call::Initialize,
            "thread/start" | "thread/resume" | "thread/fork" => Call::Open { resume: false },
            "turn/start" => Call::TurnStart,
            "turn/steer" => Call::Steer,
            "turn/interrupt" => Call::Interrupt,
            "thread/compact/start" => Call::Compact,
            "model/list" => Call::Models,
            "collaborationMode/list" => Call::Modes,
            "skills/list" => Call::Skills,
            _ => Call::Other,
        };
        let params = input.get("params").cloned().unwrap_or_default();
        if let Some(thread) = params.get("threadId").and_then(Value::as_str)
            && matches!(call, Call::TurnStart | Call::Compact)
        {
            // The client may have several conversations: the session is the one it speaks to.
            self.thread = Some(thread.to_owned());
        }
        self.calls.insert(id.to_string(), call);
        let in_turn = cx.turn().is_some();
        match call {
            Call::TurnStart if !in_turn => Some(CommandBody::Prompt {
                parts: parts(&params)?,
            }),
            // Codex takes a second prompt as one that steers.
            Call::TurnStart | Call::Steer if in_turn => Some(CommandBody::Steer {
                parts: parts(&params)?,
            }),
            Call::Interrupt if in_turn => Some(CommandBody::Abort {}),
            Call::Compact if !in_turn => Some(CommandBody::Compact { instructions: None }),
            _ => None,
        }
    }
}

fn parts(params: &Value) -> Option<Vec<Part>> {
    let texts: Vec<&str> = params
        .get("input")?
        .as_array()?
        .iter()
        .filter_map(|input| input.get("text")?.as_str())
        .collect();
    Some(vec![Part::text(texts.join("\n"))])
}
