//! `lodge-init`: PID 1 of a sandbox.
//!
//! It raises the walls, says hello on the framed stream, then runs commands for the shim at the other end, answers
//! names and forwards connections to the gateway: one thread, one poll loop, no state on disk. When the stream ends,
//! everything in the sandbox ends.

mod bounds;
mod bridge;
mod buffer;
mod children;
mod config;
mod egress;
mod filer;
mod forwarder;
mod landlock;
mod link;
mod main_loop;
mod poller;
mod ports;
mod processes;
mod seccomp;
mod sys;
mod vm;

use std::process::ExitCode;

use config::Config;
use lodge_guest::walls::Walls;
use main_loop::{InitError, MainLoop};

fn main() -> ExitCode {
    // The same program as a command of the guest, for whoever looks at the workspace from outside.
    let mut arguments = std::env::args().skip(1);
    if (arguments.next().as_deref(), arguments.next()) == (Some("files"), None) {
        return match filer::serve() {
            Ok(()) => ExitCode::SUCCESS,
            Err(_) => ExitCode::FAILURE,
        };
    }
    // And as the harness's own process, where the harness is a server.
    let mut arguments = std::env::args_os().skip(1);
    if arguments.next().is_some_and(|mode| mode == "opencode-bridge") {
        let command: Vec<_> = arguments.skip_while(|argument| argument == "--").collect();
        return bridge::run(&command).unwrap_or_else(|error| {
            eprintln!("lodge-init: {error}");
            ExitCode::FAILURE
        });
    }
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("lodge-init: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), InitError> {
    if std::process::id() != 1 {
        return Err(InitError::NotPid1);
    }
    let config = Config::take()?;
    let walls = config.walls.clone();
    // Before the kernel's settings are sealed.
    let bounded = processes::bound(walls.limits.processes);
    // Listening comes before the walls, so that the walls need not leave room for it.
    let forwarder = ports::open(&config)?;
    give_up_privileges(config.user, &walls)?;
    let failed = |step| move |source| InitError::System { step, source };
    sys::protect_self().map_err(failed("protect itself"))?;
    sys::raise_open_files().map_err(failed("raise its own limit of descriptors"))?;
    // In a machine of its own the user's limit holds, and the kernel's own threads would be counted.
    let count_processes = !bounded && config.user.is_none();
    let main_loop = MainLoop::new(config.stream, &walls, forwarder, count_processes)?;
    if let Some(rules) = &walls.landlock {
        landlock::restrict(rules)?;
    }
    if walls.seccomp {
        seccomp::load(walls.nesting)?;
    }
    main_loop.run()
}

fn give_up_privileges(user: Option<(u32, u32)>, walls: &Walls) -> Result<(), InitError> {
    // A sandbox inside the sandbox could not have a view of its own processes then, so where those are allowed it is
    // only done when the machine's settings are at stake.
    let seal = user.is_none() && sys::administers() && (!walls.nesting || sys::settings_writable());
    if seal || !walls.covered.is_empty() {
        sys::own_mounts()?;
    }
    if seal {
        sys::seal_settings()?;
    }
    sys::cover(&walls.covered)?;
    sys::drop_bounding()?;
    if let Some((uid, gid)) = user {
        sys::become_user(uid, gid)?;
    }
    Ok(sys::drop_capabilities()?)
}
