//! Container engines: whose they are, and what they can limit.
//!
//! An engine that runs as root gives whoever reaches its socket the whole machine. A user's rootless engine gives him
//! nothing he does not have. Which of the two a socket leads to is asked of the engine and of the socket's owner, and
//! only if both say rootless it is.

use std::io::{self, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Time an engine has to answer.
const PATIENCE: Duration = Duration::from_secs(3);
/// Largest answer, in bytes.
const MAX_ANSWER: u64 = 1 << 20;

/// Whose engine it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    /// It runs as an ordinary user: what it starts can do no more than he.
    Rootless,
    /// It runs as root: who can talk to it is root.
    Rootful,
}

/// One engine that answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Engine {
    pub socket: PathBuf,
    /// `docker` or `podman`.
    pub kind: &'static str,
    pub version: String,
    pub reach: Reach,
    /// Whether its cgroups bound memory and processes; a rootless engine without delegation cannot.
    pub limits_memory: bool,
    pub limits_processes: bool,
    /// OCI runtimes it knows.
    pub runtimes: Vec<String>,
}

/// The part of `/info` that is needed; both engines fill it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Info {
    server_version: String,
    security_options: Option<Vec<String>>,
    memory_limit: bool,
    pids_limit: bool,
    runtimes: Option<std::collections::BTreeMap<String, serde_json::Value>>,
    /// Podman's own licence line, which Docker fills otherwise or not at all.
    product_license: String,
}

/// Where engines listen, the user's own first: `DOCKER_HOST`, then the usual places.
pub fn sockets() -> Vec<PathBuf> {
    let host = std::env::var("DOCKER_HOST").unwrap_or_default();
    let named = host
        .strip_prefix("unix://")
        .filter(|path| path.starts_with('/'))
        .map(PathBuf::from);
    let runtime = std::env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let own = runtime
        .iter()
        .flat_map(|dir| [dir.join("docker.sock"), dir.join("podman/podman.sock")]);
    let shared = ["/run/docker.sock", "/run/podman/podman.sock"].map(PathBuf::from);
    named.into_iter().chain(own).chain(shared).collect()
}

/// The engine to use: the first that answers, a rootless one before a rootful one.
pub fn find() -> Result<Engine, String> {
    let (mut rootful, mut problem) = (None, None);
    for socket in sockets().into_iter().filter(|socket| socket.exists()) {
        match ask(&socket) {
            Ok(engine) if engine.reach == Reach::Rootless => return Ok(engine),
            Ok(engine) => rootful = rootful.or(Some(engine)),
            Err(error) => problem = problem.or(Some(format!("{}: {error}", socket.display()))),
        }
    }
    let none = || problem.unwrap_or_else(|| "no Docker or Podman has a socket here".to_owned());
    rootful.ok_or_else(none)
}

/// Asks the engine behind `socket` what it is.
pub fn ask(socket: &Path) -> io::Result<Engine> {
    let owner = std::fs::metadata(socket)?.uid();
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    // Version 1.0 of HTTP: the answer ends where the connection does.
    stream.write_all(b"GET /info HTTP/1.0\r\nHost: engine\r\n\r\n")?;
    let mut answer = Vec::new();
    stream.take(MAX_ANSWER).read_to_end(&mut answer)?;
    parse(socket, owner, &answer)
}

fn parse(socket: &Path, owner: u32, answer: &[u8]) -> io::Result<Engine> {
    let malformed = || io::Error::new(io::ErrorKind::InvalidData, "that is not the answer of an engine");
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or_else(malformed)?);
    let accepted = head.split(|&byte| byte == b' ').nth(1) == Some(b"200");
    if !accepted {
        let line = head.split(|&byte| byte == b'\r').next().unwrap_or_default();
        return Err(io::Error::other(format!(
            "the engine answers {}",
            String::from_utf8_lossy(line).escape_debug()
        )));
    }
    let info: Info = serde_json::from_slice(&body[4..]).map_err(|_| malformed())?;
    if info.server_version.is_empty() {
        return Err(malformed());
    }
    let says = |option: &str| {
        let options = info.security_options.iter().flatten();
        options
            .clone()
            .any(|said| said.split(',').any(|part| part == option))
    };
    let rootless = says("name=rootless") && owner != 0;
    let podman = info.product_license.starts_with("Apache") || socket.ends_with("podman.sock");
    Ok(Engine {
        socket: socket.to_owned(),
        kind: if podman { "podman" } else { "docker" },
        version: info.server_version,
        reach: if rootless { Reach::Rootless } else { Reach::Rootful },
        limits_memory: info.memory_limit,
        limits_processes: info.pids_limit,
        runtimes: info.runtimes.unwrap_or_default().into_keys().collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn engine(owner: u32, info: &str) -> io::Result<Engine> {
        let answer = format!("HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{info}");
        parse(Path::new("/run/user/7/docker.sock"), owner, answer.as_bytes())
    }

    #[test]
    fn both_the_engine_and_the_owner_have_to_say_rootless() {
        let rootless = r#"{"ServerVersion":"27.1","SecurityOptions":["name=seccomp,profile=builtin","name=rootless"],
            "MemoryLimit":true,"PidsLimit":true,"Runtimes":{"runc":{},"runsc":{}}}"#;
        let found = engine(7, rootless).expect("an engine");
        assert_eq!(found.reach, Reach::Rootless);
        assert_eq!(found.runtimes, ["runc", "runsc"]);
        assert!(found.limits_memory && found.limits_processes);
        assert_eq!(engine(0, rootless).expect("an engine").reach, Reach::Rootful);
        let rootful = r#"{"ServerVersion":"20.10","SecurityOptions":["name=seccomp,profile=default"]}"#;
        let found = engine(7, rootful).expect("an engine");
        assert_eq!(found.reach, Reach::Rootful);
        assert!(!found.limits_memory && !found.limits_processes);
        let near = r#"{"ServerVersion":"1","SecurityOptions":["name=rootlessish"]}"#;
        assert_eq!(engine(7, near).expect("an engine").reach, Reach::Rootful);
    }

    #[test]
    fn what_is_no_engine_is_refused() {
        for info in ["", "{}", "[]", "{\"ServerVersion\":3}", "not json"] {
            engine(7, info).expect_err(info);
        }
        parse(Path::new("/x"), 7, b"garbage").expect_err("no header");
        let refused = parse(
            Path::new("/x"),
            7,
            b"HTTP/1.0 403 Forbidden\r\n\r\n{\"ServerVersion\":\"1\"}",
        );
        assert!(refused.expect_err("refused").to_string().contains("403"));
    }

    #[test]
    fn an_engine_is_asked_over_its_socket() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let path = dir.path().join("engine.sock");
        let listener = std::os::unix::net::UnixListener::bind(&path).expect("socket");
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().expect("a client");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.extend(byte);
            }
            stream
                .write_all(b"HTTP/1.0 200 OK\r\n\r\n{\"ServerVersion\":\"5.4.1\",\"MemoryLimit\":true}")
                .expect("an answer");
            request
        });
        let found = ask(&path).expect("an engine");
        assert!(server.join().expect("server").starts_with(b"GET /info "));
        assert_eq!((found.version.as_str(), found.limits_memory), ("5.4.1", true));
    }
}
