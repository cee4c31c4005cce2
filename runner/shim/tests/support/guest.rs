//! A stand-in for guest init that needs no PID namespace: it runs one command and speaks the framed stream.
#![allow(unsafe_code)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex};

use lodge_guest::mux::{Decoder, ENV_FD, Exit, Frame, Hello, Kind, Limit, Signal, Start, Started, VERSION};
use rustix::process::{Pid, kill_process};

type Shared = Arc<Mutex<UnixStream>>;

/// Runs when the test binary was started as a guest, and never returns then.
pub(crate) fn run_if_asked() {
    let Ok(number) = std::env::var(ENV_FD) else { return };
    // SAFETY: the shim passes a socket under this number, and nothing else in this process uses it.
    let stream = unsafe { UnixStream::from_raw_fd(number.parse().unwrap()) };
    rustix::io::fcntl_setfd(&stream, rustix::io::FdFlags::CLOEXEC).unwrap();
    let mut input = stream.try_clone().unwrap();
    let out = Arc::new(Mutex::new(stream));
    send(
        &out,
        &Frame::json(Kind::Hello, 0, &Hello { version: VERSION }).unwrap(),
    );
    let mut decoder = Decoder::new();
    let mut bytes = vec![0; 256 << 10];
    let mut commands: HashMap<u32, (Pid, Option<ChildStdin>)> = HashMap::new();
    loop {
        while let Some(frame) = decoder.next().unwrap() {
            match frame.kind {
                Kind::Start => drop(commands.insert(frame.stream, start(&out, &frame))),
                Kind::Stdin => {
                    if let Some((_, stdin)) = commands.get_mut(&frame.stream) {
                        if frame.payload.is_empty() {
                            *stdin = None;
                        } else if let Some(pipe) = stdin {
                            let _ = Write::write_all(pipe, &frame.payload);
                        }
                    }
                }
                Kind::Signal => {
                    let number = frame.parse::<Signal>().unwrap().signal;
                    signal(commands.get(&frame.stream), number);
                }
                Kind::Shutdown => commands.values().for_each(|command| signal(Some(command), 15)),
                // As a harness that crosses a bound: the test's script asks for it by a resize.
                Kind::Resize => {
                    let limit = Limit {
                        key: "limits.memory".into(),
                        allowed: 10,
                        found: 20,
                    };
                    send(&out, &Frame::json(Kind::Limit, 0, &limit).unwrap());
                    std::process::exit(0);
                }
                Kind::Credit => {}
                kind => panic!("{kind:?}"),
            }
        }
        match input.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.push(&bytes[..count]),
        }
    }
    for command in commands.values() {
        signal(Some(command), 9);
    }
    std::process::exit(0);
}

fn signal(command: Option<&(Pid, Option<ChildStdin>)>, signal: i32) {
    let pid = command.map(|(pid, _)| *pid);
    let signal = rustix::process::Signal::from_named_raw(signal);
    if let (Some(pid), Some(signal)) = (pid, signal) {
        let _ = kill_process(pid, signal);
    }
}

fn send(out: &Shared, frame: &Frame) {
    let mut bytes = Vec::new();
    frame.encode_into(&mut bytes).unwrap();
    let _ = out.lock().unwrap().write_all(&bytes);
}

fn start(out: &Shared, frame: &Frame) -> (Pid, Option<ChildStdin>) {
    let stream = frame.stream;
    let start: Start = frame.parse().unwrap();
    let mut command = Command::new(&start.argv[0]);
    command
        .args(&start.argv[1..])
        .env_clear()
        .envs(start.env)
        .current_dir(start.cwd);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let pid = Pid::from_child(&child);
    let stdin = child.stdin.take();
    send(
        out,
        &Frame::json(
            Kind::Started,
            stream,
            &Started {
                pid: pid.as_raw_nonzero().get(),
            },
        )
        .unwrap(),
    );
    let out = out.clone();
    std::thread::spawn(move || watch(&out, stream, child));
    (pid, stdin)
}

fn watch(out: &Shared, stream: u32, mut child: Child) {
    let stdout = child.stdout.take().unwrap();
    let stderr = child.stderr.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pump(out, (Kind::Stdout, stream), stdout));
        pump(out, (Kind::Stderr, stream), stderr);
    });
    let status = child.wait().unwrap();
    let exit = Exit {
        code: status.code(),
        signal: status.signal(),
    };
    send(out, &Frame::json(Kind::Exit, stream, &exit).unwrap());
}

fn pump(out: &Shared, (kind, stream): (Kind, u32), mut pipe: impl Read) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = pipe.read(&mut bytes).unwrap_or(0);
        send(out, &Frame::new(kind, stream, &bytes[..count]));
        if count == 0 {
            return;
        }
    }
}
