//! The agent: turns, and the steps of a script.

use crate::Line;
use crate::conversation::Conversation;
use crate::script::{Directive, burst_delta, stamp_delta};
use crate::standin::SHAPES;
use crate::truth::{Truth, home};
use crate::wire::{Wire, assistant, event, message, response, tool_result, update, user};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};

pub(crate) type Result<T> = std::result::Result<T, std::io::Error>;

/// Deltas in one message of `stamp`.
const STAMPS_A_MESSAGE: usize = 1000;
/// Longest wait of `silent`, and of a question.
const FOREVER: Duration = Duration::from_hours(24);

#[derive(Debug)]
pub(crate) struct Fake {
    pub(crate) wire: Wire,
    pub(crate) truth: Truth,
    pub(crate) conversation: Conversation,
    pub(crate) agent_dir: PathBuf,
    inbox: Receiver<Line>,
    /// Requests that came while a turn ran and have to wait for its end: aborts.
    pub(crate) answer_when_idle: Vec<Value>,
    pub(crate) steering: VecDeque<String>,
    pub(crate) follow_up: VecDeque<String>,
    /// A prompt that was accepted and is to be run.
    pub(crate) next: Option<String>,
    pub(crate) running: bool,
    pub(crate) aborted: bool,
    ignore_abort: bool,
    /// Answers to questions, by the question's id.
    pub(crate) answers: Vec<Value>,
    pub(crate) model: (String, String),
    pub(crate) level: String,
    /// Counts tool calls and questions.
    counter: u64,
    /// The process is to end with this status.
    pub(crate) exit: Option<i32>,
}

impl Fake {
    pub(crate) fn start(arguments: Vec<String>, inbox: Receiver<Line>) -> Result<Self> {
        let agent_dir =
            std::env::var_os("PI_CODING_AGENT_DIR").map_or_else(|| home().join(".pi/agent"), PathBuf::from);
        let mut truth = Truth::open()?;
        truth.note("start", &arguments.join(" "))?;
        let conversation = Conversation::open(&arguments, &agent_dir)?;
        drop(arguments);
        let model = crate::requests::default_model(&agent_dir);
        Ok(Self {
            wire: Wire::new(),
            truth,
            conversation,
            agent_dir,
            inbox,
            answer_when_idle: Vec::new(),
            steering: VecDeque::new(),
            follow_up: VecDeque::new(),
            next: None,
            running: false,
            aborted: false,
            ignore_abort: false,
            answers: Vec::new(),
            model,
            level: "off".to_owned(),
            counter: 0,
            exit: None,
        })
    }

    /// Runs until standard input ends or a directive ends the process; answers its exit status.
    pub(crate) fn serve(&mut self) -> Result<i32> {
        while self.exit.is_none() {
            self.wait(FOREVER)?;
            while let (Some(prompt), None) = (self.next.take(), self.exit) {
                self.turn(&prompt)?;
            }
        }
        self.wire.flush()?;
        Ok(self.exit.unwrap_or_default())
    }

    /// Handles requests for this long, or until one of them changes what is to be done.
    pub(crate) fn wait(&mut self, time: Duration) -> Result<()> {
        self.wire.flush()?;
        let deadline = Instant::now() + time;
        loop {
            match self
                .inbox
                .recv_timeout(deadline.saturating_duration_since(Instant::now()))
            {
                Ok(Some(line)) => self.request(&line)?,
                Ok(None) | Err(RecvTimeoutError::Disconnected) => self.exit = Some(0),
                Err(RecvTimeoutError::Timeout) => return Ok(()),
            }
            self.wire.flush()?;
            if self.interrupted() || (!self.running && self.next.is_some()) {
                return Ok(());
            }
        }
    }

    /// Handles what has arrived, without waiting.
    fn poll(&mut self) -> Result<()> {
        while let Ok(line) = self.inbox.try_recv() {
            match line {
                Some(line) => self.request(&line)?,
                None => self.exit = Some(0),
            }
        }
        Ok(())
    }

    fn interrupted(&self) -> bool {
        self.exit.is_some() || (self.running && self.aborted && !self.ignore_abort)
    }

    fn turn(&mut self, prompt: &str) -> Result<()> {
        (self.running, self.aborted, self.ignore_abort) = (true, false, false);
        self.wire.send(&event("agent_start"))?;
        let mut text = Some(prompt.to_owned());
        while let Some(prompt) = text {
            self.run(&prompt)?;
            if self.exit.is_some() {
                return Ok(());
            }
            let stopped = self.interrupted();
            text = if stopped {
                None
            } else {
                self.steering.pop_front().or_else(|| self.follow_up.pop_front())
            };
        }
        self.wire
            .send(&json!({ "type": "agent_end", "messages": [], "willRetry": false }))?;
        self.wire.send(&event("agent_settled"))?;
        self.running = false;
        for request in std::mem::take(&mut self.answer_when_idle) {
            self.wire.send(&response(&request, Ok(Value::Null)))?;
        }
        self.wire.flush()
    }

    /// One user message and what it asks for; steered messages come between its steps.
    fn run(&mut self, prompt: &str) -> Result<()> {
        self.wire.send(&event("turn_start"))?;
        self.user_message(prompt)?;
        for line in prompt.lines() {
            self.step(&Directive::parse(line))?;
            if self.interrupted() {
                break;
            }
            while let Some(steered) = self.steering.pop_front() {
                self.run(&steered)?;
            }
        }
        self.wire.send(&event("turn_end"))
    }

    fn user_message(&mut self, text: &str) -> Result<()> {
        self.conversation.push(text)?;
        self.wire.send(&message("message_start", &user(text)))?;
        self.wire.send(&message("message_end", &user(text)))
    }

    fn step(&mut self, directive: &Directive) -> Result<()> {
        match directive {
            Directive::Stream { count, pause } => self.answer(*count, *pause, |n| format!("{n} ")),
            Directive::Clock { count, pause } => self.answer(*count, *pause, |_| format!("{} ", now_ns())),
            Directive::Stamp { count, pause } => self.stamped(*count, *pause),
            Directive::Burst { count, bytes } => {
                self.answer(*count, Duration::ZERO, |n| burst_delta(n, *bytes))
            }
            Directive::Say { text } => {
                let words: Vec<&str> = text.split_inclusive(' ').collect();
                let word = |n: u64| {
                    usize::try_from(n)
                        .ok()
                        .and_then(|n| words.get(n - 1))
                        .copied()
                        .unwrap_or("-")
                };
                self.answer(words.len().max(1) as u64, Duration::ZERO, |n| word(n).to_owned())
            }
            Directive::Think { count } => self.think(*count),
            Directive::Tool { count } => self.tools(*count),
            Directive::Ask => self.ask("Which?"),
            Directive::Permit { command } => {
                let call = json!({ "tool": "bash", "arguments": { "command": command } });
                self.ask(&format!("lodge-permission:{call}"))
            }
            Directive::Wait { pause } => self.wait(*pause),
            Directive::Silent => self.wait(FOREVER),
            Directive::Exit { code } => {
                self.exit = Some(*code);
                Ok(())
            }
            Directive::Fail { why } => self.fail(why),
            Directive::Stderr { text } => {
                eprintln!("{text}");
                Ok(())
            }
            Directive::Garbage => self.wire.raw(b"this is no JSON {"),
            Directive::InvalidUtf8 => self.wire.raw(b"{\"type\":\"\xff\xfe\"}"),
            Directive::Shapes => SHAPES.iter().try_for_each(|line| self.wire.raw(line.as_bytes())),
            Directive::Torn { code } => {
                self.wire.torn(b"{\"type\":\"mess")?;
                self.exit = Some(*code);
                Ok(())
            }
            Directive::BigLine { bytes } => self.big_line(*bytes),
            Directive::IgnoreAbort => {
                self.ignore_abort = true;
                Ok(())
            }
        }
    }

    fn big_line(&mut self, bytes: usize) -> Result<()> {
        let frame = "{\"type\":\"queue_update\",\"x\":\"\"}";
        let filling = "x".repeat(bytes.saturating_sub(frame.len()));
        self.wire
            .raw(frame.replace("\"\"", &format!("\"{filling}\"")).as_bytes())
    }

    /// An assistant's message of `count` deltas; an abort leaves what was said so far.
    fn answer(&mut self, count: u64, pause: Duration, delta: impl Fn(u64) -> String) -> Result<()> {
        self.begin()?;
        let mut text = String::new();
        self.wire
            .send(&update(&json!({ "type": "text_start", "contentIndex": 0 })))?;
        for n in 1..=count {
            if pause.is_zero() {
                self.poll()?;
            } else {
                self.wait(pause)?;
            }
            if self.interrupted() {
                break;
            }
            let delta = delta(n);
            text.push_str(&delta);
            self.wire.send(&update(
                &json!({ "type": "text_delta", "contentIndex": 0, "delta": delta }),
            ))?;
        }
        if self.exit.is_some() {
            return Ok(());
        }
        let stop = if self.interrupted() { "aborted" } else { "stop" };
        self.truth.note("said", &text)?;
        self.end(&[json!({ "type": "text", "text": text })], stop, count)
    }

    /// Deltas that say when they were written, at moments that do not drift.
    fn stamped(&mut self, count: u64, pause: Duration) -> Result<()> {
        let begun = Instant::now();
        let due = |n: u64| begun + pause.saturating_mul(u32::try_from(n).unwrap_or(u32::MAX));
        for first in (0..count).step_by(STAMPS_A_MESSAGE) {
            let last = count.min(first + STAMPS_A_MESSAGE as u64);
            let mut text = String::new();
            self.begin()?;
            for n in first..last {
                if pause.is_zero() {
                    self.poll()?;
                } else {
                    self.wait(due(n).saturating_duration_since(Instant::now()))?;
                }
                if self.interrupted() {
                    break;
                }
                let delta = stamp_delta(n);
                text.push_str(&delta);
                self.wire.send(&update(
                    &json!({ "type": "text_delta", "contentIndex": 0, "delta": delta }),
                ))?;
            }
            let stop = if self.interrupted() { "aborted" } else { "stop" };
            self.end(&[json!({ "type": "text", "text": text })], stop, last - first)?;
            if self.interrupted() {
                break;
            }
        }
        Ok(())
    }

    fn begin(&mut self) -> Result<()> {
        let start = assistant(&[], (&self.model.0, &self.model.1), "pending", 0);
        self.wire.send(&message("message_start", &start))
    }

    fn end(&mut self, content: &[Value], stop: &str, tokens: u64) -> Result<()> {
        let mut end = assistant(content, (&self.model.0, &self.model.1), stop, tokens);
        if stop == "aborted" {
            end["errorMessage"] = "Request was aborted.".into();
        }
        self.wire.send(&message("message_end", &end))
    }

    fn think(&mut self, count: u64) -> Result<()> {
        self.begin()?;
        let mut thoughts = String::new();
        for n in 1..=count {
            let delta = format!("thought {n} ");
            thoughts.push_str(&delta);
            self.wire.send(&update(
                &json!({ "type": "thinking_delta", "contentIndex": 0, "delta": delta }),
            ))?;
        }
        let text = "thought.";
        self.wire.send(&update(
            &json!({ "type": "text_delta", "contentIndex": 1, "delta": text }),
        ))?;
        self.truth.note("said", text)?;
        let thinking = json!({ "type": "thinking", "thinking": thoughts });
        self.end(
            &[thinking, json!({ "type": "text", "text": text })],
            "stop",
            count,
        )
    }

    fn tools(&mut self, count: u64) -> Result<()> {
        self.begin()?;
        let mut calls = Vec::new();
        for index in 0..count {
            let id = format!("call_{}_{}", self.conversation.len(), self.count());
            let call = json!({
                "type": "toolCall", "id": id, "name": "bash", "arguments": { "command": format!("echo {index}") },
            });
            let start =
                json!({ "type": "toolcall_start", "contentIndex": index, "id": id, "toolName": "bash" });
            let delta = json!({
                "type": "toolcall_delta", "contentIndex": index, "delta": call["arguments"].to_string(),
            });
            let end = json!({ "type": "toolcall_end", "contentIndex": index, "toolCall": call });
            for step in [start, delta, end] {
                self.wire.send(&update(&step))?;
            }
            calls.push(call);
        }
        self.truth.note("said", "")?;
        self.end(&calls, "toolUse", count)?;
        for call in &calls {
            self.execute(call)?;
        }
        self.wire.send(&event("turn_end"))?;
        self.wire.send(&event("turn_start"))?;
        self.answer(1, Duration::ZERO, |_| format!("{count} tools done."))
    }

    fn execute(&mut self, call: &Value) -> Result<()> {
        let (id, args) = (call["id"].clone(), call["arguments"].clone());
        let output = args["command"].as_str().unwrap_or_default().replace("echo ", "") + "\n";
        let content = json!({ "content": [{ "type": "text", "text": output }] });
        self.wire.send(&json!({
            "type": "tool_execution_start", "toolCallId": id, "toolName": "bash", "args": args,
        }))?;
        self.wire.send(&json!({
            "type": "tool_execution_update", "toolCallId": id, "toolName": "bash", "partialResult": content,
        }))?;
        self.wire.send(&json!({
            "type": "tool_execution_end", "toolCallId": id, "toolName": "bash", "result": content,
            "isError": false,
        }))?;
        let result = tool_result(id.as_str().unwrap_or_default(), &output);
        self.wire.send(&message("message_start", &result))?;
        self.wire.send(&message("message_end", &result))
    }

    /// A question. As with pi, an abort does not answer it: the client has to.
    fn ask(&mut self, title: &str) -> Result<()> {
        let id = format!("question-{}-{}", self.conversation.len(), self.count());
        self.wire.send(&json!({
            "type": "extension_ui_request", "id": id, "method": "select", "title": title,
            "options": ["one", "two"],
        }))?;
        let aborts = std::mem::replace(&mut self.ignore_abort, true);
        let mut answer = None;
        while answer.is_none() && self.exit.is_none() {
            // Wakes up now and then: an answer alone does not end the wait.
            self.wait(Duration::from_millis(5))?;
            answer = self
                .answers
                .iter()
                .position(|answer| answer["id"] == *id)
                .map(|at| self.answers.remove(at));
        }
        self.ignore_abort = aborts;
        let Some(answer) = answer else { return Ok(()) };
        let text = answer["value"]
            .as_str()
            .map_or_else(|| "nothing".to_owned(), str::to_owned);
        self.answer(1, Duration::ZERO, |_| format!("You chose {text}."))
    }

    fn fail(&mut self, why: &str) -> Result<()> {
        self.begin()?;
        self.truth.note("failed", why)?;
        let mut end = assistant(&[], (&self.model.0, &self.model.1), "error", 0);
        end["errorMessage"] = why.into();
        self.wire.send(&message("message_end", &end))
    }

    fn count(&mut self) -> u64 {
        self.counter += 1;
        self.counter
    }
}

fn now_ns() -> u128 {
    SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_or(0, |since| since.as_nanos())
}
