//! Questions of the agent, asked at the terminal.

use crate::terminal::{one_line, safe};
use lodge_proto::event::EventBody;
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice, SelectOption};
use std::collections::VecDeque;
use std::io::BufRead;
use std::time::Duration;
use tokio::time::Instant;

/// Longest answer, bytes.
const MAX_ANSWER: usize = 64 * 1024;

/// Time a question has to be answered by an approval that is remembered, whose event follows at once.
const GRACE: Duration = Duration::from_millis(100);

/// Questions that wait to be asked.
#[derive(Debug, Default)]
pub(super) struct Questions {
    open: VecDeque<(Instant, InputRequest)>,
}

impl Questions {
    /// What is asked, and what is answered already.
    pub(super) fn event(&mut self, body: &EventBody) {
        match body {
            EventBody::AgentInputNeeded { request } => {
                self.open.push_back((Instant::now() + GRACE, request.clone()));
            }
            EventBody::AgentInputResolved { request_id, .. } => {
                self.open.retain(|(_, request)| request.id != *request_id);
            }
            _ => {}
        }
    }

    /// The next question that nobody answered in time; for ever pending without one. Cancelling loses nothing.
    pub(super) async fn due(&mut self) -> InputRequest {
        if let Some((at, _)) = self.open.front() {
            tokio::time::sleep_until(*at).await;
        }
        match self.open.pop_front() {
            Some((_, request)) => request,
            None => std::future::pending().await,
        }
    }
}

/// Asks the person at the terminal; without one the question is cancelled. Blocks.
pub(super) fn answer(request: &InputRequest, may_ask: bool) -> InputAnswer {
    let title = one_line(&request.title, 200);
    if !may_ask {
        eprintln!("lodge: the agent asks \"{title}\" and nobody is there to answer: cancelled");
        return InputAnswer::Cancelled {};
    }
    eprintln!("\n? {title}");
    if let Some(message) = &request.message {
        eprintln!("{}", safe(message));
    }
    eprint!("{}", prompt_for(&request.kind));
    read_line().map_or(InputAnswer::Cancelled {}, |line| parse(&request.kind, &line))
}

fn prompt_for(kind: &InputKind) -> String {
    match kind {
        InputKind::Permission {
            tool,
            arguments,
            choices,
            ..
        } => {
            let names: Vec<&str> = choices.iter().map(|choice| choice_name(*choice)).collect();
            let call = one_line(&format!("{tool} {arguments}"), 300);
            format!("{call}\n[{}]: ", names.join(", "))
        }
        InputKind::Select { options, multiple } => {
            let lines: Vec<String> = options
                .iter()
                .enumerate()
                .map(|(at, option)| numbered(at, option))
                .collect();
            let how = if *multiple {
                "numbers, separated by commas"
            } else {
                "number"
            };
            format!("{}\n{how}: ", lines.join("\n"))
        }
        InputKind::Confirm {} => "[y/n]: ".to_owned(),
        InputKind::Input { placeholder } => placeholder
            .as_ref()
            .map_or_else(|| "> ".to_owned(), |text| format!("({}) > ", one_line(text, 100))),
        InputKind::Editor { text } => format!("{}\nnew text, one line (empty keeps it): ", safe(text)),
    }
}

fn numbered(at: usize, option: &SelectOption) -> String {
    let about = option
        .description
        .as_deref()
        .map(|text| format!(": {text}"))
        .unwrap_or_default();
    format!(
        "  {} {}",
        at + 1,
        one_line(&format!("{}{about}", option.label), 200)
    )
}

const fn choice_name(choice: PermissionChoice) -> &'static str {
    match choice {
        PermissionChoice::Once => "once",
        PermissionChoice::Session => "session",
        PermissionChoice::Always => "always",
        PermissionChoice::Deny => "deny",
        PermissionChoice::DenyAndStop => "stop",
    }
}

/// An answer that is none of those offered denies or cancels.
fn parse(kind: &InputKind, line: &str) -> InputAnswer {
    let line = line.trim();
    match kind {
        InputKind::Permission { choices, .. } => {
            let chosen = choices
                .iter()
                .copied()
                .find(|choice| choice_name(*choice) == line);
            InputAnswer::Permission {
                choice: chosen.unwrap_or(PermissionChoice::Deny),
            }
        }
        InputKind::Select { options, multiple } => {
            let picked = |text: &str| options.get(text.trim().parse::<usize>().ok()?.checked_sub(1)?);
            let values: Option<Vec<String>> = line
                .split(',')
                .map(|text| Some(picked(text)?.value.clone()))
                .collect();
            match values {
                Some(values) if *multiple || values.len() == 1 => InputAnswer::Selected { values },
                _ => InputAnswer::Cancelled {},
            }
        }
        InputKind::Confirm {} => match line {
            "y" | "yes" => InputAnswer::Confirmed { yes: true },
            "n" | "no" => InputAnswer::Confirmed { yes: false },
            _ => InputAnswer::Cancelled {},
        },
        InputKind::Editor { text } if line.is_empty() => InputAnswer::Text { text: text.clone() },
        InputKind::Input { .. } | InputKind::Editor { .. } => InputAnswer::Text {
            text: line.to_owned(),
        },
    }
}

fn read_line() -> Option<String> {
    let mut line = String::new();
    let mut input = std::io::Read::take(std::io::stdin().lock(), MAX_ANSWER as u64);
    match input.read_line(&mut line) {
        Ok(count) if count > 0 => Some(line),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[tokio::test]
    async fn what_an_approval_answered_is_not_asked() {
        let request = |title: &str| InputRequest {
            id: lodge_proto::RequestId::new(),
            title: title.to_owned(),
            message: None,
            expires_at: None,
            kind: InputKind::Confirm {},
        };
        let (first, second) = (request("first"), request("second"));
        let mut questions = Questions::default();
        for request in [&first, &second] {
            questions.event(&EventBody::AgentInputNeeded {
                request: request.clone(),
            });
        }
        questions.event(&EventBody::AgentInputResolved {
            request_id: first.id,
            answer: InputAnswer::Cancelled {},
            remembered: None,
        });
        assert_eq!(questions.due().await, second);
    }

    #[test]
    fn only_an_offered_choice_permits() {
        let kind = InputKind::Permission {
            tool: "bash".into(),
            arguments: json!({}),
            tool_call_id: None,
            choices: vec![PermissionChoice::Once, PermissionChoice::Deny],
        };
        let choice = |line: &str| parse(&kind, line);
        assert_eq!(
            choice("once\n"),
            InputAnswer::Permission {
                choice: PermissionChoice::Once
            }
        );
        for line in ["always", "", "yes", "o"] {
            assert_eq!(
                choice(line),
                InputAnswer::Permission {
                    choice: PermissionChoice::Deny
                },
                "{line}"
            );
        }
    }

    #[test]
    fn a_selection_is_by_number() {
        let option = |value: &str| SelectOption {
            value: value.into(),
            label: value.into(),
            description: None,
        };
        let kind = InputKind::Select {
            options: vec![option("a"), option("b")],
            multiple: false,
        };
        assert_eq!(
            parse(&kind, "2"),
            InputAnswer::Selected {
                values: vec!["b".into()]
            }
        );
        for line in ["0", "3", "x", "1,2", ""] {
            assert_eq!(parse(&kind, line), InputAnswer::Cancelled {}, "{line}");
        }
    }

    #[test]
    fn without_a_person_a_question_is_cancelled() {
        let request = InputRequest {
            id: lodge_proto::RequestId::default(),
            title: "?".into(),
            message: None,
            expires_at: None,
            kind: InputKind::Confirm {},
        };
        assert_eq!(answer(&request, false), InputAnswer::Cancelled {});
    }
}
