//! `lodge-init`: PID 1 of a sandbox.
//!
//! It raises the walls, says hello on the framed stream, then runs commands for the shim at the other end
//! and forwards the gateway's port to the gateway's socket: one thread, one poll loop, no state on disk.
//! When the stream ends, everything in the sandbox ends.

mod buffer;
mod children;
mod config;
mod forwarder;
mod landlock;
mod link;
mod main_loop;
mod poller;
mod seccomp;
mod sys;

use std::process::ExitCode;

use main_loop::InitError;

fn main() -> ExitCode {
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
    let config = config::Config::from_env()?;
    let failed = |step| move |source| InitError::System { step, source };
    sys::close_others(config.mux).map_err(failed("close inherited descriptors"))?;
    sys::protect_self().map_err(failed("protect itself"))?;
    // Listening comes before the walls, so that the walls need not leave room for it.
    let main_loop = main_loop::MainLoop::new(&config)?;
    if let Some(rules) = &config.walls.landlock {
        landlock::restrict(rules)?;
    }
    if config.walls.seccomp {
        seccomp::load(config.walls.nesting)?;
    }
    main_loop.run()
}
