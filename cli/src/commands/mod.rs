//! One module per subcommand.

pub mod chat;
pub mod completions;
pub mod debug;
pub mod doctor;
pub mod down;
pub mod harness;
pub mod image;
pub mod login_link;
pub mod logs;
pub mod role;
pub mod sandbox;
pub mod sessions;
pub mod status;
pub mod up;
pub mod workspace;

use crate::args::{Cli, Command};
use std::future::Future;

/// Runs a command; returns the status to exit with.
pub fn run(cli: &Cli) -> anyhow::Result<u8> {
    let data = cli.data()?;
    match &cli.command {
        Command::Up(args) => wait(up::run(&data, args)),
        Command::Down(args) => wait(down::run(&data, args)),
        Command::Status(args) => wait(status::run(&data, args)),
        Command::Logs(args) => logs::run(&data, args),
        Command::LoginLink(args) => wait(login_link::run(&data, args)),
        Command::Chat(args) => wait(chat::run(&data, args)),
        Command::Sessions(args) => wait(sessions::run(&data, args)),
        Command::Workspace(args) => wait(workspace::run(&data, args)),
        Command::Harness(args) => harness::run(&data, args),
        Command::Sandbox(args) => sandbox::run(&data, args),
        Command::Image(args) => image::run(&data, args),
        Command::Doctor(args) => doctor::run(&data, args),
        Command::Debug(args) => debug::run(args),
        Command::Completions(args) => completions::run(args),
        Command::Gateway(args) => role::gateway(&data, args),
        Command::History(args) => role::history(&data, args),
        Command::Runner(args) => role::runner(&data, args),
        Command::Backend(args) => role::backend(&data, args),
    }
}

/// Runs a future on one thread: the main one, so that what it starts dies with this process and not with a worker.
pub(crate) fn wait<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?
        .block_on(future)
}
