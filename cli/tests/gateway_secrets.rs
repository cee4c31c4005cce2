//! A provider's key is in the gateway and nowhere else: not in an argument, an environment, a log, a file, a core or the
//! memory of any other process of Lodge, those of the guest included.

#![allow(clippy::unwrap_used)]

mod common;

use common::memory::Needles;
use common::page::Page;
use common::vendor::Vendor;
use common::{Lodge, eventually, repository, signal, stderr, stdout};
use rustix::process::Signal;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::{Command, Stdio};

/// One from a file that the configuration names, one that is given to `lodgectl` and sealed.
const FROM_FILE: &str = "sk-from-a-file-5f2c81d09be74a63-Zq8";
const SEALED: &str = "sk-sealed-c40e9d6b7712f5a8-Lm3-and-more";
/// One that is entered in the browser.
const FROM_PAGE: &str = "sk-from-a-page-71e8c2b90f4d6a35-Kp7-and-more";
/// One from a variable that the configuration names.
const FROM_VARIABLE: &str = "sk-from-a-variable-90d3f7a5c2be1486-Rt1";
/// What the test itself leaves about, to see that it would be found.
const PLANTED: &str = "sk-planted-8a1b60f39ec2d745-Xw5-and-more";

/// A Lodge with pi, in which both keys are in use.
fn lodge_in_use(lodge: &Lodge, vendor: &Vendor, page: &Page) {
    let address = format!("http://{}/v1", vendor.address);
    let kind = ["--kind", "openai_compatible", "--base-url", &address];
    let added = lodge.ctl(&[&["provider", "add", "sealed"], &kind[..]].concat(), SEALED);
    assert!(added.status.success(), "{}", stderr(&added));
    assert!(!stdout(&added).contains(SEALED));
    page.enter_key("page", FROM_PAGE, &address);
    for provider in ["sealed", "page"] {
        eventually("the model is listed", || {
            lodge.models(provider).contains(&"demo".to_owned()).then_some(())
        });
    }
    let workspace = lodge.folder("work");
    for model in ["anthropic/demo", "sealed/demo", "page/demo"] {
        // A tool shows what the agent has around it; an error of the provider goes into logs and the transcript.
        let prompt = "use bash: cat /proc/[0-9]*/cmdline /proc/[0-9]*/environ\nerr 400\nsay never";
        let folder = workspace.to_str().unwrap();
        let chat = lodge.run(&[
            "chat",
            "--json",
            "--harness",
            "pi",
            "--model",
            model,
            "--workspace",
            folder,
            prompt,
        ]);
        let said = stdout(&chat) + &stderr(&chat);
        assert!(said.contains("LODGE_API_KEY"), "the tool ran: {said}");
        assert!(
            [FROM_FILE, SEALED, FROM_PAGE]
                .iter()
                .all(|key| !said.contains(key))
        );
    }
    for key in [FROM_FILE, SEALED, FROM_PAGE] {
        let shows = |header: Option<&str>| header.is_some_and(|value| value.ends_with(key));
        let exchanges = vendor.exchanges();
        let mut requests = exchanges.iter().map(|exchange| &exchange.request);
        assert!(
            requests
                .any(|request| shows(request.header("x-api-key")) || shows(request.header("authorization"))),
            "{key} was never used"
        );
    }
}

fn configure(lodge: &Lodge, vendor: &Vendor, key: &Path) {
    std::fs::write(key, FROM_FILE).unwrap();
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o600)).unwrap();
    let folder = lodge.data().join("config");
    std::fs::create_dir_all(&folder).unwrap();
    std::fs::write(folder.join("lodge.toml"), vendor.configuration(key)).unwrap();
}

/// The processes of this Lodge, with their command lines.
fn processes(lodge: &Lodge) -> Vec<(u32, String)> {
    let split = |line: String| {
        let (pid, line) = line.split_once(' ').unwrap();
        (pid.parse().unwrap(), line.to_owned())
    };
    lodge.processes().into_iter().map(split).collect()
}

#[test]
fn a_providers_key_is_in_one_process_and_nowhere_else() {
    let lodge = Lodge::with_pi();
    let keys = tempfile::tempdir_in(repository().join("target/tests")).unwrap();
    let vendor = Vendor::start();
    configure(&lodge, &vendor, &keys.path().join("key"));
    let up = lodge.up(&["--workspace", lodge.folder("work").to_str().unwrap()]);
    lodge_in_use(&lodge, &vendor, &Page::login(&up));

    let needles = Needles::new(&[FROM_FILE, SEALED, FROM_PAGE]);
    let gateway = lodge.status()["roles"]["gateway"]["pid"].as_u64().unwrap();
    let (mut read, mut closed) = (String::from("\n"), String::from("\n"));
    for (pid, line) in processes(&lodge) {
        if u64::from(pid) == gateway {
            continue;
        }
        let line = line.trim_end().to_owned() + " \n";
        match needles.in_process(pid) {
            Some(places) => {
                assert!(places.is_empty(), "{line}: {places:#?}");
                read += &line;
            }
            // Not dumpable, or not below this test: then nobody else of this user reads it either.
            None => closed += &line,
        }
    }
    for part in [" up ", " runner ", " backend ", " history "] {
        assert!(
            read.contains(part),
            "`{part}` was not looked at:{read}closed:{closed}"
        );
    }
    let all = read + &closed;
    for part in ["lodge-shim", "/run/lodge/init", "\npi "] {
        assert!(all.contains(part), "there is no `{part}`:{all}");
    }
    assert_no_core(&lodge, gateway);
    let places = needles.in_files(lodge.root());
    assert!(places.is_empty(), "{places:#?}");
}

/// What was started with a key in its environment cannot take it out of there; nothing that it starts has it.
#[test]
fn a_key_from_a_variable_is_with_whom_it_was_given_and_in_the_gateway() {
    let lodge = Lodge::with_pi();
    let folder = lodge.data().join("config");
    std::fs::create_dir_all(&folder).unwrap();
    let configuration = "[[provider]]\nname = \"anthropic\"\nkind = \"anthropic\"\nkey_env = \"A_KEY\"\n";
    std::fs::write(folder.join("lodge.toml"), configuration).unwrap();
    let up = lodge.up_with(&[], &[("A_KEY", FROM_VARIABLE)]);
    let status = lodge.status();
    let gateway = status["roles"]["gateway"]["pid"].as_u64().unwrap();
    let holders = [u64::from(up.child.id()), gateway];
    let needles = Needles::new(&[FROM_VARIABLE]);
    let mut looked_at = 0;
    for (pid, line) in processes(&lodge) {
        if holders.contains(&pid.into()) {
            continue;
        }
        let places = needles.in_process(pid).unwrap_or_default();
        assert!(places.is_empty(), "{line}: {places:#?}");
        looked_at += 1;
    }
    assert!(looked_at >= 3, "runner, history and backend: {looked_at}");
    let places = needles.in_files(lodge.root());
    assert!(places.is_empty(), "{places:#?}");
}

/// The gateway leaves no core: none is allowed, and the kernel takes it for one whose memory nobody may see.
fn assert_no_core(lodge: &Lodge, gateway: u64) {
    let limits = std::fs::read_to_string(format!("/proc/{gateway}/limits")).unwrap();
    let limit = limits
        .lines()
        .find(|line| line.starts_with("Max core file size"))
        .unwrap();
    let soft = limit
        .trim_start_matches("Max core file size")
        .split_whitespace()
        .next();
    assert_eq!(soft, Some("0"), "{limit}");
    if lodge_proto::sock::own_uid() != 0 {
        // What belongs to a process that is not dumpable is root's.
        let owner = std::fs::metadata(format!("/proc/{gateway}/environ"))
            .unwrap()
            .uid();
        assert_eq!(owner, 0);
        assert!(std::fs::File::open(format!("/proc/{gateway}/mem")).is_err());
    }
    let pattern = std::fs::read_to_string("/proc/sys/kernel/core_pattern").unwrap();
    let directory = std::fs::read_link(format!("/proc/{gateway}/cwd"));
    // Who may not see it finds it where the gateway was started: here.
    let directory = directory.unwrap_or_else(|_| std::env::current_dir().unwrap());
    // Where a pattern is a path, cores go there; else, where the process is.
    let named = Path::new(pattern.trim())
        .parent()
        .filter(|folder| folder.is_absolute());
    let place = named.map_or(directory, Path::to_owned);
    let cores = || {
        let names = std::fs::read_dir(&place).into_iter().flatten().flatten();
        let names = names.map(|entry| entry.file_name().to_string_lossy().into_owned());
        names.filter(|name| name.contains("core")).collect::<Vec<_>>()
    };
    let before = cores();
    signal(gateway, Signal::ABORT);
    eventually("another gateway serves", || {
        let now = lodge.status()["roles"]["gateway"].clone();
        (now["health"] == "ready" && now["pid"].as_u64() != Some(gateway)).then_some(())
    });
    assert_eq!(cores(), before, "the gateway left a core in {}", place.display());
    let log = lodge.data().join("logs");
    assert!(Needles::new(&["(core dumped)"]).in_files(&log).is_empty());
}

/// The search itself: what is planted in each of the places is found there.
#[test]
fn a_key_that_lies_about_is_found() {
    let lodge = Lodge::new();
    let needles = Needles::new(&[PLANTED]);
    // The shell has it in its memory and its environment, and what it starts in its arguments.
    let script = format!("read line; echo ready; exec sleep 60 {PLANTED}");
    let mut planted = Command::new("sh")
        .args(["-c", "read line; echo ready; read more"])
        .env("PLANTED", PLANTED)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = planted.stdin.take().unwrap();
    input.write_all(b"go\n").unwrap();
    let places = eventually("the shell runs", || {
        let places = needles.in_process(planted.id()).unwrap();
        (places.iter().any(|place| place.starts_with("environ"))).then_some(places)
    });
    assert!(
        places.iter().any(|place| place.starts_with("memory")),
        "{places:?}"
    );
    let mut argument = Command::new("sh")
        .args(["-c", &script])
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    eventually("the other shell runs", || {
        let places = needles.in_process(argument.id()).unwrap();
        let is_there = places.iter().any(|place| place.starts_with("cmdline"));
        is_there.then_some(())
    });
    for child in [&mut planted, &mut argument] {
        child.kill().unwrap();
        child.wait().unwrap();
    }
    let folder = lodge.folder("a/b");
    std::fs::write(folder.join("log"), format!("key={PLANTED}\n")).unwrap();
    std::fs::write(folder.join("clean"), "key=sk-planted-\n").unwrap();
    let wide: Vec<u8> = PLANTED.encode_utf16().flat_map(u16::to_le_bytes).collect();
    std::fs::write(folder.join("wide"), wide).unwrap();
    assert_eq!(needles.in_files(lodge.root()).len(), 2);
}
