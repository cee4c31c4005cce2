//! Updates, and what running sessions keep.

use super::super::{InstallError, in_use, store};
use super::{Bench, REGISTRY, names};

/// Makes of the installed pi one of an older version, as an earlier release of Lodge left it.
fn age(bench: &Bench, version: &str) {
    let folder = bench.data().join("harness/pi");
    let (new, old) = (folder.join("0.87.1"), folder.join(version));
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([&new, &old])
        .status();
    assert!(copied.unwrap().success());
    for file in [
        "lodge-harness.json",
        "node_modules/@earendil-works/pi-coding-agent/package.json",
    ] {
        let path = old.join(file);
        let text = std::fs::read_to_string(&path).unwrap().replace("0.87.1", version);
        // The tree is read-only, and so is the file: its folder is not for long.
        let parent = path.parent().unwrap();
        writable(parent);
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, text).unwrap();
    }
    writable(&folder.join("0.87.1"));
    store::remove_tree(&folder.join("0.87.1")).unwrap();
}

fn writable(folder: &std::path::Path) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(folder, std::fs::Permissions::from_mode(0o755)).unwrap();
}

#[test]
fn an_older_version_gives_way_to_the_pinned_one() {
    let bench = Bench::new();
    let installer = bench.good();
    let missing = installer.update("pi", &REGISTRY, &mut ()).unwrap_err();
    assert!(matches!(missing, InstallError::NotInstalled { .. }), "{missing}");
    super::install(&installer).unwrap();
    assert_eq!(installer.update_of("pi").unwrap(), None);
    age(&bench, "0.85.0");
    assert_eq!(installer.resolve("pi").unwrap().version.to_string(), "0.85.0");
    assert_eq!(installer.update_of("pi").unwrap().unwrap().to_string(), "0.87.1");

    let updated = installer.update("pi", &REGISTRY, &mut ()).unwrap();
    assert!(updated.is_new);
    assert_eq!(updated.harness.version.to_string(), "0.87.1");
    assert_eq!(updated.removed, ["0.85.0".parse().unwrap()]);
    assert!(updated.in_use.is_empty());
    assert_eq!(names(&bench.data().join("harness/pi")), ["0.87.1"]);
    assert_eq!(installer.update_of("pi").unwrap(), None);
    let again = installer.update("pi", &REGISTRY, &mut ()).unwrap();
    assert!(!again.is_new && again.removed.is_empty());
}

#[test]
fn what_a_session_runs_on_stays_until_it_ends() {
    let bench = Bench::new();
    let installer = bench.good();
    super::install(&installer).unwrap();
    age(&bench, "0.85.0");
    let roots = installer.resolve("pi").unwrap().roots;
    let (one, other) = (in_use::hold(&roots).unwrap(), in_use::hold(&roots).unwrap());
    let old = ["0.85.0".parse().unwrap()];
    for held in [one, other] {
        let updated = installer.update("pi", &REGISTRY, &mut ()).unwrap();
        assert_eq!(updated.in_use, old);
        assert!(updated.removed.is_empty());
        assert!(roots.iter().all(|root| root.is_dir()));
        drop(held);
    }
    assert_eq!(installer.update("pi", &REGISTRY, &mut ()).unwrap().removed, old);
    // A session that is just starting on it is told so.
    assert!(in_use::hold(&roots).is_err());
}

#[test]
fn what_a_session_runs_on_is_not_removed_by_name_either() {
    let bench = Bench::new();
    let installer = bench.good();
    super::install(&installer).unwrap();
    let roots = installer.resolve("pi").unwrap().roots;
    let held = in_use::hold(&roots).unwrap();
    let refused = installer.remove("pi").unwrap_err();
    assert!(matches!(&refused, InstallError::InUse { .. }), "{refused}");
    assert_eq!(refused.code(), lodge_proto::ErrorCode::Conflict);
    assert!(refused.to_string().contains("0.87.1"), "{refused}");
    assert!(installer.resolve("pi").is_ok(), "nothing of it is gone");
    drop(held);
    installer.remove("pi").unwrap();
    assert!(installer.resolve("pi").is_err());
}
