//! How Lodge started a harness, read from the process itself, so that the same can be started without Lodge.

use crate::lodge::instance::Parts;
use anyhow::{Context, bail, ensure};
use lodge_runner::harness::install::Installer;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files of the home that are copied: settings are small, databases are the harness's own.
const MOST_BYTES: u64 = 4 << 20;

/// A command line that runs outside of every sandbox.
#[derive(Debug)]
pub(super) struct Launched {
    pub(super) argv: Vec<String>,
    pub(super) env: Vec<(String, String)>,
    pub(super) workspace: PathBuf,
}

impl Launched {
    /// Of a session of this harness that is idle. `home` becomes the private home of the copy.
    pub(super) fn of(
        data: &Path,
        (harness, session): (&str, &str),
        workspace: &Path,
        home: &Path,
    ) -> anyhow::Result<Self> {
        let pid = *Parts::of(session)?
            .harness
            .first()
            .context("the session has no harness")?;
        let directory = data.join("runner/sessions").join(session);
        let gateway = forward(&directory.join("gw"))?;
        let replaced = |text: &str| {
            text.replace("127.0.0.1:8377", &gateway.to_string())
                .replace("/home/guest", &home.to_string_lossy())
        };
        copy(&directory.join("home"), home, &replaced)?;
        let texts = |name: &str| -> anyhow::Result<Vec<String>> {
            let bytes =
                fs::read(format!("/proc/{pid}/{name}")).with_context(|| format!("{name} of {pid}"))?;
            let texts = bytes.split(|byte| *byte == 0).filter(|text| !text.is_empty());
            Ok(texts
                .map(|text| replaced(&String::from_utf8_lossy(text)))
                .collect())
        };
        let mut argv = texts("cmdline")?;
        ensure!(!argv.is_empty(), "the harness has no command line");
        if !argv[0].starts_with('/') {
            // It gave itself a name, in the place of what it was started with.
            let installed = Installer::new(data)?.resolve(harness)?.argv0;
            argv = installed
                .iter()
                .map(|path| path.to_string_lossy().into_owned())
                .collect();
            argv.extend(words(harness, session)?);
        }
        let env = texts("environ")?;
        let env = env
            .iter()
            .filter_map(|pair| pair.split_once('='))
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .collect();
        Ok(Self {
            argv,
            env,
            workspace: workspace.to_owned(),
        })
    }

    /// The command; its standard streams are still to be set.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.argv[0]);
        command
            .args(&self.argv[1..])
            .env_clear()
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            // Claude Code runs its tools unasked as root only where it is told that it is in a sandbox.
            .env("IS_SANDBOX", "1")
            .current_dir(&self.workspace);
        command
    }

    pub(super) fn variable(&self, name: &str) -> Option<&str> {
        self.env
            .iter()
            .find(|(known, _)| known == name)
            .map(|(_, value)| value.as_str())
    }
}

/// What Lodge starts a harness with that hides it.
fn words(harness: &str, session: &str) -> anyhow::Result<Vec<String>> {
    let words = match harness {
        "pi" => vec!["--mode", "rpc", "--no-approve", "--session-id", session],
        "gemini" => vec!["--acp"],
        other => bail!("{other} hides its command line"),
    };
    Ok(words.into_iter().map(str::to_owned).collect())
}

/// Copies what is text, with the paths and addresses of the copy.
fn copy(from: &Path, to: &Path, replaced: &impl Fn(&str) -> String) -> anyhow::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        // A lock would be held for good: whoever took it runs elsewhere.
        if Path::new(&entry.file_name())
            .extension()
            .is_some_and(|end| end == "lock")
        {
            continue;
        }
        let target = to.join(entry.file_name());
        let kind = entry.file_type()?;
        if kind.is_dir() {
            copy(&entry.path(), &target, replaced)?;
        } else if kind.is_file() && entry.metadata()?.len() <= MOST_BYTES {
            // A harness may have removed it meanwhile.
            let text = fs::read(entry.path()).ok().map(String::from_utf8);
            if let Some(Ok(text)) = text {
                fs::write(&target, replaced(&text))?;
            }
        }
    }
    Ok(())
}

/// What guest init does in a sandbox: a port of the loopback that leads to the session's socket at the gateway.
fn forward(directory: &Path) -> anyhow::Result<SocketAddr> {
    // A path to a socket may only be short.
    let directory = fs::File::open(directory).with_context(|| directory.display().to_string())?;
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let socket = format!("/proc/self/fd/{}/gateway.sock", directory.as_raw_fd());
            let gateway = match UnixStream::connect(socket) {
                Ok(gateway) => gateway,
                Err(error) => {
                    eprintln!("bench: the gateway: {error}");
                    continue;
                }
            };
            let _ = client.set_nodelay(true);
            let (Ok(client_reads), Ok(gateway_reads)) = (client.try_clone(), gateway.try_clone()) else {
                continue;
            };
            std::thread::spawn(move || {
                pump(client_reads, &gateway);
                let _ = gateway.shutdown(Shutdown::Write);
            });
            std::thread::spawn(move || {
                pump(gateway_reads, &client);
                let _ = client.shutdown(Shutdown::Write);
            });
        }
    });
    Ok(address)
}

fn pump(mut from: impl Read, mut to: impl Write) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(count) = from.read(&mut buffer) {
        if count == 0 || to.write_all(&buffer[..count]).is_err() {
            return;
        }
    }
}
