//! `lodge sandbox explain`

use super::scene::{Scene, Which};
use crate::data::DataDir;
use crate::terminal::{print_json, println};
use lodge_sandbox::explain::Explanation;

/// What is to be explained.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(flatten)]
    which: Which,
    /// Print the whole plan as JSON.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    // Nothing is started, so nothing is left in the data directory.
    let private = tempfile::tempdir()?;
    let scene = Scene::new(data, &args.which, private.path())?;
    let explanation = Explanation::new(&scene.policy, &scene.plan);
    if args.json {
        print_json(&explanation)?;
    } else {
        for line in explanation.lines() {
            println(&line);
        }
    }
    Ok(0)
}
