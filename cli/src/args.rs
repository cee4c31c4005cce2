//! The command line of `lodge`.

use crate::commands::{
    chat, completions, debug, doctor, down, harness, image, login_link, logs, role, sandbox, sessions,
    status, up, workspace,
};
use crate::data::DataDir;
use crate::failure::Failure;
use clap::{Parser, Subcommand};
use std::path::PathBuf;

const EXAMPLES: &str = "\
Examples:
  lodge up                                     start Lodge and open it in the browser
  lodge up --workspace ~/src                   agents may also work below ~/src
  lodge harness install pi                     install an agent
  lodge chat --harness pi --workspace . 'Fix the failing test'
  lodge sandbox explain --workspace .          what an agent may do there
  lodge sandbox run -- make test                run anything in a sandbox
  lodge image build                            the guest image of containers and microVMs
  lodge doctor                                 what this machine offers, and what is missing

Exit status: 0 success, 2 wrong usage, 10 to 27 and 70 one a kind of error (docs: protocol, error codes).";

/// Run coding agents in sandboxes, from the browser or the terminal.
#[derive(Debug, Parser)]
#[command(name = "lodge", version, about, after_help = EXAMPLES, propagate_version = true)]
pub struct Cli {
    /// Data directory: everything this Lodge keeps [default: lodge in the XDG data directory].
    #[arg(long, global = true, value_name = "DIR", env = "LODGE_DATA")]
    pub data: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    Up(up::Args),
    Down(down::Args),
    Status(status::Args),
    Logs(logs::Args),
    LoginLink(login_link::Args),
    Chat(chat::Args),
    Sessions(sessions::Args),
    Harness(harness::Args),
    Workspace(workspace::Args),
    Sandbox(sandbox::Args),
    Image(image::Args),
    Doctor(doctor::Args),
    Debug(debug::Args),
    Completions(completions::Args),
    #[command(hide = true)]
    Gateway(role::GatewayArgs),
    #[command(hide = true)]
    History(role::HistoryArgs),
    #[command(hide = true)]
    Runner(role::RunnerArgs),
    #[command(hide = true)]
    Backend(role::BackendArgs),
}

impl Cli {
    /// The data directory that the command line names.
    pub fn data(&self) -> Result<DataDir, Failure> {
        DataDir::resolve(self.data.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_visible_command_teaches() {
        for command in Cli::command()
            .get_subcommands()
            .filter(|command| !command.is_hide_set())
        {
            assert!(
                command.get_about().is_some(),
                "{} has no description",
                command.get_name()
            );
            assert!(
                command.get_after_help().is_some(),
                "{} has no examples",
                command.get_name()
            );
        }
    }

    #[test]
    fn data_may_stand_after_the_subcommand() {
        let cli = Cli::try_parse_from(["lodge", "down", "--data", "/x"]).unwrap();
        assert_eq!(cli.data.unwrap(), PathBuf::from("/x"));
    }
}
