//! Where things run: the same walls for all of a session, a monitor in walls of its own, machines that are not alike.

use std::fs;
use std::time::{Duration, SystemTime};

use lodge_sandbox::policy::Tier;

use super::lives::{emulators, of_sandbox};
use crate::check::{Check, Verdict};
use crate::judge::Found;
use crate::report::Control;
use crate::stage::StageError;
use crate::table::{Wanted, find};

const PATIENCE: Duration = Duration::from_mins(1);

fn or_untested(result: Result<Verdict, StageError>) -> Verdict {
    result.unwrap_or_else(|error| (Found::Untested, error.to_string(), Control::NotNeeded))
}

/// What a harness runs as, and what it starts, are in the same walls, and none of them is the host's.
pub(super) fn same_walls(check: &mut Check<'_>) -> Verdict {
    let run = || -> Result<Verdict, StageError> {
        let set = check.set()?;
        let facts = set.scene.write_facts()?;
        let sandbox = set.start(&check.policy, &check.options.tools)?;
        let say = || {
            let ran = sandbox.attack("M03", &facts, false, PATIENCE);
            let report = ran.report();
            let step = report.and_then(|report| report.steps.into_iter().next());
            step.map(|step| step.detail)
                .ok_or_else(|| std::io::Error::other(format!("{:?}", ran.ended(None))))
        };
        let (first, second) = (say()?, say()?);
        let own = crate::attack::run("M03", &set.scene.facts);
        let own = own
            .and_then(|report| report.steps.into_iter().next())
            .map(|step| step.detail)
            .unwrap_or_default();
        sandbox.end();
        let control = if own.contains("pid:[") {
            Control::Works("the host's namespaces can be told".to_owned())
        } else {
            Control::Fails(own.clone())
        };
        let kernel = |text: &str| {
            text.split_whitespace()
                .find(|word| word.starts_with("boot="))
                .map(str::to_owned)
        };
        if first != second {
            return Ok((
                Found::Open,
                format!("two commands differ: {first} / {second}"),
                control,
            ));
        }
        if kernel(&first) != kernel(&own) {
            return Ok((Found::Denied, "a kernel of its own".to_owned(), control));
        }
        let shared: Vec<&str> = first
            .split_whitespace()
            // An engine that runs as root may share its users; a guest there has no rights over them (P11).
            .filter(|word| check.options.tier != Tier::Container || !word.starts_with("user:"))
            .filter(|word| word.contains(":[") && own.split_whitespace().any(|other| other == *word))
            .collect();
        if shared.is_empty() && first.contains("seccomp=2") {
            return Ok((Found::Denied, first, control));
        }
        Ok((
            Found::Open,
            format!("shared with the host: {shared:?} {first}"),
            control,
        ))
    };
    or_untested(run())
}

/// The monitor of a virtual machine: what it could do if the guest took it over.
pub(super) fn monitor(check: &mut Check<'_>) -> Verdict {
    let Some(probe) = find("V03") else {
        return (Found::Untested, String::new(), Control::NotNeeded);
    };
    if check.options.tier != Tier::Microvm {
        return check.inside(probe, Wanted::Denied);
    }
    let (found, detail, control) = check.inside(probe, Wanted::Denied);
    if found != Found::Denied {
        return (found, detail, control);
    }
    let run = || -> Result<Verdict, StageError> {
        let set = check.set()?;
        let sandbox = set.start(&check.policy, &check.options.tools)?;
        let monitors = emulators(&of_sandbox(&sandbox));
        let mut holes = Vec::new();
        for pid in &monitors {
            let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
            for wanted in [
                "Seccomp:\t2",
                "NoNewPrivs:\t1",
                "CapEff:\t0000000000000000",
                "CapBnd:\t0000000000000000",
            ] {
                if !status.contains(wanted) {
                    holes.push(format!("not {wanted:?}"));
                }
            }
            let net = |who: &str| fs::read_link(format!("/proc/{who}/ns/net")).ok();
            if net(&pid.to_string()) == net("self") {
                holes.push("the host's network".to_owned());
            }
            for secret in &set.scene.facts.secrets {
                let seen = format!("/proc/{pid}/root{}", secret.display());
                if fs::read(&seen).is_ok() {
                    holes.push(format!("sees {}", secret.display()));
                }
            }
        }
        sandbox.end();
        Ok(match (monitors.is_empty(), holes.is_empty()) {
            (true, _) => (Found::Untested, "no monitor was found".to_owned(), control),
            (_, true) => (Found::Denied, "walled in by itself".to_owned(), control),
            _ => (Found::Open, holes.join("; "), control),
        })
    };
    or_untested(run())
}

/// Two machines give different random bytes, and both know what time it is.
pub(super) fn uniqueness(check: &mut Check<'_>) -> Verdict {
    let run = || -> Result<Verdict, StageError> {
        let mut said = Vec::new();
        for _ in 0..2 {
            let set = check.set()?;
            let facts = set.scene.write_facts()?;
            let sandbox = set.start(&check.policy, &check.options.tools)?;
            let ran = sandbox.attack("V05", &facts, false, PATIENCE);
            let report = ran
                .report()
                .ok_or_else(|| std::io::Error::other(format!("{:?}", ran.ended(None))))?;
            let host = SystemTime::now()
                .duration_since(SystemTime::UNIX_EPOCH)
                .map_or(0, |time| time.as_millis());
            let text = report
                .steps
                .into_iter()
                .next()
                .map(|step| step.detail)
                .unwrap_or_default();
            sandbox.end();
            said.push((text, host));
        }
        let control = Control::Works("the program says what it drew".to_owned());
        let words = |text: &str| text.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        let (one, two) = (words(&said[0].0), words(&said[1].0));
        if one.len() != two.len() || one.len() < 4 {
            return Ok((Found::Untested, said[0].0.clone(), control));
        }
        let same: Vec<&String> = one
            .iter()
            .zip(&two)
            .filter(|(a, b)| a == b)
            .map(|(a, _)| a)
            .collect();
        let clocks = said.iter().filter_map(|(text, host)| {
            let clock: u128 = text.split("clock=").nth(1)?.trim().parse().ok()?;
            Some(clock.abs_diff(*host))
        });
        let wrong: Vec<u128> = clocks.filter(|&off| off > 5000).collect();
        Ok(if same.is_empty() && wrong.is_empty() {
            (Found::Holds, "different bytes, right clocks".to_owned(), control)
        } else {
            (
                Found::Open,
                format!("the same: {same:?}; clocks off by {wrong:?} ms"),
                control,
            )
        })
    };
    or_untested(run())
}
