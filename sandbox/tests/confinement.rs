//! What a guest cannot do, each with the same act shown to work where it should.

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

use lodge_sandbox::bwrap::compile;
use lodge_sandbox::policy::{Layer, Policy, Profile};
use support::{Guest, Session, bwrap};

#[test]
fn the_environment_is_exactly_what_was_given() {
    let session = Session::new();
    let mut guest = session.start();
    let env = guest.run(1, &["env"]).text();
    let got: BTreeSet<&str> = env.lines().collect();
    let want: Vec<String> = guest
        .plan
        .guest_env
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    assert_eq!(got, want.iter().map(String::as_str).collect());
}

#[test]
fn the_host_is_not_to_be_seen() {
    let session = Session::new();
    let secret = session.root.path().join("secret");
    fs::write(&secret, "host secret").unwrap();
    let in_home = tempfile::NamedTempFile::new_in(std::env::var("HOME").unwrap()).unwrap();
    let mut guest = session.start();
    let cat = |path: &str| format!("cat {path}");
    assert_ne!(guest.sh(&cat(secret.to_str().unwrap())).code(), Some(0));
    fs::write(session.spec.workspace.join("mine"), "workspace").unwrap();
    let mine = session.spec.workspace.join("mine");
    assert_eq!(guest.sh(&cat(mine.to_str().unwrap())).text(), "workspace");
    for path in [
        "/etc/shadow",
        "/etc/hostname",
        "/proc/1/environ",
        "/root/.bashrc",
        "/sys",
        "/var/lib",
        "/boot",
    ] {
        assert_ne!(
            guest.sh(&format!("ls {path} && cat {path}")).code(),
            Some(0),
            "{path}"
        );
    }
    assert_ne!(guest.sh(&cat(in_home.path().to_str().unwrap())).code(), Some(0));
    // A link in the workspace is followed inside the sandbox, where its target does not exist.
    std::os::unix::fs::symlink(&secret, session.spec.workspace.join("link")).unwrap();
    assert_ne!(
        guest
            .sh(&cat(session.spec.workspace.join("link").to_str().unwrap()))
            .code(),
        Some(0)
    );
    let processes = guest.sh("ls -d /proc/[0-9]* | wc -l").text();
    assert!(processes.trim().parse::<u32>().unwrap() < 8, "{processes}");
}

#[test]
fn only_workspace_home_and_tmp_can_be_written() {
    let session = Session::new();
    let mut guest = session.start();
    let workspace = session.spec.workspace.display().to_string();
    let harness = session.spec.harness_roots[0].display().to_string();
    for place in [workspace.as_str(), "/home/guest", "/tmp", "/var/tmp", "/dev/shm"] {
        assert_eq!(
            guest.sh(&format!("echo x > {place}/new")).code(),
            Some(0),
            "{place}"
        );
    }
    for place in [
        harness.as_str(),
        "/",
        "/usr",
        "/etc",
        "/dev",
        "/run",
        "/run/lodge",
        "/home",
        "/var",
    ] {
        assert_ne!(
            guest.sh(&format!("echo x > {place}/new")).code(),
            Some(0),
            "{place}"
        );
    }
    let owner = fs::metadata(session.spec.workspace.join("new")).unwrap().uid();
    assert_eq!(owner, rustix::process::getuid().as_raw());
    assert_eq!(
        fs::read_to_string(session.spec.private_home.join("new")).unwrap(),
        "x\n"
    );
    assert_ne!(guest.sh("rm -f /run/lodge/gateway.sock").code(), Some(0));
}

#[test]
fn a_guest_is_nobody_special() {
    let session = Session::new();
    let mut guest = session.start();
    let status = guest
        .sh("id -u; cat /proc/self/status; ls /proc/self/fd; cat /proc/self/limits")
        .text();
    assert_ne!(status.lines().next(), Some("0"));
    for line in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        assert!(
            status.contains(&format!("{line}:\t0000000000000000")),
            "{line}: {status}"
        );
    }
    assert!(status.contains("NoNewPrivs:\t1"), "{status}");
    assert!(status.contains("Seccomp:\t2"), "{status}");
    assert!(
        status.contains("Max core file size        0                    0"),
        "{status}"
    );
    assert!(
        status.contains("Max processes             1024                 1024"),
        "{status}"
    );
    // The fourth is the directory that ls reads.
    assert_eq!(guest.sh("ls /proc/self/fd").text(), "0\n1\n2\n3\n");
    assert_eq!(
        guest.sh("cat /proc/self/stat | cut -d' ' -f7").text(),
        "0\n",
        "a controlling terminal"
    );
}

#[test]
fn inherited_descriptors_do_not_reach_the_guest() {
    let session = Session::new();
    // One without close-on-exec, as a careless library would leave it.
    let leak = fs::File::open("/etc/passwd").unwrap();
    rustix::io::fcntl_setfd(&leak, rustix::io::FdFlags::empty()).unwrap();
    let look = format!("/proc/self/fd/{}", leak.as_raw_fd());
    let control = std::process::Command::new("readlink")
        .arg(&look)
        .output()
        .unwrap();
    assert_eq!(
        control.stdout, b"/etc/passwd\n",
        "the control: an ordinary child inherits it"
    );
    let mut guest = session.start();
    assert_ne!(guest.run(1, &["readlink", &look]).text(), "/etc/passwd\n");
    assert_eq!(guest.sh("ls /proc/self/fd").text(), "0\n1\n2\n3\n");
}

#[test]
fn landlock_holds_where_a_mount_does_not() {
    let session = Session::new();
    let write = "echo x > /home/guest/new";
    assert_eq!(
        session.start().sh(write).code(),
        Some(0),
        "the control: with the home granted"
    );
    let mut plan = session.plan();
    plan.walls
        .landlock
        .as_mut()
        .unwrap()
        .write
        .retain(|path| path != "/home/guest");
    let walls = serde_json::to_string(&plan.walls).unwrap();
    plan.init_env
        .iter_mut()
        .find(|(name, _)| name == lodge_guest::walls::ENV)
        .unwrap()
        .1 = walls;
    assert_ne!(Guest::start(&plan, &bwrap()).sh(write).code(), Some(0));
}

/// Calls that must not do what they say, whatever the arguments.
fn denied_calls() -> Vec<(&'static str, String)> {
    let call = |number: i64, arguments: &str| format!("syscall({number}, {arguments})");
    vec![
        ("keyctl", call(libc::SYS_keyctl, "0, -3, 0, 0, 0")),
        ("ptrace", call(libc::SYS_ptrace, "0, 0, 0, 0")),
        ("bpf", call(libc::SYS_bpf, "0, 0, 0")),
        (
            "perf_event_open",
            call(libc::SYS_perf_event_open, "0, 0, -1, -1, 0"),
        ),
        (
            "io_uring_setup",
            call(libc::SYS_io_uring_setup, "1, my $x = \"\\0\" x 200"),
        ),
        ("userfaultfd", call(libc::SYS_userfaultfd, "0")),
        ("unshare", call(libc::SYS_unshare, "0x10000000")),
        (
            "clone with a namespace",
            call(libc::SYS_clone, "0x10000011, 0, 0, 0, 0"),
        ),
        ("clone3", call(libc::SYS_clone3, "0, 0")),
        ("mount", call(libc::SYS_mount, "0, 0, 0, 0, 0")),
        ("chroot", call(libc::SYS_chroot, "my $p = \"/tmp\"")),
        ("personality", call(libc::SYS_personality, "0x0040000")),
        ("vsock", call(libc::SYS_socket, "40, 1, 0")),
        ("packet socket", call(libc::SYS_socket, "17, 2, 0")),
        ("audit netlink", call(libc::SYS_socket, "16, 3, 9")),
        ("SCTP socket", call(libc::SYS_socket, "2, 1, 132")),
        (
            "TIPC socket pair",
            call(libc::SYS_socketpair, "30, 1, 0, my $p = \"\\0\" x 8"),
        ),
        ("TIOCSTI", call(libc::SYS_ioctl, "0, 0x5412, my $c = \"x\"")),
        (
            "TIOCSETD",
            call(libc::SYS_ioctl, "0, 0x5423, my $c = \"\\0\" x 4"),
        ),
        ("vmsplice", call(libc::SYS_vmsplice, "1, 0, 0, 0")),
        (
            "SCHED_FIFO",
            call(
                libc::SYS_sched_setscheduler,
                "0, 0x40000001, my $p = \"\\1\\0\\0\\0\"",
            ),
        ),
    ]
}

#[test]
fn the_system_call_filter_holds() {
    let session = Session::new();
    let mut guest = session.start();
    let mut errno = |call: &str| {
        guest
            .run(1, &["perl", "-e", &format!("{call} < 0 and print $!+0")])
            .text()
    };
    for (name, call) in denied_calls() {
        let got = errno(&call);
        let absent = matches!(name, "io_uring_setup" | "clone3");
        let want = if absent { libc::ENOSYS } else { libc::EPERM };
        assert_eq!(got, want.to_string(), "{name}");
    }
    let getpid = format!("syscall({})", libc::SYS_getpid);
    assert_eq!(errno(&getpid), "", "the control: an ordinary call works");
    assert_eq!(
        errno(&format!("syscall({}, 2, 1, 0)", libc::SYS_socket)),
        "",
        "the control: an IPv4 socket"
    );
    if cfg!(target_arch = "x86_64") {
        assert_eq!(
            errno(&format!("syscall({})", 0x4000_0000 + libc::SYS_getpid)),
            libc::ENOSYS.to_string()
        );
    }
}

#[test]
fn guest_init_cannot_be_traced_or_looked_into() {
    let session = Session::new();
    let mut guest = session.start();
    for (act, what) in [
        ("readlink", "fd/3"),
        ("ls -l", "fd/3"),
        ("cat", "maps"),
        ("ls", "root/"),
        ("cat", "environ"),
    ] {
        assert_ne!(
            guest.sh(&format!("{act} /proc/1/{what}")).code(),
            Some(0),
            "{act} {what}"
        );
        assert_eq!(
            guest.sh(&format!("exec 3</; {act} /proc/self/{what}")).code(),
            Some(0),
            "the control: {act} {what}"
        );
    }
    assert_eq!(guest.sh("kill -9 1; kill -TERM 1; echo alive").text(), "alive\n");
    assert_eq!(guest.sh("echo still").text(), "still\n");
}

#[test]
fn control_files_of_the_workspace_stay_as_they_are() {
    let session = Session::new();
    let workspace = &session.spec.workspace;
    for directory in [".git", ".git/objects", ".vscode", ".lodge"] {
        fs::create_dir(workspace.join(directory)).unwrap();
    }
    for file in [
        ".git/config",
        ".git/HEAD",
        ".vscode/tasks.json",
        ".envrc",
        ".lodge/sandbox.toml",
    ] {
        fs::write(workspace.join(file), "original").unwrap();
    }
    let plan = session.plan();
    assert_eq!(plan.unprotected, [".husky"]);
    let mut guest = session.start();
    let at = workspace.display();
    for act in [
        "echo x > .git/config",
        "echo x > .git/hooks/pre-commit",
        "mv .git .git2",
        "rm -rf .git",
        "mv .git/hooks .git/hooks2",
        "echo x > .vscode/tasks.json",
        "rm -r .vscode",
        "mv .envrc old",
        "echo x > .envrc",
        "echo x > .lodge/sandbox.toml",
        "mkdir -p .git/info && echo x > .git/info/attributes",
        "mkdir -p .claude && echo x > .claude/settings.json",
        "echo x > .mcp.json",
        "rm -f .mcp.json && echo x > .mcp.json",
        "mv .mcp.json gone",
        "rmdir .cursor",
        "mv .codex gone",
        "mv ../workspace ../w2",
    ] {
        assert_ne!(guest.sh(&format!("cd {at} && {act}")).code(), Some(0), "{act}");
    }
    let control = guest.sh(&format!(
        "cd {at} && echo x > .git/HEAD && echo y > file && mv file other"
    ));
    assert_eq!(control.code(), Some(0), "the control: the rest can be written");
    assert_eq!(
        fs::read_to_string(workspace.join(".git/config")).unwrap(),
        "original"
    );
    assert_eq!(fs::read_dir(workspace.join(".git/hooks")).unwrap().count(), 0);
}

#[test]
fn a_person_can_work_with_git_inside() {
    let session = Session::new();
    let workspace = session.spec.workspace.display().to_string();
    let git = "git -c user.name=a -c user.email=a@b.c -c init.defaultBranch=main";
    let mut guest = session.start();
    let made = guest.sh(&format!(
        "cd {workspace} && {git} init -q && {git} commit -q --allow-empty -m one"
    ));
    assert_eq!(made.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    drop(guest);
    let mut guest = session.start();
    let script = format!(
        "cd {workspace} && {git} status --porcelain && echo x > file && {git} add -A && {git} commit -q -m two && \
         {git} checkout -q -b other && {git} log --format=%s && {git} ls-files"
    );
    let done = guest.sh(&script);
    assert_eq!(
        done.text(),
        "two\none\nfile\n",
        "{}",
        String::from_utf8_lossy(&done.stderr)
    );
    assert_ne!(
        guest
            .sh(&format!("cd {workspace} && {git} config core.hooksPath x"))
            .code(),
        Some(0)
    );
}

#[test]
fn denied_paths_and_further_roots_of_the_operator_hold() {
    let session = Session::new();
    let extra = session.root.path().canonicalize().unwrap().join("extra");
    fs::create_dir_all(extra.join("private/deeper")).unwrap();
    fs::write(extra.join("file"), "shared").unwrap();
    fs::write(extra.join("private/key"), "secret").unwrap();
    fs::write(extra.join("token"), "secret").unwrap();
    let text = format!(
        "version = 1\n[fs]\nread = [{extra:?}]\ndeny = [{:?}, {:?}, {:?}, {:?}]\n[env]\nset = {{ GREETING = 'hi', HOME = '/x' }}",
        extra.join("private"),
        // Behind what is denied already.
        extra.join("private/deeper"),
        extra.join("private/key"),
        extra.join("token")
    );
    let policy = Policy::base(&Layer::parse("test.toml".as_ref(), &text).unwrap()).unwrap();
    let mut guest = Guest::start(&session.plan_for(&policy), &bwrap());
    let extra = extra.display();
    assert_eq!(guest.sh(&format!("cat {extra}/file")).text(), "shared");
    assert_ne!(guest.sh(&format!("cat {extra}/private/key")).code(), Some(0));
    assert_eq!(guest.sh(&format!("cat {extra}/token")).text(), "");
    assert_eq!(guest.sh("echo $GREETING $HOME").text(), "hi /home/guest\n");
}

#[test]
fn nothing_of_a_session_shows_in_a_process_list() {
    let session = Session::new();
    let guest = session.start();
    let line = fs::read_to_string(format!("/proc/{}/cmdline", guest.bwrap.id())).unwrap();
    assert!(line.contains("--args"), "{line}");
    assert!(!line.contains(session.root.path().to_str().unwrap()), "{line}");
    assert!(!line.contains("0190-test"), "{line}");
}

#[test]
fn what_was_swapped_for_a_link_is_refused() {
    let session = Session::new();
    let plan = session.plan();
    fs::remove_dir(&session.spec.workspace).unwrap();
    std::os::unix::fs::symlink("/etc", &session.spec.workspace).unwrap();
    let error = compile(&plan, &bwrap()).unwrap_err();
    assert!(error.to_string().contains("workspace"), "{error}");
}

#[test]
fn the_descriptors_of_a_command_name_themselves() {
    let session = Session::new();
    let command = compile(&session.plan_for(&Policy::of(Profile::Development)), &bwrap()).unwrap();
    assert_eq!(
        command.argv[2].to_str(),
        command.fds.last().map(|fd| fd.as_raw_fd().to_string()).as_deref()
    );
}
