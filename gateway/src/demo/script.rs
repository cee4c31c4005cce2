//! The directive language: one line of the last user message is one response of the model.
//!
//! | line | response |
//! |---|---|
//! | `use bash[: CMD]` `use read[: PATH]` `use write[: PATH \| CONTENT]` `use edit[: PATH \| OLD \| NEW]` | a tool call |
//! | `use plan[: STEP \| STEP …]` | a call of the tool that keeps the plan; `x STEP` is done, `> STEP` in progress |
//! | `use tool NAME {json}` | any tool, these arguments |
//! | `par bash: A \|\| B` | several shell calls in one response |
//! | `badargs NAME` · `badtool` | arguments cut off · a tool that does not exist |
//! | `say TEXT` · `think [TEXT]` · `think+bash: CMD` | text · reasoning, then text · both and a shell call |
//! | `long N [MS]` · `big N` · `unicode` | N deltas MS apart · one delta of N characters · odd characters |
//! | `hang S` · `slow S` · `drop [N]` · `miderr` | silence after the headers · before them · cut · error in the stream |
//! | `look` | what images came with the message: media type, bytes, width and height of a PNG, start of the SHA-256 |
//! | `recall TEXT` | whether TEXT was said before in the conversation |
//! | `length` · `empty` · `refuse` · `usage IN OUT [CACHED]` | stop reasons and token counts |
//! | `err CODE\|overloaded\|context\|quota [xK] [retry-after=S]` | an HTTP error, for the first K requests |

use std::time::Duration;

/// Between text blocks of one message: the script is the last block that has directives.
pub const BLOCK_SEPARATOR: &str = "\n\u{0}\n";

const VERBS: [&str; 19] = [
    "use ", "par ", "badargs", "badtool", "say ", "think", "long ", "big ", "unicode", "hang ", "slow ",
    "drop", "miderr", "length", "empty", "refuse", "usage ", "err ", "recall ",
];

/// Upper bounds, so that a prompt cannot make the gateway hold or wait without end.
const MAX_DELTAS: usize = 100_000;
const MAX_BIG: usize = 8 << 20;
const MAX_WAIT: Duration = Duration::from_hours(1);
const MAX_GAP: Duration = Duration::from_mins(1);

/// The tools that coding agents have under one name or another: four that all have, and the plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToolKind {
    Bash,
    Read,
    Write,
    Edit,
    Plan,
}

impl ToolKind {
    /// The word of the directive language.
    pub fn word(self) -> &'static str {
        match self {
            Self::Bash => "bash",
            Self::Read => "read",
            Self::Write => "write",
            Self::Edit => "edit",
            Self::Plan => "plan",
        }
    }

    fn parse(word: &str) -> Option<Self> {
        [Self::Bash, Self::Read, Self::Write, Self::Edit, Self::Plan]
            .into_iter()
            .find(|kind| kind.word() == word)
    }
}

/// Which error `err` asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ErrKind {
    Status(u16),
    Overloaded,
    Context,
    Quota,
    /// A word that names no error: answered with status 500.
    Other(String),
}

/// One response of the model.
#[derive(Clone, Debug, PartialEq)]
pub enum Directive {
    Use {
        kind: ToolKind,
        args: Vec<String>,
    },
    UseTool {
        name: String,
        json: String,
    },
    Par(Vec<String>),
    BadArgs,
    BadTool,
    Say(String),
    Look,
    Recall(String),
    Think(String),
    ThinkBash(String),
    Long {
        count: usize,
        gap: Duration,
    },
    Big(usize),
    Unicode,
    Hang(Duration),
    Slow(Duration),
    Drop(usize),
    MidError,
    Length,
    Empty,
    Refuse,
    Usage {
        input: u64,
        output: u64,
        cached: u64,
    },
    Err {
        kind: ErrKind,
        first: Option<u32>,
        retry_after: Option<String>,
    },
    /// A line that starts like a directive and is none.
    Unparsed(String),
}

/// The lines of a message that are directives, in order. Of several text blocks, the last with directives counts.
pub fn lines(text: &str) -> Vec<String> {
    let (mut lines, mut kept) = (Vec::new(), Vec::new());
    for line in text.split('\n') {
        if line == "\u{0}" {
            if !lines.is_empty() {
                kept = std::mem::take(&mut lines);
            }
        } else if is_directive(line.trim()) {
            lines.push(line.trim().to_owned());
        }
    }
    if lines.is_empty() { kept } else { lines }
}

fn is_directive(line: &str) -> bool {
    let digits = |rest: &str| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit());
    if let Some(rest) = line.strip_prefix("big ") {
        return digits(rest.trim());
    }
    if let Some(rest) = line.strip_prefix("long ") {
        return rest.starts_with(|first: char| first.is_ascii_digit());
    }
    // `look` alone: people begin sentences with it.
    line == "look" || VERBS.iter().any(|verb| line.starts_with(verb))
}

/// Parses one line that [`lines`] found.
pub fn parse(line: &str) -> Directive {
    parse_known(line).unwrap_or_else(|| Directive::Unparsed(line.to_owned()))
}

fn parse_known(line: &str) -> Option<Directive> {
    let mut words = line.split_whitespace();
    let verb = words.next()?;
    let argument = |index: usize| line.split_whitespace().nth(index);
    Some(match verb {
        "use" => return parse_use(line),
        "par" => Directive::Par(
            line.split_once(':')?
                .1
                .split("||")
                .map(|cmd| cmd.trim().to_owned())
                .collect(),
        ),
        "say" => Directive::Say(line.strip_prefix("say ")?.to_owned()),
        "look" => Directive::Look,
        "recall" => Directive::Recall(line.strip_prefix("recall ")?.to_owned()),
        "long" => Directive::Long {
            count: argument(1)?.parse::<usize>().ok()?.min(MAX_DELTAS),
            gap: parse_gap(argument(2).unwrap_or("20"))?,
        },
        "big" => Directive::Big(argument(1)?.parse::<usize>().ok()?.min(MAX_BIG)),
        "hang" => Directive::Hang(parse_seconds(argument(1).unwrap_or("30"))?),
        "slow" => Directive::Slow(parse_seconds(argument(1).unwrap_or("5"))?),
        "usage" => Directive::Usage {
            input: argument(1)?.parse().ok()?,
            output: argument(2)?.parse().ok()?,
            cached: argument(3).map_or(Ok(0), str::parse).ok()?,
        },
        "err" => parse_err(line)?,
        _ => return parse_prefix(line),
    })
}

/// Verbs that match as a prefix, as the language has always had it.
fn parse_prefix(line: &str) -> Option<Directive> {
    if let Some(rest) = line.strip_prefix("think+bash") {
        return Some(Directive::ThinkBash(
            rest.split_once(':').map_or("", |(_, cmd)| cmd.trim()).to_owned(),
        ));
    }
    if let Some(rest) = line.strip_prefix("think") {
        return Some(Directive::Think(rest.trim().to_owned()));
    }
    if line.starts_with("drop") {
        let count = line.split_whitespace().nth(1).unwrap_or("3");
        return Some(Directive::Drop(count.parse::<usize>().ok()?.min(MAX_DELTAS)));
    }
    [
        ("badargs", Directive::BadArgs),
        ("badtool", Directive::BadTool),
        ("unicode", Directive::Unicode),
        ("miderr", Directive::MidError),
        ("length", Directive::Length),
        ("empty", Directive::Empty),
        ("refuse", Directive::Refuse),
    ]
    .into_iter()
    .find_map(|(verb, directive)| line.starts_with(verb).then_some(directive))
}

fn parse_use(line: &str) -> Option<Directive> {
    let rest = line.strip_prefix("use ")?;
    if let Some(call) = rest.strip_prefix("tool ") {
        let (name, json) = call
            .trim_start()
            .split_once(char::is_whitespace)
            .unwrap_or((call.trim(), ""));
        let json = if json.trim().is_empty() { "{}" } else { json.trim() };
        serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(json).ok()?;
        return Some(Directive::UseTool {
            name: name.to_owned(),
            json: json.to_owned(),
        });
    }
    let word: String = rest.chars().take_while(char::is_ascii_alphabetic).collect();
    let kind = ToolKind::parse(&word)?;
    let rest = rest[word.len()..].trim_start();
    let rest = rest.strip_prefix(':').unwrap_or(rest).trim_start();
    let args = match kind {
        ToolKind::Bash | ToolKind::Read => vec![rest.to_owned()],
        ToolKind::Write | ToolKind::Edit | ToolKind::Plan => rest
            .split('|')
            .map(|part| part.trim().replace("\\n", "\n"))
            .collect(),
    };
    Some(Directive::Use { kind, args })
}

fn parse_err(line: &str) -> Option<Directive> {
    let mut words = line.split_whitespace().skip(1);
    let kind = match words.next()? {
        "overloaded" => ErrKind::Overloaded,
        "context" => ErrKind::Context,
        "quota" => ErrKind::Quota,
        word => match word.parse::<u16>() {
            Ok(status @ 400..=599) => ErrKind::Status(status),
            _ => ErrKind::Other(word.to_owned()),
        },
    };
    let (mut first, mut retry_after) = (None, None);
    for word in words {
        if let Some(count) = word.strip_prefix('x').and_then(|count| count.parse().ok()) {
            first = Some(count);
        }
        if let Some(seconds) = word.strip_prefix("retry-after=") {
            // A header value: anything but digits would be a way to write headers.
            retry_after = seconds
                .bytes()
                .all(|byte| byte.is_ascii_digit())
                .then(|| seconds.to_owned());
        }
    }
    Some(Directive::Err {
        kind,
        first,
        retry_after,
    })
}

fn parse_seconds(word: &str) -> Option<Duration> {
    Duration::try_from_secs_f64(word.parse().ok()?)
        .ok()
        .map(|wait| wait.min(MAX_WAIT))
}

fn parse_gap(word: &str) -> Option<Duration> {
    let millis: f64 = word.parse().ok()?;
    Duration::try_from_secs_f64(millis / 1000.0)
        .ok()
        .map(|gap| gap.min(MAX_GAP))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_lines_with_a_verb_are_directives() {
        assert_eq!(
            lines("hello\n  say hi  \nbig fish\nlong story\nbig 12\nlong 3 4"),
            ["say hi", "big 12", "long 3 4"]
        );
        assert!(lines("please help me").is_empty());
    }

    #[test]
    fn the_last_block_with_directives_is_the_script() {
        let text = ["say a", "say b\nthink", "context only"].join(BLOCK_SEPARATOR);
        assert_eq!(lines(&text), ["say b", "think"]);
    }

    #[test]
    fn tool_directives() {
        let bash = Directive::Use {
            kind: ToolKind::Bash,
            args: vec!["ls | wc".into()],
        };
        assert_eq!(parse("use bash: ls | wc"), bash);
        assert_eq!(
            parse("use write: a.txt | x\\ny"),
            Directive::Use {
                kind: ToolKind::Write,
                args: vec!["a.txt".into(), "x\ny".into()]
            }
        );
        assert_eq!(
            parse("use plan: x look | > change"),
            Directive::Use {
                kind: ToolKind::Plan,
                args: vec!["x look".into(), "> change".into()]
            }
        );
        assert_eq!(
            parse(r#"use tool grep {"z":1,"a":[2]}"#),
            Directive::UseTool {
                name: "grep".into(),
                json: r#"{"z":1,"a":[2]}"#.into()
            }
        );
        assert_eq!(
            parse("par bash: a || b"),
            Directive::Par(vec!["a".into(), "b".into()])
        );
        assert_eq!(parse("think+bash: pwd"), Directive::ThinkBash("pwd".into()));
    }

    #[test]
    fn broken_directives_are_said_to_be_so() {
        for line in [
            "use hammer: x",
            "use tool x {",
            "usage 1",
            "hang soon",
            "long 5x",
            "err",
        ] {
            assert_eq!(parse(line), Directive::Unparsed(line.into()), "{line}");
        }
    }

    #[test]
    fn numbers_are_bounded() {
        assert_eq!(parse("big 99999999999"), Directive::Big(MAX_BIG));
        assert_eq!(parse("hang 1e12"), Directive::Hang(MAX_WAIT));
        assert_eq!(
            parse("long 9999999 999999999"),
            Directive::Long {
                count: MAX_DELTAS,
                gap: MAX_GAP
            }
        );
    }

    #[test]
    fn errors_carry_their_count_and_header() {
        assert_eq!(
            parse("err 429 x2 retry-after=7"),
            Directive::Err {
                kind: ErrKind::Status(429),
                first: Some(2),
                retry_after: Some("7".into())
            }
        );
        assert_eq!(
            parse("err quota"),
            Directive::Err {
                kind: ErrKind::Quota,
                first: None,
                retry_after: None
            }
        );
    }
}
