//! The first words with guest init: that it is there, and that every mount is what was opened for it.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use lodge_guest::mux::{CONNECTIONS, Decoder, Exit, Frame, Kind, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::error::ContainerError;
use super::stage::Expected;

type Places = BTreeMap<PathBuf, Expected>;

/// No command of a session has this number: those count up from 1.
const STREAM: u32 = CONNECTIONS - 1;
/// Most bytes that one look at all mounts may say.
const MAX_SAID: usize = 1 << 20;
/// Device and inode of every place, an empty line, and the table of mounts.
const LOOK: &str = "/usr/bin/stat --format='%d %i' -- \"$@\" && echo && exec cat /proc/self/mountinfo";
/// A loaded machine may take long, but not for ever.
const LIMIT: Duration = Duration::from_mins(1);

/// Guest init's stream up to the point where frames are passed on untouched.
#[derive(Debug)]
pub(super) struct Opening {
    stream: UnixStream,
    decoder: Decoder,
}

impl Opening {
    pub(super) fn new(stream: UnixStream) -> Self {
        Self {
            stream,
            decoder: Decoder::new(),
        }
    }

    /// Waits for guest init and looks at its mounts; gives the stream and what is to be passed on first.
    pub(super) async fn verify(mut self, expected: &Places) -> Result<(UnixStream, Vec<u8>), ContainerError> {
        let slow = |_| ContainerError::Slow {
            action: "bring guest init up",
            patience: LIMIT,
        };
        let hello = tokio::time::timeout(LIMIT, self.look(expected))
            .await
            .map_err(slow)??;
        if self.decoder.buffered() > 0 {
            return Err(ContainerError::Protocol {
                what: "it speaks before it is asked".to_owned(),
            });
        }
        let mut bytes = Vec::new();
        hello.encode_into(&mut bytes)?;
        Ok((self.stream, bytes))
    }

    async fn look(&mut self, expected: &Places) -> Result<Frame, ContainerError> {
        let hello = self.next().await?;
        if hello.kind != Kind::Hello {
            return Err(unexpected(&hello));
        }
        if !expected.is_empty() {
            let found = self.look_inside(expected).await?;
            compare(expected, &found)?;
        }
        Ok(hello)
    }

    /// Runs programs of the image, which nobody but its builder can have changed.
    async fn look_inside(&mut self, expected: &Places) -> Result<String, ContainerError> {
        let mut argv = ["/bin/sh", "-c", LOOK, "sh"].map(str::to_owned).to_vec();
        argv.extend(expected.keys().map(|at| at.display().to_string()));
        let start = Start {
            argv,
            env: vec![("LC_ALL".to_owned(), "C".to_owned())],
            cwd: "/".to_owned(),
            pty: false,
            size: None,
        };
        let mut bytes = Vec::new();
        Frame::json(Kind::Start, STREAM, &start)?.encode_into(&mut bytes)?;
        Frame::new(Kind::Stdin, STREAM, []).encode_into(&mut bytes)?;
        self.stream
            .write_all(&bytes)
            .await
            .map_err(ContainerError::system("speak to guest init"))?;
        let (mut said, mut complaint) = (Vec::new(), Vec::new());
        loop {
            let frame = self.next().await?;
            match frame.kind {
                Kind::Stdout if frame.stream == STREAM => said.extend(frame.payload),
                Kind::Stderr if frame.stream == STREAM => complaint.extend(frame.payload),
                Kind::Started if frame.stream == STREAM => {}
                Kind::Exit if frame.stream == STREAM => {
                    let exit: Exit = frame.parse()?;
                    return match exit.code {
                        Some(0) => Ok(String::from_utf8_lossy(&said).into_owned()),
                        _ => Err(ContainerError::Protocol {
                            what: format!(
                                "its mounts cannot be looked at: {}",
                                String::from_utf8_lossy(&complaint).trim()
                            ),
                        }),
                    };
                }
                _ => return Err(unexpected(&frame)),
            }
            if said.len() + complaint.len() > MAX_SAID {
                return Err(unexpected(&Frame::new(Kind::Stdout, STREAM, [])));
            }
        }
    }

    async fn next(&mut self) -> Result<Frame, ContainerError> {
        let mut chunk = vec![0; 16 << 10];
        loop {
            if let Some(frame) = self.decoder.next()? {
                return Ok(frame);
            }
            match self.stream.read(&mut chunk).await {
                Ok(0) | Err(_) => return Err(ContainerError::Ended { said: String::new() }),
                Ok(got) => self.decoder.push(&chunk[..got]),
            }
        }
    }
}

fn unexpected(frame: &Frame) -> ContainerError {
    ContainerError::Protocol {
        what: format!(
            "a {:?} frame of stream {} where none belongs",
            frame.kind, frame.stream
        ),
    }
}

/// A place has to be a mount point: else the mount went elsewhere, through a link that was there for a moment, and what
/// lies there is the same directory, unprotected.
fn compare(expected: &Places, found: &str) -> Result<(), ContainerError> {
    let (identities, mounts) = found.split_once("\n\n").unwrap_or((found, ""));
    let mounts = table(mounts);
    let mut identities = identities.lines();
    for (at, wanted) in expected {
        let identity = identities.next().unwrap_or_default();
        let same = wanted
            .identity
            .is_none_or(|(device, inode)| identity == format!("{device} {inode}"));
        let held = mounts
            .get(escaped(at).as_str())
            .is_some_and(|read_only| *read_only || !wanted.read_only);
        if !same || !held {
            return Err(ContainerError::Exchanged { at: at.clone() });
        }
    }
    Ok(())
}

/// The mount points of a `mountinfo`, each with whether the topmost mount there is read-only.
fn table(mounts: &str) -> BTreeMap<&str, bool> {
    let row = |line| -> Option<(&str, bool)> {
        let mut words = str::split(line, ' ');
        let at = words.nth(4)?;
        Some((at, words.next()?.split(',').any(|option| option == "ro")))
    };
    mounts.lines().filter_map(row).collect()
}

/// A path as `mountinfo` writes it.
fn escaped(path: &Path) -> String {
    let text = path.display().to_string();
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            ' ' | '\t' | '\n' | '\\' => {
                let _ = write!(out, "\\{:03o}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn places() -> Places {
        let held = |inode, read_only| Expected {
            identity: Some((9, inode)),
            read_only,
        };
        Places::from([
            ("/ws".into(), held(1, false)),
            ("/ws/.git/a hook".into(), held(2, true)),
            ("/ws/x".into(), Expected::default()),
        ])
    }

    const MOUNTS: &str = "1 0 0:1 / / ro - overlay o rw\n2 1 9:0 /ws /ws rw,nosuid - ext4 d rw\n\
        3 2 9:0 /ws/h /ws/.git/a\\040hook ro,nosuid - ext4 d rw\n4 2 0:2 / /ws/x rw - tmpfs t rw\n";

    #[test]
    fn every_place_has_to_be_a_mount_of_what_was_opened() {
        let good = format!("9 1\n9 2\n5 5\n\n{MOUNTS}");
        compare(&places(), &good).unwrap();
        let hook = "/ws/.git/a hook";
        for (found, at) in [
            (good.replace("9 1\n", "8 1\n"), "/ws"),
            (good.replace("9 2\n", "9 3\n"), hook),
            // The very directory, but nothing is mounted there.
            (good.replace("/ws/.git/a\\040hook", "/elsewhere"), hook),
            (good.replace("ro,nosuid", "rw,nosuid"), hook),
            (good.replace("/ws/x", "/ws/y"), "/ws/x"),
            (String::new(), "/ws"),
        ] {
            let error = compare(&places(), &found).unwrap_err();
            let ContainerError::Exchanged { at: named } = error else {
                panic!("{error}");
            };
            assert_eq!(named, Path::new(at), "{found}");
        }
    }

    /// Plays guest init with the given frames.
    async fn against(frames: &[Frame]) -> Result<Vec<u8>, ContainerError> {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut bytes = Vec::new();
        for frame in frames {
            frame.encode_into(&mut bytes).unwrap();
        }
        theirs.write_all(&bytes).await.unwrap();
        let found = Opening::new(ours).verify(&places()).await;
        drop(theirs);
        found.map(|(_, first)| first)
    }

    #[tokio::test]
    async fn a_guest_that_speaks_out_of_turn_is_refused() {
        let hello = || Frame::new(Kind::Hello, 0, *b"{\"version\":1}");
        let exit = |code: i32| {
            Frame::json(
                Kind::Exit,
                STREAM,
                &Exit {
                    code: Some(code),
                    signal: None,
                },
            )
            .unwrap()
        };
        let stat = |text: &str| Frame::new(Kind::Stdout, STREAM, text.as_bytes());
        let good = format!("9 1\n9 2\n5 5\n\n{MOUNTS}");
        let first = against(&[hello(), stat(&good), exit(0)]).await.unwrap();
        assert!(first.ends_with(b"{\"version\":1}"));
        assert!(matches!(
            against(&[hello(), stat(&good.replace("9 1", "9 4")), exit(0)]).await,
            Err(ContainerError::Exchanged { .. })
        ));
        for wrong in [
            vec![exit(0)],
            vec![hello(), hello()],
            vec![hello(), stat(""), exit(1)],
            vec![hello(), Frame::new(Kind::Stdout, 1, *b"x")],
            vec![hello(), stat(&good), exit(0), stat("more")],
        ] {
            assert!(
                matches!(against(&wrong).await, Err(ContainerError::Protocol { .. })),
                "{wrong:?}"
            );
        }
    }
}
