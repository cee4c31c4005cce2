//! A prompt while the agent works.

use super::super::bench::{Bench, Done, Verdict};
use anyhow::ensure;
use lodge_proto::event::TurnOutcome;
use lodge_proto::{EventBody, TurnId};

const SECOND: &str = "say the-second-prompt";

pub(super) async fn steer(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("use bash: sleep 3\nsay the-first-prompt").await?;
    talk.until("the tool to start", |event| {
        matches!(event.body, EventBody::ToolStart { .. }).then_some(())
    })
    .await?;
    let can = talk.capabilities().steer;
    let sent = talk.prompt(SECOND).await?;
    let wanted = if can { "steering" } else { "queued" };
    ensure!(
        sent.disposition == wanted,
        "a prompt while the agent works was answered with `{}`, not `{wanted}`",
        sent.disposition
    );
    let first = talk.end(turn).await?;
    first.require(TurnOutcome::Completed)?;
    let taken_in = first.prompts().iter().any(|prompt| prompt == SECOND);
    let (prompts, answer) = if taken_in {
        (first.prompts(), first.answer())
    } else {
        let next = following(&mut talk, turn).await?;
        let second = talk.end(next).await?;
        second.require(TurnOutcome::Completed)?;
        (second.prompts(), second.answer())
    };
    ensure!(
        !can || taken_in,
        "the session can steer, and the prompt waited for a turn of its own"
    );
    let times = prompts.iter().filter(|prompt| *prompt == SECOND).count();
    ensure!(times == 1, "the prompt is in the log {times} times");
    ensure!(
        answer.contains("the-second-prompt"),
        "the second prompt was not answered: {answer:?}"
    );
    let waiting = talk.state().await?.queue.len();
    ensure!(waiting == 0, "{waiting} prompts are still in the queue");
    bench.observed.steered = Some(taken_in);
    bench.keep(talk);
    Ok(Verdict::Noted(
        if taken_in { "steered" } else { "queued, then run" }.to_owned(),
    ))
}

/// The turn that begins after `turn`.
async fn following(talk: &mut super::super::talk::Talk, turn: TurnId) -> anyhow::Result<TurnId> {
    talk.until("the queued prompt to begin a turn", |event| match event.body {
        EventBody::TurnStarted {} if event.turn_id != Some(turn) => event.turn_id,
        _ => None,
    })
    .await
}
