//! Tools: a command with an effect on disk, and a file that is written.

use super::super::bench::{Bench, Done, Verdict};
use super::super::turn::spoken;
use anyhow::ensure;

pub(super) async fn tool(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk
        .complete("use bash: echo first; sleep 1; echo second > effect.txt; cat effect.txt")
        .await?;
    let call = ended.only_call()?;
    let effect = talk.file("effect.txt");
    ensure!(
        effect.as_deref() == Some("second\n"),
        "the command left {effect:?}, its output is {}",
        spoken(&call.output)
    );
    ensure!(ended.has("tool.start"), "the tool ended and never started");
    bench.observed.live_tool_output = Some(call.is_live);
    bench.observed.tool_output = Some(call.output.contains("second"));
    bench.keep(talk);
    Ok(Verdict::Ok)
}

pub(super) async fn write(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let path = talk.workspace().join("written.txt");
    let ended = talk
        .complete(&format!("use write: {} | one\\ntwo", path.display()))
        .await?;
    let call = ended.only_call()?;
    let written = talk.file("written.txt");
    ensure!(
        written.as_deref().map(str::trim_end) == Some("one\ntwo"),
        "the tool {} left {written:?}, its output is {}",
        call.name,
        spoken(&call.output)
    );
    bench.keep(talk);
    Ok(Verdict::Ok)
}
