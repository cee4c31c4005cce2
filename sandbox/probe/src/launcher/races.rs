//! Paths that change while a sandbox is built from them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lodge_sandbox::policy::Tier;

use crate::attack::sys::{call, text};
use crate::check::{Check, Verdict};
use crate::judge::Found;
use crate::report::Control;
use crate::stage::{Set, StageError};

const PATIENCE: Duration = Duration::from_mins(1);

fn untested(error: impl std::fmt::Display) -> Verdict {
    (Found::Untested, error.to_string(), Control::NotNeeded)
}

/// How often something is started that is dear in the slower tiers.
fn rounds(tier: Tier) -> usize {
    match tier {
        Tier::Process => 20,
        Tier::Container => 4,
        Tier::Microvm => 3,
    }
}

/// What the files of a set show inside, as one text; the error when no sandbox is started.
fn shows(check: &Check<'_>, set: &Set, paths: &[&Path]) -> Result<String, StageError> {
    let sandbox = set.start(&check.policy, &check.options.tools)?;
    let mut argv = vec!["/bin/cat".to_owned()];
    argv.extend(paths.iter().map(|path| path.display().to_string()));
    let argv: Vec<&str> = argv.iter().map(String::as_str).collect();
    let ran = sandbox.run(&argv, false, PATIENCE);
    sandbox.end();
    Ok(String::from_utf8_lossy(&ran.output()).into_owned())
}

fn has_canary(set: &Set, text: &str) -> bool {
    set.scene
        .canaries
        .iter()
        .any(|canary| text.contains(canary.as_str()))
}

pub(super) fn swapped_directory(check: &mut Check<'_>) -> Verdict {
    let set = match check.set() {
        Ok(set) => set,
        Err(error) => return untested(error),
    };
    let workspace = set.scene.facts.workspace.clone();
    let (real, link) = (workspace.join(".vscode"), workspace.join("swap"));
    if let Err(error) = symlink(set.scene.facts.home.join(".ssh"), &link) {
        return untested(error);
    }
    let key = |directory: &Path| directory.join("id_ed25519");
    let stop = Arc::new(AtomicBool::new(false));
    let (ended, one, two) = (stop.clone(), text(&real), text(&link));
    let racer = std::thread::spawn(move || {
        while !ended.load(Ordering::Relaxed) {
            let flags = libc::RENAME_EXCHANGE;
            let _ = call!(
                libc::SYS_renameat2,
                libc::AT_FDCWD,
                &one,
                libc::AT_FDCWD,
                &two,
                flags
            );
        }
    });
    let (mut started, mut refused, mut open) = (0, 0, None);
    for _ in 0..rounds(check.options.tier) {
        match shows(check, &set, &[&key(&real), &key(&link)]) {
            Ok(text) if has_canary(&set, &text) => open = Some(text),
            Ok(_) => started += 1,
            Err(_) => refused += 1,
        }
    }
    let deadline = Instant::now() + Duration::from_secs(10);
    let mut followed = 0;
    while followed == 0 && Instant::now() < deadline {
        followed = (0..1000).filter(|_| fs::read(key(&real)).is_ok()).count();
    }
    stop.store(true, Ordering::Relaxed);
    let _ = racer.join();
    let control = match followed {
        0 => Control::Fails("the race was never won outside either".to_owned()),
        count => Control::Works(format!("an ordinary open fell for it {count} times")),
    };
    match open {
        Some(text) => (Found::Open, text, control),
        None => (
            Found::Denied,
            format!("{started} started, {refused} refused"),
            control,
        ),
    }
}

pub(super) fn replaced_root(check: &mut Check<'_>) -> Verdict {
    let set = match check.set() {
        Ok(set) => set,
        Err(error) => return untested(error),
    };
    let facts = &set.scene.facts;
    let sandbox = match set.start(&check.policy, &check.options.tools) {
        Ok(sandbox) => sandbox,
        Err(error) => return untested(error),
    };
    let moved = facts.root.join("moved");
    if let Err(error) =
        fs::rename(&facts.workspace, &moved).and_then(|()| symlink(&facts.home, &facts.workspace))
    {
        return untested(error);
    }
    let key = facts.workspace.join(".ssh/id_ed25519");
    let name = key.display().to_string();
    let during = sandbox.run(&["/bin/cat", &name], false, PATIENCE);
    sandbox.end();
    let again = shows(check, &set, &[&key]);
    let control = match fs::read_to_string(&key) {
        Ok(text) if has_canary(&set, &text) => Control::Works("the link leads to the secret".to_owned()),
        other => Control::Fails(format!("{other:?}")),
    };
    let during = String::from_utf8_lossy(&during.output()).into_owned();
    match again {
        _ if has_canary(&set, &during) => (Found::Open, "seen by the running sandbox".to_owned(), control),
        Ok(text) if has_canary(&set, &text) => (Found::Open, "seen after the restart".to_owned(), control),
        Ok(_) => (
            Found::Denied,
            "the restarted sandbox shows nothing of it".to_owned(),
            control,
        ),
        Err(error) => (Found::Denied, format!("not started again: {error}"), control),
    }
}

pub(super) fn planted_links(check: &mut Check<'_>) -> Verdict {
    let mut refused = Vec::new();
    let mut control = Control::NotNeeded;
    for name in [
        "workspace/.vscode",
        "workspace/.lodge",
        "workspace/.mcp.json",
        "workspace/.git/hooks",
        "private",
    ] {
        let set = match check.set() {
            Ok(set) => set,
            Err(error) => return untested(error),
        };
        let facts = &set.scene.facts;
        let at = facts.root.join(name);
        let target = if name == "workspace/.mcp.json" {
            facts.secrets[0].clone()
        } else {
            facts.home.join(".ssh")
        };
        let removed = if at.is_dir() {
            fs::remove_dir_all(&at)
        } else {
            Ok(())
        };
        if let Err(error) = removed.and_then(|()| symlink(&target, &at)) {
            return untested(error);
        }
        let watch = crate::watch::Watch::begin(&set.scene);
        let key = if target.is_dir() {
            at.join("id_ed25519")
        } else {
            at.clone()
        };
        if !matches!(fs::read_to_string(&key), Ok(text) if has_canary(&set, &text)) {
            control = Control::Fails(format!("{} leads nowhere", key.display()));
        } else if control == Control::NotNeeded {
            control = Control::Works("the links lead to secrets".to_owned());
        }
        let inside = Path::new("/home/guest/id_ed25519");
        match shows(check, &set, &[&key, inside]) {
            Ok(text) if has_canary(&set, &text) => {
                return (Found::Open, format!("{name} was followed"), control);
            }
            Ok(_) => refused.push(format!("{name}: not followed")),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
        let effects = watch.effects(&set.scene, &[]);
        if !effects.is_empty() {
            return (Found::Open, format!("{name}: {}", effects.join("; ")), control);
        }
    }
    (Found::Denied, refused.join("; "), control)
}
