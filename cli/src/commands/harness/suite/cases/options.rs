//! Models and thinking levels: what there is, and the choice of another.

use super::super::bench::{Bench, Done, Verdict};
use anyhow::{bail, ensure};
use lodge_proto::{CommandBody, ErrorCode};

pub(super) async fn models(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let models = talk.capabilities().models.clone();
    let Some(model) = models.first() else {
        bench.keep(talk);
        return Ok(Verdict::Unsupported("the session offers no models".to_owned()));
    };
    ensure!(
        model.id.starts_with("demo/"),
        "the gateway has the demo model, the session offers {}",
        model.id
    );
    let wanted = model.id.clone();
    talk.call(CommandBody::SetModel {
        model: wanted.clone(),
    })
    .await?;
    let state = talk.state().await?;
    ensure!(
        state.session.model.as_ref() == Some(&wanted),
        "{wanted} was set, the session has {:?}",
        state.session.model
    );
    let unknown = CommandBody::SetModel {
        model: "demo/no-such-model".to_owned(),
    };
    match talk.try_call(unknown).await? {
        Err(refused) if refused.code == ErrorCode::NotFound => {}
        other => bail!("a model that does not exist was answered with {other:?}"),
    }
    talk.still_works("switched").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(format!("{} offered", models.len())))
}

pub(super) async fn level(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let levels = talk.capabilities().thinking_levels.clone();
    let (Some(first), Some(last)) = (levels.first(), levels.last()) else {
        bench.keep(talk);
        return Ok(Verdict::Unsupported(
            "the session has no thinking levels".to_owned(),
        ));
    };
    for level in [first, last] {
        talk.call(CommandBody::SetThinkingLevel { level: level.clone() })
            .await?;
        let now = talk.state().await?.session.thinking_level;
        ensure!(
            now.as_ref() == Some(level),
            "{level} was set, the session has {now:?}"
        );
    }
    talk.still_works("levelled").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(levels.join(" ")))
}
