//! The table is whole, and everything in it is done by somebody.

use std::collections::BTreeSet;

use lodge_probe::table::{Judge, PROBES, Wanted};
use lodge_probe::{CheckError, Options, attack, check};
use lodge_sandbox::launch::Tools;
use lodge_sandbox::policy::{Nesting, Policy, Profile, Tier};

#[test]
fn every_probe_has_its_own_id_and_a_title() {
    let ids: BTreeSet<&str> = PROBES.iter().map(|probe| probe.id).collect();
    assert_eq!(ids.len(), 106);
    assert!(
        PROBES
            .iter()
            .all(|probe| !probe.title.is_empty() && probe.id.len() == 3)
    );
}

#[test]
fn every_probe_is_done_inside_or_by_the_launcher() {
    let idle: Vec<&str> = PROBES
        .iter()
        .filter(|probe| probe.judge != Judge::Launcher && !attack::exists(probe.id))
        .map(|probe| probe.id)
        .collect();
    assert_eq!(idle, Vec::<&str>::new());
}

#[test]
fn what_is_wanted_depends_on_tier_and_nesting() {
    let probe = |id| lodge_probe::table::find(id).unwrap();
    let mut policy = Policy::of(Profile::Development);
    policy.nesting = Nesting::Deny;
    assert_eq!(probe("P12").wanted(&policy), Wanted::Denied);
    policy.nesting = Nesting::OneLevel;
    assert_eq!(probe("P12").wanted(&policy), Wanted::Allowed);
    assert_eq!(probe("V01").wanted(&policy), Wanted::Absent);
    policy.tier = Tier::Microvm;
    assert_eq!(probe("V01").wanted(&policy), Wanted::Denied);
    assert_eq!(probe("P12").wanted(&policy), Wanted::Harmless);
}

#[test]
fn an_unknown_id_and_a_missing_program_are_refused() {
    let show = |text: &str| text.to_owned();
    let mut options = Options {
        tier: Tier::Process,
        profile: Profile::Development,
        tools: Tools {
            tier_binary: "/nonexistent".into(),
            init_binary: "/nonexistent".into(),
            state: "/nonexistent".into(),
        },
        program: "/nonexistent/lodge-probe".into(),
        ids: vec!["X99".into()],
        scene_parent: None,
        broker: None,
        show: &show,
        progress: None,
    };
    assert!(matches!(check(&options), Err(CheckError::Unknown { id }) if id == "X99"));
    options.ids.clear();
    assert!(matches!(check(&options), Err(CheckError::Program { .. })));
}
