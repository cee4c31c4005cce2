//! Other processes: looking into them, signalling them, outliving the sandbox.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};

use super::sys::{self, call};
use super::{Attack, Probe, open_for_writing, other_processes, overwrite, pause, read, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("P01", look_into),
    ("P02", signals),
    ("P03", trace),
    ("P04", trace_helper),
    ("P05", descriptors),
    ("P06", directory_descriptors),
    ("P07", overwrite_launcher),
    ("P08", terminal_input),
    ("P09", terminal_escapes),
    ("P23", daemon),
    ("P24", daemon),
    ("P25", daemon),
    ("P26", zombies),
    ("P27", signal_storm),
    ("M03", namespaces),
];

/// Processes outside: the victim, and all others as well when it is to be seen at all.
fn others(attack: &Attack<'_>) -> Vec<i32> {
    let victim = attack.facts.victim;
    if !Path::new(&format!("/proc/{victim}")).exists() {
        return vec![victim];
    }
    let parent = i32::try_from(std::os::unix::process::parent_id()).unwrap_or(0);
    let seen = other_processes()
        .into_iter()
        .filter(|&pid| pid != parent && pid != victim);
    [victim].into_iter().chain(seen.take(20)).collect()
}

/// Processes that belong to the sandbox itself: those that started this one, and its first.
fn helpers(attack: &Attack<'_>) -> Vec<i32> {
    if attack.facts.outside {
        return vec![attack.facts.victim];
    }
    let number = |pid: u32| i32::try_from(pid).unwrap_or(1);
    let own = number(std::process::id());
    // Where this program is the first process there is no helper.
    let mut all = vec![1, number(std::os::unix::process::parent_id())];
    all.dedup();
    all.retain(|&pid| pid != own && pid != 0);
    all
}

fn look_into(attack: &mut Attack<'_>) {
    for pid in others(attack) {
        for what in ["environ", "maps", "cmdline"] {
            // A command line of one's own init is no secret.
            if what == "cmdline" && pid != attack.facts.victim {
                continue;
            }
            attack.act(&format!("read /proc/{pid}/{what}"), || {
                match read(format!("/proc/{pid}/{what}"))? {
                    text if text.is_empty() => refused("empty"),
                    text => Ok(text),
                }
            });
        }
        attack.act(&format!("open /proc/{pid}/mem"), || {
            worked(fs::File::open(format!("/proc/{pid}/mem")), "opened")
        });
    }
}

fn signals(attack: &mut Attack<'_>) {
    let victim = attack.facts.victim;
    for (name, signal) in [
        ("0", 0),
        ("STOP", libc::SIGSTOP),
        ("CONT", libc::SIGCONT),
        ("TERM", libc::SIGTERM),
    ] {
        attack.act(&format!("kill(victim, {name})"), || {
            worked(call!(libc::SYS_kill, victim, signal), "sent")
        });
    }
    attack.act("pidfd of the victim", || {
        worked(call!(libc::SYS_pidfd_open, victim, 0), "opened")
    });
    if !attack.facts.outside {
        sys::ignore(&[libc::SIGTERM, libc::SIGHUP]);
        attack.effect("kill(-1, TERM)", || {
            worked(call!(libc::SYS_kill, -1, libc::SIGTERM), "sent")
        });
        attack.effect("kill(1, KILL)", || {
            worked(call!(libc::SYS_kill, 1, libc::SIGKILL), "sent")
        });
    }
}

fn trace_one(attack: &mut Attack<'_>, pid: i32) {
    const SEIZE: i64 = 0x4206;
    attack.forked(&format!("trace {pid}"), || {
        worked(call!(libc::SYS_ptrace, SEIZE, pid, 0, 0), "traced")
    });
    attack.act(&format!("read memory of {pid}"), || {
        worked(sys::read_memory_of(pid), "read")
    });
    attack.act(&format!("take a descriptor of {pid}"), || {
        let fd = call!(libc::SYS_pidfd_open, pid, 0)?;
        let taken = call!(libc::SYS_pidfd_getfd, fd, 0, 0);
        let _ = call!(libc::SYS_close, fd);
        worked(taken, "taken")
    });
}

fn trace(attack: &mut Attack<'_>) {
    for pid in others(attack) {
        trace_one(attack, pid);
    }
}

fn trace_helper(attack: &mut Attack<'_>) {
    for helper in helpers(attack) {
        trace_one(attack, helper);
        for what in ["mem", "environ", "maps", "fd"] {
            let path = format!("/proc/{helper}/{what}");
            attack.act(&format!("open {path}"), || match what {
                // Which numbers are open says nothing; what they are would.
                "fd" => (0..16)
                    .find_map(|fd| fs::read_link(format!("{path}/{fd}")).ok())
                    .map_or_else(
                        || refused("no link can be read"),
                        |link| Ok(link.display().to_string()),
                    ),
                "mem" => worked(fs::File::open(&path), "opened"),
                _ => match read(&path)? {
                    text if text.is_empty() => refused("empty"),
                    text => Ok(text),
                },
            });
        }
    }
}

/// Descriptors beyond the standard three that this program did not open itself.
fn inherited() -> Vec<i32> {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return Vec::new();
    };
    let numbers: Vec<i32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .collect();
    // The one that listed them is closed by now.
    numbers
        .into_iter()
        .filter(|&fd| {
            fd > 2
                && Path::new(&format!("/proc/self/fd/{fd}"))
                    .symlink_metadata()
                    .is_ok()
        })
        .collect()
}

fn descriptors(attack: &mut Attack<'_>) {
    let found = inherited();
    attack.act("descriptors beyond the standard three", || {
        let what = found.iter().map(|fd| {
            let target = fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            format!("{fd} is {}", target.display())
        });
        let what: Vec<String> = what.collect();
        if what.is_empty() {
            refused("there is none")
        } else {
            Ok(what.join(", "))
        }
    });
}

fn directory_descriptors(attack: &mut Attack<'_>) {
    let Some(secret) = attack.facts.secrets.first() else {
        return;
    };
    let up = "../".repeat(30);
    let absolute = secret.display().to_string();
    let below = absolute.trim_start_matches('/').to_owned();
    for fd in 0..64 {
        let path = format!("/proc/self/fd/{fd}");
        if fs::metadata(&path).is_ok_and(|meta| meta.is_dir()) {
            attack.act(&format!("climb from descriptor {fd}"), || {
                read(format!("{path}/{up}{below}"))
            });
        }
    }
    attack.act("climb from the working directory", || {
        read(format!("{up}{below}"))
    });
    attack.act("climb from /proc/self/cwd", || {
        read(format!("/proc/self/cwd/{up}{below}"))
    });
    attack.act("climb from a directory opened before chdir", || {
        let directory = fs::File::open(".")?;
        std::env::set_current_dir("/")?;
        read(format!("/proc/self/fd/{}/{up}{below}", directory.as_raw_fd()))
    });
    attack.act("open with a working directory outside", || {
        std::env::set_current_dir(&attack.facts.home)?;
        super::list(".")
    });
}

fn overwrite_launcher(attack: &mut Attack<'_>) {
    let victim = attack.facts.victim;
    for path in [
        "/proc/1/exe".to_owned(),
        format!("/proc/{victim}/exe"),
        "/run/lodge/init".to_owned(),
    ] {
        attack.act(&format!("open {path} for writing"), || open_for_writing(&path));
    }
    attack.act("reopen the launcher for writing once it has ended", || {
        // The program's own file is busy while it runs; one that holds it open for reference may wait.
        let file = call!(
            libc::SYS_openat,
            libc::AT_FDCWD,
            &sys::text("/proc/1/exe"),
            libc::O_PATH
        )?;
        open_for_writing(format!("/proc/self/fd/{file}"))
    });
    for program in &attack.facts.programs {
        attack.act(&format!("open {} for writing", program.path.display()), || {
            overwrite(program)
        });
    }
}

fn terminal_input(attack: &mut Attack<'_>) {
    for (name, path) in [
        ("standard input", "/proc/self/fd/0"),
        ("/dev/tty", "/dev/tty"),
        ("/dev/console", "/dev/console"),
    ] {
        attack.act(&format!("type into {name}"), || {
            if attack.facts.outside {
                return refused("not tried outside");
            }
            let file = fs::File::open(path)?;
            let mut byte = *b"x";
            worked(
                call!(
                    libc::SYS_ioctl,
                    file.as_raw_fd(),
                    libc::TIOCSTI.cast_signed(),
                    &mut byte[..]
                ),
                "typed",
            )
        });
    }
    attack.forked("type into a terminal of one's own", || {
        let (_, terminal) = sys::open_terminal()?;
        call!(libc::SYS_setsid)?;
        call!(libc::SYS_ioctl, terminal, libc::TIOCSCTTY.cast_signed(), 0)?;
        let mut byte = *b"x";
        worked(
            call!(
                libc::SYS_ioctl,
                terminal,
                libc::TIOCSTI.cast_signed(),
                &mut byte[..]
            ),
            "typed",
        )
    });
    attack.act("paste by TIOCLINUX", || {
        let mut code = [3_u8, 0];
        worked(
            call!(libc::SYS_ioctl, 0, libc::TIOCLINUX.cast_signed(), &mut code[..]),
            "pasted",
        )
    });
}

fn terminal_escapes(attack: &mut Attack<'_>) {
    let escapes = "\x1b]0;title\x07\x1b[2J\x1b[31mred\x1bP+q\x1b\\\u{9b}2J\u{202e}";
    eprintln!("{escapes}");
    attack.effect("write escapes to standard error", || {
        Ok(format!("written: {escapes}"))
    });
}

/// What a surviving process calls itself, for the observer to find.
pub(crate) const DAEMON: &str = "lodge-probe-daemon";

fn daemon(attack: &mut Attack<'_>) {
    let mark = format!("{DAEMON}-{}", attack.facts.token);
    attack.effect("leave a daemon that ignores signals", || {
        let program = std::env::current_exe()?;
        sys::fork(|| {
            let _ = call!(libc::SYS_setsid);
            let _ = sys::fork(|| {
                sys::ignore(&[libc::SIGTERM, libc::SIGHUP, libc::SIGINT, libc::SIGPIPE]);
                let _failed = Command::new(&program)
                    .arg0(&mark)
                    .args(["sleep", &mark])
                    .stdin(Stdio::null())
                    .stdout(Stdio::null())
                    .stderr(Stdio::null())
                    .exec();
                1
            });
            0
        })?;
        Ok("left".to_owned())
    });
}

fn zombies(attack: &mut Attack<'_>) {
    let goal = 600;
    let begun = orphans(goal);
    let mut left = usize::MAX;
    for _ in 0..300 {
        left = zombie_count();
        if left == 0 {
            break;
        }
        pause(10);
    }
    attack.amount(
        "orphans that end",
        left == 0,
        format!("{begun} begun, {left} left as zombies"),
    );
    let most = if attack.facts.outside {
        300
    } else {
        attack.facts.bounds.processes + 200
    };
    let mut held = 0;
    while held < most && sys::fork(|| 0).is_ok() {
        held += 1;
    }
    while sys::wait(-1, libc::WNOHANG).is_ok() {
        pause(1);
    }
    attack.amount(
        "children that nobody waits for",
        held < most,
        format!("{held} of {most}"),
    );
}

/// Children whose parent ends at once, so that init inherits them.
fn orphans(goal: usize) -> usize {
    (0..goal)
        .filter(|_| {
            let Ok(pid) = sys::fork(|| i32::from(sys::fork(|| 0).is_err())) else {
                return false;
            };
            sys::wait(pid, 0).is_ok()
        })
        .count()
}

fn zombie_count() -> usize {
    let state = |pid: &i32| {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        stat.rsplit(')')
            .next()
            .is_some_and(|rest| rest.trim_start().starts_with('Z'))
    };
    let Ok(entries) = fs::read_dir("/proc") else {
        return 0;
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(state).count()
}

fn signal_storm(attack: &mut Attack<'_>) {
    sys::ignore(&[
        libc::SIGTERM,
        libc::SIGHUP,
        libc::SIGUSR1,
        libc::SIGINT,
        libc::SIGQUIT,
    ]);
    let victim = attack.facts.victim;
    if !attack.facts.outside {
        attack.effect("storm on the own group", || {
            for _ in 0..2000 {
                for signal in [libc::SIGTERM, libc::SIGHUP, libc::SIGUSR1, libc::SIGINT] {
                    let _ = call!(libc::SYS_kill, 0, signal);
                }
            }
            Ok("sent".to_owned())
        });
        attack.effect("storm on init", || {
            for _ in 0..2000 {
                let _ = call!(libc::SYS_kill, 1, libc::SIGTERM);
                let _ = call!(libc::SYS_kill, 1, libc::SIGUSR1);
            }
            Ok("sent".to_owned())
        });
    }
    attack.act("signal the victim's group", || {
        worked(call!(libc::SYS_kill, -victim, libc::SIGUSR1), "sent")
    });
}

fn namespaces(attack: &mut Attack<'_>) {
    attack.effect("say where this runs", || {
        let names = ["pid", "mnt", "net", "user", "ipc", "uts"].map(|name| {
            let link = fs::read_link(format!("/proc/self/ns/{name}")).unwrap_or_default();
            link.display().to_string()
        });
        let status = fs::read_to_string("/proc/self/status")?;
        let line = status
            .lines()
            .find(|line| line.starts_with("Seccomp:"))
            .unwrap_or_default();
        let seccomp = line.split_whitespace().nth(1).unwrap_or_default();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        Ok(format!(
            "{} seccomp={seccomp} boot={}",
            names.join(" "),
            boot.trim()
        ))
    });
}
