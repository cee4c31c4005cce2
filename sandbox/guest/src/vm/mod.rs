//! The virtual machine around init: modules, file view, clock, entropy, and the port the stream runs over.
//!
//! What does not depend on the session happens before the port is read: a snapshot taken while init waits there
//! already has it, and no session's data.

mod boot;
mod identity;
mod sys;
mod view;

use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use lodge_guest::mux::{Configure, HEADER_LEN, Kind, MuxError};
use lodge_guest::walls::{self, Walls};

/// What [`enter`] leaves behind: a machine that looks like the sandbox of any other tier.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The port, after the configuration was read from it and nothing more.
    pub(crate) stream: OwnedFd,
    /// What init takes from its environment elsewhere.
    pub(crate) env: Vec<(String, String)>,
    /// User and group that init becomes once its ports are bound, and every command is.
    pub(crate) uid: u32,
    pub(crate) gid: u32,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum VmError {
    #[error("cannot {step}: {source}")]
    System { step: &'static str, source: io::Error },
    #[error("cannot mount {what} at {}: {source}", at.display())]
    Mount {
        what: &'static str,
        at: PathBuf,
        source: io::Error,
    },
    #[error("cannot load the module {}: {source}", path.display())]
    Module { path: PathBuf, source: io::Error },
    #[error("{} did not appear", path.display())]
    Device { path: PathBuf },
    #[error("cannot make {}: {source}", path.display())]
    Make { path: PathBuf, source: io::Error },
    #[error("the host's configuration cannot be read: {0}")]
    Read(io::Error),
    #[error("the host's configuration is malformed: {0}")]
    Malformed(#[from] MuxError),
    #[error("the host began with a {0:?} frame instead of the configuration")]
    Unexpected(Kind),
    #[error("the host's configuration: {what}")]
    Refused { what: &'static str },
}

fn failed(step: &'static str) -> impl Fn(io::Error) -> VmError {
    move |source| VmError::System { step, source }
}

/// Opens the port at `device`, waits for the host's [`Configure`] and makes the machine what it says: file view,
/// clock, entropy, host name. Runs as root before any wall, and leaves the process root.
pub(crate) fn enter(device: &Path) -> Result<Machine, VmError> {
    boot::load_modules()?;
    let root = boot::mount_root()?;
    boot::prepare(&root)?;
    let devices = boot::kernel_devices()?;
    boot::change_root(&root)?;
    boot::warm_up();
    // The host takes its snapshot once the port is open.
    let mut port = boot::open_port(&devices, device)?;
    drop(devices);
    let configure = receive(&mut port)?;
    if configure.uid == 0 || configure.gid == 0 {
        return Err(VmError::Refused {
            what: "commands would run as root",
        });
    }
    identity::refresh(&configure)?;
    view::apply(&configure)?;
    identity::restrict(nesting(&configure)?)?;
    Ok(Machine {
        stream: port.into(),
        env: configure.env,
        uid: configure.uid,
        gid: configure.gid,
    })
}

/// Reads exactly one frame: what follows belongs to the main loop.
fn receive(port: &mut impl Read) -> Result<Configure, VmError> {
    let mut bytes = vec![0; HEADER_LEN];
    port.read_exact(&mut bytes).map_err(VmError::Read)?;
    let mut decoder = lodge_guest::mux::Decoder::new();
    decoder.push(&bytes);
    let mut length = [0; 4];
    length.copy_from_slice(&bytes[..4]);
    // The decoder has to refuse a bad header before its length is believed.
    if let Some(frame) = decoder.next()? {
        return Err(VmError::Unexpected(frame.kind));
    }
    let mut payload = vec![0; u32::from_le_bytes(length) as usize];
    port.read_exact(&mut payload).map_err(VmError::Read)?;
    decoder.push(&payload);
    match decoder.next()? {
        Some(frame) if frame.kind == Kind::Configure => Ok(frame.parse()?),
        Some(frame) => Err(VmError::Unexpected(frame.kind)),
        None => Err(VmError::Read(io::ErrorKind::UnexpectedEof.into())),
    }
}

/// Whether commands may make namespaces of their own.
fn nesting(configure: &Configure) -> Result<bool, VmError> {
    let Some((_, text)) = configure.env.iter().find(|(name, _)| name == walls::ENV) else {
        return Ok(false);
    };
    let walls: Walls = serde_json::from_str(text).map_err(|_| VmError::Refused {
        what: "the walls are malformed",
    })?;
    Ok(walls.nesting)
}

#[cfg(test)]
mod tests {
    use lodge_guest::mux::{Frame, Kind};

    use super::{Configure, VmError, receive};

    fn configure() -> Configure {
        Configure {
            env: Vec::new(),
            clock_ns: 1,
            entropy: "00".repeat(64),
            hostname: "lodge".into(),
            uid: 1000,
            gid: 1000,
            mounts: Vec::new(),
        }
    }

    #[test]
    fn takes_the_configuration_and_not_a_byte_more() {
        let mut bytes = Vec::new();
        let frame = Frame::json(Kind::Configure, 0, &configure()).unwrap();
        frame.encode_into(&mut bytes).unwrap();
        bytes.extend_from_slice(b"rest");
        let mut port = bytes.as_slice();
        assert_eq!(receive(&mut port).unwrap(), configure());
        assert_eq!(port, b"rest");
    }

    #[test]
    fn refuses_any_other_first_frame() {
        let mut bytes = Vec::new();
        Frame::new(Kind::Shutdown, 0, Vec::new())
            .encode_into(&mut bytes)
            .unwrap();
        let refused = receive(&mut bytes.as_slice());
        assert!(
            matches!(refused, Err(VmError::Unexpected(Kind::Shutdown))),
            "{refused:?}"
        );
    }

    #[test]
    fn refuses_a_length_that_no_frame_has() {
        let mut bytes = vec![0xff; 4];
        bytes.extend_from_slice(&[Kind::Configure as u8, 0, 0, 0, 0, 0, 0, 0]);
        let refused = receive(&mut bytes.as_slice());
        assert!(matches!(refused, Err(VmError::Malformed(_))), "{refused:?}");
    }

    #[test]
    fn refuses_a_torn_configuration() {
        let mut bytes = Vec::new();
        let frame = Frame::json(Kind::Configure, 0, &configure()).unwrap();
        frame.encode_into(&mut bytes).unwrap();
        bytes.truncate(bytes.len() - 1);
        assert!(matches!(receive(&mut bytes.as_slice()), Err(VmError::Read(_))));
    }
}
