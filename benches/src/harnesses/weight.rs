//! What idle sessions hold in memory.

use crate::lodge::instance::{Lodge, Parts};
use crate::proc::memory;
use anyhow::Context;

/// Proportional set sizes in KiB, of one session.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Weight {
    /// What the runner grew by.
    pub(crate) runner: u64,
    pub(crate) shim: u64,
    /// bwrap and guest init, with the bridge where there is one.
    pub(crate) init: u64,
    /// The harness and what it started.
    pub(crate) harness: u64,
}

/// Starts sessions and leaves them idle.
pub(super) fn measure(lodge: &mut Lodge, harness: &str, count: usize) -> anyhow::Result<Weight> {
    // The first of a kind pays for what all share.
    let mut sessions = vec![lodge.create_of(harness)?.0];
    let before = memory(lodge.runner.pid()).pss;
    for _ in 0..count {
        sessions.push(lodge.create_of(harness)?.0);
    }
    let after = memory(lodge.runner.pid()).pss;
    let count_u64 = u64::try_from(count).context("a count")?;
    let weigh = |pids: &[u32]| -> u64 { pids.iter().map(|pid| memory(*pid).pss).sum() };
    let (mut shim, mut init, mut program) = (0, 0, 0);
    for session in &sessions[1..] {
        let parts = Parts::of(session)?;
        shim += weigh(&parts.shim);
        init += weigh(&parts.init);
        program += weigh(&parts.harness);
    }
    for session in &sessions {
        lodge.delete(session)?;
    }
    Ok(Weight {
        runner: after.saturating_sub(before) / count_u64,
        shim: shim / count_u64,
        init: init / count_u64,
        harness: program / count_u64,
    })
}
