//! The kernel's own files and switches.

use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use super::sys::{call, text};
use super::{Attack, Probe, list, open_for_writing, read, refused, sample, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("K01", devices),
    ("K02", switches),
    ("K03", control_groups),
    ("K04", sysfs),
    ("K05", masked_paths),
    ("K06", names_and_clock),
    ("K07", kernel_secrets),
    ("K08", module_loading),
];

fn devices(attack: &mut Attack<'_>) {
    for name in [
        "mem",
        "kmem",
        "port",
        "kvm",
        "fuse",
        "net/tun",
        "vda",
        "vda1",
        "sda",
        "nvme0n1",
        "loop-control",
        "loop0",
        "uinput",
        "input/event0",
        "vhost-net",
        "vhost-vsock",
        "hwrng",
        "kmsg",
        "mapper/control",
        "ttyS0",
        "tty1",
        "vcs",
        "cpu/0/msr",
        "userfaultfd",
        "nvram",
        "autofs",
        "btrfs-control",
        "snd/seq",
        "dri/card0",
        "hvc0",
        "vport0p1",
    ] {
        let path = Path::new("/dev").join(name);
        attack.act(&format!("open {}", path.display()), || {
            let mut options = fs::OpenOptions::new();
            // Some devices act when they are opened or closed; reading is enough to be a breach.
            match options.read(true).open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Err(error),
                opened => worked(opened, "opened"),
            }
        });
    }
    attack.substitute("open a device that everyone may", || {
        worked(fs::File::open("/dev/null"), "opened")
    });
}

fn switches(attack: &mut Attack<'_>) {
    for path in [
        "/proc/sysrq-trigger",
        "/proc/sys/kernel/core_pattern",
        "/proc/sys/kernel/modprobe",
        "/proc/sys/kernel/hotplug",
        "/proc/sys/fs/binfmt_misc/register",
        "/proc/sys/kernel/yama/ptrace_scope",
        "/proc/sys/kernel/unprivileged_userns_clone",
        "/proc/sys/net/ipv4/ip_forward",
        "/proc/sys/vm/drop_caches",
        "/proc/sys/user/max_user_namespaces",
        "/sys/kernel/uevent_helper",
        "/proc/irq/0/smp_affinity",
        "/proc/mtrr",
        "/proc/scsi/scsi",
    ] {
        attack.act(&format!("open {path} for writing"), || {
            let opened = open_for_writing(path)?;
            // Which namespace's value it is shows in whether the observer's changes; nothing is written here.
            Ok(opened)
        });
    }
    attack.substitute("open a file of one's own below /proc", || {
        open_for_writing("/proc/self/comm")
    });
}

fn control_groups(attack: &mut Attack<'_>) {
    let token = attack.facts.token.clone();
    let base = Path::new("/sys/fs/cgroup");
    let mut groups = vec![base.to_owned()];
    if let Ok(entries) = fs::read_dir(base) {
        let directories = entries.flatten().filter(|entry| entry.path().is_dir());
        groups.extend(directories.map(|entry| entry.path()).take(16));
    }
    for group in groups {
        attack.act(&format!("open {}/release_agent", group.display()), || {
            open_for_writing(group.join("release_agent"))
        });
        attack.act(&format!("make a group in {}", group.display()), || {
            let new = group.join(&token);
            fs::create_dir(&new)?;
            let real = new.join("cgroup.procs").exists();
            fs::remove_dir(&new)?;
            if real {
                Ok("made".to_owned())
            } else {
                refused("only a directory")
            }
        });
        for limit in [
            "pids.max",
            "memory.max",
            "memory.limit_in_bytes",
            "cgroup.procs",
            "cpu.max",
        ] {
            attack.act(&format!("open {}/{limit}", group.display()), || {
                open_for_writing(group.join(limit))
            });
        }
    }
    attack.apart("mount the control groups", || {
        let kind = text("cgroup2");
        worked(
            call!(libc::SYS_mount, &text("none"), &text("/tmp"), &kind, 0, 0),
            "mounted",
        )
    });
    attack.apart("get a control group namespace", || {
        worked(call!(libc::SYS_unshare, libc::CLONE_NEWCGROUP), "got one")
    });
}

fn sysfs(attack: &mut Attack<'_>) {
    for path in [
        "/sys/kernel/debug",
        "/sys/kernel/tracing",
        "/sys/kernel/security",
        "/sys/fs/bpf",
        "/sys/firmware/efi/efivars",
        "/sys/kernel/config",
    ] {
        attack.act(&format!("list {path}"), || list(path));
    }
    for path in [
        "/sys/kernel/mm/transparent_hugepage/enabled",
        "/sys/power/state",
        "/sys/kernel/profiling",
        "/sys/kernel/kexec_loaded",
        "/sys/class/net/lo/mtu",
        "/sys/module/kernel/parameters/panic",
    ] {
        attack.act(&format!("open {path} for writing"), || open_for_writing(path));
    }
    attack.substitute("list what is there on any machine", || list("/sys/kernel"));
}

fn masked_paths(attack: &mut Attack<'_>) {
    let tries = if attack.facts.outside { 1 } else { 400 };
    for (path, write) in [
        ("/proc/sysrq-trigger", true),
        ("/proc/sys/kernel/core_pattern", true),
        ("/proc/kcore", false),
        ("/proc/sys/kernel/modprobe", true),
    ] {
        attack.act(&format!("win a race for {path}"), || {
            let mut last = refused("never");
            for _ in 0..tries {
                for way in [
                    "",
                    "/proc/self/root",
                    "/proc/thread-self/root",
                    "/proc/1/root",
                    "/proc/self/cwd",
                ] {
                    let path = format!("{way}{path}");
                    last = if write {
                        open_for_writing(&path)
                    } else {
                        worked(fs::File::open(&path), "opened")
                    };
                    if last.is_ok() {
                        return last;
                    }
                }
            }
            last
        });
    }
    attack.apart("a fresh /proc without masks", || {
        let (kind, at) = (text("proc"), text("/tmp"));
        call!(libc::SYS_unshare, libc::CLONE_NEWPID)?;
        let pid = super::sys::fork(|| i32::from(call!(libc::SYS_mount, &kind, &at, &kind, 0, 0).is_err()))?;
        match super::sys::wait(pid, 0)? {
            Some(0) => Ok("mounted".to_owned()),
            _ => refused("cannot mount it"),
        }
    });
    attack.substitute("open a file of one's own by a roundabout way", || {
        open_for_writing("/proc/self/root/proc/self/comm")
    });
}

fn names_and_clock(attack: &mut Attack<'_>) {
    let name = text(&attack.facts.token);
    let length = i64::try_from(attack.facts.token.len()).unwrap_or(0);
    attack.apart("name the machine", || {
        worked(call!(libc::SYS_sethostname, &name, length), "named")
    });
    attack.apart("name its domain", || {
        worked(call!(libc::SYS_setdomainname, &name, length), "named")
    });
    // Of a sandbox that nobody has checked yet it is not known whether the clock would be the machine's.
    if attack.facts.outside || attack.facts.modest {
        return;
    }
    attack.act("set the clock", || {
        let mut time = [1_700_000_000_u64, 0].map(u64::to_ne_bytes).concat();
        worked(
            call!(libc::SYS_clock_settime, libc::CLOCK_REALTIME, &mut time[..]),
            "set",
        )
    });
    attack.act("set the time of day", || {
        let mut time = [1_700_000_000_u64, 0].map(u64::to_ne_bytes).concat();
        worked(call!(libc::SYS_settimeofday, &mut time[..], 0), "set")
    });
    attack.act("tune the clock", || {
        let mut parameters = [0_u8; 256];
        parameters[..4].copy_from_slice(&libc::ADJ_OFFSET.to_ne_bytes());
        worked(call!(libc::SYS_adjtimex, &mut parameters[..]), "tuned")
    });
}

fn kernel_secrets(attack: &mut Attack<'_>) {
    attack.act("read the kernel's log by call", || {
        let mut buffer = [0_u8; 512];
        let got = call!(libc::SYS_syslog, 3, &mut buffer[..], 512)?;
        Ok(sample(&buffer[..usize::try_from(got).unwrap_or(0)]))
    });
    attack.act("read addresses of the kernel", || {
        let text = fs::read_to_string("/proc/kallsyms")?;
        let known = text.lines().find(|line| !line.starts_with("0000000000000000"));
        known.map_or_else(|| refused("all zero"), |line| Ok(line.to_owned()))
    });
    for path in ["/dev/kmsg", "/proc/kcore", "/proc/kmsg"] {
        attack.act(&format!("open {path}"), || {
            let flags = libc::O_RDONLY | libc::O_NONBLOCK;
            let opened = call!(libc::SYS_openat, libc::AT_FDCWD, &text(path), flags)?;
            let mut byte = [0_u8; 16];
            // A masked file opens and is empty.
            match call!(libc::SYS_read, opened, &mut byte[..], 16)? {
                0 => refused("empty"),
                _ => Ok("read".to_owned()),
            }
        });
    }
    for path in [
        "/proc/timer_list",
        "/proc/sched_debug",
        "/proc/vmallocinfo",
        "/proc/slabinfo",
        "/proc/keys",
        "/proc/iomem",
    ] {
        attack.act(&format!("read {path}"), || match read(path)? {
            text if text.trim().is_empty() => refused("empty"),
            text if path == "/proc/iomem" && !has_addresses(&text) => refused("all zero"),
            text => Ok(text),
        });
    }
    attack.substitute("read what everybody may", || read("/proc/version"));
}

/// Whether a list of ranges has one that is not all zero.
fn has_addresses(text: &str) -> bool {
    let starts = text
        .lines()
        .filter_map(|line| line.trim_start().split('-').next());
    starts
        .filter(|start| start.len() == 8)
        .any(|start| start.bytes().any(|digit| digit != b'0'))
}

fn module_loading(attack: &mut Attack<'_>) {
    for (name, family, kind, protocol) in [
        ("AF_ALG", 38, libc::SOCK_SEQPACKET, 0),
        ("AF_CAN", 29, libc::SOCK_RAW, 1),
        ("AF_RDS", 21, libc::SOCK_SEQPACKET, 0),
        ("AF_TIPC", 30, libc::SOCK_STREAM, 0),
        ("AF_KCM", 41, libc::SOCK_DGRAM, 0),
        ("AF_X25", 9, libc::SOCK_SEQPACKET, 0),
        ("AF_AX25", 3, libc::SOCK_DGRAM, 0),
        ("AF_NFC", 39, libc::SOCK_RAW, 0),
        ("AF_SMC", 43, libc::SOCK_STREAM, 0),
        ("AF_XDP", 44, libc::SOCK_RAW, 0),
        ("AF_PPPOX", 24, libc::SOCK_STREAM, 0),
        ("AF_QIPCRTR", 42, libc::SOCK_DGRAM, 0),
        ("AF_KEY", 15, libc::SOCK_RAW, 2),
        ("AF_PHONET", 35, libc::SOCK_DGRAM, 0),
        ("AF_VSOCK", 40, libc::SOCK_STREAM, 0),
    ] {
        attack.act(&format!("make a socket of {name}"), || {
            worked(call!(libc::SYS_socket, family, kind, protocol), "made")
        });
    }
    attack.act("load a module", || {
        let file = fs::File::open("/proc/self/exe")?;
        match call!(libc::SYS_finit_module, file.as_raw_fd(), &text(""), 0) {
            Err(error) if error.raw_os_error() == Some(libc::ENOEXEC) => {
                Ok("only the file was no module".to_owned())
            }
            other => worked(other, "loaded"),
        }
    });
    attack.substitute("make a socket that everybody may", || {
        worked(
            call!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0),
            "made",
        )
    });
}
