//! `lodge workspace`

use crate::attach::Attachment;
use crate::client::command;
use crate::client::link::Link;
use crate::config::roots;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::terminal::{one_line, print_json, println, safe};
use clap::Subcommand;
use lodge_proto::trust::{CodeChangeKind, CodeFile, TrustedCode, WorkspaceCode};
use lodge_proto::{CommandBody, ErrorCode};
use std::path::PathBuf;

/// See what a directory brings for an agent as code, and let the agent run it, or not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge workspace show . --harness claude            what it brings, and whether it is on\n  \
    lodge workspace show . --harness claude --contents  with the text of every file\n  \
    lodge workspace trust . --harness claude --digest 3f1c…\n  \
    lodge workspace distrust . --harness claude\n  lodge workspace list\n\n\
    Settings, MCP servers, hooks and extensions of a workspace are off until you trust exactly their content. The\n\
    sandbox is the same either way. It holds from the next start of the harness; any change switches it off."
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// What the directory brings for a harness, and whether you trust it.
    Show {
        #[command(flatten)]
        place: Place,
        /// Print the text of every file, too.
        #[arg(long, conflicts_with = "json")]
        contents: bool,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Switch it on, as long as it stays what `show` shows.
    Trust {
        #[command(flatten)]
        place: Place,
        /// What you have looked at: the digest that `show` prints.
        #[arg(long, value_name = "DIGEST")]
        digest: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Switch it off.
    Distrust {
        #[command(flatten)]
        place: Place,
        /// Only this digest [default: all that you trusted there].
        #[arg(long, value_name = "DIGEST")]
        digest: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Everything you trust.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, clap::Args)]
struct Place {
    /// The directory.
    #[arg(value_name = "DIR")]
    workspace: PathBuf,
    /// The agent: see `lodge harness list`.
    #[arg(long, value_name = "NAME")]
    harness: String,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let allowed = match &args.action {
        Action::Show { place, .. } | Action::Trust { place, .. } => {
            roots(std::slice::from_ref(&place.workspace))?
        }
        // What was trusted may be gone.
        Action::Distrust { .. } | Action::List { .. } => Vec::new(),
    };
    let attachment = Attachment::open(data, &allowed).await?;
    let done = act(&attachment, &args.action).await;
    attachment.close().await?;
    done.map(|()| 0)
}

async fn act(attachment: &Attachment, action: &Action) -> anyhow::Result<()> {
    let mut link = attachment.link().await?;
    match action {
        Action::Show {
            place,
            contents,
            json,
        } => {
            let body = CommandBody::WorkspaceInspect {
                workspace: path(place)?,
                harness: place.harness.clone(),
            };
            let code = ask(&mut link, body).await?;
            if *json {
                return print_json(&code);
            }
            show(&code, *contents);
        }
        Action::Trust { place, digest, json } => {
            let body = CommandBody::WorkspaceTrust {
                workspace: path(place)?,
                harness: place.harness.clone(),
                digest: digest.clone(),
            };
            let code = ask(&mut link, body).await?;
            if *json {
                return print_json(&code);
            }
            files(&code.files, false);
            println(&format!(
                "trusted: the next start of {} in {} runs this",
                code.harness,
                safe(&code.workspace)
            ));
        }
        Action::Distrust { place, digest, json } => {
            let body = CommandBody::WorkspaceDistrust {
                workspace: path(place)?,
                harness: place.harness.clone(),
                digest: digest.clone(),
            };
            let done = link.call(&command(None, body)).await?;
            if *json {
                return print_json(&done);
            }
            println("distrusted: what runs goes on until it ends; the next start is without it");
        }
        Action::List { json } => return list(&mut link, *json).await,
    }
    Ok(())
}

async fn ask(link: &mut Link, body: CommandBody) -> anyhow::Result<WorkspaceCode> {
    link.call_for(&command(None, body), "code").await
}

/// The real path where there is one, for a runner that works in another directory.
fn path(place: &Place) -> Result<String, Failure> {
    let path = &place.workspace;
    let real = path.canonicalize().or_else(|_| std::path::absolute(path));
    let real = real.unwrap_or_else(|_| path.clone());
    let text = real.to_str().map(str::to_owned);
    text.ok_or_else(|| {
        let message = "the workspace's path is not UTF-8";
        Failure::new(ErrorCode::InvalidArgument, message).at(path.display().to_string())
    })
}

fn show(code: &WorkspaceCode, contents: bool) {
    let (workspace, harness) = (safe(&code.workspace), &code.harness);
    if let Some(reason) = &code.reason {
        println(&format!("{workspace} for {harness}: off, and cannot be trusted"));
        return println(&format!("  {}", safe(reason)));
    }
    let Some(digest) = &code.digest else {
        return println(&format!("{workspace} brings nothing for {harness}"));
    };
    let state = if code.trusted { "on: you trust it" } else { "off" };
    println(&format!("{workspace} for {harness}: {state}"));
    files(&code.files, contents);
    for path in &code.left_out {
        println(&format!("  {}  (never shown to the agent)", safe(path)));
    }
    for change in &code.changed {
        let word = match change.change {
            CodeChangeKind::Added => "added",
            CodeChangeKind::Removed => "removed",
            CodeChangeKind::Changed => "changed",
        };
        println(&format!("  since you trusted it {word}: {}", safe(&change.path)));
    }
    println(&format!("digest {digest}"));
    if !code.trusted {
        println(&format!(
            "to switch it on: lodge workspace trust {workspace} --harness {harness} --digest {digest}"
        ));
    }
}

fn files(files: &[CodeFile], contents: bool) {
    for file in files {
        let named = if file.named { "  (a setting names it)" } else { "" };
        println(&format!(
            "  {}  {} bytes, mode {:03o}{named}",
            one_line(&file.path, 200),
            file.size,
            file.mode
        ));
        if contents {
            let text = file.text.as_deref().unwrap_or("(not text, or too long)");
            for line in text.lines() {
                println(&format!("    | {}", one_line(line, 400)));
            }
        }
    }
}

async fn list(link: &mut Link, json: bool) -> anyhow::Result<()> {
    let body = CommandBody::WorkspaceTrusted {};
    let trusted: Vec<TrustedCode> = link.call_for(&command(None, body), "trusted").await?;
    if json {
        return print_json(&trusted);
    }
    if trusted.is_empty() {
        println("you trust nothing of any workspace");
    }
    // Lines, for a digest is wider than a column.
    for row in &trusted {
        let (workspace, files) = (safe(&row.workspace), row.file_count);
        println(&format!(
            "{workspace}  {}  {files} file(s)  {}",
            row.harness, row.digest
        ));
    }
    Ok(())
}
