//! Commands beside the harness (terminals, file operations, Git) on the connection between runner and shim: a codec
//! without I/O, part of [`crate::wire`] since its version 2.
//!
//! Nothing of it is journalled. The runner asks with a [`StartStream`] under a tag of its own; the shim answers with the
//! stream's number, then with output and one exit. Of each stream at most [`WINDOW`] bytes of output are on their way:
//! the runner grants more with [`ToStream::Credit`]. When the runner's connection ends, commands are killed; terminals
//! live on and are listed in the next `HelloReply`, followed by a [`FromStream::Output`] of [`Channel::Replay`].

use serde::{Deserialize, Serialize};

/// Commands and terminals that one shim runs beside the harness.
pub const MAX_STREAMS: usize = 64;
/// Output bytes of one stream that may be on their way to the runner.
pub const WINDOW: u32 = 256 << 10;
/// What is kept of a terminal's output for a runner that comes later, in bytes.
pub const SCROLLBACK: usize = 256 << 10;
/// Bytes of standard input that one command takes over its life; terminals have no such bound.
pub const MAX_COMMAND_INPUT: usize = 2 << 20;

pub(crate) const START: u8 = 8;
const INPUT: u8 = 9;
const RESIZE: u8 = 10;
const SIGNAL: u8 = 11;
const CREDIT: u8 = 12;
/// The runner's kinds of this module.
pub(crate) const TO_SHIM: std::ops::RangeInclusive<u8> = START..=CREDIT;

const OPENED: u8 = 70;
const REFUSED: u8 = 71;
const OUTPUT: u8 = 72;
const EXIT: u8 = 73;
/// The shim's kinds of this module.
pub(crate) const TO_RUNNER: std::ops::RangeInclusive<u8> = OPENED..=EXIT;

/// What to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StartStream {
    pub argv: Vec<String>,
    /// Added to the environment that the launch specification gives to commands.
    #[serde(default)]
    pub env: Vec<(String, String)>,
    /// Present for a terminal, which outlives the runner's connection.
    #[serde(default)]
    pub terminal: Option<Terminal>,
}

/// A terminal, as the runner knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// The runner's own name for it.
    pub id: u32,
    pub rows: u16,
    pub cols: u16,
    /// UTC milliseconds.
    pub opened_at: u64,
}

/// A terminal that outlived its runner: item of `HelloReply`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct LiveTerminal {
    pub stream: u32,
    #[serde(flatten)]
    pub terminal: Terminal,
}

/// How a command ended. With none of the three it was killed with its sandbox.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StreamExit {
    #[serde(default)]
    pub code: Option<i32>,
    #[serde(default)]
    pub signal: Option<i32>,
    /// Why it could not be started.
    #[serde(default)]
    pub error: Option<String>,
    /// The system's error number for that, 0 when there is none.
    #[serde(default)]
    pub errno: i32,
}

/// What the runner says about streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ToStream<'a> {
    Start {
        tag: u64,
        start: StartStream,
    },
    /// Standard input; empty closes it. A terminal drops what comes while its sandbox takes nothing.
    Input {
        stream: u32,
        bytes: &'a [u8],
    },
    Resize {
        stream: u32,
        rows: u16,
        cols: u16,
    },
    /// To the command's process group.
    Signal {
        stream: u32,
        signal: i32,
    },
    /// So many more bytes of output are taken.
    Credit {
        stream: u32,
        bytes: u32,
    },
}

/// Which output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Channel {
    Stdout = 0,
    Stderr = 1,
    /// What a terminal has shown before; it needs no credit.
    Replay = 2,
}

/// What the shim says about streams.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FromStream<'a> {
    Opened {
        tag: u64,
        stream: u32,
    },
    Refused {
        tag: u64,
        reason: &'a str,
    },
    Output {
        stream: u32,
        channel: Channel,
        bytes: &'a [u8],
    },
    /// The last word of a stream.
    Exit {
        stream: u32,
        exit: StreamExit,
    },
}

impl ToStream<'_> {
    /// The frame's kind and payload.
    pub(crate) fn encode(&self) -> Result<(u8, Vec<u8>), serde_json::Error> {
        Ok(match self {
            Self::Start { tag, start } => (START, joined(&[&tag.to_le_bytes(), &serde_json::to_vec(start)?])),
            Self::Input { stream, bytes } => (INPUT, joined(&[&stream.to_le_bytes(), bytes])),
            Self::Resize { stream, rows, cols } => (
                RESIZE,
                joined(&[&stream.to_le_bytes(), &rows.to_le_bytes(), &cols.to_le_bytes()]),
            ),
            Self::Signal { stream, signal } => {
                (SIGNAL, joined(&[&stream.to_le_bytes(), &signal.to_le_bytes()]))
            }
            Self::Credit { stream, bytes } => {
                (CREDIT, joined(&[&stream.to_le_bytes(), &bytes.to_le_bytes()]))
            }
        })
    }
}

impl<'a> ToStream<'a> {
    /// Reads a payload of one of the kinds in [`TO_SHIM`]; `None` when it is malformed.
    pub(crate) fn parse(kind: u8, payload: &'a [u8]) -> Option<Self> {
        if kind == START {
            let (tag, json) = payload.split_first_chunk::<8>()?;
            return Some(Self::Start {
                tag: u64::from_le_bytes(*tag),
                start: serde_json::from_slice(json).ok()?,
            });
        }
        let (stream, rest) = payload.split_first_chunk::<4>()?;
        let stream = u32::from_le_bytes(*stream);
        Some(match kind {
            INPUT => Self::Input { stream, bytes: rest },
            RESIZE => {
                let &[r0, r1, c0, c1] = rest.as_array::<4>()?;
                Self::Resize {
                    stream,
                    rows: u16::from_le_bytes([r0, r1]),
                    cols: u16::from_le_bytes([c0, c1]),
                }
            }
            SIGNAL => Self::Signal {
                stream,
                signal: i32::from_le_bytes(rest.try_into().ok()?),
            },
            CREDIT => Self::Credit {
                stream,
                bytes: u32::from_le_bytes(rest.try_into().ok()?),
            },
            _ => return None,
        })
    }
}

impl FromStream<'_> {
    /// The frame's kind and payload.
    pub(crate) fn encode(&self) -> Result<(u8, Vec<u8>), serde_json::Error> {
        Ok(match self {
            Self::Opened { tag, stream } => (OPENED, joined(&[&tag.to_le_bytes(), &stream.to_le_bytes()])),
            Self::Refused { tag, reason } => (REFUSED, joined(&[&tag.to_le_bytes(), reason.as_bytes()])),
            Self::Output {
                stream,
                channel,
                bytes,
            } => (OUTPUT, joined(&[&stream.to_le_bytes(), &[*channel as u8], bytes])),
            Self::Exit { stream, exit } => {
                (EXIT, joined(&[&stream.to_le_bytes(), &serde_json::to_vec(exit)?]))
            }
        })
    }
}

impl<'a> FromStream<'a> {
    /// Reads a payload of one of the kinds in [`TO_RUNNER`]; `None` when it is malformed.
    pub(crate) fn parse(kind: u8, payload: &'a [u8]) -> Option<Self> {
        if kind == OPENED || kind == REFUSED {
            let (tag, rest) = payload.split_first_chunk::<8>()?;
            let tag = u64::from_le_bytes(*tag);
            return Some(if kind == OPENED {
                Self::Opened {
                    tag,
                    stream: u32::from_le_bytes(rest.try_into().ok()?),
                }
            } else {
                Self::Refused {
                    tag,
                    reason: std::str::from_utf8(rest).ok()?,
                }
            });
        }
        let (stream, rest) = payload.split_first_chunk::<4>()?;
        let stream = u32::from_le_bytes(*stream);
        if kind == EXIT {
            return Some(Self::Exit {
                stream,
                exit: serde_json::from_slice(rest).ok()?,
            });
        }
        let (&channel, bytes) = rest.split_first()?;
        let channel = match channel {
            0 => Channel::Stdout,
            1 => Channel::Stderr,
            2 => Channel::Replay,
            _ => return None,
        };
        Some(Self::Output {
            stream,
            channel,
            bytes,
        })
    }
}

fn joined(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}
