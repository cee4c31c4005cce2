//! What a container gets, as data.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeSet;

use lodge_guest::walls::Walls;
use lodge_sandbox::plan::Source;
use lodge_sandbox::policy::{Limits, Tier};
use lodge_sandbox::size::Bytes;

use super::*;

fn bind(from: &str, at: &str, access: Access) -> Mount {
    Mount::Bind {
        from: from.into(),
        at: at.into(),
        access,
        source: Source::Directory,
    }
}

fn plan() -> Plan {
    let tmpfs = |at: &str, size: u64, mode| Mount::Tmpfs {
        at: at.into(),
        size: Bytes(size),
        mode,
    };
    Plan {
        tier: Tier::Container,
        session_id: "0190-session".into(),
        workspace: "/home/bob/project".into(),
        mounts: vec![
            Mount::Content {
                at: "/etc/passwd".into(),
                content: "guest".into(),
            },
            tmpfs("/dev/shm", 1 << 20, 0o1777),
            tmpfs("/tmp", 2 << 20, 0o1777),
            bind("/data/home", "/home/guest", Access::Write),
            bind("/home/bob/project", "/home/bob/project", Access::Write),
            bind("/home/bob/project/.git", "/home/bob/project/.git", Access::Write),
            bind(
                "/home/bob/project/.git/hooks",
                "/home/bob/project/.git/hooks",
                Access::Read,
            ),
            Mount::EmptyFile {
                at: "/home/bob/project/.envrc".into(),
            },
            tmpfs("/home/bob/project/.vscode", 4096, 0o755),
            Mount::RemountReadOnly {
                at: "/home/bob/project/.vscode".into(),
            },
        ],
        uid: 1000,
        gid: 1001,
        deny_user_namespaces: true,
        hostname: "lodge".into(),
        init_env: vec![
            ("LODGE_MUX_FD".into(), "3".into()),
            ("LODGE_GATEWAY_PORT".into(), "8377".into()),
        ],
        guest_env: vec![("LODGE_API_KEY".into(), "virtual-key".into())],
        argv: vec!["/run/lodge/init".into()],
        walls: Walls {
            limits: lodge_guest::walls::Limits {
                processes: Some(64),
                ..Default::default()
            },
            ..Walls::default()
        },
        unprotected: Vec::new(),
        placeholders: Vec::new(),
        network: Network::Broker {
            ports: BTreeSet::from([443]),
        },
        limits: Limits {
            processes: Some(64),
            memory: Some(Bytes::mib(512)),
            open_files: Some(1024),
            ..Limits::default()
        },
    }
}

/// The sources that staging would give.
fn sources(plan: &Plan) -> Vec<Option<PathBuf>> {
    let source = |(index, mount): (usize, &Mount)| match mount {
        Mount::Bind { from, .. } => Some(from.clone()),
        Mount::Content { .. } | Mount::EmptyFile { .. } => Some(format!("/state/run/1-2/f{index}").into()),
        _ => None,
    };
    plan.mounts.iter().enumerate().map(source).collect()
}

fn engine(rootless: bool, make: Make) -> Engine {
    Engine {
        socket: "/x.sock".into(),
        owner: if rootless { 1000 } else { 0 },
        make,
        rootless,
    }
}

fn compiled(plan: &Plan, engine: &Engine) -> Result<ContainerCreateBody, ContainerError> {
    compile(
        plan,
        &Site {
            engine,
            image: "sha256:feed",
            sources: &sources(plan),
            mux: Path::new("/state/run/1-2/mux.sock"),
            seccomp: Path::new("/state/run/1-2/seccomp.json"),
            labels: HashMap::from([("lodge.owner".into(), "1-2".into())]),
        },
    )
}

#[test]
fn a_plan_becomes_a_container() {
    let body = compiled(&plan(), &engine(false, Make::Docker)).unwrap();
    let mut value = serde_json::to_value(body).unwrap();
    // A file of its own, compared below by what it means.
    value["HostConfig"]["SecurityOpt"][1] = "seccomp=…".into();
    insta::assert_json_snapshot!("container", value);
}

#[test]
fn no_secret_of_the_guest_is_in_it() {
    let body = serde_json::to_string(&compiled(&plan(), &engine(false, Make::Docker)).unwrap()).unwrap();
    for secret in ["virtual-key", "0190-session"] {
        assert!(!body.contains(secret));
    }
}

#[test]
fn files_belong_to_the_user_in_every_kind_of_engine() {
    let who = |rootless, make| {
        let body = compiled(&plan(), &engine(rootless, make)).unwrap();
        (body.user.unwrap(), body.host_config.unwrap().userns_mode)
    };
    assert_eq!(
        who(false, Make::Docker),
        ("1000:1001".into(), Some("host".into()))
    );
    assert_eq!(who(true, Make::Docker), ("0:0".into(), None));
    assert_eq!(
        who(true, Make::Podman),
        ("1000:1001".into(), Some("keep-id:uid=1000,gid=1001".into()))
    );
}

#[test]
fn podman_gets_the_filter_as_a_file_and_docker_as_text() {
    let option = |make| {
        let host = compiled(&plan(), &engine(true, make))
            .unwrap()
            .host_config
            .unwrap();
        host.security_opt.unwrap().remove(1)
    };
    assert_eq!(option(Make::Podman), "seccomp=/state/run/1-2/seccomp.json");
    let text = option(Make::Docker);
    let inline: serde_json::Value = serde_json::from_str(text.strip_prefix("seccomp=").unwrap()).unwrap();
    assert_eq!(inline["defaultAction"], "SCMP_ACT_ERRNO");
}

#[test]
fn without_a_broker_low_ports_stay_privileged_and_without_shm_there_is_none() {
    let mut plan = plan();
    plan.network = Network::None;
    plan.mounts.remove(1);
    let host = compiled(&plan, &engine(false, Make::Docker))
        .unwrap()
        .host_config
        .unwrap();
    assert_eq!(host.sysctls, None);
    assert_eq!((host.ipc_mode.as_deref(), host.shm_size), (Some("none"), None));
}

#[test]
fn what_cannot_be_held_is_refused() {
    let mut nested = plan();
    nested.walls.nesting = true;
    assert!(matches!(
        compiled(&nested, &engine(false, Make::Docker)),
        Err(ContainerError::Nesting)
    ));
    let mut odd = plan();
    odd.mounts.push(Mount::RemountReadOnly {
        at: "/nowhere".into(),
    });
    assert!(matches!(
        compiled(&odd, &engine(false, Make::Docker)),
        Err(ContainerError::Mount { .. })
    ));
}

#[test]
fn the_system_call_filter_lets_nothing_through_that_leads_out() {
    let profile: serde_json::Value = serde_json::from_str(SECCOMP).unwrap();
    assert_eq!(profile["defaultAction"], "SCMP_ACT_ERRNO");
    let rules = profile["syscalls"].as_array().unwrap();
    let free: Vec<&str> = rules
        .iter()
        .filter(|rule| rule["args"].is_null() && rule["action"] == "SCMP_ACT_ALLOW")
        .flat_map(|rule| rule["names"].as_array().unwrap())
        .map(|name| name.as_str().unwrap())
        .collect();
    for wanted in ["landlock_restrict_self", "openat", "execve", "seccomp"] {
        assert!(free.contains(&wanted), "{wanted}");
    }
    for bad in [
        "add_key",
        "bpf",
        "clone",
        "clone3",
        "fsopen",
        "init_module",
        "io_uring_setup",
        "kcmp",
        "kexec_load",
        "keyctl",
        "mount",
        "move_mount",
        "name_to_handle_at",
        "open_by_handle_at",
        "open_tree",
        "perf_event_open",
        "personality",
        "pivot_root",
        "process_vm_readv",
        "ptrace_attach",
        "reboot",
        "request_key",
        "setns",
        "socket",
        "swapon",
        "umount2",
        "unshare",
        "userfaultfd",
        "vmsplice",
    ] {
        assert!(!free.contains(&bad), "{bad}");
    }
    let families: Vec<u64> = rules
        .iter()
        .filter(|rule| rule["names"][0] == "socket")
        .map(|rule| rule["args"][0]["value"].as_u64().unwrap())
        .collect();
    assert_eq!(families, [1, 2, 10, 16]);
}
