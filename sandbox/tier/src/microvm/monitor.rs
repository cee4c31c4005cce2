//! QEMU's monitor (QMP), as far as snapshots need it.

use std::io::IoSlice;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt, Interest};
use tokio::net::UnixStream;

use super::error::MicrovmError;

/// Longest line taken; QEMU's answers here are far shorter.
const MAX_LINE: usize = 256 << 10;

#[derive(Debug)]
pub(super) struct Monitor {
    stream: UnixStream,
    buffer: Vec<u8>,
    /// Names of events that came between answers.
    events: Vec<String>,
}

impl Monitor {
    /// Takes the greeting and leaves negotiation.
    pub(super) async fn connect(stream: UnixStream) -> Result<Self, MicrovmError> {
        let mut monitor = Self {
            stream,
            buffer: Vec::new(),
            events: Vec::new(),
        };
        monitor.message().await?;
        monitor.execute("qmp_capabilities", json!({})).await?;
        Ok(monitor)
    }

    pub(super) async fn execute(&mut self, command: &str, arguments: Value) -> Result<Value, MicrovmError> {
        let text = request(command, &arguments);
        let sent = self.stream.write_all(text.as_bytes()).await;
        sent.map_err(MicrovmError::system("write to QEMU's monitor"))?;
        self.answer(command).await
    }

    /// Gives QEMU `fd` under `name`.
    pub(super) async fn give(&mut self, name: &str, fd: BorrowedFd<'_>) -> Result<(), MicrovmError> {
        let text = request("getfd", &json!({ "fdname": name }));
        let stream = &self.stream;
        let send = || {
            let mut space = [std::mem::MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let fds = [fd];
            control.push(SendAncillaryMessage::ScmRights(&fds));
            let slices = [IoSlice::new(text.as_bytes())];
            Ok(sendmsg(
                stream.as_fd(),
                &slices,
                &mut control,
                SendFlags::NOSIGNAL,
            )?)
        };
        let sent = stream.async_io(Interest::WRITABLE, send).await;
        match sent.map_err(MicrovmError::system("pass a descriptor to QEMU"))? {
            all if all == text.len() => self.answer("getfd").await.map(drop),
            _ => Err(refused("getfd", "it was cut short")),
        }
    }

    /// Waits for an event.
    pub(super) async fn event(&mut self, name: &str) -> Result<(), MicrovmError> {
        loop {
            if let Some(at) = self.events.iter().position(|event| event == name) {
                self.events.remove(at);
                return Ok(());
            }
            let message = self.message().await?;
            self.note(&message);
        }
    }

    async fn answer(&mut self, command: &str) -> Result<Value, MicrovmError> {
        loop {
            let mut message = self.message().await?;
            if let Some(answer) = message.get_mut("return") {
                return Ok(answer.take());
            }
            if let Some(error) = message.get("error") {
                return Err(refused(command, error["desc"].as_str().unwrap_or("no reason")));
            }
            self.note(&message);
        }
    }

    fn note(&mut self, message: &Value) {
        if let Some(event) = message.get("event").and_then(Value::as_str) {
            self.events.push(event.to_owned());
        }
    }

    async fn message(&mut self) -> Result<Value, MicrovmError> {
        loop {
            if let Some(end) = self.buffer.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.buffer.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|error| refused("a line", &error.to_string()));
            }
            if self.buffer.len() > MAX_LINE {
                return Err(refused("a line", "it is too long"));
            }
            let read = self.stream.read_buf(&mut self.buffer).await;
            if read.map_err(MicrovmError::system("read QEMU's monitor"))? == 0 {
                return Err(refused("it", "QEMU has ended"));
            }
        }
    }
}

fn request(command: &str, arguments: &Value) -> String {
    format!("{}\n", json!({ "execute": command, "arguments": arguments }))
}

fn refused(what: &str, why: &str) -> MicrovmError {
    MicrovmError::Monitor {
        reason: format!("{what}: {why}"),
    }
}
