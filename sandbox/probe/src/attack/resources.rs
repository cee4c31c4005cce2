//! Taking more than one's share; each attempt knows the bound it should meet and stops soon after it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::time::{Duration, Instant};

use super::sys::{self, call, text};
use super::{Attack, Probe, pause, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("R01", fork_bomb),
    ("R02", thread_bomb),
    ("R03", memory_bomb),
    ("R04", scratch_fill),
    ("R05", disk_fill),
    ("R06", descriptors),
    ("R07", output_flood),
    ("R08", spin),
    ("R09", deep_tree),
    ("R10", core_dumps),
];

/// How much more than the bound is tried.
const BEYOND: u64 = 2;
const MIB: u64 = 1 << 20;

/// Clearly more processes than the bound: a kernel may keep some numbers of them for itself.
fn enough(attack: &Attack<'_>) -> u64 {
    attack.facts.bounds.processes * BEYOND + 400
}

fn fork_bomb(attack: &mut Attack<'_>) {
    let modest = attack.facts.outside || attack.facts.modest;
    let goal = if modest { enough(attack) } else { 200_000 };
    let (mut begun, mut refusals) = (0_u64, 0_u64);
    let mut children = Vec::new();
    for _ in 0..goal {
        match sys::fork(|| {
            pause(20_000);
            0
        }) {
            Ok(pid) => {
                begun += 1;
                children.push(pid);
            }
            Err(_) => refusals += 1,
        }
        // The bound holds when it refuses again and again: the rest of the attempts says nothing more.
        if refusals > 5000 {
            break;
        }
    }
    for pid in children {
        let _ = call!(libc::SYS_kill, pid, libc::SIGKILL);
        let _ = sys::wait(pid, 0);
    }
    attack.amount(
        "fork without end",
        begun < goal,
        format!("{begun} begun, then {refusals} refused"),
    );
}

fn thread_bomb(attack: &mut Attack<'_>) {
    let goal = enough(attack);
    let mut threads = Vec::new();
    let stop = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    let mut refused = false;
    while (threads.len() as u64) < goal {
        let stop = stop.clone();
        let started = std::thread::Builder::new().stack_size(64 << 10).spawn(move || {
            while !stop.load(std::sync::atomic::Ordering::Relaxed) {
                std::thread::park_timeout(Duration::from_millis(200));
            }
        });
        let Ok(thread) = started else {
            refused = true;
            break;
        };
        threads.push(thread);
    }
    let count = threads.len();
    if !refused && !attack.facts.outside && !attack.facts.modest {
        // Where the bound is sampled, this is when everything is killed.
        pause(4000);
    }
    stop.store(true, std::sync::atomic::Ordering::Relaxed);
    for thread in threads {
        thread.thread().unpark();
        let _ = thread.join();
    }
    attack.amount("threads without end", refused, format!("{count} of {goal}"));
}

fn memory_bomb(attack: &mut Attack<'_>) {
    let bound = attack.facts.bounds.memory;
    let goal = usize::try_from(bound * BEYOND).unwrap_or(usize::MAX);
    let chunk = 4 << 20;
    let single = sys::fork(|| i32::from(sys::touch_memory(goal, chunk) >= goal));
    let one = single.and_then(|pid| sys::wait(pid, 0));
    attack.amount(
        "memory of one process",
        !matches!(one, Ok(Some(status)) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1),
        format!("status {one:?} at {} MiB", goal >> 20),
    );
    let share = goal / 50;
    let children: Vec<i32> = (0..50)
        .filter_map(|_| {
            sys::fork(|| {
                let all = sys::touch_memory(share, 1 << 20) >= share;
                pause(3000);
                i32::from(all)
            })
            .ok()
        })
        .collect();
    let whole = children
        .iter()
        .filter(|&&pid| matches!(sys::wait(pid, 0), Ok(Some(status)) if libc::WIFEXITED(status) && libc::WEXITSTATUS(status) == 1))
        .count();
    attack.amount(
        "memory of 50 processes",
        whole < 50,
        format!("{whole} of 50 got theirs"),
    );
}

/// Writes to a file until it is refused or `goal` is reached.
fn fill(path: &Path, goal: u64) -> io::Result<u64> {
    let mut file = File::create(path)?;
    let chunk = vec![1_u8; 1 << 20];
    let mut written = 0;
    while written < goal {
        if file.write_all(&chunk).is_err() {
            break;
        }
        written += MIB;
    }
    Ok(written)
}

fn scratch_fill(attack: &mut Attack<'_>) {
    let goal = attack.facts.bounds.tmp * BEYOND;
    for directory in ["/tmp", "/dev/shm"] {
        let directory = if attack.facts.outside {
            attack.facts.root.join("scratch")
        } else {
            directory.into()
        };
        let path = directory.join("fill");
        let result = fill(&path, goal);
        let _ = fs::remove_file(&path);
        let limited = !matches!(result, Ok(written) if written >= goal);
        attack.amount(
            &format!("fill {}", directory.display()),
            limited,
            format!("{result:?} of {goal} bytes"),
        );
    }
}

fn disk_fill(attack: &mut Attack<'_>) {
    sys::ignore(&[libc::SIGXFSZ]);
    let workspace = attack.facts.workspace.clone();
    let sparse = workspace.join("sparse");
    let size = attack.facts.bounds.file_size * BEYOND;
    let result = File::create(&sparse).and_then(|file| file.set_len(size));
    let _ = fs::remove_file(&sparse);
    attack.amount(
        "a sparse file",
        result.is_err(),
        format!("{result:?} of {size} bytes"),
    );
    let goal = attack.facts.bounds.disk * BEYOND;
    let each = attack.facts.bounds.file_size / 2;
    let mut written = 0;
    for number in 0.. {
        if written >= goal || number > 100 {
            break;
        }
        match fill(&workspace.join(format!("fill-{number}")), each) {
            Ok(more) if more >= each => written += more,
            _ => break,
        }
        // The bound is sampled: an attacker who is done before the sample still has the space.
        pause(20);
    }
    let limited = written < goal;
    if !limited {
        pause(3000);
    }
    attack.amount("the disk", limited, format!("{written} of {goal} bytes"));
    for number in 0..=100 {
        let _ = fs::remove_file(workspace.join(format!("fill-{number}")));
    }
}

fn descriptors(attack: &mut Attack<'_>) {
    let bound = attack.facts.bounds.open_files;
    let goal = bound + 64;
    if attack.facts.outside {
        // An ordinary limit may be lower than what is tried: the control raises it as far as it may.
        let _ = rustix::process::setrlimit(
            rustix::process::Resource::Nofile,
            rustix::process::Rlimit {
                current: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
                maximum: rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum,
            },
        );
    }
    let count = |open: &dyn Fn() -> io::Result<i64>| {
        let mut all = Vec::new();
        while (all.len() as u64) < goal {
            match open() {
                Ok(fd) => all.push(fd),
                Err(_) => break,
            }
        }
        for &fd in &all {
            let _ = call!(libc::SYS_close, fd);
        }
        all.len() as u64
    };
    let null = text("/dev/null");
    for (name, opened) in [
        (
            "descriptors",
            count(&|| call!(libc::SYS_openat, libc::AT_FDCWD, &null, libc::O_RDONLY)),
        ),
        ("watches", count(&|| call!(libc::SYS_inotify_init1, 0))),
        ("event queues", count(&|| call!(libc::SYS_epoll_create1, 0))),
        (
            "sockets",
            count(&|| call!(libc::SYS_socket, libc::AF_UNIX, libc::SOCK_STREAM, 0)),
        ),
    ] {
        attack.amount(name, opened < goal, format!("{opened} of {goal}"));
    }
}

fn output_flood(attack: &mut Attack<'_>) {
    // To standard error, for standard output carries the report; both are counted together.
    let modest = attack.facts.outside || attack.facts.modest;
    let goal = if modest {
        attack.facts.bounds.output * BEYOND
    } else {
        10 << 30
    };
    let chunk = vec![b'x'; 1 << 16];
    let mut out = io::stderr().lock();
    let mut written = 0_u64;
    while written < goal && out.write_all(&chunk).is_ok() {
        written += chunk.len() as u64;
    }
    attack.amount(
        "output without a line's end",
        written < goal,
        format!("{written} bytes"),
    );
}

fn spin(attack: &mut Attack<'_>) {
    let seconds = attack.facts.bounds.cpu_seconds;
    // Counted in the processes' own time: on a busy machine it passes slowly.
    let (goal, patience) = (Duration::from_secs(seconds * 2 + 2), Duration::from_mins(1));
    let begin = Instant::now();
    let children: Vec<i32> = (0..2)
        .filter_map(|_| {
            sys::fork(|| {
                while used() < goal && begin.elapsed() < patience {
                    std::hint::spin_loop();
                }
                0
            })
            .ok()
        })
        .collect();
    let killed = children
        .iter()
        .filter(|&&pid| matches!(sys::wait(pid, 0), Ok(Some(status)) if libc::WIFSIGNALED(status)))
        .count();
    let detail = format!(
        "{killed} of {} killed after {} ms",
        children.len(),
        begin.elapsed().as_millis()
    );
    attack.amount("spin on every core", killed == children.len(), detail);
}

/// Processor time of this process.
fn used() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

fn deep_tree(attack: &mut Attack<'_>) {
    let workspace = attack.facts.workspace.join("tree");
    let outside = attack.facts.outside;
    let make = || -> io::Result<u32> {
        fs::create_dir_all(&workspace)?;
        // A share of a virtual machine is slow: what was made by then is judged.
        let (begin, patience) = (Instant::now(), Duration::from_secs(6));
        let mut deep = workspace.clone();
        for _ in 0..400 {
            deep.push("d");
            if begin.elapsed() > patience || fs::create_dir(&deep).is_err() {
                break;
            }
        }
        let wide = workspace.join("wide");
        fs::create_dir_all(&wide)?;
        let mut made = 0;
        while made < 30_000 && begin.elapsed() < patience * 2 {
            if File::create(wide.join(made.to_string())).is_err() {
                break;
            }
            made += 1;
        }
        Ok(made)
    };
    let made = make();
    // What is judged is how long the host then needs to look at it.
    attack.amount(
        "make deep and wide directories",
        !outside,
        format!("{made:?} files"),
    );
}

fn core_dumps(attack: &mut Attack<'_>) {
    attack.forked("allow oneself core dumps", || {
        let limit = rustix::process::Rlimit {
            current: Some(1 << 20),
            maximum: Some(1 << 20),
        };
        worked(
            rustix::process::setrlimit(rustix::process::Resource::Core, limit).map_err(Into::into),
            "allowed",
        )
    });
    attack.act("dump core", || {
        let pid = sys::fork(sys::abort)?;
        match sys::wait(pid, 0)? {
            Some(status) if libc::WIFSIGNALED(status) && libc::WCOREDUMP(status) => Ok("dumped".to_owned()),
            status => refused(format!("status {status:?}")),
        }
    });
    if !attack.facts.outside {
        let file = attack.facts.workspace.join("swap");
        attack.act("swap to a file", || {
            fs::write(&file, vec![0; 1 << 16])?;
            let result = call!(libc::SYS_swapon, &text(&file), 0);
            let _ = fs::remove_file(&file);
            worked(result, "swapping")
        });
    }
    attack.substitute("limits can be set at all", || {
        let limit = rustix::process::Rlimit {
            current: Some(0),
            maximum: Some(0),
        };
        worked(
            rustix::process::setrlimit(rustix::process::Resource::Core, limit).map_err(Into::into),
            "set",
        )
    });
}
