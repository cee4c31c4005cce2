//! Going on with a conversation: after the harness was killed in mid-turn, and in a copy.

use super::super::bench::{Bench, Done, Verdict};
use super::super::turn::spoken;
use anyhow::{bail, ensure};
use lodge_proto::ErrorCode;
use lodge_proto::event::TurnOutcome;

const KEEPSAKE: &str = "keepsake-7081";

/// Kills the program that guest init started, of which the shell that runs this is a descendant. It works in every
/// tier, where this process could not reach the harness.
const KILLER: &str = r#"pid=$$
while :; do
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    [ "${parent:-1}" -gt 1 ] || break
    pid=$parent
done
kill -9 "$pid"
sleep 20
"#;

pub(super) async fn kill(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    std::fs::write(talk.workspace().join("kill.sh"), KILLER)?;
    talk.complete(&format!("say {KEEPSAKE}")).await?;
    let ended = talk.turn("use bash: sh kill.sh").await?;
    ended.require(TurnOutcome::Interrupted)?;
    ensure!(ended.error.is_some(), "the interrupted turn has no error");
    let ended = talk.complete(&format!("recall {KEEPSAKE}")).await?;
    let answer = ended.answer();
    let remembers = answer.contains(&format!("{KEEPSAKE} was said before"));
    ensure!(
        remembers || answer.contains(&format!("{KEEPSAKE} is new")),
        "the next prompt was answered with {}",
        spoken(&answer)
    );
    ensure!(
        remembers || !talk.capabilities().resume,
        "the session can be resumed, and the conversation was lost"
    );
    bench.observed.resumed = Some(remembers);
    bench.keep(talk);
    Ok(if remembers {
        Verdict::Ok
    } else {
        Verdict::Unsupported("it goes on without memory of what was said".to_owned())
    })
}

pub(super) async fn fork(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    talk.complete(&format!("say {KEEPSAKE}")).await?;
    let can = talk.capabilities().fork;
    let done = match talk.fork(bench.quiet).await? {
        Err(refused) if refused.code == ErrorCode::UnsupportedByHarness && !can => {
            Ok(Verdict::Unsupported(refused.message))
        }
        Err(refused) => bail!("the fork was refused: {}: {}", refused.code, refused.message),
        Ok(_) if !can => bail!("the session cannot be forked, and was"),
        Ok(mut copy) => {
            let ended = copy.complete(&format!("recall {KEEPSAKE}")).await?;
            ensure!(
                ended.answer().contains(&format!("{KEEPSAKE} was said before")),
                "the copy does not know what was said: {}",
                spoken(&ended.answer())
            );
            copy.close().await?;
            talk.still_works("onwards").await?;
            Ok(Verdict::Ok)
        }
    };
    bench.keep(talk);
    done
}
