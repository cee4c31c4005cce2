//! Machines that are started for real, from their image and their snapshot.
#![allow(clippy::unwrap_used)]

mod support;

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::SystemTime;

use lodge_sandbox::policy::{Policy, Profile, Tier};
use support::{Guest, Session, eventually, processes_with};

fn policy() -> Policy {
    let mut policy = Policy::of(Profile::Development);
    policy.tier = Tier::Microvm;
    policy
}

/// A session whose machines share the image and the snapshots with all other tests of this machine.
fn session() -> Session {
    let session = Session::without_engine();
    let snapshots = support::state().join("snapshots");
    fs::create_dir_all(&snapshots).unwrap();
    std::os::unix::fs::symlink(snapshots, session.state.join("snapshots")).unwrap();
    session
}

fn start(session: &Session) -> Guest {
    session.start_with(&policy())
}

#[test]
fn commands_run_with_their_output_and_status() {
    let session = session();
    let guest = start(&session);
    assert_eq!(guest.sh("echo hello; exit 7"), ("hello".to_owned(), Some(7)));
    assert_eq!(guest.sh("hostname; pwd"), ("lodge\n/tmp".to_owned(), Some(0)));
    assert!(guest.end().success());
}

#[test]
fn files_are_the_workspaces_own_on_both_sides() {
    let session = session();
    let workspace = &session.spec.workspace;
    fs::write(workspace.join("given"), "from outside").unwrap();
    let guest = start(&session);
    let at = workspace.display();
    let (text, code) = guest.sh(&format!(
        "cat {at}/given && echo from inside >{at}/made && mkdir {at}/d && stat -c %u {at}/made && id -u && echo x >~/private"
    ));
    let uid = guest.plan.uid;
    assert_eq!((text, code), (format!("from outside{uid}\n{uid}"), Some(0)));
    assert_eq!(
        fs::read_to_string(workspace.join("made")).unwrap(),
        "from inside\n"
    );
    assert_eq!(
        fs::metadata(workspace.join("made")).unwrap().uid(),
        session.spec.uid
    );
    assert_eq!(
        fs::read_to_string(session.spec.private_home.join("private")).unwrap(),
        "x\n"
    );
    // What the host changes meanwhile is seen.
    fs::write(workspace.join("given"), "changed outside, and longer").unwrap();
    assert_eq!(
        guest.sh(&format!("cat {at}/given")).0,
        "changed outside, and longer"
    );
}

#[test]
fn protected_files_and_the_image_cannot_be_written() {
    let session = session();
    let workspace = &session.spec.workspace;
    fs::create_dir_all(workspace.join(".git/hooks")).unwrap();
    fs::write(workspace.join(".git/config"), "[core]\n").unwrap();
    let guest = start(&session);
    let at = workspace.display();
    for script in [
        format!("echo x >{at}/.git/hooks/pre-commit"),
        format!("echo x >>{at}/.git/config"),
        format!("mv {at}/.git {at}/other"),
        format!("rm -rf {at}/.git/hooks"),
        "echo x >/usr/bin/evil".to_owned(),
        "echo x >/etc/passwd".to_owned(),
        "mkdir /new".to_owned(),
        "echo x >/run/lodge/init".to_owned(),
        "ls /run/host/tree".to_owned(),
        "mknod /tmp/vda b 254 0".to_owned(),
        "mount -t tmpfs none /tmp".to_owned(),
        "unshare --user true".to_owned(),
    ] {
        let (said, code) = guest.sh(&script);
        assert_ne!(code, Some(0), "{script}: {said}");
    }
    assert_eq!(guest.sh("ls /opt/lodge/harness").1, Some(0));
    drop(guest);
    assert_eq!(fs::read_dir(workspace.join(".git/hooks")).unwrap().count(), 0);
    assert_eq!(
        fs::read_to_string(workspace.join(".git/config")).unwrap(),
        "[core]\n"
    );
}

#[test]
fn there_is_no_privilege_and_no_network_device() {
    let session = session();
    let guest = start(&session);
    let (status, _) = guest.sh("grep -E '^(Uid|CapEff|CapPrm|CapBnd|NoNewPrivs|Seccomp):' /proc/self/status");
    let value = |key: &str| {
        let line = status
            .lines()
            .find(|line| line.starts_with(key))
            .unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    assert_eq!(value("Uid:"), guest.plan.uid.to_string());
    for key in ["CapEff:", "CapPrm:", "CapBnd:"] {
        assert_eq!(value(key), "0000000000000000", "{key} {status}");
    }
    assert_eq!(
        (value("NoNewPrivs:"), value("Seccomp:")),
        ("1".to_owned(), "2".to_owned())
    );
    let (devices, _) = guest.sh("tail -n +3 /proc/net/dev | cut -d: -f1");
    assert_eq!(devices.trim(), "lo");
    let (devices, _) = guest.sh("ls /dev");
    assert!(
        !devices.contains("vda") && !devices.contains("vport"),
        "{devices}"
    );
}

/// Answers each connection with its request, once the request is whole.
fn echo(listener: &UnixListener, connections: usize) {
    let listener = listener.try_clone().unwrap();
    thread::spawn(move || {
        for connection in listener.incoming().take(connections) {
            thread::spawn(move || {
                let mut connection = connection.unwrap();
                let mut request = Vec::new();
                connection.read_to_end(&mut request).unwrap();
                connection.write_all(&request).unwrap();
            });
        }
    });
}

#[test]
fn connections_reach_the_gateway_and_half_close_passes() {
    let session = session();
    echo(&session.gateway, 5);
    let guest = start(&session);
    let script = "import socket,threading,hashlib\n\
        def one(i):\n\
        \x20s=socket.create_connection(('127.0.0.1',8377))\n\
        \x20data=bytes([65+i])*600000\n\
        \x20threading.Thread(target=lambda:(s.sendall(data),s.shutdown(socket.SHUT_WR))).start()\n\
        \x20got=b''\n\
        \x20while True:\n\
        \x20\x20part=s.recv(65536)\n\
        \x20\x20if not part: break\n\
        \x20\x20got+=part\n\
        \x20print(got==data)\n\
        ts=[threading.Thread(target=one,args=(i,)) for i in range(5)]\n\
        [t.start() for t in ts]\n\
        [t.join() for t in ts]\n";
    let output = guest.run(&["python3", "-c", script]);
    let said = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(said.matches("True").count(), 5, "{said} {errors}");
}

#[test]
fn machines_of_one_snapshot_share_no_randomness_and_know_the_time() {
    let session = session();
    let look = || {
        let guest = start(&session);
        let (text, _) =
            guest.sh("head -c 16 /dev/urandom | od -An -tx1; cat /proc/sys/kernel/random/boot_id; date +%s");
        let lines: Vec<String> = text.lines().map(str::to_owned).collect();
        let [random, boot, time] = lines.as_slice() else {
            panic!("{text}");
        };
        let now = SystemTime::now()
            .duration_since(SystemTime::UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let time: u64 = time.parse().unwrap();
        assert!(now.abs_diff(time) < 30, "{now} {time}");
        (random.clone(), boot.clone())
    };
    let (one, two) = (look(), look());
    assert_ne!(one.0, two.0);
    assert_ne!(one.1, two.1);
}

#[test]
fn nothing_of_the_tenant_before_is_there() {
    let session = session();
    let mark = "tenant-before-3141592653";
    let first = start(&session);
    assert_eq!(
        first
            .sh(&format!("echo {mark} >/tmp/left; echo {mark} >/dev/shm/left"))
            .1,
        Some(0)
    );
    drop(first);
    let second = start(&session);
    assert_eq!(second.sh("ls /tmp/left || ls /dev/shm/left").1, Some(2));
    let folder = support::state().join("snapshots");
    for entry in fs::read_dir(folder)
        .unwrap()
        .flatten()
        .filter(|entry| entry.path().is_dir())
    {
        let ram = fs::read(entry.path().join("ram")).unwrap();
        let found = memchr::memmem::find(&ram, mark.as_bytes()).is_some();
        assert!(!found, "{}", entry.path().display());
    }
}

#[test]
fn a_killed_launcher_leaves_no_machine() {
    let session = session();
    let mut guest = start(&session);
    let pid = i32::try_from(guest.child.id()).unwrap();
    // What keeps the snapshot's memory has nothing of this session, and goes by itself.
    let mut below = descendants(pid);
    below.retain(|pid| !command_line(*pid).contains("lodge-tier"));
    assert!(below.iter().any(|pid| command_line(*pid).contains("qemu")));
    let launcher = rustix::process::Pid::from_raw(pid).unwrap();
    rustix::process::kill_process(launcher, rustix::process::Signal::KILL).unwrap();
    guest.child.wait().unwrap();
    eventually("QEMU and its wall are gone", || {
        below
            .iter()
            .all(|pid| state_of(*pid).is_none_or(|state| state == 'Z'))
    });
}

/// Processes that keep memory of a snapshot in `state`, or of one that was there: their lock tells.
fn keepers(state: &std::path::Path) -> usize {
    let state = state.join("snapshots").display().to_string();
    let keeps = |entry: &fs::DirEntry| {
        let line = fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let lock = fs::read_link(entry.path().join("fd/2")).unwrap_or_default();
        line.ends_with(b"lodge-tier\0keep\0") && lock.starts_with(&state)
    };
    fs::read_dir("/proc").unwrap().flatten().filter(keeps).count()
}

fn command_line(pid: i32) -> String {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&bytes).into_owned()
}

fn state_of(pid: i32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Process ids of children and theirs.
fn descendants(pid: i32) -> Vec<i32> {
    let parent = |entry: &fs::DirEntry| {
        let stat = fs::read_to_string(entry.path().join("stat")).ok()?;
        let own: i32 = entry.file_name().to_str()?.parse().ok()?;
        let parent: i32 = stat.rsplit_once(')')?.1.split_whitespace().nth(1)?.parse().ok()?;
        Some((own, parent))
    };
    let all: Vec<(i32, i32)> = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|e| parent(&e))
        .collect();
    let mut found = vec![pid];
    let mut at = 0;
    while at < found.len() {
        let above = found[at];
        found.extend(
            all.iter()
                .filter(|(_, parent)| *parent == above)
                .map(|(own, _)| own),
        );
        at += 1;
    }
    found.split_off(1)
}

#[test]
fn qemu_shows_nothing_of_the_session_and_has_no_privilege() {
    let session = session();
    let guest = start(&session);
    let qemu = descendants(i32::try_from(guest.child.id()).unwrap())
        .into_iter()
        .find(|pid| command_line(*pid).starts_with("/usr/bin/qemu-system"))
        .expect("QEMU");
    let line = command_line(qemu);
    let private = session.spec.workspace.display().to_string();
    assert!(!line.contains(&private) && !line.contains("netdev"), "{line}");
    let status = fs::read_to_string(format!("/proc/{qemu}/status")).unwrap();
    for wanted in ["CapEff:\t0000000000000000", "NoNewPrivs:\t1", "Seccomp:\t2"] {
        assert!(status.contains(wanted), "{wanted}: {status}");
    }
    assert_eq!(processes_with(&private), 0);
}

#[test]
fn a_damaged_snapshot_is_made_anew() {
    let mut session = Session::without_engine();
    session.state = session.root.path().join("own");
    fs::create_dir(&session.state).unwrap();
    std::os::unix::fs::symlink(support::state().join("images"), session.state.join("images")).unwrap();
    drop(start(&session));
    let snapshot = || -> std::path::PathBuf {
        let entries = fs::read_dir(session.state.join("snapshots")).unwrap().flatten();
        entries
            .map(|entry| entry.path())
            .find(|path| path.is_dir())
            .expect("a snapshot")
    };
    let path = snapshot().join("ram");
    assert_eq!(keepers(&session.state), 1);
    // Else nobody would read it again.
    fs::remove_file(snapshot().join("memory.sock")).unwrap();
    let mut bytes = fs::read(&path).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0xff;
    fs::write(&path, bytes).unwrap();
    let guest = start(&session);
    assert_eq!(guest.sh("echo up"), ("up".to_owned(), Some(0)));
    drop(guest);
    assert!(!path.exists(), "what is damaged is not kept");
    eventually("the keeper of the removed snapshot goes", || {
        keepers(&session.state) == 0
    });
    drop(start(&session));
    assert!(path.exists());
}

#[test]
fn an_image_without_a_kernel_is_refused_by_name() {
    let mut session = Session::without_engine();
    session.state = session.root.path().join("own");
    fs::create_dir(&session.state).unwrap();
    let plan = session.plan(&policy());
    let (mut child, _mux) = session.launch(&plan, std::process::Stdio::piped());
    let mut said = String::new();
    child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    assert!(!child.wait().unwrap().success());
    assert!(said.contains("lodge image build"), "{said}");
}

#[test]
fn the_memory_of_a_snapshot_is_kept_for_the_next_machine() {
    let session = session();
    drop(start(&session));
    let keepers = || {
        let mut entries = fs::read_dir(support::state().join("snapshots"))
            .unwrap()
            .flatten();
        entries.any(|entry| {
            let socket = entry.path().join("memory.sock");
            std::os::unix::net::UnixStream::connect(socket).is_ok()
        })
    };
    assert!(keepers());
    let guest = start(&session);
    assert_eq!(guest.sh("echo up"), ("up".to_owned(), Some(0)));
}
