#![allow(clippy::unwrap_used)] // A test that panics has failed.

use super::walk::inventory;
use super::*;
use proptest::prelude::*;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

fn look(harness: &str, root: &Path) -> Result<Inventory, Untrustable> {
    inventory(harness, fs::File::open(root).unwrap())
}

fn paths(inventory: &Inventory) -> Vec<&str> {
    inventory
        .entries
        .iter()
        .map(|entry| entry.path.as_str())
        .collect()
}

#[test]
fn each_harness_has_its_own_names() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for path in [
        ".pi/settings.json",
        ".pi/extensions/a.ts",
        ".codex/config.toml",
        ".claude/settings.json",
        "packages/a/.claude/skills/b/SKILL.md",
        ".git/.claude/settings.json",
        ".mcp.json",
        ".gemini/settings.json",
        ".env",
        ".opencode/plugin/a.js",
        ".opencode/node_modules/b/index.js",
        "opencode.json",
        "AGENTS.md",
        "src/main.rs",
    ] {
        write(root, path, "{}");
    }
    let of = |harness| {
        let found = look(harness, root).unwrap();
        (
            found
                .entries
                .iter()
                .map(|entry| entry.path.clone())
                .collect::<Vec<_>>(),
            found.left_out,
        )
    };
    assert_eq!(
        of("pi").0,
        [".mcp.json", ".pi/extensions/a.ts", ".pi/settings.json"]
    );
    assert_eq!(of("codex").0, [".codex/config.toml"]);
    let claude = [
        ".claude/settings.json",
        ".mcp.json",
        "packages/a/.claude/skills/b/SKILL.md",
    ];
    assert_eq!(of("claude").0, claude);
    assert_eq!(of("gemini").0, [".env", ".gemini/settings.json"]);
    let (opencode, left_out) = of("opencode");
    assert_eq!(opencode, [".opencode/plugin/a.js", "opencode.json"]);
    assert_eq!(left_out, [".opencode/node_modules"]);
    assert!(matches!(look("goose", root), Err(Untrustable::Harness(_))));
}

#[test]
fn the_programs_that_settings_name_are_part_of_it() {
    let root = tempfile::tempdir().unwrap();
    let root = root.path();
    for path in [
        "tools/server.py",
        "tools/hook",
        "tools/other.py",
        "tools/data.txt",
        "src/main.ts",
        "lib/a/index.js",
        "lib/a/text.md",
        ".claude/hooks/own.sh",
        "front.sh",
    ] {
        write(root, path, "x");
    }
    fs::set_permissions(root.join("tools/hook"), fs::Permissions::from_mode(0o755)).unwrap();
    symlink("other.py", root.join("tools/linked.py")).unwrap();
    let absolute = root.join("tools/hook").display().to_string();
    let settings = serde_json::json!({
        "mcpServers": { "a": { "command": "python3", "args": ["./tools/server.py", "tools/data.txt", "tools/linked.py"] } },
        "hooks": [absolute, "\"$CLAUDE_PROJECT_DIR\"/.claude/hooks/own.sh", "/etc/../../outside.sh"],
        "permissions": { "allow": ["Edit(src/main.ts)"] },
        "packages": ["../lib/a", "."],
    });
    write(root, ".claude/settings.json", &settings.to_string());
    write(
        root,
        ".claude/commands/c.md",
        "---\nhooks: ./front.sh\n---\nRead tools/other.py\n",
    );
    let found = look("claude", root).unwrap();
    let named: Vec<&str> = found
        .entries
        .iter()
        .filter(|entry| entry.named)
        .map(|entry| entry.path.as_str())
        .collect();
    let expected = [
        "front.sh",
        "lib/a/index.js",
        "lib/a/text.md",
        "tools/hook",
        "tools/server.py",
    ];
    assert_eq!(named, expected);
    assert!(found.roots.contains("lib/a") && found.roots.contains("tools/hook"));
    assert!(paths(&found).contains(&".claude/hooks/own.sh"));
}

#[test]
fn links_pipes_and_masses_are_refused() {
    type Make = fn(&Path);
    let make: [(&str, Make); 5] = [
        ("link", |root| {
            symlink("/etc/passwd", root.join(".mcp.json")).unwrap();
        }),
        ("link to a folder", |root| {
            symlink("/etc", root.join(".claude")).unwrap();
        }),
        ("pipe", |root| {
            let mode = rustix::fs::Mode::RUSR;
            rustix::fs::mknodat(
                rustix::fs::CWD,
                root.join(".mcp.json"),
                rustix::fs::FileType::Fifo,
                mode,
                0,
            )
            .unwrap();
        }),
        ("files", |root| {
            (0..501).for_each(|n| write(root, &format!(".claude/{n}"), ""));
        }),
        ("bytes", |root| {
            write(root, ".claude/big", &"x".repeat(4 * 1024 * 1024 + 1));
        }),
    ];
    for (what, make) in make {
        let root = tempfile::tempdir().unwrap();
        make(root.path());
        let refused = look("claude", root.path()).unwrap_err();
        let fits = match what {
            "link" | "link to a folder" => matches!(refused, Untrustable::Link { .. }),
            "pipe" => matches!(refused, Untrustable::Special { .. }),
            _ => matches!(refused, Untrustable::TooLarge { .. }),
        };
        assert!(fits, "{what}: {refused:?}");
        let judged = Judged::new(Err(refused), &Vec::new()).shown("/w", "claude");
        assert!(!judged.trustable && !judged.trusted && judged.digest.is_none() && judged.reason.is_some());
    }
}

#[test]
fn what_holds_no_file_is_nothing() {
    let root = tempfile::tempdir().unwrap();
    // As sandboxes hold the places of absent names.
    fs::create_dir_all(root.path().join(".claude/empty")).unwrap();
    fs::create_dir_all(root.path().join(".mcp.json")).unwrap();
    let found = look("claude", root.path()).unwrap();
    assert_eq!((found.digest(), found.roots.len()), (None, 0));
}

#[test]
fn what_was_trusted_is_trusted_and_nothing_else() {
    let root = tempfile::tempdir().unwrap();
    write(root.path(), ".mcp.json", "{}");
    write(root.path(), ".claude/settings.json", "{}");
    let first = look("claude", root.path()).unwrap();
    let trusted: Trusted = vec![(first.digest().unwrap(), first.files())];
    let judged = Judged::new(look("claude", root.path()), &trusted);
    assert_eq!((judged.trusted, judged.changed), (first.digest(), Vec::new()));
    write(root.path(), ".mcp.json", "{ }");
    fs::remove_file(root.path().join(".claude/settings.json")).unwrap();
    write(root.path(), ".claude/new", "");
    let judged = Judged::new(look("claude", root.path()), &trusted);
    assert_eq!(judged.trusted, None);
    let changed: Vec<(&str, CodeChangeKind)> = judged
        .changed
        .iter()
        .map(|change| (change.path.as_str(), change.change))
        .collect();
    let expected = [
        (".claude/new", CodeChangeKind::Added),
        (".claude/settings.json", CodeChangeKind::Removed),
        (".mcp.json", CodeChangeKind::Changed),
    ];
    assert_eq!(changed, expected);
    // Another harness's trust is none.
    let judged = Judged::new(look("pi", root.path()), &trusted);
    assert_eq!(judged.trusted, None);
}

#[test]
fn the_copy_is_what_was_read() {
    let (root, session) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    write(root.path(), ".opencode/plugin/a.js", "1");
    write(root.path(), "opencode.json", r#"{"plugin": ["./tools/run.sh"]}"#);
    write(root.path(), "tools/run.sh", "run");
    fs::set_permissions(
        root.path().join("tools/run.sh"),
        fs::Permissions::from_mode(0o700),
    )
    .unwrap();
    let found = look("opencode", root.path()).unwrap();
    // Whatever becomes of it meanwhile.
    write(root.path(), "opencode.json", "{}");
    for _ in 0..2 {
        let shown = copy::write(session.path(), &found).unwrap();
        let names: Vec<&str> = shown.iter().map(|shown| shown.name.as_str()).collect();
        assert_eq!(names, [".opencode", "opencode.json", "tools/run.sh"]);
        for entry in &found.entries {
            let copied = session.path().join("trusted").join(&entry.path);
            assert_eq!(fs::read(&copied).unwrap(), entry.contents);
            let runs = fs::metadata(&copied).unwrap().permissions().mode() & 0o111 != 0;
            assert_eq!(runs, entry.path == "tools/run.sh");
        }
    }
    copy::remove(session.path()).unwrap();
    copy::remove(session.path()).unwrap();
    assert!(!session.path().join("trusted").exists());
}

fn entries() -> impl Strategy<Value = Vec<Entry>> {
    let entry = (
        "[a-c/.]{1,4}",
        0u32..0o10000,
        prop::collection::vec(any::<u8>(), 0..6),
    );
    let entry = entry.prop_map(|(path, mode, contents)| Entry {
        path,
        mode,
        contents,
        named: false,
    });
    prop::collection::vec(entry, 1..6).prop_map(|mut entries| {
        entries.sort_by(|a, b| a.path.cmp(&b.path));
        entries.dedup_by(|a, b| a.path == b.path);
        entries
    })
}

fn of(harness: &str, entries: &[Entry]) -> String {
    let inventory = Inventory {
        harness: harness.to_owned(),
        entries: entries.to_vec(),
        ..Inventory::default()
    };
    inventory.digest().unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn equal_digests_are_equal_contents(a in entries(), b in entries()) {
        prop_assert_eq!(of("pi", &a) == of("pi", &b), a == b);
    }

    #[test]
    fn order_does_not_matter_and_everything_else_does(
        all in entries(), at in any::<prop::sample::Index>(), bit in 0u8..8, byte in any::<prop::sample::Index>(),
    ) {
        let digest = of("pi", &all);
        let backwards: Vec<Entry> = all.iter().rev().cloned().collect();
        prop_assert_eq!(&of("pi", &backwards), &digest);
        prop_assert_ne!(&of("codex", &all), &digest);
        let change = |how: &dyn Fn(&mut Entry)| {
            let mut other = all.clone();
            how(at.get_mut(&mut other));
            of("pi", &other)
        };
        prop_assert_ne!(&change(&|entry| entry.path.push('x')), &digest);
        prop_assert_ne!(&change(&|entry| entry.mode ^= 1 << bit), &digest);
        prop_assert_ne!(&change(&|entry| entry.contents.push(0)), &digest);
        let flip = |entry: &mut Entry| match entry.contents.len() {
            0 => entry.contents.push(1),
            length => entry.contents[byte.index(length)] ^= 1 << bit,
        };
        prop_assert_ne!(&change(&flip), &digest);
        let mut fewer = all.clone();
        fewer.remove(at.index(fewer.len()));
        if !fewer.is_empty() {
            prop_assert_ne!(&of("pi", &fewer), &digest);
        }
    }
}
