//! `lodgectl`: administration. See `lodgectl --help`.

use clap::Parser;
use lodge_cli::{admin, failure};
use std::process::ExitCode;

fn main() -> ExitCode {
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
    match admin::run(&admin::Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", failure::describe(&error));
            ExitCode::from(failure::exit_code(&error))
        }
    }
}
