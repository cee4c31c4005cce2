//! Request → what to answer. Pure: no clock, no counter, no randomness.

use std::time::Duration;

use super::fault::{self, Fault};
use super::ids::IdSeed;
use super::image::{Image, described};
use super::neutral::{Neutral, Role, Turn};
use super::script::{self, Directive, ToolKind};
use super::{MODEL_NAME, tools};
use crate::dialect::Dialect;

/// Between two deltas where the directive does not say.
const DEFAULT_GAP: Duration = Duration::from_millis(5);

/// How a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    End,
    Tool,
    Length,
    Refusal,
}

/// Tokens, of which `cached` are part of `input`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    pub input: u64,
    pub output: u64,
    pub cached: u64,
}

/// One part of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Item {
    Text(Vec<String>),
    Think(Vec<String>),
    /// `args` is JSON, except where the script asked for broken arguments.
    Tool {
        name: String,
        args: String,
        id: String,
    },
}

impl Item {
    /// The pieces a stream sends: words of text, thirds of arguments.
    pub fn deltas(&self) -> Vec<String> {
        match self {
            Self::Text(words) | Self::Think(words) => words.clone(),
            Self::Tool { args, .. } => thirds(args),
        }
    }

    /// All of it.
    pub fn full(&self) -> String {
        match self {
            Self::Text(words) | Self::Think(words) => words.concat(),
            Self::Tool { args, .. } => args.clone(),
        }
    }
}

fn thirds(text: &str) -> Vec<String> {
    let chars: Vec<char> = text.chars().collect();
    let size = chars.len().div_ceil(3).max(1);
    chars.chunks(size).map(|chunk| chunk.iter().collect()).collect()
}

/// What to answer.
#[derive(Clone, Debug)]
pub struct Plan {
    pub items: Vec<Item>,
    pub stop: Stop,
    pub usage: Usage,
    /// Before each delta.
    pub gap: Duration,
    /// Silence before the headers.
    pub slow: Option<Duration>,
    /// Silence after the headers.
    pub hang: Option<Duration>,
    /// Cut the connection after this many deltas.
    pub drop_after: Option<usize>,
    pub midstream_error: bool,
    pub fault: Option<Fault>,
}

/// Plans the answer to a request.
pub fn plan(dialect: Dialect, request: &Neutral, seed: IdSeed) -> Plan {
    let chars = |text: &str| text.chars().count();
    let input =
        request.turns.iter().map(|turn| chars(&turn.text)).sum::<usize>() / 4 + chars(&request.system) / 4;
    let user = request.turns.iter().rposition(|turn| turn.role == Role::User);
    let (message, after) = match user {
        Some(index) => (request.turns[index].clone(), &request.turns[index + 1..]),
        None => (
            Turn {
                role: Role::User,
                text: String::new(),
                images: Vec::new(),
            },
            &request.turns[..],
        ),
    };
    let builder = Builder {
        dialect,
        request,
        seed,
        input: (input as u64).max(1),
        images: &message.images,
    };
    if let Some(answer) = side_answer(request, &message.text) {
        return finish(builder.text([answer]));
    }
    let lines = script::lines(&message.text);
    let round = rounds(after);
    if let Some(line) = lines.get(round) {
        return finish(builder.directive(&script::parse(line), &message.text));
    }
    if lines.is_empty() && round == 0 {
        return finish(builder.text(words(&introduction(&message.images))));
    }
    let result = after.iter().rfind(|turn| turn.role == Role::Tool);
    let said = result.map_or("", |turn| turn.text.trim());
    let mut echo: String = said.replace("\u{0}\n", "").chars().take(200).collect();
    if let Some(turn) = result.filter(|turn| !turn.images.is_empty()) {
        echo = format!("{echo} {}", described(&turn.images));
    }
    finish(builder.text(words(&format!("done: {}", echo.trim_start()))))
}

/// How often results of tools have come back since the user spoke.
fn rounds(after: &[Turn]) -> usize {
    let mut results = after
        .iter()
        .filter(|turn| turn.role != Role::Other)
        .map(|turn| turn.role == Role::Tool)
        .peekable();
    let mut rounds = 0;
    while let Some(is_result) = results.next() {
        // Several results in a row belong to one round of parallel calls.
        if is_result && results.peek() != Some(&true) {
            rounds += 1;
        }
    }
    rounds
}

/// Titles and summaries that harnesses ask for beside the conversation.
fn side_answer(request: &Neutral, user: &str) -> Option<String> {
    if !request.tools.is_empty() {
        return None;
    }
    let head = |text: &str, count: usize| text.chars().take(count).collect::<String>().to_lowercase();
    let system = request.system.to_lowercase();
    if system.contains("title") || user.to_lowercase().contains("title for this conversation") {
        return Some("Scripted session title".to_owned());
    }
    let summary = system.contains("summar")
        || user.contains("<conversation>")
        || head(user, 400).contains("summar")
        || head(&system, 2000).contains("compact");
    summary
        .then(|| "## Goal\nScripted summary of the conversation.\n\n## Progress\n- nothing real\n".to_owned())
}

fn introduction(images: &[Image]) -> String {
    let seen = match images {
        [] => String::new(),
        images => format!(" {}.", described(images)),
    };
    format!(
        "This is the {MODEL_NAME}. I cannot answer questions; I follow a script so that you can see Lodge at \
         work.{seen} Send one of these lines:\n\n- `use bash: ls -la` runs a command in the sandbox\n- `use write: \
         hello.txt | Hello!` writes a file\n- `think` reasons before it answers\n- `long 50 50` streams 50 words, \
         50 ms apart\n- `err 429 x2` fails twice, then recovers\n\nSeveral lines are several steps. For real work, \
         add the key of a provider in the settings."
    )
}

/// Words with the white space that follows them, so that the deltas add up to the text.
fn words(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    for char in text.chars() {
        let begins_word = !char.is_whitespace() && word.ends_with(char::is_whitespace);
        if begins_word && !word.trim().is_empty() {
            words.push(std::mem::take(&mut word));
        }
        word.push(char);
    }
    words.push(word);
    words
}

fn strings<const N: usize>(words: [&str; N]) -> Vec<String> {
    words.map(str::to_owned).to_vec()
}

/// What follows from the items.
fn finish(mut plan: Plan) -> Plan {
    if plan.items.iter().any(|item| matches!(item, Item::Tool { .. })) {
        plan.stop = Stop::Tool;
    }
    if plan.usage.output == 0 {
        let chars: usize = plan.items.iter().map(|item| item.full().chars().count()).sum();
        plan.usage.output = (chars as u64 / 4).max(1);
    }
    plan
}

struct Builder<'a> {
    dialect: Dialect,
    request: &'a Neutral,
    seed: IdSeed,
    input: u64,
    /// Of the message that is answered.
    images: &'a [Image],
}

impl Builder<'_> {
    fn text(&self, words: impl IntoIterator<Item = String>) -> Plan {
        self.items(vec![Item::Text(words.into_iter().collect())])
    }

    fn items(&self, items: Vec<Item>) -> Plan {
        Plan {
            items,
            stop: Stop::End,
            usage: Usage {
                input: self.input,
                output: 0,
                cached: 0,
            },
            gap: DEFAULT_GAP,
            slow: None,
            hang: None,
            drop_after: None,
            midstream_error: false,
            fault: None,
        }
    }

    fn call(&self, index: usize, kind: ToolKind, args: &[String]) -> Item {
        if let Some(command) = tools::write_command(kind, self.request, args) {
            return self.call(index, ToolKind::Bash, &[command]);
        }
        let name = tools::pick(kind, self.request);
        self.tool(index, name, tools::arguments(kind, name, self.request, args))
    }

    fn tool(&self, index: usize, name: &str, args: String) -> Item {
        Item::Tool {
            name: name.to_owned(),
            args,
            id: self.seed.id("call_", index),
        }
    }

    fn directive(&self, directive: &Directive, message: &str) -> Plan {
        match directive {
            Directive::Use {
                kind: ToolKind::Plan,
                args,
            } if tools::pick(ToolKind::Plan, self.request) == tools::TASK => self.items(
                args.iter()
                    .enumerate()
                    .map(|(index, step)| self.call(index, ToolKind::Plan, std::slice::from_ref(step)))
                    .collect(),
            ),
            Directive::Use { kind, args } => self.items(vec![
                Item::Text(strings(["Calling ", kind.word(), "."])),
                self.call(0, *kind, args),
            ]),
            Directive::UseTool { name, json } => self.items(vec![self.tool(0, name, json.clone())]),
            Directive::Par(commands) => {
                let call = |(index, command): (usize, &String)| {
                    self.call(index, ToolKind::Bash, std::slice::from_ref(command))
                };
                self.items(commands.iter().enumerate().map(call).collect())
            }
            Directive::BadArgs => {
                let name = tools::pick(ToolKind::Bash, self.request);
                self.items(vec![self.tool(0, name, r#"{"command": "echo trunc"#.to_owned())])
            }
            Directive::BadTool => self.items(vec![self.tool(0, "no_such_tool", r#"{"x": 1}"#.to_owned())]),
            Directive::Say(text) => self.text(words(text)),
            Directive::Look => self.text(words(&described(self.images))),
            Directive::Recall(text) => self.text(words(&self.recall(text))),
            Directive::Think(text) => self.think(text),
            Directive::ThinkBash(command) => self.items(vec![
                Item::Think(strings(["I should ", "run a ", "command."])),
                Item::Text(strings(["Running it. "])),
                self.call(0, ToolKind::Bash, std::slice::from_ref(command)),
            ]),
            Directive::Unparsed(line) => self.text(strings(["cannot parse: ", line])),
            other => self.shaped(other, message),
        }
    }

    /// Whether a text was said before the message that asks for it.
    fn recall(&self, text: &str) -> String {
        let turns = &self.request.turns;
        let asking = turns
            .iter()
            .rposition(|turn| turn.role == Role::User)
            .unwrap_or(0);
        if turns[..asking].iter().any(|turn| turn.text.contains(text)) {
            format!("{text} was said before")
        } else {
            format!("{text} is new")
        }
    }

    fn think(&self, text: &str) -> Plan {
        let text = if text.is_empty() {
            "Let me reason about this carefully."
        } else {
            text
        };
        self.items(vec![
            Item::Think(words(text)),
            Item::Text(strings(["The ", "answer ", "is 42."])),
        ])
    }

    /// Directives whose point is how the response comes, not what it says.
    fn shaped(&self, directive: &Directive, message: &str) -> Plan {
        match directive {
            Directive::Long { count, gap } => Plan {
                gap: *gap,
                ..self.text((0..*count).map(|index| format!("tok{index} ")))
            },
            Directive::Big(size) => self.text(["x".repeat(*size)]),
            Directive::Unicode => self.text(strings([
                "caf",
                "é ",
                "😀",
                " sep\u{2028}line",
                "\u{2029}para ",
                "tab\t",
                "\"quote\" ",
                "\\back ",
                "\u{1b}[31mansi\u{1b}[0m",
                " end",
            ])),
            Directive::Hang(wait) => Plan {
                hang: Some(*wait),
                ..self.text(strings(["after hang"]))
            },
            Directive::Slow(wait) => Plan {
                slow: Some(*wait),
                ..self.text(strings(["after ", "slow"]))
            },
            Directive::Drop(count) => Plan {
                drop_after: Some(*count),
                ..self.text((0..50).map(|index| format!("part{index} ")))
            },
            Directive::MidError => Plan {
                midstream_error: true,
                ..self.text(strings(["partial ", "answer ", "before "]))
            },
            Directive::Length => Plan {
                stop: Stop::Length,
                ..self.text(words("this text is cut because of the token limit"))
            },
            Directive::Refuse => Plan {
                stop: Stop::Refusal,
                ..self.text(strings(["I cannot ", "do that."]))
            },
            Directive::Usage {
                input,
                output,
                cached,
            } => Plan {
                usage: Usage {
                    input: *input,
                    output: *output,
                    cached: (*cached).min(*input),
                },
                ..self.text(strings(["usage ", "set"]))
            },
            Directive::Err {
                kind,
                first,
                retry_after,
            } => {
                let recovered = format!("{} errors", first.unwrap_or(0));
                let error = fault::error(self.dialect, kind, retry_after.clone());
                Plan {
                    fault: Some(Fault {
                        error,
                        first: *first,
                        message: message.to_owned(),
                    }),
                    ..self.text(strings(["recovered ", "after ", &recovered]))
                }
            }
            _ => self.items(Vec::new()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn turn(role: Role, text: &str) -> Turn {
        Turn {
            role,
            text: text.to_owned(),
            images: Vec::new(),
        }
    }

    fn planned(turns: Vec<Turn>) -> Plan {
        let request = Neutral {
            turns,
            ..Neutral::default()
        };
        plan(Dialect::Chat, &request, IdSeed::of(Dialect::Chat, b"body"))
    }

    #[test]
    fn each_round_of_tools_picks_the_next_line() {
        let user = turn(Role::User, "use bash: a\npar bash: b || c\nsay end");
        let (call, result) = (turn(Role::Assistant, ""), turn(Role::Tool, "out"));
        let first = planned(vec![user.clone()]);
        assert_eq!((first.items.len(), first.stop), (2, Stop::Tool));
        let second = planned(vec![user.clone(), call.clone(), result.clone()]);
        assert_eq!(second.items.len(), 2);
        let mut turns = vec![
            user,
            call.clone(),
            result.clone(),
            call.clone(),
            result.clone(),
            result.clone(),
        ];
        assert_eq!(planned(turns.clone()).items, [Item::Text(vec!["end".into()])]);
        turns.extend([call, result]);
        assert_eq!(
            planned(turns).items,
            [Item::Text(vec!["done: ".into(), "out".into()])]
        );
    }

    #[test]
    fn what_was_said_before_is_recalled() {
        let ask = turn(Role::User, "recall the word");
        assert_eq!(planned(vec![ask.clone()]).items[0].full(), "the word is new");
        let before = turn(Role::User, "say the word");
        assert_eq!(
            planned(vec![before, ask]).items[0].full(),
            "the word was said before"
        );
    }

    #[test]
    fn a_prompt_without_directive_is_answered_honestly() {
        let text = planned(vec![turn(Role::User, "fix my bug")]).items[0].full();
        assert!(
            text.contains("not an AI") && text.contains("use bash: ls -la"),
            "{text}"
        );
    }

    #[test]
    fn side_requests_get_fixed_answers_only_without_tools() {
        let mut request = Neutral {
            system: "Write a title".into(),
            ..Neutral::default()
        };
        request.turns.push(turn(Role::User, "say hi"));
        let seed = IdSeed::of(Dialect::Chat, b"");
        assert_eq!(
            plan(Dialect::Chat, &request, seed).items[0].full(),
            "Scripted session title"
        );
        request.tools.insert("bash".into(), serde_json::Value::Null);
        assert_eq!(plan(Dialect::Chat, &request, seed).items[0].full(), "hi");
    }

    #[test]
    fn deltas_add_up_to_the_whole() {
        for text in ["a  b\n c", " lead", "", "x"] {
            assert_eq!(words(text).concat(), text);
            assert_eq!(thirds(text).concat(), text);
        }
    }

    #[test]
    fn ids_follow_from_the_request_alone() {
        let (a, b) = (IdSeed::of(Dialect::Chat, b"a"), IdSeed::of(Dialect::Chat, b"b"));
        assert_eq!(a.id("call_", 0), IdSeed::of(Dialect::Chat, b"a").id("call_", 0));
        assert_ne!(a.id("call_", 0), b.id("call_", 0));
        assert_ne!(a.id("call_", 0), a.id("call_", 1));
    }
}
