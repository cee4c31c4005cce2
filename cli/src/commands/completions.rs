//! `lodge completions`

use crate::args::Cli;
use crate::terminal::print;
use clap::CommandFactory;
use clap_complete::Shell;

/// Print completions for a shell.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge completions bash > ~/.local/share/bash-completion/completions/lodge\n  \
    lodge completions zsh > ~/.zfunc/_lodge"
)]
pub struct Args {
    shell: Shell,
}

pub fn run(args: &Args) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "lodge", &mut script);
    print(&String::from_utf8(script)?);
    Ok(0)
}
