//! Much at once.

use super::super::bench::{Bench, Done, Verdict};
use anyhow::ensure;

/// Lines of 17 bytes: just over 1 MiB.
const LINES: usize = 61_681;
/// What the events of that turn may come to, in bytes: the output live, at the end and in the message, with room.
const MOST: usize = 16 << 20;

pub(super) async fn big_output(bench: &mut Bench<'_>) -> Done {
    let mut talk = bench.shared().await?;
    let ended = talk
        .complete(&format!("use bash: yes 0123456789abcdef | head -n {LINES}"))
        .await?;
    let call = ended.only_call()?;
    let mut bytes = 0;
    for event in &ended.events {
        bytes += serde_json::to_vec(event)?.len();
    }
    ensure!(bytes <= MOST, "1 MiB of output came as {bytes} bytes of events");
    let shown = call.output.len() / 1024;
    talk.still_works("afterwards").await?;
    bench.keep(talk);
    Ok(Verdict::Noted(format!("{shown} KiB of it are shown")))
}
