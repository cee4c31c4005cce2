//! The whole suite in the process tier, as whoever runs the tests and, when that is root, as an ordinary user too.

use std::path::{Path, PathBuf};
use std::process::Command;

use lodge_probe::table::PROBES;
use lodge_probe::{Options, check};
use lodge_sandbox::findings::shown;
use lodge_sandbox::launch::Tools;
use lodge_sandbox::policy::{Profile, Tier};

/// About the broker, which belongs to the gateway: `lodge sandbox check` brings it along.
const WITH_BROKER: &[&str] = &[
    "N06", "N07", "N08", "N09", "N10", "N11", "N12", "N15", "N16", "N17",
];
/// An ordinary user that every system has.
const NOBODY: &str = "65534";

fn target() -> PathBuf {
    let default = || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target");
    std::env::var_os("LODGE_TARGET").map_or_else(default, PathBuf::from)
}

fn differences(profile: Profile) -> String {
    let state = tempfile::tempdir().expect("temporary directory");
    let target = target();
    let show = |text: &str| shown(text.as_ref());
    let ids = PROBES.iter().map(|probe| probe.id.to_owned());
    let options = Options {
        tier: Tier::Process,
        profile,
        tools: Tools {
            tier_binary: target.join("debug/lodge-tier"),
            init_binary: target.join("guest/lodge-init"),
            state: state.path().canonicalize().expect("real path"),
        },
        program: target.join("guest/lodge-probe"),
        ids: ids.filter(|id| !WITH_BROKER.contains(&id.as_str())).collect(),
        scene_parent: None,
        broker: None,
        show: &show,
        progress: None,
    };
    let report = check(&options).unwrap_or_else(|error| panic!("{error}; run scripts/build-guest"));
    assert_eq!(report.rows.len(), PROBES.len() - WITH_BROKER.len());
    let lines = report.differences().map(|row| {
        format!(
            "{}: {} instead of {}: {} ({:?})\n",
            row.id, row.found, row.wanted, row.detail, row.control
        )
    });
    lines.collect()
}

#[test]
fn every_probe_is_as_wanted() {
    let differences = differences(Profile::Development);
    assert!(differences.is_empty(), "{differences}");
}

/// Runs the test above again without rights.
#[test]
fn every_probe_is_as_wanted_for_an_ordinary_user() {
    if !rustix::process::getuid().is_root() {
        // The test above has done it.
        return;
    }
    let own = tempfile::Builder::new()
        .prefix("lodge-nobody-")
        .tempdir()
        .unwrap();
    let number = NOBODY.parse().unwrap();
    std::os::unix::fs::chown(own.path(), Some(number), Some(number)).unwrap();
    let output = Command::new("setpriv")
        .args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups"])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", "every_probe_is_as_wanted", "--nocapture"])
        .env_clear()
        .env("PATH", "/usr/bin:/bin")
        .env("HOME", own.path())
        .env("TMPDIR", own.path())
        .env("LODGE_TARGET", target())
        .output()
        .expect("setpriv: sudo apt-get install --yes util-linux");
    let said = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(output.status.success() && said.contains("1 passed"), "{said}");
}
