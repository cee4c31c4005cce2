//! A stand-in for guest init that needs no PID namespace: it runs one command and speaks the framed stream.
#![allow(unsafe_code)]

use std::io::{Read, Write};
use std::os::fd::FromRawFd;
use std::os::unix::net::UnixStream;
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use lodge_guest::mux::{Decoder, ENV_FD, Exit, Frame, Hello, Kind, Signal, Start, Started, VERSION};
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
    let mut stdin = None;
    let mut pid = None;
    loop {
        while let Some(frame) = decoder.next().unwrap() {
            match frame.kind {
                Kind::Start => (pid, stdin) = start(&out, &frame),
                Kind::Stdin if frame.payload.is_empty() => stdin = None,
                Kind::Stdin => {
                    if let Some(pipe) = &mut stdin {
                        let _ = Write::write_all(pipe, &frame.payload);
                    }
                }
                Kind::Signal => signal(pid, frame.parse::<Signal>().unwrap().signal),
                Kind::Shutdown => signal(pid, 15),
                kind => panic!("{kind:?}"),
            }
        }
        match input.read(&mut bytes) {
            Ok(0) | Err(_) => break,
            Ok(count) => decoder.push(&bytes[..count]),
        }
    }
    signal(pid, 9);
    std::process::exit(0);
}

fn signal(pid: Option<Pid>, signal: i32) {
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

fn start(out: &Shared, frame: &Frame) -> (Option<Pid>, Option<std::process::ChildStdin>) {
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
            1,
            &Started {
                pid: pid.as_raw_nonzero().get(),
            },
        )
        .unwrap(),
    );
    let out = out.clone();
    std::thread::spawn(move || watch(&out, child));
    (Some(pid), stdin)
}

fn watch(out: &Shared, mut child: Child) {
    let stdout = child.stdout.take().unwrap();
    let stderr = child.stderr.take().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| pump(out, Kind::Stdout, stdout));
        pump(out, Kind::Stderr, stderr);
    });
    let status = child.wait().unwrap();
    let exit = Exit {
        code: status.code(),
        signal: status.signal(),
    };
    send(out, &Frame::json(Kind::Exit, 1, &exit).unwrap());
}

fn pump(out: &Shared, kind: Kind, mut pipe: impl Read) {
    let mut bytes = vec![0; 64 << 10];
    loop {
        let count = pipe.read(&mut bytes).unwrap_or(0);
        send(out, &Frame::new(kind, 1, &bytes[..count]));
        if count == 0 {
            return;
        }
    }
}
