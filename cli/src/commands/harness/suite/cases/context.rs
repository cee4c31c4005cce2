//! What a session keeps beside its messages: the plan, and a context that can be summarised.

use super::super::bench::{Bench, Done, Verdict};
use anyhow::{bail, ensure};
use lodge_proto::part::PlanStatus;
use lodge_proto::{CommandBody, ErrorCode, EventBody};

pub(super) async fn plan(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk.complete("use plan: x look | > change | test").await?;
    let told = ended.events.iter().rev().find_map(|event| match &event.body {
        EventBody::PlanUpdated { entries } => Some(entries.clone()),
        _ => None,
    });
    bench.observed.plan = Some(told.is_some());
    let done = match told {
        None => {
            ensure!(
                !talk.capabilities().plan,
                "the session has a plan, and one that was made is not told"
            );
            Ok(Verdict::Unsupported("the session tells no plan".to_owned()))
        }
        Some(entries) => {
            let steps: Vec<&str> = entries.iter().map(|entry| entry.content.as_str()).collect();
            ensure!(steps == ["look", "change", "test"], "the plan is {steps:?}");
            let known = entries.iter().any(|entry| entry.status != PlanStatus::Pending);
            Ok(if known {
                Verdict::Ok
            } else {
                Verdict::Noted("without the state of its steps".to_owned())
            })
        }
    };
    bench.keep(talk);
    done
}

pub(super) async fn compact(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    talk.still_works("something to summarise").await?;
    let command = CommandBody::Compact { instructions: None };
    let can = talk.capabilities().compact;
    let done = match talk.try_call(command).await? {
        Err(refused) if refused.code == ErrorCode::UnsupportedByHarness && !can => {
            Ok(Verdict::Unsupported(refused.message))
        }
        // There is too little to summarise.
        Err(refused) if can && refused.code == ErrorCode::InvalidArgument => {
            Ok(Verdict::Noted(refused.message))
        }
        Err(refused) => bail!("compaction was refused: {}: {}", refused.code, refused.message),
        Ok(_) if !can => bail!("the session cannot compact, and says that it does"),
        Ok(_) => {
            let (success, error) = talk
                .until("the compaction to end", |event| match &event.body {
                    EventBody::CompactEnd { success, error, .. } => Some((*success, error.clone())),
                    _ => None,
                })
                .await?;
            ensure!(
                success || error.is_some(),
                "the compaction failed and nothing was said of why"
            );
            talk.settle().await?;
            talk.still_works("afterwards").await?;
            Ok(error.map_or(Verdict::Ok, |error| Verdict::Noted(error.message)))
        }
    };
    bench.keep(talk);
    done
}
