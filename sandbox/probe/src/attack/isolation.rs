//! The walls themselves: capabilities, namespaces, mounts, the system call filter.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::sys::{self, call, text};
use super::{Attack, Probe, Try, other_processes, pause, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("P10", setuid_programs),
    ("P11", capabilities),
    ("P12", user_namespaces),
    ("P13", mounts),
    ("P14", enter_namespaces),
    ("P15", clone_by_pointer),
    ("P16", other_tables),
    ("P17", io_uring),
    ("P18", dangerous_calls),
    ("P19", key_rings),
    ("P20", odd_calls),
    ("P21", priorities),
    ("P22", program_in_memory),
];

/// Setuid programs of the system that wait for input when they are started.
fn waiting_setuid_program() -> Option<PathBuf> {
    let candidates = [
        "/usr/bin/su",
        "/bin/su",
        "/usr/bin/passwd",
        "/usr/bin/chfn",
        "/usr/bin/chsh",
    ];
    candidates
        .into_iter()
        .map(PathBuf::from)
        .find(|path| fs::metadata(path).is_ok_and(|meta| meta.permissions().mode() & 0o4000 != 0))
}

fn setuid_programs(attack: &mut Attack<'_>) {
    attack.forked("start a setuid program", || {
        let Some(program) = waiting_setuid_program() else {
            return refused("there is none");
        };
        if rustix::process::getuid().is_root() {
            // Root gains nothing by it: become nobody in particular first.
            call!(libc::SYS_setgid, 65534)?;
            call!(libc::SYS_setuid, 65534)?;
        }
        let mut child = Command::new(program)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let mut gained = false;
        for _ in 0..100 {
            let status = fs::read_to_string(format!("/proc/{}/status", child.id())).unwrap_or_default();
            let uids = status
                .lines()
                .find(|line| line.starts_with("Uid:"))
                .unwrap_or_default();
            gained |= uids.split_whitespace().nth(2) == Some("0");
            if gained || child.try_wait()?.is_some() {
                break;
            }
            pause(5);
        }
        let _ = child.kill();
        drop(child.stdin.take());
        if gained {
            Ok("it ran as root".to_owned())
        } else {
            refused("no other user")
        }
    });
    let own = attack.facts.workspace.join("setuid-own");
    attack.forked("gain a user by a program in the workspace", || {
        let from = std::env::current_exe()?;
        fs::copy(from, &own)?;
        fs::set_permissions(&own, fs::Permissions::from_mode(0o4755))?;
        if rustix::process::getuid().is_root() {
            call!(libc::SYS_setuid, 65534)?;
        }
        let before = rustix::process::geteuid().as_raw().to_string();
        let output = Command::new(&own).arg("euid").output()?;
        let after = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        if after.is_empty() || after == before {
            refused(format!("still {before}"))
        } else {
            Ok(format!("{before} became {after}"))
        }
    });
    let _ = fs::remove_file(&own);
}

fn capabilities(attack: &mut Attack<'_>) {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    for set in ["CapEff", "CapPrm", "CapInh", "CapBnd", "CapAmb"] {
        let line = status
            .lines()
            .find(|line| line.starts_with(set))
            .unwrap_or_default();
        let value = line.split_whitespace().nth(1).unwrap_or("none shown").to_owned();
        attack.act(&format!("have {set}"), || match value.trim_matches('0') {
            "" => refused("empty"),
            _ => Ok(value),
        });
    }
}

fn user_namespaces(attack: &mut Attack<'_>) {
    attack.forked("unshare a user namespace", || {
        worked(call!(libc::SYS_unshare, libc::CLONE_NEWUSER), "unshared")
    });
    attack.forked("clone with a user namespace", || {
        worked(sys::clone(libc::CLONE_NEWUSER), "cloned")
    });
}

fn mounts(attack: &mut Attack<'_>) {
    let workspace = attack.facts.workspace.clone();
    let outside = attack.facts.outside;
    let (none, tmpfs) = (text("none"), text("tmpfs"));
    let flags = 0_i64;
    attack.apart("mount a tmpfs", || {
        worked(
            call!(libc::SYS_mount, &none, &text("/tmp"), &tmpfs, flags, flags),
            "mounted",
        )
    });
    attack.apart("bind another directory over the workspace", || {
        let bind = i64::try_from(libc::MS_BIND).unwrap_or(0);
        worked(
            call!(
                libc::SYS_mount,
                &text("/tmp"),
                &text(&workspace),
                &none,
                bind,
                flags
            ),
            "bound",
        )
    });
    attack.apart("make everything writable again", || {
        let again = i64::try_from(libc::MS_REMOUNT | libc::MS_BIND).unwrap_or(0);
        worked(
            call!(libc::SYS_mount, &none, &text("/"), &none, again, flags),
            "remounted",
        )
    });
    for covered in [
        workspace.join(".git/hooks"),
        workspace.join(".git/config"),
        "/proc/sys".into(),
        "/tmp".into(),
    ] {
        if !outside {
            attack.apart(&format!("uncover {}", covered.display()), || {
                worked(
                    call!(libc::SYS_umount2, &text(&covered), libc::MNT_DETACH),
                    "uncovered",
                )
            });
        }
    }
    attack.apart("change the root", || {
        call!(libc::SYS_chroot, &text("/tmp"))?;
        Ok("changed".to_owned())
    });
    attack.apart("pivot the root", || {
        let here = text("/tmp");
        worked(call!(libc::SYS_pivot_root, &here, &here), "pivoted")
    });
    attack.apart("open a file system by the new calls", || {
        worked(call!(libc::SYS_fsopen, &tmpfs, 0), "opened")
    });
    attack.apart("clone a mount tree", || {
        let tree = call!(libc::SYS_open_tree, libc::AT_FDCWD, &text("/"), 1)?;
        Ok(format!("cloned as {tree}"))
    });
    attack.apart("change attributes of a mount", || {
        let mut attributes = [0_u64; 4].map(u64::to_ne_bytes).concat();
        attributes[8] = 1;
        let size = i64::try_from(attributes.len()).unwrap_or(0);
        worked(
            call!(
                libc::SYS_mount_setattr,
                libc::AT_FDCWD,
                &text("/"),
                0,
                &mut attributes[..],
                size
            ),
            "changed",
        )
    });
}

fn enter_namespaces(attack: &mut Attack<'_>) {
    let mut owners = vec!["self".to_owned(), "1".to_owned(), attack.facts.victim.to_string()];
    owners.extend(other_processes().iter().take(8).map(ToString::to_string));
    for owner in owners {
        for name in ["net", "mnt", "pid", "user", "uts", "ipc", "cgroup"] {
            let path = format!("/proc/{owner}/ns/{name}");
            let enter = || {
                let file = fs::File::open(&path)?;
                worked(call!(libc::SYS_setns, file.as_raw_fd(), 0), "entered")
            };
            if attack.facts.outside && owner == "self" {
                attack.apart(&format!("enter {path}"), enter);
            } else {
                attack.forked(&format!("enter {path}"), enter);
            }
        }
    }
}

fn clone_by_pointer(attack: &mut Attack<'_>) {
    for (name, flag) in [("user", libc::CLONE_NEWUSER), ("nothing", 0)] {
        let flag = u64::from(flag.cast_unsigned());
        attack.forked(&format!("clone3 with a namespace: {name}"), || {
            worked(sys::clone3(flag), "cloned")
        });
    }
}

fn other_tables(attack: &mut Attack<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        attack.forked("a call by its x32 number", || {
            worked(call!(0x4000_0000 + libc::SYS_getpid), "answered")
        });
        attack.forked("a call through the 32-bit gate", || match sys::call_32bit(20) {
            pid if pid > 0 => Ok(format!("answered {pid}")),
            error => Err(std::io::Error::from_raw_os_error(-error)),
        });
    }
    #[cfg(not(target_arch = "x86_64"))]
    {
        attack.substitute("there is no other table on this architecture", || {
            Ok(String::new())
        });
        attack.act("a call beyond the table", || {
            worked(call!(0x4000_0000), "answered")
        });
    }
}

fn io_uring(attack: &mut Attack<'_>) {
    let mut parameters = [0_u8; 120];
    attack.act("set up a ring", || {
        worked(call!(libc::SYS_io_uring_setup, 4, &mut parameters[..]), "set up")
    });
    attack.act("register without a ring", || {
        match call!(libc::SYS_io_uring_register, -1, 0, 0, 0) {
            Err(error) if error.raw_os_error() == Some(libc::EBADF) => Ok("the call is there".to_owned()),
            other => worked(other, "registered"),
        }
    });
}

fn dangerous_calls(attack: &mut Attack<'_>) {
    let mut map = [0_u8; 72];
    for (byte, value) in [(0, 2), (4, 4), (8, 4), (12, 1)] {
        map[byte] = value;
    }
    let size = i64::try_from(map.len()).unwrap_or(0);
    attack.act("make a BPF map", || {
        worked(call!(libc::SYS_bpf, 0, &mut map[..], size), "made")
    });
    let mut event = [0_u8; 128];
    (event[0], event[4]) = (1, 128);
    // Only what happens in user space: the least that the kernel might allow.
    event[40] = 0b0110_0000;
    attack.act("count events", || {
        worked(
            call!(libc::SYS_perf_event_open, &mut event[..], 0, -1, -1, 0),
            "counting",
        )
    });
    attack.act("handle page faults", || {
        worked(call!(libc::SYS_userfaultfd, 1), "handling")
    });
    let own = std::process::id();
    attack.act("compare processes", || {
        worked(call!(libc::SYS_kcmp, own, own, 0, 0, 0), "compared")
    });
    attack.act("watch a file system", || {
        // Notifications without any right: what the kernel allows everyone.
        let class = 0x0000_0200;
        worked(call!(libc::SYS_fanotify_init, class, 0), "watching")
    });
}

fn key_rings(attack: &mut Attack<'_>) {
    let (kind, name) = (text("user"), text(&attack.facts.token));
    if attack.facts.outside {
        // One of its own: what it had is the operator's.
        let _ = call!(libc::SYS_keyctl, 1, 0);
    }
    attack.act("find the session key ring", || {
        call!(libc::SYS_keyctl, 0, -3, 0).map(|ring| format!("key ring {ring}"))
    });
    attack.act("add a key to the user's ring", || {
        let mut payload = *b"lodge";
        let key = call!(libc::SYS_add_key, &kind, &name, &mut payload[..], 5, -4)?;
        // It is not to outlive the probe: unlinked at once.
        worked(call!(libc::SYS_keyctl, 9, key, -4), "added")
    });
    attack.act("read the session key ring", || {
        let mut buffer = [0_u8; 256];
        worked(call!(libc::SYS_keyctl, 11, -3, &mut buffer[..], 256), "read")
    });
    attack.act("link the user's ring into the session's", || {
        worked(call!(libc::SYS_keyctl, 8, -4, -3), "linked")
    });
    attack.act("find the persistent ring", || {
        worked(call!(libc::SYS_keyctl, 22, -1, -2), "found")
    });
    attack.act("request a key", || {
        worked(call!(libc::SYS_request_key, &kind, &name, &text(""), -2), "found")
    });
}

fn odd_calls(attack: &mut Attack<'_>) {
    attack.forked("change the execution domain", || {
        worked(call!(libc::SYS_personality, 0x0440_0000), "changed")
    });
    #[cfg(target_arch = "x86_64")]
    {
        attack.forked("get all ports", || worked(call!(libc::SYS_iopl, 3), "got them"));
        attack.forked("get one port", || {
            worked(call!(libc::SYS_ioperm, 0x80, 1, 1), "got it")
        });
        let mut table = [0_u8; 16];
        attack.forked("read the descriptor table", || {
            worked(call!(libc::SYS_modify_ldt, 0, &mut table[..], 16), "read")
        });
    }
    attack.forked("pin pages in pipes", || {
        let mut ends = [0_u8; 8];
        call!(libc::SYS_pipe2, &mut ends[..], libc::O_NONBLOCK)?;
        let writer = i32::from_ne_bytes([ends[4], ends[5], ends[6], ends[7]]);
        let mut page = vec![0_u8; 4096];
        let address = page.as_mut_ptr() as u64;
        let mut vector = [address, 4096].map(u64::to_ne_bytes).concat();
        worked(call!(libc::SYS_vmsplice, writer, &mut vector[..], 1, 0), "pinned")
    });
}

fn priorities(attack: &mut Attack<'_>) {
    attack.forked("run in real time", || {
        let mut parameters = 1_i32.to_ne_bytes();
        worked(
            call!(
                libc::SYS_sched_setscheduler,
                0,
                libc::SCHED_FIFO,
                &mut parameters[..]
            ),
            "running",
        )
    });
    attack.forked("be nicer to oneself", || {
        worked(call!(libc::SYS_setpriority, 0, 0, -20), "set")
    });
    attack.forked("never be killed for memory", || {
        worked(fs::write("/proc/self/oom_score_adj", "-1000"), "set")
    });
    attack.forked("be first at the disk", || {
        worked(call!(libc::SYS_ioprio_set, 1, 0, 1 << 13), "set")
    });
    attack.substitute("the same calls in the direction that everybody may go", || {
        call!(libc::SYS_setpriority, 0, 0, 19)?;
        worked(fs::write("/proc/self/oom_score_adj", "1000"), "set")
    });
}

fn program_in_memory(attack: &mut Attack<'_>) {
    attack.act("run a program that is in no file", || {
        let fd = call!(libc::SYS_memfd_create, &text("probe"), 0)?;
        let path = format!("/proc/self/fd/{fd}");
        fs::write(&path, fs::read(std::env::current_exe()?)?)?;
        run(&path)
    });
}

fn run(path: &str) -> Try {
    let output = Command::new(path).arg("euid").output()?;
    if output.status.success() {
        Ok("it ran".to_owned())
    } else {
        refused(output.status.to_string())
    }
}
