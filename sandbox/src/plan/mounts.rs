//! The file view, in mount order.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use super::{
    Access, GUEST_GATEWAY, GUEST_HOME, GUEST_INIT, Mount, Network, Placeholder, SessionSpec, Source,
};
use crate::control::{Control, Held, control, hide};
use crate::policy::{Policy, Tier};
use crate::size::Bytes;
use crate::view::{HostView, Kind};

/// The view and what it says of protected names.
pub(super) struct View {
    pub(super) mounts: Vec<Mount>,
    /// Directories that guest init covers.
    pub(super) covered: Vec<PathBuf>,
    pub(super) unprotected: Vec<String>,
    pub(super) placeholders: Vec<Placeholder>,
}

pub(super) fn view(
    policy: &Policy,
    spec: &SessionSpec,
    host: &HostView,
    network: &Network,
    (uid, gid): (u32, u32),
) -> View {
    let process = policy.tier == Tier::Process;
    let mut mounts = if process { system(host) } else { Vec::new() };
    mounts.extend(accounts(uid, gid, network));
    mounts.extend(if process {
        kernel(policy.fs.tmp_size)
    } else {
        scratch(policy.fs.tmp_size)
    });
    mounts.extend(home(host));
    mounts.push(bind(
        &spec.private_home,
        GUEST_HOME,
        Access::Write,
        Source::Directory,
    ));
    mounts.extend(roots(policy, spec));
    mounts.push(bind(
        &spec.workspace,
        &spec.workspace,
        Access::Write,
        Source::Directory,
    ));
    let Control {
        mut pinned,
        held,
        unprotected,
        placeholders,
    } = control(policy, &spec.workspace, host);
    pinned.extend(movable(policy, spec, host));
    let covers = denied(host, &mounts);
    let pin = |path: &PathBuf| bind(path, path, Access::Write, Source::Directory);
    // A mount hides what was mounted below it before: all pins come first, outer ones before inner ones.
    mounts.extend(pinned.iter().map(pin));
    let mut covered = Vec::new();
    for held in held.into_iter().chain(covers) {
        match held {
            Held::By(mount) => mounts.push(mount),
            // There init may mount, and does so at a fraction of what bwrap takes for each.
            Held::Covered(at) if process => covered.push(at),
            Held::Covered(at) => mounts.extend(empty_directory(at)),
        }
    }
    // A microVM has init in its image, and no socket of the host.
    if policy.tier != Tier::Microvm {
        mounts.push(bind(&spec.init_binary, GUEST_INIT, Access::Read, Source::File));
        mounts.push(bind(
            &spec.gateway_socket,
            GUEST_GATEWAY,
            Access::Read,
            Source::File,
        ));
    }
    if process {
        mounts.push(Mount::RemountReadOnly { at: "/".into() });
    }
    View {
        mounts,
        covered,
        unprotected,
        placeholders,
    }
}

pub(crate) fn bind(from: impl AsRef<Path>, at: impl AsRef<Path>, access: Access, source: Source) -> Mount {
    Mount::Bind {
        from: from.as_ref().to_owned(),
        at: at.as_ref().to_owned(),
        access,
        source,
    }
}

fn system(host: &HostView) -> Vec<Mount> {
    let mount = |(path, kind): &(PathBuf, Kind)| match kind {
        Kind::Symlink(to) => Mount::Symlink {
            to: to.clone(),
            at: path.clone(),
        },
        Kind::Directory | Kind::File => bind(path, path, Access::Read, Source::System),
    };
    host.system.iter().map(mount).collect()
}

/// Made-up accounts and resolver: a guest learns no user of the host, and the only name service is its own init.
fn accounts(uid: u32, gid: u32, network: &Network) -> Vec<Mount> {
    let content = |at: &str, content: String| Mount::Content {
        at: at.into(),
        content,
    };
    let resolver = match network {
        Network::None => "",
        Network::Broker { .. } => "nameserver 127.0.0.1\n",
    };
    vec![
        content(
            "/etc/passwd",
            format!(
                "guest:x:{uid}:{gid}:guest:{GUEST_HOME}:/bin/sh\nnobody:x:65534:65534:nobody:/:/usr/sbin/nologin\n"
            ),
        ),
        content("/etc/group", format!("guest:x:{gid}:\nnogroup:x:65534:\n")),
        content(
            "/etc/nsswitch.conf",
            "passwd: files\ngroup: files\nhosts: files dns\n".into(),
        ),
        content("/etc/hosts", "127.0.0.1 localhost lodge\n::1 localhost\n".into()),
        content("/etc/resolv.conf", resolver.into()),
    ]
}

fn tmpfs(at: &str, size: Bytes) -> Mount {
    Mount::Tmpfs {
        at: at.into(),
        size,
        mode: 0o1777,
    }
}

fn kernel(tmp_size: Bytes) -> Vec<Mount> {
    vec![
        Mount::Proc { at: "/proc".into() },
        Mount::Dev { at: "/dev".into() },
        tmpfs("/dev/shm", tmp_size),
        // Else it would be a second scratch space, without a size.
        Mount::RemountReadOnly { at: "/dev".into() },
        tmpfs("/tmp", tmp_size),
        Mount::Symlink {
            to: "/tmp".into(),
            at: "/var/tmp".into(),
        },
    ]
}

/// What a guest may fill in memory where an engine makes `/proc` and `/dev`.
fn scratch(tmp_size: Bytes) -> Vec<Mount> {
    vec![tmpfs("/dev/shm", tmp_size), tmpfs("/tmp", tmp_size)]
}

/// The home of the user: each entry that may be seen.
fn home(host: &HostView) -> Vec<Mount> {
    let Some(home) = &host.home else {
        return Vec::new();
    };
    let show = |(path, kind): &(PathBuf, Kind)| match kind {
        Kind::Symlink(to) => Mount::Symlink {
            to: to.clone(),
            at: path.clone(),
        },
        Kind::Directory => bind(path, path, Access::Read, Source::Directory),
        Kind::File => bind(path, path, Access::Read, Source::File),
    };
    home.shown.iter().map(show).collect()
}

fn roots(policy: &Policy, spec: &SessionSpec) -> Vec<Mount> {
    let own = |path: &PathBuf, access| bind(path, path, access, Source::Directory);
    let read: BTreeSet<&PathBuf> = spec.harness_roots.iter().chain(&policy.fs.read).collect();
    let read = read.into_iter().map(|path| own(path, Access::Read));
    read.chain(policy.fs.write.iter().map(|path| own(path, Access::Write)))
        .collect()
}

/// An empty read-only directory over another one, for launchers that build the whole view themselves.
pub fn empty_directory(at: PathBuf) -> [Mount; 2] {
    let empty = Mount::Tmpfs {
        at: at.clone(),
        size: Bytes(4096),
        mode: 0o755,
    };
    [empty, Mount::RemountReadOnly { at }]
}

/// Covers what is denied and would be seen.
fn denied(host: &HostView, mounts: &[Mount]) -> Vec<Held> {
    let seen = |path: &Path| {
        mounts.iter().any(|mount| {
            matches!(mount, Mount::Bind { at, source, .. } if *source != Source::File && path.starts_with(at))
        })
    };
    // What lies in a directory that is covered is not there any more to be covered itself.
    let gone = |path: &Path| {
        let mut above = path.ancestors().skip(1);
        above.any(|above| host.denied.get(above) == Some(&Kind::Directory) && seen(above))
    };
    let covered = host.denied.iter().filter(|(path, _)| seen(path) && !gone(path));
    covered.map(|(path, kind)| hide(path, kind)).collect()
}

/// The directories between a writable root and what is denied in it. A guest could move them, and the denied would
/// lie bare at another path the next time; a mount point cannot be moved.
fn movable(policy: &Policy, spec: &SessionSpec, host: &HostView) -> BTreeSet<PathBuf> {
    let writable: Vec<&PathBuf> = policy.fs.write.iter().chain([&spec.workspace]).collect();
    let mut between = BTreeSet::new();
    for path in host.denied.keys() {
        for &root in writable.iter().filter(|root| path.starts_with(root)) {
            let above = path.ancestors().skip(1);
            between.extend(above.take_while(|part| *part != root).map(Path::to_owned));
        }
    }
    between
}
