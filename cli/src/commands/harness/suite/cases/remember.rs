//! Approvals that last: the same call is not asked for again.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice};
use lodge_proto::{CommandBody, EventBody};

const FOR_SESSION: &str = "use bash: echo one >> for-session.txt";
const FOR_ALWAYS: &str = "use bash: echo one >> for-always.txt";

pub(super) async fn remember(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.asking().await?;
    let Some(choices) = asked(&mut talk, FOR_SESSION, PermissionChoice::Session).await? else {
        return Ok(Verdict::Unsupported(
            "the session has no permissions: tools run unasked".to_owned(),
        ));
    };
    if !choices.contains(&PermissionChoice::Session) {
        return Ok(Verdict::Unsupported("it offers no more than once".to_owned()));
    }
    unasked(&mut talk, FOR_SESSION).await?;
    lines(&talk, "for-session.txt", 2)?;
    if !choices.contains(&PermissionChoice::Always) {
        talk.close().await?;
        return Ok(Verdict::Noted("for the session".to_owned()));
    }
    // What only the harness remembers ends with its process.
    talk.call(CommandBody::SessionClose {}).await?;
    unasked(&mut talk, FOR_SESSION).await?;
    lines(&talk, "for-session.txt", 3)?;
    asked(&mut talk, FOR_ALWAYS, PermissionChoice::Always).await?;
    let mut beside = bench.asking_beside(&talk).await?;
    unasked(&mut beside, FOR_ALWAYS).await?;
    lines(&beside, "for-always.txt", 2)?;
    beside.close().await?;
    talk.close().await?;
    Ok(Verdict::Noted("for the session, for always".to_owned()))
}

/// A turn in which whatever is asked is answered so; with what there was to choose from.
async fn asked(
    talk: &mut Talk,
    prompt: &str,
    choice: PermissionChoice,
) -> anyhow::Result<Option<Vec<PermissionChoice>>> {
    let turn = talk.begin(prompt).await?;
    let mut offered = None;
    loop {
        let request = talk
            .until("a question, or the end of the turn", |event| match &event.body {
                EventBody::AgentInputNeeded { request } => Some(Some(request.clone())),
                EventBody::Status { persisting: true, .. } => Some(None),
                _ => None,
            })
            .await?;
        let Some(request) = request else { break };
        let InputKind::Permission { choices, .. } = &request.kind else {
            bail!("the harness asks something else: {:?}", request.kind);
        };
        let known = choices.contains(&choice);
        let choice = if known { choice } else { PermissionChoice::Once };
        offered = Some(choices.clone());
        let answer = InputAnswer::Permission { choice };
        let request_id = request.id;
        talk.call(CommandBody::InputResponse { request_id, answer })
            .await?;
    }
    talk.end(turn).await?.require(TurnOutcome::Completed)?;
    Ok(offered)
}

/// A turn that nobody answers anything in: a question that stays open keeps it from ending.
async fn unasked(talk: &mut Talk, prompt: &str) -> anyhow::Result<()> {
    let turn = talk.begin(prompt).await?;
    talk.end(turn).await?.require(TurnOutcome::Completed)
}

fn lines(talk: &Talk, name: &str, wanted: usize) -> anyhow::Result<()> {
    let found = talk.file(name).map_or(0, |text| text.lines().count());
    ensure!(
        found == wanted,
        "the command was to run {wanted} times and ran {found} times"
    );
    Ok(())
}
