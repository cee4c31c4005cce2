//! `lodge sessions`

use crate::attach::Attachment;
use crate::client::link::Link;
use crate::client::{command, session_id};
use crate::data::DataDir;
use crate::table;
use crate::terminal::{one_line, print, print_json, println, safe};
use clap::Subcommand;
use lodge_proto::message::Role;
use lodge_proto::session::{SessionInfo, SessionState, SessionStatus};
use lodge_proto::{CommandBody, Message, Part};
use serde::Deserialize;

/// List sessions, read them, stop them, delete them.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge sessions list\n  lodge sessions show 0191…\n  \
    lodge sessions list --json | jq -r '.[].id'\n  lodge sessions close 0191…      stops its harness, keeps the session\n  \
    lodge sessions delete 0191…     takes it out of history for good"
)]
pub struct Args {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// All sessions, newest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// One session and its conversation.
    Show {
        id: String,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Start the harness of a stopped session again.
    Resume { id: String },
    /// Stop the harness; the session can be resumed.
    Close { id: String },
    /// Delete the session and its history.
    Delete { id: String },
}

/// A page of `session.list`.
#[derive(Debug, Deserialize)]
struct Page {
    sessions: Vec<SessionInfo>,
    #[serde(default)]
    next_cursor: Option<String>,
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let attachment = Attachment::open(data, &[]).await?;
    let done = act(&attachment, &args.action).await;
    attachment.close().await?;
    done.map(|()| 0)
}

async fn act(attachment: &Attachment, action: &Action) -> anyhow::Result<()> {
    let mut link = attachment.link().await?;
    match action {
        Action::List { json } => list(&mut link, *json).await,
        Action::Show { id, json } => show(&mut link, id, *json).await,
        Action::Resume { id } => change(&mut link, id, CommandBody::SessionResume {}, "resumed").await,
        Action::Close { id } => change(&mut link, id, CommandBody::SessionClose {}, "closed").await,
        Action::Delete { id } => change(&mut link, id, CommandBody::SessionDelete {}, "deleted").await,
    }
}

async fn change(link: &mut Link, id: &str, body: CommandBody, done: &str) -> anyhow::Result<()> {
    let id = session_id(id)?;
    link.call(&command(Some(id), body)).await?;
    println(&format!("{done} {id}"));
    Ok(())
}

/// The sessions of this harness that run, or are being started.
pub(super) async fn running(data: &DataDir, harness: &str) -> anyhow::Result<Vec<SessionInfo>> {
    let attachment = Attachment::open(data, &[]).await?;
    let sessions = async { all(&mut attachment.link().await?).await }.await;
    attachment.close().await?;
    let mut sessions = sessions?;
    sessions.retain(|session| {
        let is_up = !matches!(session.status, SessionStatus::Stopped | SessionStatus::Failed);
        is_up && session.harness == harness
    });
    Ok(sessions)
}

async fn all(link: &mut Link) -> anyhow::Result<Vec<SessionInfo>> {
    let mut sessions = Vec::new();
    let mut cursor = None;
    loop {
        let page: Page = link
            .call_for(
                &command(None, CommandBody::SessionList { cursor, limit: None }),
                "page",
            )
            .await?;
        sessions.extend(page.sessions);
        cursor = page.next_cursor.filter(|cursor| !cursor.is_empty());
        if cursor.is_none() {
            return Ok(sessions);
        }
    }
}

async fn list(link: &mut Link, json: bool) -> anyhow::Result<()> {
    let sessions = all(link).await?;
    if json {
        return print_json(&sessions);
    }
    let rows: Vec<_> = sessions.iter().map(row).collect();
    table::print(
        ["ID", "STATUS", "HARNESS", "MESSAGES", "TITLE", "WORKSPACE"],
        &rows,
    );
    Ok(())
}

fn row(session: &SessionInfo) -> [String; 6] {
    [
        session.id.to_string(),
        word(&session.status),
        session.harness.clone(),
        session.message_count.to_string(),
        one_line(&session.title, 40),
        session.workspace.clone(),
    ]
}

fn word(value: &impl serde::Serialize) -> String {
    serde_json::to_value(value)
        .ok()
        .and_then(|v| v.as_str().map(str::to_owned))
        .unwrap_or_default()
}

async fn show(link: &mut Link, id: &str, json: bool) -> anyhow::Result<()> {
    let id = session_id(id)?;
    let state: SessionState = link
        .call_for(&command(Some(id), CommandBody::GetState {}), "state")
        .await?;
    if json {
        return print_json(&state);
    }
    let session = &state.session;
    println(&format!("{}  {}", session.id, safe(&session.title)));
    println(&format!(
        "{} · {} · {}",
        session.harness,
        word(&session.status),
        safe(&session.workspace)
    ));
    if state.has_older {
        println("(older messages are not shown)");
    }
    for message in state.messages.iter().chain(&state.streaming) {
        print(&describe(message));
    }
    Ok(())
}

fn describe(message: &Message) -> String {
    let who = match message.role {
        Role::User => "user",
        Role::Assistant => "assistant",
        Role::System => "system",
        Role::Tool => "tool",
    };
    let parts: Vec<String> = message
        .parts
        .iter()
        .map(part)
        .filter(|text| !text.is_empty())
        .collect();
    format!("\n{who}:\n{}\n", parts.join("\n"))
}

fn part(part: &Part) -> String {
    match part {
        Part::Text { text } => safe(text).into_owned(),
        Part::Thinking { text, .. } => format!("(thinking) {}", one_line(text, 200)),
        Part::ToolCall { name, input, .. } => format!("● {}", one_line(&format!("{name} {input}"), 200)),
        Part::ToolResult {
            name,
            output,
            is_error,
            ..
        } => {
            let word = if *is_error { "failed" } else { "ok" };
            let text = lodge_proto::part::plain_text(output);
            format!("{name} {word}: {}", one_line(&text, 400))
        }
        Part::Diff { path, patch } => format!("{}\n{}", safe(path), safe(patch)),
        Part::Error { code, message } => format!("! {code}: {}", safe(message)),
        other => one_line(&serde_json::to_string(other).unwrap_or_default(), 200),
    }
}
