//! For tests of every crate: the real harnesses, installed once per build directory and shared.

use super::{InstallError, InstalledHarness, Installer, Registry, Source, WayOut};
use std::any::Any;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::Path;
use std::sync::Arc;

/// A way to the registry without the broker, which is another crate's: `CONNECT` to it, and to nothing else.
#[derive(Debug)]
pub struct Direct;

impl WayOut for Direct {
    fn serve(&self, listener: UnixListener, registry: &Registry) -> std::io::Result<Box<dyn Any + Send>> {
        let registry = registry.clone();
        // It ends with the test's process: nobody connects once the sandbox is gone.
        std::thread::spawn(move || {
            for guest in listener.incoming().flatten() {
                let registry = registry.clone();
                std::thread::spawn(move || tunnel(guest, &registry));
            }
        });
        Ok(Box::new(()))
    }
}

fn tunnel(mut guest: UnixStream, registry: &Registry) -> std::io::Result<()> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && head.len() < 4096 {
        guest.read_exact(&mut byte)?;
        head.push(byte[0]);
    }
    let wanted = format!("CONNECT {}:{} ", registry.host, registry.port);
    if !head.starts_with(wanted.as_bytes()) {
        return guest.write_all(b"HTTP/1.1 403 Forbidden\r\n\r\n");
    }
    let mut server = TcpStream::connect((registry.host.as_str(), registry.port))?;
    guest.write_all(b"HTTP/1.1 200 OK\r\n\r\n")?;
    let (mut from_guest, mut to_server) = (guest.try_clone()?, server.try_clone()?);
    let up = std::thread::spawn(move || {
        let _ = std::io::copy(&mut from_guest, &mut to_server);
        let _ = to_server.shutdown(Shutdown::Write);
    });
    let _ = std::io::copy(&mut server, &mut guest);
    let _ = guest.shutdown(Shutdown::Both);
    let _ = up.join();
    Ok(())
}

/// Installs `name` into `cache` unless it is there (waiting for another test that does so), and makes `data`, the data
/// directory of a test, share it through symbolic links. By convention `cache` is `target/test-data/harness-cache`.
///
/// A test must not install or remove harnesses in such a data directory.
pub fn share(cache: &Path, data: &Path, name: &str) -> Result<InstalledHarness, InstallError> {
    Installer::new(cache)?
        .waiting()
        .with_way_out(Arc::new(Direct))
        .install(name, &Source::Registry { cache: None }, &mut ())?;
    std::fs::create_dir_all(data).map_err(InstallError::io("making", data))?;
    let cache = cache.canonicalize().map_err(InstallError::io("finding", cache))?;
    for folder in ["harness", "runtime"] {
        let link = data.join(folder);
        match std::os::unix::fs::symlink(cache.join(folder), &link) {
            Err(source) if source.kind() != ErrorKind::AlreadyExists => {
                return Err(InstallError::Io {
                    action: "linking",
                    path: link,
                    source,
                });
            }
            _ => {}
        }
    }
    Installer::new(data)?.resolve(name)
}
