//! Going on with a conversation after the harness was killed in mid-turn.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use super::super::turn::spoken;
use anyhow::ensure;

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
    ended.interrupted()?;
    let remembers = goes_on(&mut talk, KEEPSAKE).await?;
    bench.observed.resumed = Some(remembers);
    bench.keep(talk);
    Ok(resumed(remembers))
}

/// The next prompt after a kill is answered; whether the conversation goes on.
pub(super) async fn goes_on(talk: &mut Talk, keepsake: &str) -> anyhow::Result<bool> {
    let ended = talk.complete(&format!("recall {keepsake}")).await?;
    let answer = ended.answer();
    let remembers = answer.contains(&format!("{keepsake} was said before"));
    ensure!(
        remembers || answer.contains(&format!("{keepsake} is new")),
        "the next prompt was answered with {}",
        spoken(&answer)
    );
    ensure!(
        remembers || !talk.capabilities().resume,
        "the session can be resumed, and the conversation was lost"
    );
    Ok(remembers)
}

/// How a case came out after which the harness had to be resumed.
pub(super) fn resumed(remembers: bool) -> Verdict {
    if remembers {
        Verdict::Noted("interrupted, harness_crashed; resumed".to_owned())
    } else {
        Verdict::Unsupported("it goes on without memory of what was said".to_owned())
    }
}
