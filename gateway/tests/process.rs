//! Making the process fit to hold keys, in a process with one thread: the usual test harness has more.
#![allow(clippy::unwrap_used)]

use std::os::unix::fs::MetadataExt;
use std::process::Command;

use lodge_gateway::{Config, Options};
use rustix::process::{DumpableBehavior, Resource, dumpable_behavior, getrlimit};

const VARIABLE: &str = "LODGE_TEST_PROVIDER_KEY";

/// The one test, as a runner lists it.
const NAME: &str = "keys_leave_the_environment_and_memory_cannot_be_read";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let asked = |flag: &str| arguments.iter().any(|argument| argument == flag);
    if asked("--list") {
        // Runners ask for the ignored ones apart; there are none.
        if !asked("--ignored") {
            println!("{NAME}: test");
        }
        return;
    }
    // Run by this very program below, with the variable set from outside.
    if std::env::var_os(VARIABLE).is_some() {
        return prepared();
    }
    let this = std::env::current_exe().unwrap();
    let status = Command::new(this)
        .env(VARIABLE, "sk-from-the-environment")
        .status()
        .unwrap();
    assert!(status.success(), "see the panic above");
    println!("test {NAME} ... ok\n\ntest result: ok. 1 passed; 0 failed");
}

fn prepared() {
    let data = tempfile::tempdir().unwrap();
    let options = Options::embedded(data.path());
    std::fs::create_dir(data.path().join("config")).unwrap();
    let text = format!("[[provider]]\nname = 'a'\nkind = 'anthropic'\nkey_env = '{VARIABLE}'\n");
    std::fs::write(&options.file, text).unwrap();

    let config = Config::prepare(&options).unwrap();
    assert_eq!(
        config.providers[0].key.as_ref().unwrap().expose(),
        "sk-from-the-environment"
    );
    assert_eq!(std::env::var_os(VARIABLE), None);
    let child = Command::new("env").output().unwrap();
    assert!(child.status.success() && !String::from_utf8_lossy(&child.stdout).contains(VARIABLE));
    assert_eq!(dumpable_behavior().unwrap(), DumpableBehavior::NotDumpable);
    let core = getrlimit(Resource::Core);
    assert_eq!((core.current, core.maximum), (Some(0), Some(0)));
    let file = data.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert_eq!(std::fs::metadata(&file).unwrap().mode() & 0o777, 0o600);

    // The variable is gone: a second start must say so instead of running without a key.
    let error = Config::prepare(&options).unwrap_err().to_string();
    assert!(error.contains("key_env") && error.contains(VARIABLE), "{error}");
}
