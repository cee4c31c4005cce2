//! Files outside the workspace: reading them, writing them, getting around the view.

use std::fs;
use std::os::fd::AsRawFd;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use super::sys::{self, call, text};
use super::{
    Attack, Probe, append, create, list, open_for_writing, other_processes, overwrite, read, refused, worked,
};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("F01", secrets),
    ("F02", secrets_by_link),
    ("F03", secrets_by_proc),
    ("F04", start_files),
    ("F10", write_by_link),
    ("F11", write_by_hard_link),
    ("F12", hard_links),
    ("F13", names),
    ("F16", scratch),
    ("F18", accounts),
    ("F19", other_workspaces),
    ("F20", programs),
    ("F21", handles),
    ("F22", setuid_file),
    ("F23", device_nodes),
    ("F24", special_files),
    ("F25", steering_names),
];

fn shown(path: &Path) -> String {
    path.display().to_string()
}

fn secrets(attack: &mut Attack<'_>) {
    for path in &attack.facts.secrets {
        attack.act(&format!("read {}", shown(path)), || read(path));
    }
    let home = &attack.facts.home;
    attack.act("list the victim's home", || list(home));
}

fn link_to(attack: &Attack<'_>, name: &str, target: &Path) -> std::io::Result<PathBuf> {
    let link = attack.facts.workspace.join(name);
    let _ = fs::remove_file(&link);
    symlink(target, &link)?;
    Ok(link)
}

fn secrets_by_link(attack: &mut Attack<'_>) {
    for (number, path) in attack.facts.secrets.iter().enumerate() {
        let link = link_to(attack, &format!("link-{number}"), path);
        attack.act(&format!("read a link to {}", shown(path)), || read(link?));
    }
    let link = link_to(attack, "link-home", &attack.facts.home);
    attack.act("list a link to the home", || list(link?));
}

fn secrets_by_proc(attack: &mut Attack<'_>) {
    let Some(secret) = attack.facts.secrets.first() else {
        return;
    };
    let below = secret.strip_prefix("/").unwrap_or(secret);
    let mut ways = vec!["/proc/self/root".to_owned(), "/proc/1/root".to_owned()];
    for pid in other_processes()
        .into_iter()
        .chain([attack.facts.victim])
        .take(40)
    {
        ways.push(format!("/proc/{pid}/root"));
    }
    for way in ways {
        attack.act(&format!("read through {way}"), || {
            read(Path::new(&way).join(below))
        });
    }
    let cwd = format!("/proc/{}/cwd", attack.facts.victim);
    attack.act("list the victim's working directory", || list(&cwd));
}

fn start_files(attack: &mut Attack<'_>) {
    for path in &attack.facts.start_files {
        let line = format!("# {}", attack.facts.token);
        attack.effect(&format!("append to {}", shown(path)), || append(path, &line));
    }
}

fn write_by_link(attack: &mut Attack<'_>) {
    let token = attack.facts.token.clone();
    let link = link_to(attack, "out", &attack.facts.home);
    attack.effect("create a file behind a link", || {
        create(link?.join("planted"), &token)
    });
    if let Some(file) = attack.facts.start_files.first() {
        let link = link_to(attack, "out-file", file);
        attack.effect("append to a link", || append(link?, &token));
    }
}

fn write_by_hard_link(attack: &mut Attack<'_>) {
    let (path, token) = (attack.facts.workspace.join("linked"), attack.facts.token.clone());
    attack.effect("append to a file with a second name", || {
        append(path, &token).map(|_| "linked".to_owned())
    });
}

fn hard_links(attack: &mut Attack<'_>) {
    let workspace = &attack.facts.workspace;
    for (number, secret) in attack.facts.secrets.iter().take(2).enumerate() {
        let to = workspace.join(format!("hard-{number}"));
        attack.act(&format!("link {}", shown(secret)), || {
            worked(fs::hard_link(secret, &to), "linked")
        });
        let to = workspace.join(format!("hard-by-descriptor-{number}"));
        attack.act("link an open file", || {
            let file = fs::File::open(secret)?;
            let from = text(format!("/proc/self/fd/{}", file.as_raw_fd()));
            let (cwd, follow) = (libc::AT_FDCWD, libc::AT_SYMLINK_FOLLOW);
            worked(
                call!(libc::SYS_linkat, cwd, &from, cwd, &text(&to), follow),
                "linked",
            )
        });
    }
}

fn names(attack: &mut Attack<'_>) {
    let (workspace, Some(secret)) = (&attack.facts.workspace, attack.facts.secrets.first()) else {
        return;
    };
    let below = shown(secret.strip_prefix(&attack.facts.root).unwrap_or(secret));
    let base = shown(workspace);
    let up = "../".repeat(40);
    let absolute = shown(secret);
    for path in [
        format!("{base}/../{below}"),
        format!("{base}/./.././{below}"),
        format!("{base}//..//{below}"),
        format!("{base}/{up}{}", absolute.trim_start_matches('/')),
        format!("//{absolute}"),
        format!("{base}/../{below}/."),
        format!("{base}/.../../{below}"),
    ] {
        attack.act(&format!("read {path}"), || read(&path));
    }
    let long = "x".repeat(255);
    let mut deep = workspace.clone();
    for _ in 0..12 {
        deep.push(&long);
    }
    attack.effect("very long names", || worked(fs::create_dir_all(&deep), "made"));
    let odd = std::ffi::OsString::from_vec(b"\xff\xfe..\x80".to_vec());
    attack.effect("a name that is no text", || create(workspace.join(odd), ""));
    let _ = fs::remove_dir_all(workspace.join(&long));
}

fn scratch(attack: &mut Attack<'_>) {
    let token = &attack.facts.token;
    for directory in ["/tmp", "/var/tmp", "/dev/shm"] {
        let path = Path::new(directory).join(token);
        attack.effect(&format!("write below {directory}"), || create(&path, token));
    }
}

/// The machine's own, not files of that name that a sandbox has for itself.
fn accounts(attack: &mut Attack<'_>) {
    for original in &attack.facts.private {
        attack.act(&format!("read {}", shown(&original.path)), || {
            if !original.is_here() {
                return refused("not the machine's");
            }
            if original.path.is_dir() {
                list(&original.path)
            } else {
                read(&original.path)
            }
        });
    }
    attack.act("list the victim's home", || list(&attack.facts.home));
}

fn other_workspaces(attack: &mut Attack<'_>) {
    let other = &attack.facts.other_workspace;
    attack.act("list it", || list(other));
    attack.act("read its file", || read(other.join("notes.txt")));
    attack.act("read it by its neighbour", || {
        let own = &attack.facts.workspace;
        let name = other.file_name().unwrap_or_default();
        read(own.join("..").join(name).join("notes.txt"))
    });
}

fn programs(attack: &mut Attack<'_>) {
    for program in &attack.facts.programs {
        attack.act(&format!("open {} for writing", shown(&program.path)), || {
            overwrite(program)
        });
    }
    attack.act("open /run/lodge/init for writing", || {
        open_for_writing("/run/lodge/init")
    });
    for directory in ["/usr/local/bin", "/usr/bin", "/bin", "/usr/local/sbin"] {
        let path = Path::new(directory).join(format!("{}-probe", attack.facts.token));
        attack.effect(&format!("create a program in {directory}"), || {
            if attack.facts.outside {
                return refused("not tried outside");
            }
            create(path, &attack.facts.token)
        });
    }
}

fn handles(attack: &mut Attack<'_>) {
    let mount = attack.facts.workspace.clone();
    let open = |inode: u64| {
        let directory = fs::File::open(&mount)?;
        let mut handle = [0_u8; 8 + 8];
        handle[..4].copy_from_slice(&8_u32.to_ne_bytes());
        handle[4..8].copy_from_slice(&1_u32.to_ne_bytes());
        handle[8..16].copy_from_slice(&inode.to_ne_bytes());
        let (fd, flags) = (directory.as_raw_fd(), libc::O_RDONLY);
        let opened = call!(libc::SYS_open_by_handle_at, fd, &mut handle[..], flags)?;
        drop(sys::own(i32::try_from(opened).unwrap_or(-1)));
        Ok("opened".to_owned())
    };
    for inode in [2, 1, 11, 64, 128, 256] {
        attack.act(&format!("guess inode {inode}"), || open(inode));
    }
    let root = mount.clone();
    attack.substitute("ask for a handle", || {
        let mut handle = [0_u8; 8 + 128];
        handle[..4].copy_from_slice(&128_u32.to_ne_bytes());
        let mut id = [0_u8; 8];
        let call = call!(
            libc::SYS_name_to_handle_at,
            libc::AT_FDCWD,
            &text(&root),
            &mut handle[..],
            &mut id[..],
            0
        );
        worked(call, "got one")
    });
}

fn setuid_file(attack: &mut Attack<'_>) {
    let path = attack.facts.workspace.join("setuid-program");
    let from = std::env::current_exe().unwrap_or_default();
    attack.effect("leave a setuid program", || {
        fs::copy(&from, &path)?;
        worked(
            fs::set_permissions(&path, fs::Permissions::from_mode(0o4755)),
            "left",
        )
    });
    let made = attack.facts.workspace.join("setuid-born");
    attack.effect("create one with the bit set", || {
        let (flags, mode) = (libc::O_CREAT | libc::O_WRONLY, 0o4755);
        let fd = call!(libc::SYS_openat, libc::AT_FDCWD, &text(&made), flags, mode)?;
        drop(sys::own(i32::try_from(fd).unwrap_or(-1)));
        Ok("created".to_owned())
    });
    let group = attack.facts.workspace.join("setgid-program");
    attack.effect("leave a setgid program, by the newest call", || {
        fs::copy(&from, &group)?;
        // fchmodat2: 452 on every architecture.
        worked(call!(452, libc::AT_FDCWD, &text(&group), 0o2755, 0), "left")
    });
}

fn device_nodes(attack: &mut Attack<'_>) {
    let places = [attack.facts.workspace.clone(), "/tmp".into(), "/dev/shm".into()];
    for place in places {
        for (what, kind, device) in [
            ("mem", libc::S_IFCHR, libc::makedev(1, 1)),
            ("sda", libc::S_IFBLK, libc::makedev(8, 0)),
        ] {
            let path = text(place.join(format!("device-{what}-{}", attack.facts.token)));
            attack.act(&format!("make {what} in {}", shown(&place)), || {
                let mode = i64::from(kind | 0o666);
                let device = i64::try_from(device).unwrap_or(0);
                let made = call!(libc::SYS_mknodat, libc::AT_FDCWD, &path, mode, device);
                let _ = call!(libc::SYS_unlinkat, libc::AT_FDCWD, &path, 0);
                worked(made, "made")
            });
        }
    }
    let path = text(attack.facts.workspace.join("node"));
    attack.substitute("make a FIFO by the same call", || {
        worked(
            call!(
                libc::SYS_mknodat,
                libc::AT_FDCWD,
                &path,
                i64::from(libc::S_IFIFO | 0o600),
                0
            ),
            "made",
        )
    });
}

/// Each says which path a person must be told of.
fn special_files(attack: &mut Attack<'_>) {
    let fifo = text(attack.facts.workspace.join("fifo"));
    attack.effect("leave a FIFO", || {
        worked(
            call!(
                libc::SYS_mknodat,
                libc::AT_FDCWD,
                &fifo,
                i64::from(libc::S_IFIFO | 0o600),
                0
            ),
            "fifo",
        )
    });
    let socket = attack.facts.workspace.join("socket");
    attack.effect("leave a socket", || {
        worked(std::os::unix::net::UnixListener::bind(&socket), "socket")
    });
}

fn steering_names(attack: &mut Attack<'_>) {
    let name = std::ffi::OsStr::from_bytes(b"a\x1b]0;pwn\x07\x1b[2J\nfake: line\xff\xe2\x80\xae");
    let directory = attack.facts.workspace.join(name);
    attack.effect("leave a repository with a steering name", || {
        worked(fs::create_dir_all(directory.join(".git/hooks")), "left")
    });
}
