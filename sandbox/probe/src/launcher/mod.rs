//! Probes of starting, ending and configuring a sandbox, judged from outside.

mod egress;
mod lives;
mod machines;
mod policies;
mod races;

use crate::check::{Check, Verdict};

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

/// What judges that probe, if it is one of these.
pub(crate) fn find(id: &str) -> Option<Run> {
    PROBES.iter().find(|(known, _)| *known == id).map(|(_, run)| *run)
}
