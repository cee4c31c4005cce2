//! Responses to our own requests.

use super::wire::{self, Permission, Question, Response, Status};
use super::{Asked, OpenCode, UNTITLED, tell_once};
use crate::fold::Cx;
use lodge_proto::event::NotifyLevel;
use lodge_proto::session::{CommandInfo, ModeInfo};
use lodge_proto::{ErrorBody, ErrorCode};
use serde_json::{Value, json};

impl OpenCode {
    /// Begins the session's conversation, or goes on from a copy of another session's.
    pub(super) fn open_new(&mut self, cx: &mut Cx<'_>) {
        let Some(copy) = cx.forked_from().filter(|_| !self.used).cloned() else {
            return self.create(cx);
        };
        let body = match copy.point {
            Some(message) => json!({ "messageID": message }),
            None => json!({}),
        };
        let path = format!("/session/{}/fork", copy.native);
        self.ask(cx, "POST", &path, Some(body), Asked::Fork);
    }

    /// The copy is there. It is told of its messages like of new ones, at any time: the newest of them is asked for.
    fn forked(&mut self, cx: &mut Cx<'_>, response: &Response) {
        let session = wire::text(&response.body, "id").to_owned();
        if !response.is_success() || session.is_empty() {
            return self.not_opened(cx, response);
        }
        // Its title would come back as that of ours.
        let body = json!({ "title": UNTITLED });
        let path = format!("/session/{session}");
        self.ask(cx, "PATCH", &path, Some(body), Asked::Other);
        let newest = format!("{path}/message?limit=1");
        self.ask(cx, "GET", &newest, None, Asked::Copied { session });
    }

    fn copied(&mut self, cx: &mut Cx<'_>, session: &str, response: &Response) {
        if !response.is_success() {
            return self.not_opened(cx, response);
        }
        let newest = response.body.get(0);
        let newest = newest.map(|message| wire::text(&message["info"], "id").to_owned());
        self.copied = newest.filter(|id| !id.is_empty());
        self.is_open(cx, session);
    }

    fn create(&mut self, cx: &mut Cx<'_>) {
        let body = json!({ "title": UNTITLED });
        self.ask(cx, "POST", "/session", Some(body), Asked::Create);
    }

    pub(super) fn response(&mut self, cx: &mut Cx<'_>, response: Response) {
        let Some(asked) = self.pending.remove(&response.id) else {
            return cx.warn("opencode answers what was not asked");
        };
        match asked {
            Asked::Create | Asked::Resume => self.opened(cx, &asked, &response),
            Asked::Fork => self.forked(cx, &response),
            Asked::Copied { session } => self.copied(cx, &session, &response),
            Asked::Prompt | Asked::Steer if !response.is_success() => self.refused(cx, &asked, &response),
            Asked::Abort => self.abort_answered(cx, &response),
            Asked::Compact => {
                let result = if response.is_success() {
                    Ok(json!({}))
                } else {
                    Err(ErrorBody::new(ErrorCode::ProviderError, response.failure()))
                };
                cx.resolve(&response.id, result);
            }
            _ if !response.is_success() => {
                cx.warn(format!(
                    "opencode refused a request: {} ({asked:?})",
                    response.status
                ));
            }
            Asked::Agents => self.agents(cx, &response.body),
            Asked::Commands => self.commands(cx, &response.body),
            Asked::Status => self.status_is(cx, &response.body),
            Asked::Messages => self.messages_are(cx, response.body),
            Asked::Permissions => {
                let asked: Vec<Permission> = serde_json::from_value(response.body).unwrap_or_default();
                for permission in asked {
                    self.permission(cx, permission);
                }
            }
            Asked::Questions => {
                let asked: Vec<Question> = serde_json::from_value(response.body).unwrap_or_default();
                for question in asked {
                    self.question(cx, question);
                }
            }
            Asked::Prompt | Asked::Steer | Asked::Other => {}
        }
    }

    /// The conversation is there, or it is not.
    fn opened(&mut self, cx: &mut Cx<'_>, asked: &Asked, response: &Response) {
        let id = wire::text(&response.body, "id");
        if response.is_success() && !id.is_empty() {
            return self.is_open(cx, id);
        }
        if *asked == Asked::Resume && response.status == 404 {
            cx.notify(
                NotifyLevel::Warning,
                "opencode no longer has this conversation and begins a new one",
            );
            self.used = false;
            self.session = None;
            return self.create(cx);
        }
        self.not_opened(cx, response);
    }

    fn is_open(&mut self, cx: &mut Cx<'_>, session: &str) {
        // A recorded client may have several: the session is the one that it speaks to.
        if self.open {
            return;
        }
        self.session = Some(session.to_owned());
        self.open = true;
        cx.ready();
        if let Some(title) = self.held_title.take() {
            let body = json!({ "title": title });
            self.ask_session(cx, "PATCH", "", Some(body), Asked::Other);
        }
        if let Some(parts) = self.held_prompt.take() {
            self.send_prompt(cx, &parts);
        }
    }

    fn not_opened(&mut self, cx: &mut Cx<'_>, response: &Response) {
        let message = format!("opencode did not open the conversation: {}", response.failure());
        if self.held_prompt.take().is_some() && cx.in_turn() {
            self.run.error = Some(ErrorBody::new(ErrorCode::HarnessCrashed, message));
            self.end_turn(cx);
        } else {
            cx.agent_error(ErrorCode::HarnessCrashed, message, true);
        }
    }

    fn refused(&mut self, cx: &mut Cx<'_>, asked: &Asked, response: &Response) {
        let error = ErrorBody::new(ErrorCode::InvalidArgument, response.failure());
        if *asked == Asked::Steer {
            // It waits for a turn of its own.
            cx.notify(
                NotifyLevel::Warning,
                format!("opencode did not take the message: {}", error.message),
            );
        } else if cx.in_turn() && !self.run.begun {
            self.run.error = Some(error);
            self.end_turn(cx);
        }
    }

    /// An abort is answered when the work is really down.
    fn abort_answered(&mut self, cx: &mut Cx<'_>, response: &Response) {
        self.run.abort_pending = false;
        if !response.is_success() {
            tell_once(&mut self.told, cx, "opencode did not take an abort");
        }
        // Its events may still be on the way; an abort that finds nothing is told to be idle, too.
        self.settle(cx);
    }

    /// Which conversations are at work. What is idle is not named.
    fn status_is(&mut self, cx: &mut Cx<'_>, body: &Value) {
        let Some(session) = self.session.clone() else {
            return;
        };
        let status = body.get(&session).cloned();
        let status: Option<Status> = status.and_then(|status| serde_json::from_value(status).ok());
        if !cx.in_turn() {
            if status.is_none() {
                self.status(cx, &idle());
            }
            return;
        }
        match status {
            // An abort that is under way tells its end.
            Some(_) if self.run.abort_pending => {}
            Some(status) if cx.is_aborting() && status.kind != "idle" => self.send_abort(cx),
            Some(status) => self.status(cx, &status),
            None if self.run.begun => {
                self.status(cx, &idle());
                // What was lost with the stream does not come any more.
                self.status(cx, &idle());
            }
            None if self.run.abort_sent => self.status(cx, &idle()),
            None => {}
        }
    }

    /// The newest messages, after the stream was lost: those of the turn under way are told like any other.
    fn messages_are(&mut self, cx: &mut Cx<'_>, body: Value) {
        let Value::Array(messages) = body else { return };
        let Some(prompt) = self.run.prompt.clone().filter(|_| cx.in_turn()) else {
            return;
        };
        let after = messages
            .iter()
            .position(|message| wire::text(&message["info"], "id") == prompt);
        let Some(after) = after else { return };
        for mut message in messages.into_iter().skip(after + 1) {
            let Ok(info) = wire::message(message["info"].take()) else {
                continue;
            };
            // Its parts first: the end of a message closes it.
            if info.role == "user" {
                self.message(cx, &info);
            }
            if let Value::Array(parts) = message["parts"].take() {
                for part in parts.into_iter().filter_map(|part| wire::part(part).ok()) {
                    self.part(cx, part);
                }
            }
            if info.role != "user" {
                self.message(cx, &info);
            }
        }
    }

    fn agents(&mut self, cx: &mut Cx<'_>, body: &Value) {
        let list = body.as_array().map(Vec::as_slice).unwrap_or_default();
        let hidden = |agent: &Value| agent.get("hidden").and_then(Value::as_bool).unwrap_or_default();
        let modes: Vec<ModeInfo> = list
            .iter()
            .filter(|agent| matches!(wire::text(agent, "mode"), "primary" | "all") && !hidden(agent))
            .map(|agent| {
                let id = wire::text(agent, "name").to_owned();
                let description = wire::text(agent, "description");
                let description = description.lines().next().map(str::to_owned);
                ModeInfo {
                    name: id.clone(),
                    id,
                    description: description.filter(|text| !text.is_empty()),
                }
            })
            .filter(|mode| !mode.id.is_empty())
            .collect();
        self.agents = modes.iter().map(|mode| mode.id.clone()).collect();
        // One that is no longer there would fail every prompt.
        let agents = &self.agents;
        self.agent = self.agent.take().filter(|agent| agents.contains(agent));
        cx.capabilities(|can| can.modes = modes);
    }

    fn commands(&mut self, cx: &mut Cx<'_>, body: &Value) {
        let list = body.as_array().map(Vec::as_slice).unwrap_or_default();
        let commands: Vec<CommandInfo> = list
            .iter()
            .map(|command| CommandInfo {
                name: wire::text(command, "name").to_owned(),
                description: Some(wire::text(command, "description").to_owned())
                    .filter(|text| !text.is_empty()),
            })
            .filter(|command| !command.name.is_empty())
            .collect();
        self.commands = commands.iter().map(|command| command.name.clone()).collect();
        cx.commands(commands);
    }
}

fn idle() -> Status {
    Status {
        kind: "idle".to_owned(),
        ..Status::default()
    }
}
