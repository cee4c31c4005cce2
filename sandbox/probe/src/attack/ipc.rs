//! Services of the host that are reached without a network.

use std::fs;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::path::{Path, PathBuf};

use super::sys::{self, call, text};
use super::{Attack, Probe, refused, worked};

pub(super) const ATTACKS: &[(&str, Probe)] = &[
    ("I01", engines),
    ("I02", session_services),
    ("I03", displays),
    ("I04", abstract_sockets),
    ("I05", own_sockets),
    ("I06", passed_descriptors),
    ("I07", shared_memory),
    ("I08", gateway_socket),
];

fn connect_all(attack: &mut Attack<'_>, family: &str, known: &[&str]) {
    let scene = attack.facts.sockets.get(family).cloned().unwrap_or_default();
    for path in scene.into_iter().chain(known.iter().map(PathBuf::from)) {
        attack.act(&format!("connect {}", path.display()), || {
            worked(UnixStream::connect(&path), "connected")
        });
    }
}

fn connect_abstract(name: &str) -> super::Try {
    let address = SocketAddr::from_abstract_name(name)?;
    worked(UnixStream::connect_addr(&address), "connected")
}

fn engines(attack: &mut Attack<'_>) {
    connect_all(
        attack,
        "engine",
        &[
            "/run/docker.sock",
            "/var/run/docker.sock",
            "/run/podman/podman.sock",
            "/run/containerd/containerd.sock",
            "/run/crio/crio.sock",
            "/run/libvirt/libvirt-sock",
            "/run/snapd.socket",
            "/var/lib/lxd/unix.socket",
        ],
    );
}

fn session_services(attack: &mut Attack<'_>) {
    connect_all(
        attack,
        "session",
        &[
            "/run/dbus/system_bus_socket",
            "/run/systemd/private",
            "/run/systemd/journal/socket",
            "/run/user/0/bus",
            "/run/user/1000/bus",
            "/run/user/1000/systemd/private",
            "/run/nscd/socket",
        ],
    );
    for name in [
        "DBUS_SESSION_BUS_ADDRESS",
        "SSH_AUTH_SOCK",
        "GPG_AGENT_INFO",
        "XDG_RUNTIME_DIR",
    ] {
        attack.act(&format!("find ${name}"), || {
            std::env::var(name).or_else(|_| refused("not set"))
        });
    }
}

fn displays(attack: &mut Attack<'_>) {
    connect_all(
        attack,
        "display",
        &[
            "/tmp/.X11-unix/X0",
            "/run/user/1000/wayland-0",
            "/run/user/1000/pipewire-0",
        ],
    );
    for name in ["/tmp/.X11-unix/X0", "/tmp/.ICE-unix/1"] {
        attack.act(&format!("connect @{name}"), || connect_abstract(name));
    }
    for name in ["DISPLAY", "WAYLAND_DISPLAY"] {
        attack.act(&format!("find ${name}"), || {
            std::env::var(name).or_else(|_| refused("not set"))
        });
    }
}

fn abstract_sockets(attack: &mut Attack<'_>) {
    let name = &attack.facts.abstract_socket;
    attack.act("connect the scene's", || connect_abstract(name));
    let listed = fs::read_to_string("/proc/net/unix").unwrap_or_default();
    attack.act("see the scene's", || {
        if listed.contains(name.as_str()) {
            Ok(name.clone())
        } else {
            refused("not listed")
        }
    });
}

fn own_sockets(attack: &mut Attack<'_>) {
    connect_all(attack, "lodge", &[]);
    for name in [
        "runner.sock",
        "history.sock",
        "gateway-lease.sock",
        "gateway-admin.sock",
        "backend-control.sock",
    ] {
        for base in ["/run/lodge", "/var/lib/lodge/run"] {
            let path = Path::new(base).join(name);
            attack.act(&format!("connect {}", path.display()), || {
                worked(UnixStream::connect(&path), "connected")
            });
        }
    }
}

/// The gateway's socket, as it is called inside or, for the control, outside.
fn gateway(attack: &Attack<'_>) -> PathBuf {
    if attack.facts.outside {
        attack.facts.gateway.clone()
    } else {
        "/run/lodge/gateway.sock".into()
    }
}

fn passed_descriptors(attack: &mut Attack<'_>) {
    let path = gateway(attack);
    attack.act("ask the gateway for a descriptor", || {
        let mut stream = UnixStream::connect(&path)?;
        stream.set_read_timeout(Some(std::time::Duration::from_secs(1)))?;
        stream.write_all(b"GET /descriptors HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        match sys::received_descriptors(stream.as_raw_fd())? {
            0 => refused("none came"),
            count => Ok(format!("{count} came")),
        }
    });
    attack.substitute("receive one that is sent", || {
        let (one, other) = UnixStream::pair()?;
        sys::send_descriptor(one.as_raw_fd(), 0)?;
        match sys::received_descriptors(other.as_raw_fd())? {
            0 => refused("none came"),
            count => Ok(format!("{count} came")),
        }
    });
}

fn shared_memory(attack: &mut Attack<'_>) {
    let key = attack.facts.sysv_key;
    attack.act("attach the victim's shared memory", || {
        worked(call!(libc::SYS_shmget, key, 0, 0), "found")
    });
    attack.act("open the victim's semaphores", || {
        worked(call!(libc::SYS_semget, key, 0, 0), "found")
    });
    attack.act("open the victim's message queue", || {
        worked(call!(libc::SYS_msgget, key, 0), "found")
    });
    let name = text(attack.facts.mq_name.trim_start_matches('/'));
    attack.act("open the victim's POSIX queue", || {
        worked(call!(libc::SYS_mq_open, &name, libc::O_RDONLY), "opened")
    });
    let listed = fs::read_to_string("/proc/sysvipc/shm").unwrap_or_default();
    attack.act("see the victim's shared memory", || {
        let seen = listed
            .lines()
            .any(|line| line.split_whitespace().next() == Some(key.to_string().as_str()));
        if seen {
            Ok("listed".to_owned())
        } else {
            refused("not listed")
        }
    });
}

fn gateway_socket(attack: &mut Attack<'_>) {
    let path = gateway(attack);
    attack.act("put a socket of one's own in its place", || {
        let own = attack.facts.workspace.join("own.sock");
        let _ = fs::remove_file(&own);
        let _listener = std::os::unix::net::UnixListener::bind(&own)?;
        worked(fs::rename(&own, &path), "replaced")
    });
    attack.act("remove it", || worked(fs::remove_file(&path), "removed"));
    attack.act("remove its directory", || {
        let parent = path.parent().unwrap_or(Path::new("/run/lodge"));
        if attack.facts.outside {
            return refused("not tried outside");
        }
        worked(fs::remove_dir_all(parent), "removed")
    });
}
