//! A model that fails.

use super::super::bench::{Bench, Done, Verdict};
use super::super::turn::{Ended, spoken};
use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::{CommandBody, ErrorBody, ErrorCode};
use std::time::Duration;

/// How long a harness may try again, before the turn is aborted.
const TRIES_WITHIN: Duration = Duration::from_secs(18);

pub(super) async fn unauthorized(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk.turn("err 401").await?;
    let error = typed(&ended)?;
    talk.still_works("recovered").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(error.code.to_string()))
}

pub(super) async fn retry(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk.turn("err 429 x2").await?;
    let told = ended.has("retry.start");
    bench.observed.retries = Some(told);
    let note = if ended.outcome == TurnOutcome::Completed {
        ensure!(
            ended.answer().contains("recovered after"),
            "the answer is {}",
            spoken(&ended.answer())
        );
        if told {
            "tried again, and told so"
        } else {
            "tried again in silence"
        }
        .to_owned()
    } else {
        // Not to try again is a harness's own decision; then the error says what was wrong.
        let error = typed(&ended)?;
        talk.still_works("recovered").await?;
        format!("did not try again: {}", error.code)
    };
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

pub(super) async fn cut(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("drop 3").await?;
    let Some(ended) = talk.end_within(turn, TRIES_WITHIN).await? else {
        // Who asked may end what the harness goes on to try.
        talk.call(CommandBody::Abort {}).await?;
        talk.end(turn).await?.require(TurnOutcome::Aborted)?;
        talk.still_works("whole").await?;
        bench.keep(talk);
        let seconds = TRIES_WITHIN.as_secs();
        return Ok(Verdict::Noted(format!(
            "still tries after {seconds} s; an abort ends it"
        )));
    };
    let note = if ended.outcome == TurnOutcome::Completed {
        // One that asks again without streaming gets the whole answer.
        ensure!(
            ended.answer().contains("part49"),
            "the turn completed with an answer that was cut: {}",
            spoken(&ended.answer())
        );
        "asked again without streaming".to_owned()
    } else {
        typed(&ended)?.code.to_string()
    };
    talk.still_works("whole").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// The error of a turn that failed because of its model.
fn typed(ended: &Ended) -> anyhow::Result<&ErrorBody> {
    ended.require(TurnOutcome::Failed)?;
    let Some(error) = &ended.error else {
        bail!("the turn failed without an error");
    };
    ensure!(!error.message.trim().is_empty(), "the error says nothing");
    ensure!(
        matches!(
            error.code,
            ErrorCode::ProviderError | ErrorCode::RateLimited | ErrorCode::Unauthenticated
        ),
        "the model failed, the turn's error is {}: {}",
        error.code,
        spoken(&error.message)
    );
    Ok(error)
}
