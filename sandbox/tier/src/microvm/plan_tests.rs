//! Golden tests of what is started, and of what is refused.

use std::num::NonZeroU32;
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};

use lodge_guest::mux::Share;
use lodge_sandbox::plan::{Access, Mount, Source};
use lodge_sandbox::policy::{Limits, Policy, Profile};
use lodge_sandbox::size::Bytes;

use super::error::MicrovmError;
use super::machine::{Begin, Descriptors, Engine, Files, Machine, Size};
use super::view::{self, divide};

const FDS: Descriptors = Descriptors {
    ram: 768,
    console: 769,
    monitor: None,
};

fn machine(engine: Engine) -> Machine {
    Machine {
        qemu: "/usr/bin/qemu-system-x86_64".into(),
        system: vec![bind("/usr", "/usr", Access::Read, Source::System)],
        files: Files {
            rootfs: "/state/images/x/rootfs.squashfs".into(),
            vmlinux: "/state/images/x/vmlinux".into(),
            initramfs: "/state/images/x/initramfs.cpio".into(),
        },
        size: Size {
            memory: 2304,
            cpus: 2,
        },
        engine,
        uid: 1000,
        gid: 1000,
    }
}

fn bind(from: &str, at: &str, access: Access, source: Source) -> Mount {
    Mount::Bind {
        from: from.into(),
        at: at.into(),
        access,
        source,
    }
}

/// The mounts of a session, as the policy's plan has them.
fn mounts() -> Vec<Mount> {
    let content = "guest:x:1000:1000::/home/guest:/bin/sh\n".to_owned();
    vec![
        Mount::Content {
            at: "/etc/passwd".into(),
            content,
        },
        Mount::Tmpfs {
            at: "/tmp".into(),
            size: Bytes(1 << 20),
            mode: 0o1777,
        },
        bind("/data/s/home", "/home/guest", Access::Write, Source::Directory),
        bind("/work/repo", "/work/repo", Access::Write, Source::Directory),
        bind(
            "/work/repo/.git",
            "/work/repo/.git",
            Access::Write,
            Source::Directory,
        ),
        bind(
            "/work/repo/.git/hooks",
            "/work/repo/.git/hooks",
            Access::Read,
            Source::Directory,
        ),
        Mount::EmptyFile {
            at: "/work/repo/.env".into(),
        },
        Mount::Tmpfs {
            at: "/work/repo/secrets".into(),
            size: Bytes(4096),
            mode: 0o555,
        },
        Mount::RemountReadOnly {
            at: "/work/repo/secrets".into(),
        },
        bind("/opt/tool", "/opt/tool", Access::Read, Source::Directory),
    ]
}

#[test]
fn emulated_from_the_beginning() {
    let machine = machine(Engine::Emulated { tsc_khz: 2_600_000 });
    let tree = divide(&mounts()).unwrap().tree;
    insta::assert_debug_snapshot!(machine.plan(Begin::Cold, FDS, tree));
}

#[test]
fn virtualised_from_a_snapshot() {
    let fds = Descriptors {
        monitor: Some(770),
        ..FDS
    };
    insta::assert_debug_snapshot!(machine(Engine::Kvm).plan(Begin::Restored, fds, view::empty()));
}

#[test]
fn what_the_guest_mounts_is_what_the_host_does_not() {
    insta::assert_debug_snapshot!(divide(&mounts()).unwrap().shares);
}

#[test]
fn every_protection_of_the_plan_is_held_around_qemu() {
    let view = divide(&mounts()).unwrap();
    let held = |wanted: &Mount| view.tree.contains(wanted);
    assert!(held(&bind(
        "/work/repo/.git/hooks",
        "/share/work/repo/.git/hooks",
        Access::Read,
        Source::Directory
    )));
    assert!(held(&Mount::EmptyFile {
        at: "/share/work/repo/.env".into()
    }));
    assert_eq!(
        view.tree.last(),
        Some(&Mount::RemountReadOnly { at: "/share".into() })
    );
    let inside = |share: &Share| matches!(share, Share::Host { at, .. } if at.starts_with("/work/repo/"));
    assert!(!view.shares.iter().any(inside), "{:?}", view.shares);
}

#[test]
fn no_secret_is_on_a_command_line() {
    let machine = machine(Engine::Emulated { tsc_khz: 2_600_000 });
    let argv = machine
        .plan(Begin::Cold, FDS, divide(&mounts()).unwrap().tree)
        .argv;
    for word in argv {
        for private in ["repo", "/data", "/state", "passwd", "guest"] {
            assert!(!word.contains(private), "{word}");
        }
    }
}

#[test]
fn what_cannot_be_built_is_refused_by_name() {
    let cases = [
        Mount::Symlink {
            to: "/tmp".into(),
            at: "/var/tmp".into(),
        },
        Mount::Proc { at: "/proc".into() },
        Mount::Dev { at: "/dev".into() },
        Mount::RemountReadOnly { at: "/opt".into() },
        bind("/dev/kvm", "/dev/kvm", Access::Write, Source::Device),
    ];
    for mount in cases {
        let error = divide(std::slice::from_ref(&mount)).unwrap_err();
        assert!(matches!(error, MicrovmError::View { .. }), "{mount:?}: {error}");
    }
    // A generated file must not be written into what the host shares.
    let mut below = vec![bind("/w", "/w", Access::Write, Source::Directory)];
    below.push(Mount::Content {
        at: "/w/file".into(),
        content: String::new(),
    });
    assert!(matches!(divide(&below), Err(MicrovmError::View { path, .. }) if path == Path::new("/w/file")));
    let odd: PathBuf = std::ffi::OsString::from_vec(vec![b'/', 0xff]).into();
    let odd = Mount::Bind {
        from: odd.clone(),
        at: odd,
        access: Access::Read,
        source: Source::Directory,
    };
    assert!(divide(&[odd]).is_err());
}

#[test]
fn sizes_follow_the_limits_within_bounds() {
    let size = |mib: Option<u64>, processors: u32| {
        let mut limits: Limits = Policy::of(Profile::Development).limits;
        limits.memory = mib.map(Bytes::mib);
        let Size { memory, cpus } = Size::of(&limits, NonZeroU32::new(processors).unwrap());
        (memory, cpus)
    };
    assert_eq!(size(Some(1), 1), (256, 1));
    assert_eq!(size(Some(512), 2), (768, 2));
    assert_eq!(size(Some(2048), 64), (2304, 4));
    assert_eq!(size(Some(1 << 40), 2), (4096, 2));
    assert_eq!(size(None, 2), (4096, 2));
}
