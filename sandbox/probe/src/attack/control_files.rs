//! Files of the workspace itself that tools outside obey.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use super::sys::{call, text};
use super::{Attack, Probe, append, create, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("F05", git_control),
    ("F06", rename_git),
    ("F07", rename_parents),
    ("F08", absent_names),
    ("F09", nested_repositories),
];

fn git_control(attack: &mut Attack<'_>) {
    let (git, token) = (attack.facts.workspace.join(".git"), attack.facts.token.clone());
    for hook in ["pre-commit", "post-checkout", "fsmonitor-watchman"] {
        attack.effect(&format!("create the hook {hook}"), || {
            create(git.join("hooks").join(hook), &token)
        });
    }
    for setting in ["hooksPath = /tmp", "fsmonitor = /tmp/x", "sshCommand = /tmp/x"] {
        attack.effect(&format!("set {setting}"), || {
            append(git.join("config"), &format!("[core]\n\t{setting} # {token}"))
        });
    }
    attack.effect("replace the configuration as git does", || {
        let lock = git.join("config.lock");
        create(&lock, &token)?;
        let moved = fs::rename(&lock, git.join("config"));
        let _ = fs::remove_file(&lock);
        worked(moved, "replaced")
    });
    for name in ["info/attributes", "info/exclude"] {
        attack.effect(&format!("write .git/{name}"), || {
            if let Some(parent) = git.join(name).parent() {
                fs::create_dir_all(parent)?;
            }
            create(git.join(name), &token)
        });
    }
    attack.effect("swap hooks with a directory of its own", || {
        let own = attack.facts.workspace.join("own-hooks");
        fs::create_dir_all(&own)?;
        create(own.join("pre-commit"), &token)?;
        exchange(&own, &git.join("hooks"))
    });
}

fn exchange(one: &Path, other: &Path) -> super::Try {
    let flags = libc::RENAME_EXCHANGE;
    let (cwd, one, other) = (libc::AT_FDCWD, text(one), text(other));
    worked(
        call!(libc::SYS_renameat2, cwd, &one, cwd, &other, flags),
        "exchanged",
    )
}

fn rename_git(attack: &mut Attack<'_>) {
    let (workspace, token) = (attack.facts.workspace.clone(), attack.facts.token.clone());
    let git = workspace.join(".git");
    attack.effect("rename .git and recreate it with hooks", || {
        fs::rename(&git, workspace.join(".git-old"))?;
        fs::create_dir_all(git.join("hooks"))?;
        create(git.join("hooks/pre-commit"), &token)
    });
    attack.effect("exchange .git with a directory of its own", || {
        let own = workspace.join("own-git");
        fs::create_dir_all(own.join("hooks"))?;
        create(own.join("hooks/pre-commit"), &token)?;
        exchange(&own, &git)
    });
    attack.effect("remove .git and recreate it", || {
        fs::remove_dir_all(&git)?;
        fs::create_dir_all(git.join("hooks"))?;
        create(git.join("hooks/pre-commit"), &token)
    });
}

fn rename_parents(attack: &mut Attack<'_>) {
    let workspace = attack.facts.workspace.clone();
    for name in [".git/hooks", ".git", ".vscode", ".lodge"] {
        let (from, to) = (
            workspace.join(name),
            workspace.join(format!("moved-{}", name.replace('/', "-"))),
        );
        attack.act(&format!("rename {name}"), || {
            fs::rename(&from, &to)?;
            worked(fs::rename(&to, &from), "renamed")
        });
    }
    attack.act("rename the workspace", || {
        let to = workspace.with_file_name("moved-workspace");
        fs::rename(&workspace, &to)?;
        worked(fs::rename(&to, &workspace), "renamed")
    });
    if let Some(parent) = workspace.parent().map(Path::to_owned) {
        attack.act("rename the directory above", || {
            // Of the sandbox's own scratch space it would mean nothing.
            if fs::metadata(&parent)?.dev() != fs::metadata(&workspace)?.dev() {
                return refused("it is the sandbox's own");
            }
            let to = parent.with_extension("moved");
            fs::rename(&parent, &to)?;
            worked(fs::rename(&to, &parent), "renamed")
        });
    }
}

/// Control files that the scene's workspace does not have.
pub(crate) const ABSENT: &[&str] = &[
    ".mcp.json",
    ".claude/settings.json",
    ".codex/config.toml",
    ".idea/workspace.xml",
    ".envrc",
    ".gemini/settings.json",
];

fn absent_names(attack: &mut Attack<'_>) {
    let (workspace, token) = (attack.facts.workspace.clone(), attack.facts.token.clone());
    for name in ABSENT {
        let path = workspace.join(name);
        attack.effect(&format!("create {name}"), || {
            if let Some(parent) = path.parent() {
                fs::create_dir_all(parent)?;
            }
            create(&path, &token)
        });
        let top = workspace.join(name.split('/').next().unwrap_or(name));
        attack.effect(&format!("move something to {name}"), || {
            let own = workspace.join("own");
            let _ = fs::remove_dir_all(&own);
            let _ = fs::remove_file(&own);
            if top == path {
                create(&own, &token)?;
            } else {
                fs::create_dir_all(&own)?;
                create(own.join(path.file_name().unwrap_or_default()), &token)?;
            }
            worked(fs::rename(&own, &top), "moved")
        });
    }
}

/// Each says which path a person must be told of.
fn nested_repositories(attack: &mut Attack<'_>) {
    let (workspace, token) = (attack.facts.workspace.clone(), attack.facts.token.clone());
    for (what, path, content) in [
        (
            "make a repository with a hook below",
            "nested/.git/hooks/post-checkout",
            token.clone(),
        ),
        ("write a submodule's configuration", ".gitmodules", token.clone()),
        (
            "point a worktree elsewhere",
            "worktree/.git",
            format!("gitdir: /tmp/{token}"),
        ),
        (
            "leave hooks for a submodule",
            ".git/modules/m/hooks/post-checkout",
            token.clone(),
        ),
        ("configure a submodule", ".git/modules/m/config", token.clone()),
        (
            "take hooks and configuration from elsewhere",
            ".git/commondir",
            format!("../{token}"),
        ),
        ("configure the worktree", ".git/config.worktree", token.clone()),
    ] {
        attack.effect(what, || {
            let at = workspace.join(path);
            if let Some(parent) = at.parent() {
                fs::create_dir_all(parent)?;
            }
            create(&at, &content)?;
            Ok(path.to_owned())
        });
    }
    attack.effect(
        "make the workspace look like a repository without a work tree",
        || {
            fs::create_dir_all(workspace.join("bare/objects"))?;
            fs::create_dir_all(workspace.join("bare/refs"))?;
            create(workspace.join("bare/config"), &token)?;
            create(workspace.join("bare/HEAD"), "ref: refs/heads/main")?;
            Ok("bare".to_owned())
        },
    );
}
