//! The harness is killed while text streams, and while a question waits.

use super::super::bench::{Bench, Done, Verdict};
use super::super::talk::Talk;
use super::resume::{goes_on, resumed};
use anyhow::{bail, ensure};
use lodge_proto::input::{InputAnswer, InputKind, PermissionChoice};
use lodge_proto::{CommandBody, EventBody, RequestId};

const KEEPSAKE: &str = "keepsake-5512";
/// The file at which the harness is killed.
const NOW: &str = "now";
/// Leaves a process behind that kills the harness, as soon as [`NOW`] is there. It outlives the tool call, and works in
/// every tier. The harness is what guest init started, or what a bridge between them did. Some end what a tool left in
/// its group: the tool call is not over before the process has a group of its own.
const KILL_LATER: &str = r#"pid=$$
while :; do
    parent=$(sed -n 's/^PPid:[[:space:]]*//p' "/proc/$pid/status")
    [ "${parent:-1}" -gt 1 ] || break
    below=$pid pid=$parent
done
case $(tr '\0' ' ' < "/proc/$pid/cmdline") in
    *opencode-bridge*) pid=$below ;;
esac
rm -f now armed
setsid sh -c 'echo > armed; while [ ! -e now ]; do sleep 0.1; done; kill -9 "$0"' "$pid" </dev/null >/dev/null 2>&1 &
while [ ! -e armed ]; do sleep 0.1; done
"#;
const ARM: &str = "use bash: sh kill-later.sh";

/// Tells the process that waits in the guest.
fn strike(talk: &Talk) -> std::io::Result<()> {
    std::fs::write(talk.workspace().join(NOW), "")
}

async fn prepare(talk: &mut Talk) -> anyhow::Result<()> {
    std::fs::write(talk.workspace().join("kill-later.sh"), KILL_LATER)?;
    talk.complete(&format!("say {KEEPSAKE}")).await?;
    Ok(())
}

pub(super) async fn in_text(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    prepare(&mut talk).await?;
    let turn = talk.begin(&format!("{ARM}\nlong 900 100")).await?;
    let mut armed = false;
    talk.until("the answer to stream", |event| match &event.body {
        EventBody::ToolEnd { .. } => {
            armed = true;
            None
        }
        EventBody::StreamTextDelta { .. } if armed => Some(()),
        _ => None,
    })
    .await?;
    strike(&talk)?;
    talk.end(turn).await?.interrupted()?;
    let remembers = goes_on(&mut talk, KEEPSAKE).await?;
    bench.keep(talk);
    Ok(resumed(remembers))
}

pub(super) async fn while_it_asks(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.asking().await?;
    prepare(&mut talk).await?;
    let turn = talk
        .begin(&format!("{ARM}\nuse bash: echo never > never.txt"))
        .await?;
    let Some(open) = second_question(&mut talk).await? else {
        return Ok(Verdict::Unsupported(
            "the session has no permissions: tools run unasked".to_owned(),
        ));
    };
    strike(&talk)?;
    let ended = talk.end(turn).await?;
    ended.interrupted()?;
    let cancelled = ended.events.iter().any(|event| {
        matches!(&event.body, EventBody::AgentInputResolved { request_id, answer: InputAnswer::Cancelled {}, .. }
            if *request_id == open)
    });
    ensure!(cancelled, "the question was not cancelled");
    ensure!(
        talk.state().await?.requests.is_empty(),
        "the question still waits for its answer"
    );
    ensure!(talk.file("never.txt").is_none(), "the command ran unasked");
    let remembers = goes_on(&mut talk, KEEPSAKE).await?;
    talk.close().await?;
    Ok(resumed(remembers))
}

/// Allows what arms the kill, and leaves the question after it open. `None` where nothing is asked.
async fn second_question(talk: &mut Talk) -> anyhow::Result<Option<RequestId>> {
    loop {
        let request = talk
            .until("a question, or the end of the turn", |event| match &event.body {
                EventBody::AgentInputNeeded { request } => Some(Some(request.clone())),
                EventBody::Status { persisting: true, .. } => Some(None),
                _ => None,
            })
            .await?;
        let Some(request) = request else {
            return Ok(None);
        };
        let InputKind::Permission { arguments, .. } = &request.kind else {
            bail!("the harness asks something else: {:?}", request.kind);
        };
        if !arguments.to_string().contains("kill-later") {
            return Ok(Some(request.id));
        }
        let answer = InputAnswer::Permission {
            choice: PermissionChoice::Once,
        };
        let request_id = request.id;
        talk.call(CommandBody::InputResponse { request_id, answer })
            .await?;
    }
}
