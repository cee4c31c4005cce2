//! A model that fails.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use super::super::turn::{Ended, spoken};
use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::{CommandBody, ErrorBody, ErrorCode, TurnId};
use std::time::Duration;

/// How long a harness may try again, before the turn is aborted.
const TRIES_WITHIN: Duration = Duration::from_secs(18);
/// After so long a turn has ended by itself, however its model fails.
const ENDS_WITHIN: Duration = Duration::from_mins(2);

pub(super) async fn unauthorized(bench: &mut Bench<'_>) -> Done {
    always(bench, 401).await
}

pub(super) async fn budget(bench: &mut Bench<'_>) -> Done {
    always(bench, 402).await
}

pub(super) async fn limited(bench: &mut Bench<'_>) -> Done {
    always(bench, 429).await
}

pub(super) async fn internal(bench: &mut Bench<'_>) -> Done {
    always(bench, 500).await
}

pub(super) async fn overloaded(bench: &mut Bench<'_>) -> Done {
    always(bench, 529).await
}

/// The model answers every call with this status.
async fn always(bench: &mut Bench<'_>, status: u16) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin(&format!("err {status}")).await?;
    let ended = by_itself(&mut talk, turn).await?;
    let error = typed(&ended, &codes(status))?;
    let note = how(&ended, error);
    talk.still_works("recovered").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// What an answer with this status is to be called.
fn codes(status: u16) -> Vec<ErrorCode> {
    match status {
        401 => vec![ErrorCode::ProviderError, ErrorCode::Unauthenticated],
        402 => vec![ErrorCode::BudgetExceeded],
        429 => vec![ErrorCode::RateLimited],
        _ => vec![ErrorCode::ProviderError],
    }
}

async fn by_itself(talk: &mut Talk, turn: TurnId) -> anyhow::Result<Ended> {
    match talk.end_within(turn, ENDS_WITHIN).await? {
        Some(ended) => Ok(ended),
        None => bail!("the turn has not ended after {} s", ENDS_WITHIN.as_secs()),
    }
}

fn how(ended: &Ended, error: &ErrorBody) -> String {
    let seconds = ended.took().as_secs_f64();
    match ended.count("retry.start") {
        0 => format!("failed, {}, after {seconds:.1} s", error.code),
        retries => format!(
            "failed, {}, after {seconds:.1} s and {retries} retries told",
            error.code
        ),
    }
}

pub(super) async fn retry(bench: &mut Bench<'_>) -> Done {
    twice(bench, 429).await
}

pub(super) async fn retry_internal(bench: &mut Bench<'_>) -> Done {
    twice(bench, 500).await
}

pub(super) async fn retry_overloaded(bench: &mut Bench<'_>) -> Done {
    twice(bench, 529).await
}

/// The model answers two calls with this status, and then as it should.
async fn twice(bench: &mut Bench<'_>, status: u16) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk.turn(&format!("err {status} x2")).await?;
    let told = ended.has("retry.start");
    let seen = bench.observed.retries.unwrap_or_default();
    bench.observed.retries = Some(told || seen);
    let note = if ended.outcome == TurnOutcome::Completed {
        ensure!(
            ended.answer().contains("recovered after"),
            "the answer is {}",
            spoken(&ended.answer())
        );
        let how = if told { "and told so" } else { "in silence" };
        format!("tried again, {how}; {:.1} s", ended.took().as_secs_f64())
    } else {
        // Not to try again is a harness's own decision; then the error says what was wrong.
        let error = typed(&ended, &codes(status))?;
        talk.still_works("recovered").await?;
        format!("did not try again: {}", error.code)
    };
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// The model's connection is cut whenever it answers.
pub(super) async fn cut_always(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let turn = talk.begin("drop 3").await?;
    let ended = by_itself(&mut talk, turn).await?;
    let note = if ended.outcome == TurnOutcome::Completed {
        whole(&ended)?
    } else {
        let error = typed(&ended, &[ErrorCode::ProviderError])?;
        how(&ended, error)
    };
    talk.still_works("whole").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// One that asks again without streaming gets the whole answer.
fn whole(ended: &Ended) -> anyhow::Result<String> {
    ensure!(
        ended.answer().contains("part49"),
        "the turn completed with an answer that was cut: {}",
        spoken(&ended.answer())
    );
    Ok("asked again without streaming".to_owned())
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
        whole(&ended)?
    } else {
        let error = typed(&ended, &[ErrorCode::ProviderError])?;
        how(&ended, error)
    };
    talk.still_works("whole").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(note))
}

/// The error of a turn that failed because of its model: one of these.
fn typed<'a>(ended: &'a Ended, codes: &[ErrorCode]) -> anyhow::Result<&'a ErrorBody> {
    ended.require(TurnOutcome::Failed)?;
    let Some(error) = &ended.error else {
        bail!("the turn failed without an error");
    };
    ensure!(!error.message.trim().is_empty(), "the error says nothing");
    ensure!(
        codes.contains(&error.code),
        "the model failed, the turn's error is {}: {}",
        error.code,
        spoken(&error.message)
    );
    Ok(error)
}
