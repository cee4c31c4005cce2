//! Bounds that guest init measures: what goes beyond one ends everything, and is named.

mod support;

use std::fs;
use std::time::{Duration, Instant};

use lodge_guest::client::{ClientError, Output};
use lodge_guest::mux::Limit;
use lodge_guest::walls::Walls;
use lodge_sandbox::plan::{Access, Mount, Plan, Source};
use support::{DEADLINE, Driven, Session, eventually, processes_with, text, with_walls};

/// A sandbox without the bounds of the profile, but with those that `change` sets.
fn bounded(session: &Session, change: impl FnOnce(&mut Walls)) -> Driven {
    let plan = without_memory_bounds(session.plan());
    Driven::start(&with_walls(plan, change))
}

fn run(sandbox: &Driven, script: &str) -> Result<Output, ClientError> {
    sandbox
        .start_command(&["sh", "-c", script])
        .wait_with_output(64 << 20, DEADLINE)
}

/// The bound that ended the sandbox, of which nothing is left.
fn crossed(sandbox: Driven, result: Result<Output, ClientError>) -> Limit {
    let Err(ClientError::Limit(limit)) = result else {
        panic!("{result:?}");
    };
    assert_eq!(sandbox.client.limit(), Some(limit.clone()));
    assert!(
        limit.found > limit.allowed || limit.key.ends_with("seconds"),
        "{limit:?}"
    );
    let Driven { mut launcher, .. } = sandbox;
    assert_eq!(
        launcher.wait().expect("launcher").code(),
        Some(0),
        "init left by itself"
    );
    limit
}

#[test]
fn memory_of_one_process_is_bounded() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(200 << 20));
    let fits = run(&sandbox, "perl -e '$x = \"x\" x (50 << 20); print length $x'");
    assert_eq!(text(&fits.unwrap()), (50 << 20).to_string());
    let bomb = run(&sandbox, "perl -e 'while (1) { push @x, \"x\" x (1 << 20) }'");
    assert_eq!(crossed(sandbox, bomb).key, "limits.memory");
}

#[test]
fn memory_of_many_processes_is_bounded_together() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(200 << 20));
    let one = "perl -e '$x = \"x\" x (12 << 20); sleep 1000'";
    let bomb = run(&sandbox, &format!("for i in $(seq 50); do {one} & done; wait"));
    assert_eq!(crossed(sandbox, bomb).key, "limits.memory");
}

#[test]
fn pages_that_processes_share_after_a_fork_count_once() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(300 << 20));
    // Eight processes of 100 MB that are one and the same.
    let script = "$x = 'x' x (100 << 20); for (1..8) { next if fork; select(undef, undef, undef, 1.5); exit }
        1 while wait > 0; print 'fine'";
    assert_eq!(
        text(&run(&sandbox, &format!("perl -e \"{script}\"").replace("$x", "\\$x")).unwrap()),
        "fine"
    );
}

#[test]
fn files_in_memory_are_memory() {
    let session = Session::new();
    for place in ["/tmp", "/dev/shm"] {
        let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(200 << 20));
        let bomb = run(
            &sandbox,
            &format!("for i in $(seq 8); do head -c 50m /dev/zero > {place}/$i; done; sleep 1000"),
        );
        assert_eq!(crossed(sandbox, bomb).key, "limits.memory", "{place}");
    }
}

#[test]
fn shared_memory_without_a_file_is_memory() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(200 << 20));
    let script = "import mmap\nm = mmap.mmap(-1, 400 << 20)\nfor i in range(0, 400 << 20, 4096): m[i] = 1\nimport time; time.sleep(1000)";
    let bomb = sandbox
        .start_command(&["python3", "-c", script])
        .wait_with_output(1 << 20, DEADLINE);
    assert_eq!(crossed(sandbox, bomb).key, "limits.memory");
}

#[test]
fn files_without_a_name_are_memory() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.memory = Some(200 << 20));
    let script = "import os, time\nf = os.memfd_create('x')\nfor i in range(400): os.write(f, bytes(1 << 20))\ntime.sleep(1000)";
    let bomb = sandbox
        .start_command(&["python3", "-c", script])
        .wait_with_output(1 << 20, DEADLINE);
    assert_eq!(crossed(sandbox, bomb).key, "limits.memory");
}

#[test]
fn growth_on_disk_is_bounded_and_what_was_there_is_not_counted() {
    let session = Session::new();
    fs::write(session.spec.workspace.join("old"), vec![1; 40 << 20]).unwrap();
    let workspace = session.spec.workspace.display().to_string();
    let sandbox = bounded(&session, |walls| {
        walls.bounds.disk = Some(20 << 20);
        walls.bounds.disk_roots = vec![workspace.clone(), "/home/guest".into()];
    });
    let small = run(
        &sandbox,
        &format!("head -c 5m /dev/zero > {workspace}/small; sleep 1; echo fine"),
    );
    assert_eq!(text(&small.unwrap()), "fine\n");
    let fill =
        "for i in $(seq 20); do head -c 5m /dev/urandom > /home/guest/$i; sleep 0.05; done; sleep 1000";
    let limit = crossed_by(sandbox, fill);
    assert_eq!(limit.key, "limits.disk");
}

fn crossed_by(sandbox: Driven, script: &str) -> Limit {
    let result = run(&sandbox, script);
    crossed(sandbox, result)
}

#[test]
fn a_flood_of_empty_files_is_growth() {
    let session = Session::new();
    let workspace = session.spec.workspace.display().to_string();
    let sandbox = bounded(&session, |walls| {
        walls.bounds.disk = Some(20 << 20);
        walls.bounds.disk_roots = vec![workspace.clone()];
    });
    let script = format!("cd {workspace}; perl -e 'for (1..50000) {{ open F, \">\", \"f$_\" }} sleep 1000'");
    assert_eq!(crossed_by(sandbox, &script).key, "limits.disk");
}

#[test]
fn output_is_bounded() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.output = Some(4 << 20));
    assert_eq!(
        run(&sandbox, "head -c 3m /dev/zero").unwrap().stdout.len(),
        3 << 20
    );
    let flood = run(&sandbox, "cat /dev/zero");
    let limit = crossed(sandbox, flood);
    assert_eq!(limit.key, "limits.output");
    assert!(limit.found < 8 << 20, "{limit:?}");
}

#[test]
fn the_time_since_the_start_is_bounded_and_commands_may_end_gently() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.wall_seconds = Some(2));
    let begun = Instant::now();
    let busy = sandbox.start_command(&[
        "sh",
        "-c",
        "trap 'echo bye; exit 7' TERM; while :; do echo x; sleep 0.1; done",
    ]);
    let result = busy.wait_with_output(1 << 20, DEADLINE);
    assert_eq!(crossed(sandbox, result).key, "limits.wall_seconds");
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_sandbox_in_which_nothing_happens_is_ended() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.bounds.idle_seconds = Some(2));
    // Something happens for longer than the bound.
    assert!(run(&sandbox, "for i in $(seq 10); do echo x; sleep 0.4; done").is_ok());
    let mark = format!("{}.4721", std::process::id());
    let idle = run(&sandbox, &format!("trap '' TERM; sleep 1000; : {mark}"));
    assert_eq!(crossed(sandbox, idle).key, "limits.idle_seconds");
    eventually("nothing is left", || processes_with(&mark).is_empty());
}

#[test]
fn a_fork_bomb_is_bounded_whoever_started_the_sandbox() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.limits.processes = Some(200));
    let bomb = "
import os, time
children = 0
for _ in range(5000):
    try:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
        children += 1
    except OSError as error:
        print(children, error.errno)
        break
os.killpg(0, 9)
";
    // Until the bound is met, the same works: the control.
    assert_eq!(
        text(&sandbox.sh("for i in $(seq 50); do sleep 0.2 & done; wait; echo fine")),
        "fine\n"
    );
    let result = sandbox
        .start_command(&["python3", "-u", "-c", bomb])
        .wait_with_output(1 << 20, DEADLINE);
    match result {
        // The kernel's bound; the greatest process number leaves 300 more, which are never given out twice.
        Ok(output) => {
            let said = text(&output);
            let (children, errno) = said.trim().split_once(' ').expect("the bomb met a bound");
            assert!(children.parse::<u32>().unwrap() <= 520, "{said}");
            assert_eq!(errno, libc::EAGAIN.to_string());
            assert_eq!(text(&sandbox.sh("echo alive")), "alive\n");
        }
        // Or the measured one.
        Err(ClientError::Limit(limit)) => assert_eq!(limit.key, "limits.processes"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn a_fork_bomb_is_bounded_where_a_namespace_has_no_bound_of_its_own() {
    let session = Session::new();
    let plan = with_walls(session.plan(), |walls| walls.limits.processes = Some(200));
    let mut plan = without_memory_bounds(plan);
    // As on older kernels: init cannot set the greatest process number.
    let last = plan.mounts.len() - 1;
    let settings = std::path::PathBuf::from("/proc/sys");
    plan.mounts.insert(
        last,
        Mount::Bind {
            from: settings.clone(),
            at: settings,
            access: Access::Read,
            source: Source::System,
        },
    );
    let sandbox = Driven::start(&plan);
    let bomb = "
import os, time
for _ in range(5000):
    try:
        if os.fork() == 0:
            time.sleep(1000)
            os._exit(0)
    except OSError as error:
        print(error.errno)
        break
else:
    print('no bound')
time.sleep(1)
os.killpg(0, 9)
";
    let result = sandbox
        .start_command(&["python3", "-u", "-c", bomb])
        .wait_with_output(1 << 20, DEADLINE);
    match result {
        Ok(output) => assert_eq!(text(&output), format!("{}\n", libc::EAGAIN)),
        Err(ClientError::Limit(limit)) => assert_eq!(limit.key, "limits.processes"),
        Err(error) => panic!("{error}"),
    }
}

fn without_memory_bounds(plan: Plan) -> Plan {
    with_walls(plan, |walls| {
        walls.bounds = lodge_guest::walls::Bounds::default();
        walls.limits.memory = None;
    })
}

#[test]
fn a_bomb_of_threads_is_bounded_as_well() {
    let session = Session::new();
    let sandbox = bounded(&session, |walls| walls.limits.processes = Some(200));
    let bomb = "
import threading, time
count = 0
try:
    for _ in range(5000):
        threading.Thread(target=time.sleep, args=(1000,), daemon=True).start()
        count += 1
except RuntimeError:
    print('stopped', count < 600, flush=True)
import os; os._exit(0)
";
    let result = sandbox
        .start_command(&["python3", "-c", bomb])
        .wait_with_output(1 << 20, DEADLINE);
    match result {
        Ok(output) => assert_eq!(text(&output), "stopped True\n"),
        Err(ClientError::Limit(limit)) => assert_eq!(limit.key, "limits.processes"),
        Err(error) => panic!("{error}"),
    }
}

#[test]
fn the_settings_of_the_kernel_cannot_be_changed() {
    let session = Session::new();
    let sandbox = Driven::start(&session.plan());
    for setting in [
        "kernel/pid_max",
        "kernel/core_pattern",
        "net/ipv4/ip_unprivileged_port_start",
        "kernel/msgmax",
    ] {
        let path = format!("/proc/sys/{setting}");
        let output = sandbox.sh(&format!(
            "cat {path} > /tmp/value && echo read; cat /tmp/value > {path} && echo written"
        ));
        assert_eq!(text(&output), "read\n", "{setting}");
    }
    let output = sandbox.sh("echo 5 > /proc/self/oom_score_adj && echo written");
    assert_eq!(
        text(&output),
        "",
        "nothing among the files of processes can be written"
    );
}
