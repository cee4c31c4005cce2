//! What the runner sends.

use std::time::Duration;

use lodge_guest::mux;

use super::connection::Connection;
use super::log::log;
use super::{Shim, ShimError};
use crate::journal::{JournalError, Reader, now_ms};
use crate::wire::{
    CODE_CORRUPT, CODE_EXITED, CODE_INVALID, CODE_RANGE, CODE_VERSION, Harness, Hello, HelloReply,
    MIN_WIRE_VERSION, STREAMS_SINCE, ToRunner, ToShim, WIRE_VERSION, WireError, accepts,
};

/// What becomes of a connection.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Keep,
    Close,
}

impl Shim {
    pub(super) fn read_active(&mut self) -> Result<(), ShimError> {
        let Some(mut connection) = self.server.active.take() else {
            return Ok(());
        };
        let alive = connection.receive(&mut self.scratch);
        self.server.active = Some(connection);
        // What came before a hang-up counts: an acknowledgement, a last append.
        let fate = self.take_frames()?;
        if !alive || fate == Fate::Close {
            self.server.active = None;
        }
        Ok(())
    }

    /// Obeys what the active connection has sent.
    fn take_frames(&mut self) -> Result<Fate, ShimError> {
        let Some(active) = &mut self.server.active else {
            return Ok(Fate::Close);
        };
        let mut decoder = std::mem::take(&mut active.decoder);
        let result = loop {
            let request = match decoder.next() {
                Ok(None) => break Ok(Fate::Keep),
                Ok(Some(frame)) => ToShim::parse(frame),
                Err(error) => Err(error),
            };
            match request {
                Ok(request) => {
                    if let Err(error) = self.obey(&request) {
                        break Err(error);
                    }
                }
                Err(error) => break Ok(self.refuse(&error)),
            }
        };
        if let Some(active) = &mut self.server.active {
            active.decoder = decoder;
        }
        result
    }

    fn refuse(&mut self, error: &WireError) -> Fate {
        if let Some(active) = &mut self.server.active {
            active.say_error(CODE_INVALID, error.to_string());
            active.flush();
        }
        Fate::Close
    }

    fn obey(&mut self, request: &ToShim<'_>) -> Result<(), ShimError> {
        match request {
            ToShim::Input { id, bytes } => {
                self.inputs.accept(*id, bytes);
                if self.harness == Harness::Exited {
                    self.refuse_inputs();
                }
            }
            ToShim::Append {
                kind,
                sync,
                id,
                bytes,
            } => {
                if self.inputs.journalled.insert(*id, self.journal.next_seq()) {
                    self.journal.stage(*kind, 0, &[id, bytes], now_ms())?;
                    self.sync_wanted |= sync;
                }
            }
            ToShim::Ack {
                durable,
                prune_before,
            } => self.acknowledge(*durable, *prune_before)?,
            ToShim::Signal(signal) => self.signal_harness(*signal)?,
            ToShim::Stop(stop) => self.stop_for_runner(Duration::from_millis(stop.grace_ms))?,
            ToShim::Hello(_) => self.tell(CODE_INVALID, "a connection says hello once".to_owned()),
            ToShim::GetListener => {
                self.tell(
                    CODE_INVALID,
                    "the listener is fetched over a connection of its own".to_owned(),
                );
            }
            ToShim::Stream(request) => self.obey_stream(request),
        }
        Ok(())
    }

    fn acknowledge(&mut self, durable: u64, prune_before: u64) -> Result<(), ShimError> {
        self.acked = self.acked.max(durable.min(self.journal.head_seq()));
        self.backlog.ack(self.acked);
        // What is not durable elsewhere stays, whatever the runner says.
        let first = self.journal.prune(prune_before.min(self.acked + 1))?;
        self.inputs.journalled.forget_before(first);
        // A cursor at the end of a deleted segment would keep its space.
        let reader = self
            .server
            .active
            .as_mut()
            .and_then(|active| active.reader.as_mut());
        if let Some(reader) = reader.filter(|reader| reader.position().segment < first) {
            *reader = Reader::from_seq(&self.journal_dir, reader.next_seq())?;
        }
        Ok(())
    }

    fn signal_harness(&mut self, signal: i32) -> Result<(), ShimError> {
        if self.harness != Harness::Running {
            self.tell(CODE_EXITED, "the harness does not run".to_owned());
            return Ok(());
        }
        let payload = serde_json::to_vec(&mux::Signal { signal })?;
        if let Some(guest) = &mut self.guest
            && let Err(error) = guest.queue(mux::Kind::Signal, &payload)
        {
            self.tell(CODE_INVALID, error.to_string());
        }
        Ok(())
    }

    /// Reads the connections that have not said what they want, in the order they came: of two equal runners the
    /// later one is to win.
    pub(super) fn read_fresh(&mut self, ready: &[bool]) -> Result<(), ShimError> {
        let fresh = std::mem::take(&mut self.server.fresh);
        for (connection, ready) in fresh.into_iter().zip(ready) {
            if *ready {
                self.meet(connection)?;
            } else {
                self.server.fresh.push(connection);
            }
        }
        Ok(())
    }

    fn meet(&mut self, mut connection: Connection) -> Result<(), ShimError> {
        let alive = connection.receive(&mut self.scratch);
        let mut decoder = std::mem::take(&mut connection.decoder);
        let first = match decoder.next() {
            Ok(None) => Ok(None),
            Ok(Some(frame)) => ToShim::parse(frame).map(Some),
            Err(error) => Err(error),
        };
        let hello = match first {
            Ok(Some(ToShim::Hello(hello))) => hello,
            Ok(None) => {
                connection.decoder = decoder;
                if alive {
                    self.server.fresh.push(connection);
                }
                return Ok(());
            }
            Ok(Some(ToShim::GetListener)) => {
                self.give_listener(&mut connection);
                return Ok(());
            }
            Ok(Some(_)) => {
                connection.say_error(CODE_INVALID, "a connection starts with a hello".to_owned());
                connection.flush();
                return Ok(());
            }
            Err(error) => {
                connection.say_error(CODE_INVALID, error.to_string());
                connection.flush();
                return Ok(());
            }
        };
        connection.decoder = decoder;
        self.greet(connection, &hello)
    }

    fn give_listener(&self, connection: &mut Connection) {
        let sent = if let Some(listener) = &self.server.gateway {
            connection.send_listener(listener)
        } else {
            connection.say_error(CODE_INVALID, "the session has no gateway listener".to_owned());
            Ok(())
        };
        if let Err(error) = sent {
            log(format_args!("cannot pass the listener: {error}"));
        }
        connection.flush();
    }

    fn greet(&mut self, mut connection: Connection, hello: &Hello) -> Result<(), ShimError> {
        match self.admission(hello) {
            Ok(reader) => connection.reader = Some(reader),
            Err(Refusal::Fenced) => {
                connection.say(&ToRunner::Fenced);
                connection.flush();
                return Ok(());
            }
            Err(Refusal::Error(code, message)) => {
                connection.say_error(code, message);
                connection.flush();
                return Ok(());
            }
        }
        connection.say(&ToRunner::HelloReply(HelloReply {
            version: hello.version,
            generation: self.generation,
            pid: std::process::id(),
            harness: self.harness,
            head_seq: self.journal.head_seq(),
            terminals: self.streams.terminals(),
        }));
        self.server.fence = hello.fence;
        if let Some(mut older) = self.server.active.replace(connection) {
            older.say(&ToRunner::Fenced);
            older.flush();
        }
        self.leave_streams();
        if hello.version >= STREAMS_SINCE {
            self.greet_streams();
        }
        // To want a record is to have everything before it.
        self.acknowledge(hello.from_seq.saturating_sub(1), 0)?;
        if self.take_frames()? == Fate::Close {
            self.server.active = None;
        }
        Ok(())
    }

    fn admission(&self, hello: &Hello) -> Result<Reader, Refusal> {
        if !accepts(hello.version) {
            let message = format!(
                "version {} is not within {MIN_WIRE_VERSION}..={WIRE_VERSION}",
                hello.version
            );
            return Err(Refusal::Error(CODE_VERSION, message));
        }
        if hello.fence < self.server.fence {
            return Err(Refusal::Fenced);
        }
        Reader::from_seq(&self.journal_dir, hello.from_seq).map_err(|error| {
            let range = matches!(error, JournalError::Pruned { .. } | JournalError::Ahead { .. });
            Refusal::Error(if range { CODE_RANGE } else { CODE_CORRUPT }, error.to_string())
        })
    }
}

/// Why a hello was not accepted.
enum Refusal {
    Fenced,
    Error(&'static str, String),
}
