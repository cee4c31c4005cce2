//! `lodge chat`

mod ask;
mod limits;
mod show;

use crate::attach::Attachment;
use crate::client::image::Image;
use crate::client::turn::{Follower, Step};
use crate::client::{command, session_id};
use crate::config::roots;
use crate::data::DataDir;
use crate::failure::Failure;
use crate::signals::{Asked, Stop};
use crate::terminal::{can_ask, safe};
use clap::ValueEnum;
use lodge_proto::blob::MAX_PROMPT_IMAGES;
use lodge_proto::event::TurnOutcome;
use lodge_proto::session::{SessionInfo, Tier};
use lodge_proto::{CommandBody, ErrorBody, ErrorCode, Part, SessionId};
use show::Output;
use std::path::PathBuf;

/// Exit status of a turn that was aborted with Ctrl-C: what a shell expects of it.
const INTERRUPTED: u8 = 130;

/// Send one prompt to an agent and stream its turn.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  lodge chat --harness pi --workspace . 'Explain what this project does'\n  \
    lodge chat --harness pi --workspace . --budget 2usd 'Fix the tests'   may cost that much\n  \
    lodge chat --session 0191… 'Now add a test'          goes on in that session\n  \
    lodge chat --harness pi --workspace . --image error.png 'What is wrong here?'\n  \
    lodge chat --harness pi --workspace . --json 'think' | jq .event\n\n\
    Uses the Lodge that runs on the data directory; where none runs, starts one for the call, in which\n\
    --workspace is allowed. Ctrl-C aborts the turn; a second Ctrl-C leaves. The exit status is 0 when the\n\
    turn completed, else that of its error."
)]
pub struct Args {
    /// The agent: see `lodge harness list`.
    #[arg(long, value_name = "NAME", required_unless_present = "session")]
    harness: Option<String>,
    /// The directory it works in. With --session: allowed, where no Lodge runs that says what is.
    #[arg(long, value_name = "DIR", required_unless_present = "session")]
    workspace: Option<PathBuf>,
    /// The model, as PROVIDER/MODEL [default: the harness's or the provider's first].
    #[arg(long)]
    model: Option<String>,
    /// Isolation of the sandbox [default: the policy's].
    #[arg(long, value_enum)]
    tier: Option<TierName>,
    /// Set of rules of the sandbox: it can only narrow what the policy allows [default: the policy's].
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    #[command(flatten)]
    limits: limits::Args,
    /// Go on in this session instead of a new one.
    #[arg(long, value_name = "ID", conflicts_with_all = ["harness", "model", "tier", "profile"])]
    session: Option<String>,
    /// Show the agent an image: PNG, JPEG, GIF or WebP, at most 10 MiB; may be given more than once.
    #[arg(long = "image", value_name = "FILE")]
    images: Vec<PathBuf>,
    /// Print the canonical events, one JSON object a line.
    #[arg(long)]
    json: bool,
    /// What the agent is told.
    prompt: String,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum TierName {
    Process,
    Container,
    Microvm,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Process => Self::Process,
            TierName::Container => Self::Container,
            TierName::Microvm => Self::Microvm,
        }
    }
}

pub async fn run(data: &DataDir, args: &Args) -> anyhow::Result<u8> {
    let allowed = roots(args.workspace.as_slice())?;
    let images = read_images(&args.images)?;
    let mut asked = Asked::new()?;
    let attachment = tokio::select! {
        attachment = Attachment::open(data, &allowed) => attachment?,
        _ = asked.to_stop() => return Ok(INTERRUPTED),
    };
    let ended = turn(&attachment, args, images, allowed.first(), &mut asked).await;
    attachment.close().await?;
    match ended? {
        Ended::Turn(TurnOutcome::Completed, _) => Ok(0),
        Ended::Turn(TurnOutcome::Aborted, _) | Ended::Left => Ok(INTERRUPTED),
        Ended::Turn(TurnOutcome::Failed, error) => Err(error
            .unwrap_or_else(|| ErrorBody::new(ErrorCode::Internal, "the turn failed and no reason was given"))
            .into()),
        Ended::Turn(TurnOutcome::Interrupted, error) => Err(error
            .unwrap_or_else(|| {
                ErrorBody::new(
                    ErrorCode::HarnessCrashed,
                    "the turn was interrupted; the session can go on: lodge chat --session",
                )
            })
            .into()),
    }
}

enum Ended {
    Turn(TurnOutcome, Option<ErrorBody>),
    /// By a second Ctrl-C.
    Left,
}

async fn turn(
    attachment: &Attachment,
    args: &Args,
    images: Vec<Image>,
    workspace: Option<&PathBuf>,
    asked: &mut Asked,
) -> anyhow::Result<Ended> {
    let mut link = attachment.link().await?;
    let session = match &args.session {
        Some(text) => session_id(text)?,
        None => create(&mut link, args, workspace).await?,
    };
    let is_new = args.session.is_none();
    let mut follower = Follower::subscribe(attachment.socket(), link, session, is_new).await?;
    let mut parts = vec![Part::text(&args.prompt)];
    for image in images {
        parts.push(image.upload(&attachment.socket()).await?);
    }
    follower.prompt(parts).await?;
    let mut output = Output::new(args.json, session, is_new);
    follow(&mut follower, &mut output, args.json, asked).await
}

fn read_images(paths: &[PathBuf]) -> Result<Vec<Image>, Failure> {
    if paths.len() > MAX_PROMPT_IMAGES {
        let message = format!("a prompt has at most {MAX_PROMPT_IMAGES} images");
        return Err(Failure::new(ErrorCode::InvalidArgument, message).at("--image"));
    }
    paths.iter().map(|path| Image::read(path)).collect()
}

async fn create(
    link: &mut crate::client::link::Link,
    args: &Args,
    workspace: Option<&PathBuf>,
) -> anyhow::Result<SessionId> {
    let workspace = workspace
        .map(|path| path.display().to_string())
        .unwrap_or_default();
    let body = CommandBody::SessionCreate {
        harness: args.harness.clone().unwrap_or_default(),
        workspace,
        model: args.model.clone(),
        thinking_level: None,
        title: None,
        tier: args.tier.map(Tier::from),
        profile: args.profile.clone(),
        limits: args.limits.wanted(),
    };
    let created: SessionInfo = match link.call_for(&command(None, body), "session").await {
        Ok(created) => created,
        Err(error) => return Err(outside_the_roots(error)),
    };
    Ok(created.id)
}

/// A running Lodge decides by itself where agents may work.
fn outside_the_roots(error: anyhow::Error) -> anyhow::Error {
    match error.downcast_ref::<ErrorBody>() {
        // The sandbox's policy refuses for other reasons too.
        Some(body) if body.code == ErrorCode::Forbidden || body.message.contains("--workspace") => {
            Failure::new(body.code, body.message.clone())
                .at("--workspace")
                .mend("start Lodge with that directory: lodge down, then lodge up --workspace DIR")
                .into()
        }
        _ => error,
    }
}

async fn follow(
    follower: &mut Follower,
    output: &mut Output,
    json: bool,
    asked: &mut Asked,
) -> anyhow::Result<Ended> {
    let mut aborted = false;
    let mut questions = ask::Questions::default();
    loop {
        let step = tokio::select! {
            step = follower.next() => step?,
            request = questions.due() => {
                let (request_id, may_ask) = (request.id, !json && can_ask());
                let answer = tokio::task::spawn_blocking(move || ask::answer(&request, may_ask)).await?;
                follower
                    .tell(CommandBody::InputResponse { request_id, answer })
                    .await?;
                continue;
            }
            how = asked.to_stop() => {
                if aborted || how == Stop::Now {
                    return Ok(Ended::Left);
                }
                aborted = true;
                follower.tell(CommandBody::Abort {}).await?;
                continue;
            }
        };
        match step {
            Step::Event { event, json: line } => {
                if output.event(&event, &line).is_err() {
                    return Ok(Ended::Left);
                }
                questions.event(&event.body);
            }
            Step::Refused(error) => eprintln!("lodge: {}", safe(&error.message)),
            Step::Jump { reason, state } => Output::jump(reason.as_deref(), &state),
            Step::Done { outcome, error } => return Ok(Ended::Turn(outcome, error)),
        }
    }
}
