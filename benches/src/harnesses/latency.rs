//! From the prompt to the first piece of the answer: through Lodge, and from the same program without it.

use super::bare::Bare;
use super::launched::Launched;
use crate::clock::now_ns;
use crate::load::Conn;
use crate::lodge::instance::{Lodge, show};
use anyhow::Context;
use memchr::memmem;
use std::path::Path;

/// Five pieces of text at once: the first is what counts, the rest is soon over.
const PROMPT: &str = "long 5 0";
/// What the demo model's first piece holds. The prompt itself is told as pieces of text, too.
pub(super) const FIRST: &[u8] = b"tok0";
/// Turns of each side before the clock runs.
const WARM: usize = 2;

/// Times in nanoseconds, sorted.
#[derive(Debug, Default)]
pub(crate) struct Latency {
    pub(crate) lodge: Vec<u64>,
    pub(crate) bare: Vec<u64>,
}

impl Latency {
    /// The value that this share of the sorted times does not exceed.
    pub(crate) fn percentile(times: &[u64], share: f64) -> Option<u64> {
        // A count of turns is small and not negative.
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss
        )]
        let at = ((times.len() as f64 * share).ceil() as usize).max(1) - 1;
        times.get(at).copied()
    }
}

/// Turns in turn, of a session and of the program that it was copied from.
pub(super) fn measure(
    lodge: &mut Lodge,
    harness: &str,
    home: &Path,
    rounds: usize,
) -> anyhow::Result<Latency> {
    let (session, _) = lodge.create_of(harness)?;
    let workspace = lodge.data.join("workspaces/bench");
    let launched = Launched::of(&lodge.data, (harness, &session), &workspace, home)?;
    let log = home.join("log.txt");
    let mut bare = Bare::start(harness, &launched, &log).context("without Lodge")?;
    let mut conn = lodge.browser()?;
    show(&mut conn, &session, None)?;
    conn.wait_for(|text| memmem::find(text, b"\"subscribed\"").map(drop))?;
    let mut found = Latency::default();
    for round in 0..WARM + rounds {
        // Whoever comes second finds warmer caches: they take turns in that, too.
        let (through, direct);
        if round % 2 == 0 {
            through = turn(lodge, &mut conn, &session).context("through Lodge")?;
            direct = bare.turn(PROMPT).context("without Lodge")?;
        } else {
            direct = bare.turn(PROMPT).context("without Lodge")?;
            through = turn(lodge, &mut conn, &session).context("through Lodge")?;
        }
        if round >= WARM {
            found.lodge.push(through);
            found.bare.push(direct);
        }
    }
    found.lodge.sort_unstable();
    found.bare.sort_unstable();
    lodge.delete(&session)?;
    Ok(found)
}

/// One turn through Lodge, up to its end.
fn turn(lodge: &mut Lodge, conn: &mut Conn, session: &str) -> anyhow::Result<u64> {
    let begun = now_ns();
    lodge.prompt(conn, session, PROMPT)?;
    let mut first = None;
    conn.wait_for(|text| {
        let is_piece = || memmem::find(text, b"\"stream.text_delta\"").is_some();
        if first.is_none() && memmem::find(text, FIRST).is_some() && is_piece() {
            first = Some(now_ns());
        }
        memmem::find(text, b"\"turn.ended\"").map(drop)
    })?;
    let first = first.context("the turn ended without any text")?;
    Ok(first.saturating_sub(begun))
}

#[cfg(test)]
mod tests {
    use super::Latency;

    #[test]
    fn percentiles_are_values_that_occurred() {
        let times: Vec<u64> = (1..=20).collect();
        assert_eq!(Latency::percentile(&times, 0.5), Some(10));
        assert_eq!(Latency::percentile(&times, 0.95), Some(19));
        assert_eq!(Latency::percentile(&times[..1], 0.95), Some(1));
        assert_eq!(Latency::percentile(&[], 0.5), None);
    }
}
