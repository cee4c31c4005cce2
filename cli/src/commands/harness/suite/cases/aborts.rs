//! A turn that is stopped: it settles in time, is aborted, and the session goes on.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use anyhow::ensure;
use lodge_proto::event::TurnOutcome;
use lodge_proto::message::Role;
use lodge_proto::{CommandBody, EventBody, TurnId};
use std::time::{Duration, Instant};

/// A turn settles so soon after it was to stop.
const SETTLED_WITHIN: Duration = Duration::from_secs(5);

/// How long a turn is watched that waits for its model.
const SILENCE: Duration = Duration::from_secs(3);

pub(super) async fn in_text(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("long 400 100").await?;
    let mut assistant = None;
    talk.until("the answer to stream", |event| match &event.body {
        EventBody::StreamMessageStart {
            message_id,
            role: Role::Assistant,
        } => {
            assistant = Some(*message_id);
            None
        }
        EventBody::StreamTextDelta { message_id, .. } if Some(*message_id) == assistant => Some(()),
        _ => None,
    })
    .await?;
    let note = aborted(&mut talk, turn).await?;
    talk.still_works("onwards").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

pub(super) async fn in_tool(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("use bash: sleep 4; echo late > late.txt").await?;
    let started = Instant::now();
    talk.until("the tool to start", |event| {
        matches!(event.body, EventBody::ToolStart { .. }).then_some(())
    })
    .await?;
    let note = aborted(&mut talk, turn).await?;
    talk.still_works("onwards").await?;
    // The command may not outlive the turn that it belonged to.
    tokio::time::sleep(Duration::from_secs(6).saturating_sub(started.elapsed())).await;
    ensure!(
        talk.file("late.txt").is_none(),
        "the command ran on after the turn was aborted"
    );
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// The model says nothing, for as long as anybody would wait.
pub(super) async fn in_silence(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("hang 600").await?;
    ensure!(
        talk.end_within(turn, SILENCE).await?.is_none(),
        "the turn ended although its model had not answered"
    );
    let note = aborted(&mut talk, turn).await?;
    talk.still_works("onwards").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(format!("waits; aborted, {note}")))
}

async fn aborted(talk: &mut Talk, turn: TurnId) -> anyhow::Result<String> {
    let begin = Instant::now();
    talk.call(CommandBody::Abort {}).await?;
    let ended = talk.end(turn).await?;
    let took = begin.elapsed();
    ended.require(TurnOutcome::Aborted)?;
    ensure!(took <= SETTLED_WITHIN, "it took {took:?} to settle");
    let ends = talk
        .log()
        .iter()
        .filter(|event| event.turn_id == Some(turn) && matches!(event.body, EventBody::TurnEnded { .. }))
        .count();
    ensure!(ends == 1, "the turn ended {ends} times");
    Ok(format!("settled after {} ms", took.as_millis()))
}
