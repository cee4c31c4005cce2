//! Which SQLite errors end a request, which ask for patience, and which end the process.

use crate::store::{Fatal, StoreError};
use rusqlite::{Error, ErrorCode, ffi};
use std::sync::Arc;

/// What follows from an error of SQLite.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Class {
    /// No space: the transaction is undone, the service goes on.
    Full,
    /// Somebody else holds a lock.
    Busy,
    /// Stopped by the reader's deadline.
    Interrupted,
    /// This statement failed; others may succeed.
    Statement,
    /// The file or the disk below it is not what SQLite believes: nothing more may be acknowledged.
    Fatal,
}

pub(super) fn classify(error: &Error) -> Class {
    let Error::SqliteFailure(failure, _) = error else {
        return Class::Statement;
    };
    // Growing the shared-memory index fails before anything is written, and for want of space only.
    if failure.extended_code == ffi::SQLITE_IOERR_SHMSIZE {
        return Class::Full;
    }
    match failure.code {
        ErrorCode::DiskFull => Class::Full,
        ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked => Class::Busy,
        ErrorCode::OperationInterrupted => Class::Interrupted,
        ErrorCode::SystemIoFailure
        | ErrorCode::DatabaseCorrupt
        | ErrorCode::NotADatabase
        | ErrorCode::CannotOpen
        | ErrorCode::ReadOnly
        | ErrorCode::PermissionDenied
        | ErrorCode::FileLockingProtocolFailed
        | ErrorCode::OutOfMemory => Class::Fatal,
        _ => Class::Statement,
    }
}

/// The error of a request whose statement or transaction failed while doing `step`.
pub(super) fn request_error(step: &'static str, error: Error) -> StoreError {
    match classify(&error) {
        Class::Full => StoreError::Full,
        Class::Busy => StoreError::Busy,
        Class::Interrupted => StoreError::TooSlow,
        Class::Statement | Class::Fatal => StoreError::Database {
            step,
            source: Box::new(error),
        },
    }
}

pub(super) fn fatal(step: &'static str, error: Error) -> Fatal {
    Fatal {
        step,
        source: Arc::new(error),
    }
}
