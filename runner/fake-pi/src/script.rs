//! Directives: what a line of a prompt asks for.

use std::time::Duration;

/// One line of a prompt.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Directive {
    /// `stream N MS`: an answer of N numbered deltas, MS milliseconds (a decimal number) before each.
    Stream { count: u64, pause: Duration },
    /// `burst N BYTES`: N deltas of BYTES bytes, as fast as the pipe takes them.
    Burst { count: u64, bytes: usize },
    /// `clock N MS`: like `stream`, each delta the Unix time in nanoseconds at which it was written.
    Clock { count: u64, pause: Duration },
    /// `stamp N MS`: N deltas, one each MS milliseconds (0: as fast as the pipe takes them), in messages of at most
    /// 1,000. Each says `@<CLOCK_MONOTONIC in nanoseconds>@<number from 0>@`, filled up to 60 bytes: for benchmarks.
    Stamp { count: u64, pause: Duration },
    /// `think N`: N deltas of thinking, then an answer.
    Think { count: u64 },
    /// `tool N`: a message with N tool calls, their results, and a closing message.
    Tool { count: u64 },
    /// `ask`: a question to the user; the answer is repeated.
    Ask,
    /// `permit`, `permit COMMAND`: a request for permission, as Lodge's extension for pi makes it (for `make` where it
    /// does not say); the answer is repeated.
    Permit { command: String },
    /// `wait MS`
    Wait { pause: Duration },
    /// `exit CODE`: the process ends in the middle of its turn.
    Exit { code: i32 },
    /// `fail TEXT`: the model's call fails with this text.
    Fail { why: String },
    /// `stderr TEXT`
    Stderr { text: String },
    /// `garbage`: a line that is no JSON.
    Garbage,
    /// `bigline BYTES`: one line of this length, a valid event that says nothing.
    BigLine { bytes: usize },
    /// `invalid-utf8`: a line that is no text.
    InvalidUtf8,
    /// `shapes`: lines that are JSON, and nothing that the wire knows.
    Shapes,
    /// `torn CODE`: the beginning of a line, and the process ends.
    Torn { code: i32 },
    /// `ignore-abort`: aborts do nothing until the turn has ended.
    IgnoreAbort,
    /// `silent`: nothing more is said until an abort.
    Silent,
    /// Anything else is repeated.
    Say { text: String },
}

impl Directive {
    pub(crate) fn parse(line: &str) -> Self {
        Self::known(line).unwrap_or_else(|| Self::Say {
            text: line.to_owned(),
        })
    }

    fn known(line: &str) -> Option<Self> {
        let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
        let mut numbers = rest.split_whitespace();
        let mut number = || numbers.next().and_then(|text| text.parse::<u64>().ok());
        Some(match word {
            "stream" => Self::Stream {
                count: number()?,
                pause: milliseconds(numbers.next()?)?,
            },
            "clock" => Self::Clock {
                count: number()?,
                pause: milliseconds(numbers.next()?)?,
            },
            "stamp" => Self::Stamp {
                count: number()?,
                pause: milliseconds(numbers.next()?)?,
            },
            "burst" => Self::Burst {
                count: number()?,
                bytes: usize::try_from(number()?).ok()?,
            },
            "think" => Self::Think { count: number()? },
            "tool" => Self::Tool { count: number()? },
            "wait" => Self::Wait {
                pause: milliseconds(rest)?,
            },
            "exit" => Self::Exit {
                code: rest.parse().ok()?,
            },
            "fail" => Self::Fail { why: rest.to_owned() },
            "stderr" => Self::Stderr {
                text: rest.to_owned(),
            },
            "bigline" => Self::BigLine {
                bytes: usize::try_from(number()?).ok()?,
            },
            "ask" if rest.is_empty() => Self::Ask,
            "permit" => Self::Permit {
                command: if rest.is_empty() { "make" } else { rest }.to_owned(),
            },
            "garbage" if rest.is_empty() => Self::Garbage,
            "shapes" if rest.is_empty() => Self::Shapes,
            "torn" => Self::Torn {
                code: rest.parse().ok()?,
            },
            "invalid-utf8" if rest.is_empty() => Self::InvalidUtf8,
            "ignore-abort" if rest.is_empty() => Self::IgnoreAbort,
            "silent" if rest.is_empty() => Self::Silent,
            _ => return None,
        })
    }
}

fn milliseconds(text: &str) -> Option<Duration> {
    let milliseconds: f64 = text.trim().parse().ok()?;
    Duration::try_from_secs_f64(milliseconds / 1000.0).ok()
}

/// Text of the `n`-th delta of `stamp`, made now.
pub(crate) fn stamp_delta(n: u64) -> String {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    let mut text = format!("@{}{:09}@{n}@", now.tv_sec, now.tv_nsec);
    text.extend(std::iter::repeat_n('x', 60_usize.saturating_sub(text.len())));
    text
}

/// The `n`-th delta of a burst: its number, filled up to `bytes`.
pub(crate) fn burst_delta(n: u64, bytes: usize) -> String {
    let mut text = format!("{n} ");
    text.extend(std::iter::repeat_n('x', bytes.saturating_sub(text.len())));
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directives_are_read_and_everything_else_is_said() {
        let ms = Duration::from_millis;
        assert_eq!(
            Directive::parse("stream 3 20"),
            Directive::Stream {
                count: 3,
                pause: ms(20)
            }
        );
        assert_eq!(
            Directive::parse("clock 3 0.5"),
            Directive::Clock {
                count: 3,
                pause: Duration::from_micros(500)
            }
        );
        assert_eq!(
            Directive::parse("burst 9 100"),
            Directive::Burst { count: 9, bytes: 100 }
        );
        assert_eq!(Directive::parse("exit 3"), Directive::Exit { code: 3 });
        for text in [
            "stream 3",
            "stream x 1",
            "stream 3 -1",
            "ask me",
            "hello",
            "",
            "exit now",
        ] {
            assert_eq!(
                Directive::parse(text),
                Directive::Say {
                    text: text.to_owned()
                }
            );
        }
    }

    #[test]
    fn a_stamp_holds_time_and_number() {
        let text = stamp_delta(7);
        let fields: Vec<&str> = text.split('@').collect();
        assert!(fields[1].parse::<u64>().unwrap() > 0);
        assert_eq!(fields[2], "7");
        assert_eq!(text.len(), 60);
    }

    #[test]
    fn a_delta_of_a_burst_has_its_length() {
        assert_eq!(burst_delta(7, 6), "7 xxxx");
        assert_eq!(burst_delta(12345, 2), "12345 ");
    }
}
