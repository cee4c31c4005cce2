//! The container tier against a real engine.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{MetadataExt, symlink};
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use lodge_guest::client::Client;
use lodge_guest::mux::{Exit, Start};
use lodge_sandbox::plan::Mount;
use lodge_sandbox::policy::Net;
use lodge_sandbox::size::Bytes;
use rustix::fs::{CWD, RenameFlags, renameat_with};
use support::{DEADLINE, Session, docker, eventually, processes_with};

#[test]
fn commands_run_and_nothing_is_left() {
    let session = Session::new();
    let guest = session.start();
    assert_eq!(guest.run(&["true"]).exit.code, Some(0));
    let killed = guest.run(&["sh", "-c", "kill -KILL $$"]);
    assert_eq!(
        killed.exit,
        Exit {
            code: None,
            signal: Some(9)
        }
    );
    assert_eq!(session.containers().lines().count(), 1);
    // Staging has served as soon as guest init runs.
    assert_eq!(session.staged(), 0);
    assert!(guest.end().success());
    assert_eq!(session.containers(), "");
}

#[test]
fn bytes_come_back_whole() {
    let session = Session::new();
    let guest = session.start();
    let echo = guest.start_command(&["cat"]);
    let sent: Vec<u8> = (0..1_000_000u32).flat_map(u32::to_le_bytes).collect();
    let output = std::thread::scope(|scope| {
        scope.spawn(|| {
            echo.write(&sent).unwrap();
            echo.close_stdin().unwrap();
        });
        let mut got = Vec::new();
        loop {
            match echo.next_event() {
                lodge_guest::client::Event::Stdout(bytes) => got.extend(bytes),
                lodge_guest::client::Event::Exit(exit) => break (got, exit.code),
                event => panic!("{event:?}"),
            }
        }
    });
    assert_eq!(output.1, Some(0));
    assert!(output.0 == sent, "{} of {} bytes", output.0.len(), sent.len());
}

#[test]
fn files_of_the_workspace_belong_to_the_user_on_both_sides() {
    let session = Session::new();
    let workspace = &session.spec.workspace;
    fs::write(workspace.join("old"), "old").unwrap();
    let guest = session.start();
    let at = workspace.display();
    let (text, code) = guest.sh(&format!(
        "cd {at} && cat old && echo new >new && mkdir dir && echo more >>old && id -u"
    ));
    assert_eq!(code, Some(0), "{text}");
    assert_eq!(text.trim_start_matches("old"), guest.plan.uid.to_string());
    for name in ["new", "dir", "old"] {
        let meta = fs::metadata(workspace.join(name)).unwrap();
        assert_eq!(
            (meta.uid(), meta.gid()),
            (session.spec.uid, session.spec.gid),
            "{name}"
        );
    }
    assert_eq!(fs::read_to_string(workspace.join("old")).unwrap(), "oldmore\n");
    let (home, code) = guest.sh("echo x >$HOME/file && stat -c %u $HOME/file");
    assert_eq!((home, code), (guest.plan.uid.to_string(), Some(0)));
}

#[test]
fn control_files_are_held_also_when_absent() {
    let session = Session::new();
    let workspace = &session.spec.workspace;
    fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
    fs::write(workspace.join(".git/config"), "[core]\n").unwrap();
    let guest = session.start();
    for attempt in [
        "echo x >.git/hooks/pre-commit",
        "echo x >>.git/config",
        "rm -rf .git/hooks",
        "mv .git/hooks .git/other",
        "mv .git .git2",
        "mkdir -p .vscode && echo x >.vscode/tasks.json",
        "echo x >.envrc",
        "echo x >.mcp.json",
        "mkdir -p .lodge && echo x >.lodge/sandbox.toml",
    ] {
        let (said, code) = guest.sh(&format!("cd {} && {attempt}", workspace.display()));
        assert_ne!(code, Some(0), "{attempt}: {said}");
    }
    // The rest of the repository is the guest's.
    let (said, code) = guest.sh(&format!(
        "cd {} && echo x >.git/HEAD && echo y >file",
        workspace.display()
    ));
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(
        fs::read_to_string(workspace.join(".git/config")).unwrap(),
        "[core]\n"
    );
    assert_eq!(fs::read_dir(workspace.join(".git/hooks")).unwrap().count(), 0);
}

#[test]
fn the_root_is_read_only_and_scratch_has_a_size() {
    let session = Session::new();
    let mut policy = Session::policy();
    policy.fs.tmp_size = Bytes::mib(8);
    let guest = session.start_with(&policy);
    for place in [
        "/",
        "/etc/passwd",
        "/usr/bin/x",
        "/run/lodge/x",
        "/var/x",
        "/opt/x",
        "/home/x",
        "/root/x",
    ] {
        let (said, code) = guest.sh(&format!("echo x >>{place}"));
        assert_ne!(code, Some(0), "{place}: {said}");
    }
    let (said, code) = guest.sh("head -c 4000000 /dev/zero >/tmp/small && rm /tmp/small");
    assert_eq!(code, Some(0), "{said}");
    for place in ["/tmp", "/dev/shm"] {
        let (said, code) = guest.sh(&format!("head -c 20000000 /dev/zero >{place}/big"));
        assert_ne!(code, Some(0), "{place} took more than its size: {said}");
    }
}

#[test]
fn there_is_no_network_no_privilege_and_no_way_to_the_host() {
    let session = Session::new();
    let guest = session.start();
    let (links, _) = guest.sh("cd /sys/class/net && echo *");
    assert_eq!(links, "lo");
    let (status, _) = guest.sh("grep -E '^(Cap|NoNewPrivs|Seccomp:)' /proc/self/status");
    for line in status.lines().filter(|line| line.starts_with("Cap")) {
        assert!(line.ends_with("0000000000000000"), "{line}");
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    for attempt in [
        "unshare --user true",
        "mount -t tmpfs none /tmp",
        "echo x >/proc/sys/kernel/core_pattern",
        "ls /run/docker.sock /var/run/docker.sock",
        "cat /etc/shadow",
    ] {
        let (said, code) = guest.sh(attempt);
        assert_ne!(code, Some(0), "{attempt}: {said}");
    }
    let socket = "import socket; s = socket.socket(socket.AF_UNIX); s.connect('/run/lodge/mux.sock')";
    let (said, code) = guest.sh(&format!("python3 -c \"{socket}\""));
    assert_ne!(code, Some(0), "a command reached guest init's socket: {said}");
}

#[test]
fn the_gateways_socket_is_reached_through_the_loopback() {
    let session = Session::new();
    let guest = session.start();
    let gateway = session.gateway.try_clone().unwrap();
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = gateway.accept().unwrap();
        let mut head = [0; 4];
        stream.read_exact(&mut head).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello")
            .unwrap();
        head
    });
    let (said, code) = guest.sh("curl --silent --max-time 30 --noproxy '*' http://127.0.0.1:8377/x");
    assert_eq!((said.as_str(), code), ("hello", Some(0)));
    assert_eq!(&serve.join().unwrap(), b"GET ");
}

#[test]
fn processes_and_memory_are_bounded() {
    let session = Session::new();
    let mut policy = Session::policy();
    policy.limits.processes = Some(40);
    policy.limits.memory = Some(Bytes::mib(256));
    let guest = session.start_with(&policy);
    let bomb = "import os, time\nn = 0\ntry:\n  while n < 200:\n    if os.fork() == 0: time.sleep(1000)\n    n += 1\nexcept OSError: pass\nprint(n)";
    let (forked, _) = guest.sh(&format!("python3 -c '{bomb}'"));
    let forked: u32 = forked.parse().unwrap();
    assert!((10..=40).contains(&forked), "{forked} processes");
    drop(guest);
    let guest = session.start_with(&policy);
    let (said, code) = guest.sh("python3 -c 'b = bytearray(800 << 20); print(len(b))'");
    assert_ne!(code, Some(0), "{said}");
}

#[test]
fn a_daemon_does_not_outlive_its_session() {
    let session = Session::new();
    let guest = session.start();
    let mark = format!("31337.{}", std::process::id());
    let (said, code) = guest.sh(&format!(
        "setsid sh -c 'trap \"\" TERM HUP; sleep {mark} & sleep {mark}' >/dev/null 2>&1 &"
    ));
    assert_eq!(code, Some(0), "{said}");
    eventually("the daemon runs", || processes_with(&mark) >= 2);
    assert!(guest.end().success());
    assert_eq!(processes_with(&mark), 0);
}

#[test]
fn a_killed_launcher_leaves_no_container() {
    let session = Session::new();
    let mut guest = session.start();
    let mark = format!("31338.{}", std::process::id());
    guest.start_command(&["sleep", &mark]);
    eventually("the command runs", || processes_with(&mark) > 0);
    guest.child.kill().unwrap();
    guest.child.wait().unwrap();
    let killed = std::time::Instant::now();
    eventually("the container is gone", || session.containers().is_empty());
    assert!(
        killed.elapsed() < Duration::from_secs(10),
        "{:?}",
        killed.elapsed()
    );
    assert_eq!(processes_with(&mark), 0);
    assert_eq!(session.staged(), 0);
}

#[test]
fn what_a_kill_in_between_leaves_is_swept() {
    let session = Session::new();
    // Puts the image into the engine.
    session.start().end();
    let images = docker(&["images", "--quiet", "lodge-guest"]);
    let image = images.lines().next().unwrap();
    let meta = fs::metadata(&session.state).unwrap();
    let label = format!("lodge.state={:x}-{:x}", meta.dev(), meta.ino());
    // Owned by a process that cannot be.
    docker(&[
        "create",
        "--label",
        &label,
        "--label",
        "lodge.owner=1-1",
        image,
        "true",
    ]);
    fs::create_dir_all(session.state.join("run/1-1/m")).unwrap();
    fs::write(session.state.join("run/1-1/f0"), "x").unwrap();
    assert_eq!(session.containers().lines().count(), 1);
    session.start().end();
    assert_eq!(session.containers(), "");
    assert_eq!(session.staged(), 0);
}

#[test]
fn a_path_that_was_exchanged_is_refused() {
    let session = Session::new();
    let mut plan = session.plan(&Session::policy());
    let secret = session.root.path().join("secret");
    fs::create_dir(&secret).unwrap();
    let link = session.root.path().canonicalize().unwrap().join("link");
    symlink(&secret, &link).unwrap();
    for mount in &mut plan.mounts {
        if let Mount::Bind { from, at, .. } = mount
            && *at == session.spec.workspace
        {
            from.clone_from(&link);
        }
    }
    let (child, mux) = session.launch(&plan, Stdio::piped());
    assert!(Client::new(mux, DEADLINE).is_err());
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success());
    assert!(said.contains("link"), "{said}");
    assert_eq!((session.containers().as_str(), session.staged()), ("", 0));
}

/// Ends the exchanging also when an assertion fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_path_that_is_exchanged_all_the_time_never_leads_elsewhere() {
    let session = Session::new();
    let hooks = session.spec.workspace.join(".git/hooks");
    fs::create_dir_all(&hooks).unwrap();
    fs::write(session.spec.workspace.join(".git/config"), "").unwrap();
    let plan = session.plan(&Session::policy());
    let secret = session.root.path().join("secret");
    fs::create_dir(&secret).unwrap();
    fs::write(secret.join("key"), "very-secret").unwrap();
    let link = session.spec.workspace.join(".git/link");
    symlink(&secret, &link).unwrap();
    let over = AtomicBool::new(false);
    let (mut refused, mut ran) = (0, 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                renameat_with(CWD, &hooks, CWD, &link, RenameFlags::EXCHANGE).unwrap();
            }
        });
        let _over = Over(&over);
        for _ in 0..16 {
            let Ok((mut child, mux)) = session.try_launch(&plan, Stdio::null()) else {
                refused += 1;
                continue;
            };
            if let Ok(client) = Client::new(mux, DEADLINE) {
                let start = Start {
                    argv: ["ls", "-L", &hooks.display().to_string()]
                        .map(str::to_owned)
                        .to_vec(),
                    env: plan.guest_env.clone(),
                    cwd: "/".into(),
                    pty: false,
                    size: None,
                };
                let listed = client
                    .start(&start)
                    .unwrap()
                    .wait_with_output(1 << 20, DEADLINE)
                    .unwrap();
                // It goes on being exchanged, so what there is to see may be nothing at all.
                let seen = String::from_utf8_lossy(&listed.stdout);
                assert!(!seen.contains("key"), "{seen}");
                ran += 1;
            } else {
                refused += 1;
            }
            child.wait().unwrap();
        }
    });
    assert_eq!(ran + refused, 16);
    assert_eq!((session.containers().as_str(), session.staged()), ("", 0));
}

#[test]
fn the_asker_that_goes_away_while_it_starts_gets_everything_removed() {
    let session = Session::new();
    let (mut child, mux) = session.launch(&session.plan(&Session::policy()), Stdio::inherit());
    drop(mux);
    child.wait().unwrap();
    assert_eq!((session.containers().as_str(), session.staged()), ("", 0));
}

#[test]
fn no_secret_shows_in_the_engines_words() {
    let session = Session::new();
    let mut policy = Session::policy();
    policy.env.set.insert("TOKEN".into(), "very-secret".into());
    let guest = session.start_with(&policy);
    let (text, _) = guest.sh("echo $TOKEN");
    assert_eq!(text, "very-secret");
    let told = docker(&["inspect", &session.containers()]);
    assert!(told.contains("lodge.owner"));
    assert!(!told.contains("very-secret"));
}

#[test]
fn programs_that_connect_by_name_reach_the_broker() {
    let session = Session::new();
    let mut policy = Session::policy();
    policy.net = Net::Broker {
        allow: ["example.org".to_owned()].into(),
        deny: [].into(),
        ports: [80].into(),
        unlisted: lodge_sandbox::policy::Unlisted::Deny,
    };
    let guest = session.start_with(&policy);
    let gateway = session.gateway.try_clone().unwrap();
    let serve = std::thread::spawn(move || {
        let (mut stream, _) = gateway.accept().unwrap();
        let mut head = vec![0; 256];
        let got = stream.read(&mut head).unwrap();
        String::from_utf8_lossy(&head[..got]).into_owned()
    });
    // Without proxy variables: the name is answered and the connection taken inside.
    guest.sh("env -u http_proxy -u HTTP_PROXY -u all_proxy -u ALL_PROXY curl --silent --max-time 20 http://example.org/");
    let head = serve.join().unwrap();
    assert!(head.starts_with("CONNECT example.org:80"), "{head}");
}
