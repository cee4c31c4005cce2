//! Probes of starting, ending and configuring a sandbox, judged from outside.

mod egress;
mod lives;
mod machines;
mod policies;
mod races;

use std::time::Duration;

use crate::check::{Check, Verdict};
use crate::stage::Sandbox;

type Run = fn(&mut Check<'_>) -> Verdict;

const PROBES: &[(&str, Run)] = &[
    ("F14", races::swapped_directory),
    ("F15", races::replaced_root),
    ("F17", races::planted_links),
    ("F26", lives::litter),
    ("P23", lives::daemon_at_end),
    ("P24", lives::daemon_at_deadline),
    ("P25", lives::daemon_at_death),
    ("N12", egress::empty_list),
    ("N13", policies::invalid),
    ("N14", policies::loosening),
    ("N15", egress::keys),
    ("V03", machines::monitor),
    ("V05", machines::uniqueness),
    ("M01", policies::missing_wall),
    ("M02", policies::odd_paths),
    ("M03", machines::same_walls),
];

/// Ends a sandbox and waits until all its processes on the host are gone, at most `patience`.
pub(crate) fn end_with_everything(sandbox: Sandbox, patience: Duration) {
    let all = lives::of_sandbox(&sandbox);
    sandbox.end();
    lives::wait_gone(&all, patience);
}

/// What judges that probe, if it is one of these.
pub(crate) fn find(id: &str) -> Option<Run> {
    PROBES.iter().find(|(known, _)| *known == id).map(|(_, run)| *run)
}
