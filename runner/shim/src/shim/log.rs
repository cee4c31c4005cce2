//! Lines in the session's `shim.log`. They hold no content of the session.

use std::io::Write;

/// Writes a line. It may be lost: the disk that the log is on may be full, which must not end the shim
/// (`eprintln!` would panic).
pub(crate) fn log(line: std::fmt::Arguments<'_>) {
    let _ = writeln!(std::io::stderr(), "lodge-shim: {line}");
}
