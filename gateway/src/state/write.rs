//! The thread that writes: whatever has gathered goes into one transaction.

use std::sync::mpsc::Receiver;

use rusqlite::{Connection, params};
use tokio::sync::oneshot;

use super::{StoredAccount, StoredObject, StoredToken};

/// Writes of one transaction.
const GROUP: usize = 512;

/// One change.
#[derive(Debug)]
pub(super) enum Write {
    Object(StoredObject),
    NoObject(u64),
    Account(StoredAccount),
    Token(StoredToken, oneshot::Sender<bool>),
    /// Nothing but a word when all before it is written.
    Flush(oneshot::Sender<bool>),
}

/// Writes until every sender is gone.
pub(super) fn run(mut connection: Connection, receiver: &Receiver<Write>) {
    while let Ok(first) = receiver.recv() {
        let rest = std::iter::from_fn(|| receiver.try_recv().ok());
        let writes: Vec<Write> = std::iter::once(first).chain(rest).take(GROUP).collect();
        let written = group(&mut connection, &writes);
        if let Err(error) = &written {
            tracing::error!(error = crate::causes(error), "writing the gateway's state");
        }
        for write in writes {
            if let Write::Token(_, done) | Write::Flush(done) = write {
                let _nobody_waits = done.send(written.is_ok());
            }
        }
    }
}

fn group(connection: &mut Connection, writes: &[Write]) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for write in writes {
        match write {
            Write::Flush(_) => {}
            Write::Object(object) => {
                let StoredObject {
                    serial,
                    provider,
                    account,
                    owner,
                    id,
                    kind,
                } = object;
                // Never to another owner: the first one it was issued to keeps it.
                transaction.execute(
                    "INSERT OR IGNORE INTO object (serial, provider, account, owner, id, kind) VALUES (?, ?, ?, ?, ?, ?)",
                    params![serial.cast_signed(), provider, account, owner, id, kind],
                )?;
            }
            Write::NoObject(serial) => {
                transaction.execute("DELETE FROM object WHERE serial = ?", [serial.cast_signed()])?;
            }
            Write::Account(StoredAccount {
                provider,
                account,
                state,
            }) => {
                transaction.execute(
                    "INSERT OR REPLACE INTO account (provider, account, state) VALUES (?, ?, ?)",
                    params![provider, account, state],
                )?;
            }
            Write::Token(
                StoredToken {
                    provider,
                    account,
                    sealed,
                },
                _,
            ) => {
                transaction.execute(
                    "INSERT OR REPLACE INTO token (provider, account, sealed) VALUES (?, ?, ?)",
                    params![provider, account, sealed],
                )?;
            }
        }
    }
    transaction.commit()
}
