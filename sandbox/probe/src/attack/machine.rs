//! What only a virtual machine has: its share, its channel, its monitor, its copies.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::symlink;
use std::path::Path;

use super::sys::{self, call};
use crate::scene::hex;

use super::{Attack, Probe, create, list, open_for_writing, read, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("V01", share),
    ("V02", channel),
    ("V03", monitor),
    ("V05", randomness),
    ("V06", residue),
    ("V07", reset),
];

fn share(attack: &mut Attack<'_>) {
    let (workspace, token) = (attack.facts.workspace.clone(), attack.facts.token.clone());
    let Some(secret) = attack.facts.secrets.first().cloned() else {
        return;
    };
    let below = secret
        .strip_prefix(&attack.facts.root)
        .unwrap_or(&secret)
        .to_owned();
    attack.act("climb out with ..", || read(workspace.join("..").join(&below)));
    attack.act("climb out far", || {
        let up = "../".repeat(40);
        read(
            workspace
                .join(up)
                .join(secret.strip_prefix("/").unwrap_or(&secret)),
        )
    });
    for (name, target) in [
        ("relative", Path::new("..").join(&below)),
        ("absolute", secret.clone()),
    ] {
        let link = workspace.join(format!("share-{name}"));
        let _ = fs::remove_file(&link);
        attack.act(&format!("a {name} link out"), || {
            symlink(&target, &link)?;
            read(&link)
        });
    }
    attack.act("a hard link to the outside", || {
        worked(fs::hard_link(&secret, workspace.join("share-hard")), "linked")
    });
    attack.act("an open directory that is moved out", || {
        let directory = workspace.join("share-dir");
        fs::create_dir_all(&directory)?;
        let fd = call!(
            libc::SYS_openat,
            libc::AT_FDCWD,
            &sys::text(&directory),
            libc::O_PATH | libc::O_DIRECTORY
        )?;
        let climbing = format!("/proc/self/fd/{fd}/../../{}", below.display());
        read(climbing)
    });
    attack.act("a race of renames", || {
        let (link, real) = (workspace.join("race-a"), workspace.join("race-b"));
        let _ = fs::remove_file(&link);
        symlink(attack_home(&below, &workspace), &link)?;
        fs::create_dir_all(&real)?;
        for _ in 0..300 {
            let flags = libc::RENAME_EXCHANGE;
            let (one, two) = (sys::text(&link), sys::text(&real));
            call!(
                libc::SYS_renameat2,
                libc::AT_FDCWD,
                &one,
                libc::AT_FDCWD,
                &two,
                flags
            )?;
            let file = below.file_name().unwrap_or_default();
            if let Ok(text) = read(link.join(file)).or_else(|_| read(real.join(file))) {
                return Ok(text);
            }
        }
        refused("never won")
    });
    attack.effect("write through a link", || {
        let link = workspace.join("share-write");
        let _ = fs::remove_file(&link);
        symlink(Path::new("../home/share-planted"), &link)?;
        create(&link, &token)
    });
}

/// The directory of a file outside, relative to the workspace.
fn attack_home(below: &Path, workspace: &Path) -> std::path::PathBuf {
    let parent = below.parent().unwrap_or(Path::new(""));
    workspace.parent().unwrap_or(Path::new("/")).join(parent)
}

fn channel(attack: &mut Attack<'_>) {
    let mut found = Vec::new();
    for directory in ["/dev", "/dev/virtio-ports", "/sys/class/virtio-ports"] {
        let Ok(entries) = fs::read_dir(directory) else {
            continue;
        };
        let ports = entries.flatten().map(|entry| entry.path()).filter(|path| {
            let name = path
                .file_name()
                .unwrap_or_default()
                .to_string_lossy()
                .into_owned();
            name.starts_with("vport") || name.starts_with("hvc") || directory != "/dev"
        });
        found.extend(ports);
    }
    if found.is_empty() {
        found.push("/dev/vport0p1".into());
    }
    for path in found {
        attack.act(&format!("write garbage to {}", path.display()), || {
            let mut port = fs::OpenOptions::new().write(true).open(&path)?;
            port.write_all(&[0xff; 64])?;
            port.write_all(&[&u32::MAX.to_le_bytes()[..], &[5, 0, 0, 0, 1, 0, 0, 0]].concat())?;
            Ok("written".to_owned())
        });
    }
    for fd in 3..32 {
        let path = format!("/proc/1/fd/{fd}");
        attack.act(&format!("write to {path}"), || open_for_writing(&path));
    }
    attack.substitute("write to a device that everybody may", || {
        open_for_writing("/dev/null")
    });
}

fn monitor(attack: &mut Attack<'_>) {
    for path in [
        "/dev/ttyS0",
        "/dev/hvc0",
        "/dev/port",
        "/dev/mem",
        "/sys/firmware/qemu_fw_cfg",
        "/proc/ioports",
    ] {
        attack.act(&format!("open {path}"), || {
            if Path::new(path).is_dir() {
                list(path)
            } else {
                open_for_writing(path)
            }
        });
    }
    attack.act("ask for all ports", || {
        #[cfg(target_arch = "x86_64")]
        return worked(call!(libc::SYS_iopl, 3), "got them");
        #[cfg(not(target_arch = "x86_64"))]
        refused("there are none")
    });
    attack.substitute("open a device that everybody may", || {
        open_for_writing("/dev/null")
    });
}

fn randomness(attack: &mut Attack<'_>) {
    attack.effect("say what should be unique", || {
        let mut bytes = [0_u8; 32];
        fs::File::open("/dev/urandom")?.read_exact(&mut bytes)?;
        let mut more = [0_u8; 32];
        call!(libc::SYS_getrandom, &mut more[..], 32, 0)?;
        let uuid = fs::read_to_string("/proc/sys/kernel/random/uuid").unwrap_or_default();
        let clock = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .map_or(0, |time| time.as_millis());
        Ok(format!(
            "{} {} {} clock={clock}",
            hex(&bytes),
            hex(&more),
            uuid.trim()
        ))
    });
}

fn residue(attack: &mut Attack<'_>) {
    attack.act("find something in fresh memory", || {
        match sys::dirty_pages(16 << 20) {
            0 => refused("all zero"),
            count => Ok(format!("{count} pages")),
        }
    });
    for path in ["/proc/kcore", "/dev/mem", "/proc/kpagecount", "/proc/kpageflags"] {
        attack.act(&format!("open {path}"), || worked(fs::File::open(path), "opened"));
    }
    attack.substitute("memory can be looked at", || read("/proc/self/maps"));
}

fn reset(attack: &mut Attack<'_>) {
    if !attack.facts.outside {
        for (name, command) in [
            ("restart", 0x0123_4567_i64),
            ("halt", 0xcdef_0123),
            ("power off", 0x4321_fedc),
        ] {
            attack.act(name, || {
                worked(
                    call!(libc::SYS_reboot, 0xfee1_dead_i64, 0x2812_1969, command, 0),
                    "done",
                )
            });
        }
        attack.act("panic", || worked(fs::write("/proc/sysrq-trigger", "c"), "done"));
    }
    for path in ["/dev/console", "/dev/ttyS0", "/dev/hvc0", "/dev/kmsg"] {
        attack.act(&format!("flood {path}"), || open_for_writing(path));
    }
    attack.substitute("write to a device that everybody may", || {
        open_for_writing("/dev/null")
    });
}
