//! Tools that ask before they run.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use super::super::turn::Ended;
use anyhow::{bail, ensure};
use lodge_proto::event::TurnOutcome;
use lodge_proto::input::{InputAnswer, InputKind, InputRequest, PermissionChoice};
use lodge_proto::{CommandBody, EventBody};

pub(super) async fn permission(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.asking().await?;
    let (ended, asked) = decided(
        &mut talk,
        "use bash: echo yes > allowed.txt",
        PermissionChoice::Once,
    )
    .await?;
    let Some(choices) = asked else {
        ensure!(
            !talk.capabilities().permissions,
            "the session has permissions, and a command ran without a question"
        );
        return Ok(Verdict::Unsupported(
            "the session has no permissions: tools run unasked".to_owned(),
        ));
    };
    for wanted in [PermissionChoice::Once, PermissionChoice::Deny] {
        ensure!(choices.contains(&wanted), "{wanted:?} is not among {choices:?}");
    }
    ended.require(TurnOutcome::Completed)?;
    let allowed = talk.file("allowed.txt");
    ensure!(
        allowed.as_deref() == Some("yes\n"),
        "the command was allowed and left {allowed:?}"
    );
    let (ended, asked) = decided(
        &mut talk,
        "use bash: echo no > denied.txt",
        PermissionChoice::Deny,
    )
    .await?;
    ensure!(
        asked.is_some(),
        "allowed once, the next command was not asked for"
    );
    ensure!(
        talk.file("denied.txt").is_none(),
        "the command was denied and ran nevertheless"
    );
    ensure!(
        matches!(ended.outcome, TurnOutcome::Completed | TurnOutcome::Aborted),
        "the turn of a denied command ended {}",
        ended.outcome.as_str()
    );
    talk.still_works("denied").await?;
    bench.observed.permission_choices = Some(choices.clone());
    talk.close().await?;
    Ok(Verdict::Noted(names(&choices)))
}

enum Step {
    Asked(Box<InputRequest>),
    Over,
}

/// A turn in which every question is answered so; with what there was to choose from.
async fn decided(
    talk: &mut Talk,
    prompt: &str,
    choice: PermissionChoice,
) -> anyhow::Result<(Ended, Option<Vec<PermissionChoice>>)> {
    let turn = talk.begin(prompt).await?;
    let mut offered = None;
    loop {
        let step = talk
            .until("a question, or the end of the turn", |event| match &event.body {
                EventBody::AgentInputNeeded { request } => Some(Step::Asked(Box::new(request.clone()))),
                // The end itself is for whoever waits for it.
                EventBody::Status { persisting: true, .. } => Some(Step::Over),
                _ => None,
            })
            .await?;
        let Step::Asked(request) = step else {
            return Ok((talk.end(turn).await?, offered));
        };
        let InputKind::Permission { tool, choices, .. } = &request.kind else {
            bail!("the harness asks something else: {:?}", request.kind);
        };
        ensure!(!tool.is_empty(), "the question names no tool");
        offered = Some(choices.clone());
        let answer = InputAnswer::Permission { choice };
        talk.call(CommandBody::InputResponse {
            request_id: request.id,
            answer,
        })
        .await?;
    }
}

fn names(choices: &[PermissionChoice]) -> String {
    let names: Vec<String> = choices
        .iter()
        .filter_map(|choice| serde_json::to_value(choice).ok()?.as_str().map(str::to_owned))
        .collect();
    names.join(" ")
}
