//! `lodge`: see `lodge --help`.

use clap::Parser;
use lodge_cli::args::Cli;
use lodge_cli::{commands, failure, terminal};
use std::process::ExitCode;

fn main() -> ExitCode {
    // Whatever is made from here on is its owner's alone.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match commands::run(&Cli::parse()) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            terminal::complain(&failure::describe(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
