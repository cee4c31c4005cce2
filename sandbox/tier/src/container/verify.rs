//! The first words with guest init: that it is there, and that every mount is what was opened for it.

use std::time::Duration;

use lodge_guest::mux::{CONNECTIONS, Decoder, Exit, Frame, Kind, Start};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

use super::error::ContainerError;
use super::stage::Expected;

/// No command of a session has this number: those count up from 1.
const STREAM: u32 = CONNECTIONS - 1;
/// Most bytes that one look at all mounts may say.
const MAX_SAID: usize = 1 << 20;
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
    pub(super) async fn verify(
        mut self,
        expected: &[Expected],
    ) -> Result<(UnixStream, Vec<u8>), ContainerError> {
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

    async fn look(&mut self, expected: &[Expected]) -> Result<Frame, ContainerError> {
        let hello = self.next().await?;
        if hello.kind != Kind::Hello {
            return Err(unexpected(&hello));
        }
        if !expected.is_empty() {
            let found = self.stat(expected).await?;
            compare(expected, &found)?;
        }
        Ok(hello)
    }

    /// Runs `stat` of the image, which nobody but its builder can have changed.
    async fn stat(&mut self, expected: &[Expected]) -> Result<String, ContainerError> {
        let mut argv = ["/usr/bin/stat", "--format=%d %i", "--"]
            .map(str::to_owned)
            .to_vec();
        argv.extend(expected.iter().map(|mount| mount.at.display().to_string()));
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
                            what: format!("stat failed: {}", String::from_utf8_lossy(&complaint).trim()),
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

fn compare(expected: &[Expected], found: &str) -> Result<(), ContainerError> {
    let mut lines = found.lines();
    for mount in expected {
        if lines.next() != Some(&format!("{} {}", mount.device, mount.inode)) {
            return Err(ContainerError::Exchanged { at: mount.at.clone() });
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn expected(inode: u64) -> Expected {
        Expected {
            at: format!("/ws/{inode}").into(),
            device: 9,
            inode,
        }
    }

    #[test]
    fn every_mount_has_to_be_the_one_that_was_opened() {
        let mounts = [expected(1), expected(2)];
        compare(&mounts, "9 1\n9 2\n").unwrap();
        for (found, at) in [
            ("9 1\n9 3\n", "/ws/2"),
            ("8 1\n9 2\n", "/ws/1"),
            ("9 1\n", "/ws/2"),
            ("", "/ws/1"),
        ] {
            let error = compare(&mounts, found).unwrap_err();
            assert!(
                matches!(&error, ContainerError::Exchanged { at: here } if here.ends_with(&at[1..])),
                "{error}"
            );
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
        let found = Opening::new(ours).verify(&[expected(1)]).await;
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
        let first = against(&[hello(), stat("9 1\n"), exit(0)]).await.unwrap();
        assert!(first.ends_with(b"{\"version\":1}"));
        assert!(matches!(
            against(&[hello(), stat("9 2\n"), exit(0)]).await,
            Err(ContainerError::Exchanged { .. })
        ));
        for wrong in [
            vec![exit(0)],
            vec![hello(), hello()],
            vec![hello(), stat(""), exit(1)],
            vec![hello(), Frame::new(Kind::Stdout, 1, *b"x")],
            vec![hello(), stat("9 1\n"), exit(0), stat("more")],
        ] {
            assert!(
                matches!(against(&wrong).await, Err(ContainerError::Protocol { .. })),
                "{wrong:?}"
            );
        }
    }
}
