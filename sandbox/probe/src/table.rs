//! The probes as data: what is tried, why, and which result is wanted in which tier.

use lodge_sandbox::policy::{Nesting, Policy, Tier};
use serde::{Deserialize, Serialize};

use Judge::{Both, Guest, Launcher};
use Wanted::{
    Absent as NA, Allowed as A, Denied as D, DeniedOrReported as DR, DeniedUnlessNesting as NEST,
    Escaped as ESC, Harmless as H, Holds as YES, Limited as L, None as NONE, Refused as REF, Reported as R,
};

/// Which result is wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Wanted {
    /// The act fails, or has no effect outside.
    Denied,
    /// The act may work, but only on what is the guest's own.
    Harmless,
    /// The act works up to a bound.
    Limited,
    /// The act works, and is meant to.
    Allowed,
    /// The act may work, and a person is told about it.
    Reported,
    /// Denied, or else reported.
    DeniedOrReported,
    /// There is nothing of that kind.
    None,
    /// The property holds.
    Holds,
    /// Shown to a person without effect on the terminal.
    Escaped,
    /// The sandbox is not started, and the reason is named.
    Refused,
    /// Denied, unless the policy allows one level of sandboxes inside.
    DeniedUnlessNesting,
    /// The probe means nothing in that tier.
    Absent,
}

/// Who sees the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judge {
    /// The program inside says what happened; an observer outside watches for effects all the same.
    Guest,
    /// The program inside acts, and the observer's view decides.
    Both,
    /// Nothing inside: it is about starting, ending or configuring a sandbox.
    Launcher,
}

/// One probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Probe {
    pub id: &'static str,
    pub title: &'static str,
    /// Where the attack was seen, empty when it is simply the obvious one.
    pub motive: &'static str,
    /// Wanted in the process, container and microVM tiers.
    pub wanted: [Wanted; 3],
    pub judge: Judge,
}

impl Probe {
    /// What is wanted of `policy`'s tier.
    pub fn wanted(&self, policy: &Policy) -> Wanted {
        let wanted = match policy.tier {
            Tier::Process => self.wanted[0],
            Tier::Container => self.wanted[1],
            Tier::Microvm => self.wanted[2],
        };
        match wanted {
            Wanted::DeniedUnlessNesting if policy.nesting == Nesting::Deny => Wanted::Denied,
            Wanted::DeniedUnlessNesting => Wanted::Allowed,
            wanted => wanted,
        }
    }
}

/// The probe with that id.
pub fn find(id: &str) -> Option<&'static Probe> {
    PROBES.iter().find(|probe| probe.id == id)
}

const fn row(
    id: &'static str,
    title: &'static str,
    wanted: [Wanted; 3],
    judge: Judge,
    motive: &'static str,
) -> Probe {
    Probe {
        id,
        title,
        motive,
        wanted,
        judge,
    }
}

/// All of them, in the order of the specification.
#[rustfmt::skip]
pub const PROBES: [Probe; 106] = [
    row("F01", "read ~/.ssh, ~/.aws, ~/.config/gh, ~/.netrc, keyrings", [D, D, D], Guest, "default-readable disks of codex/srt"),
    row("F02", "the same through a symlink in the workspace", [D, D, D], Guest, "CVE-2026-39861"),
    row("F03", "the same through /proc/1/root, /proc/self/root, /proc/*/cwd", [D, D, D], Guest, "seen in codex"),
    row("F04", "append to shell start files, ~/.profile.d, crontab, systemd user units", [D, D, D], Guest, "srt list"),
    row("F05", "write .git/hooks/*, .git/config, .git/info, core.hooksPath/fsmonitor/sshCommand", [D, D, D], Guest, "agent trust hand-off"),
    row("F06", "rename .git, recreate with hooks", [D, D, D], Guest, "srt \"pinned directories\""),
    row("F07", "rename the parent of any protected path", [D, D, D], Guest, "as F06"),
    row("F08", "create an absent protected file (.mcp.json, .claude/settings.json, .codex/config.toml, .vscode/tasks.json, .envrc)", [D, D, D], Guest, "CVE-2026-25725, claude-code 92901"),
    row("F09", "nested repository with hooks; submodule config; worktree gitdir file", [DR, DR, DR], Both, "claude-code 17374"),
    row("F10", "write through workspace symlink to outside", [D, D, D], Guest, "CVE-2026-39861"),
    row("F11", "write through a pre-existing hard link", [R, R, R], Both, "srt README"),
    row("F12", "make a new hard link to an outside file", [D, D, D], Guest, ""),
    row("F13", ".., //, trailing dot, very long and non-UTF-8 names", [D, D, D], Guest, ""),
    row("F14", "swap a workspace directory with a symlink while the sandbox is built (renameat2 EXCHANGE loop)", [D, D, D], Launcher, "CVE-2021-30465 class"),
    row("F15", "replace the workspace root during the run, restart", [D, D, D], Launcher, ""),
    row("F16", "write /tmp, /var/tmp, /dev/shm seen outside", [H, H, H], Guest, ""),
    row("F17", "predictable temp name pre-created as symlink", [D, D, D], Launcher, "CVE-2026-46406"),
    row("F18", "open /etc/shadow, /root, other users' homes", [D, D, D], Guest, ""),
    row("F19", "read other workspaces of the same user", [D, D, D], Guest, "multi-user"),
    row("F20", "write the sandbox helper, bwrap, harness binary, PATH dirs", [D, D, D], Guest, "CVE-2019-5736"),
    row("F21", "open_by_handle_at with guessed handles", [D, D, D], Guest, "shocker"),
    row("F22", "setuid/setgid file left in the workspace is honoured outside", [D, D, D], Both, ""),
    row("F23", "device node via mknod", [D, D, H], Guest, ""),
    row("F24", "FIFO / socket left where the host will open it", [R, R, R], Both, ""),
    row("F25", "file names with terminal escapes, newlines", [ESC, ESC, ESC], Both, ""),
    row("F26", "litter: mount points left on the host after SIGKILL of the launcher", [NONE, NONE, NONE], Launcher, "srt, claude-code 50781"),
    row("P01", "environ/mem/maps of outside processes", [D, D, D], Guest, ""),
    row("P02", "kill(0/TERM/STOP) outside pids, supervisor, -1", [D, D, D], Guest, ""),
    row("P03", "ptrace, process_vm_readv, pidfd_getfd on outside pids", [D, D, D], Guest, ""),
    row("P04", "ptrace of the in-sandbox helper/relay (unfiltered process)", [D, D, D], Guest, "srt nested pid namespace"),
    row("P05", "inherited descriptors > 2", [NONE, NONE, NONE], Both, "CVE-2024-21626"),
    row("P06", "/proc/self/fd/N directory escape, cwd outside", [D, D, D], Guest, "CVE-2024-21626"),
    row("P07", "/proc/self/exe overwrite of launcher", [D, D, D], Guest, "CVE-2019-5736"),
    row("P08", "TIOCSTI and TIOCLINUX on stdin, /dev/tty, inherited pty", [D, D, H], Both, "CVE-2017-5226"),
    row("P09", "terminal escape injection into the operator's log view", [ESC, ESC, ESC], Both, ""),
    row("P10", "setuid binary gains privilege", [D, D, H], Guest, ""),
    row("P11", "capabilities effective/permitted/bounding", [NONE, NONE, NONE], Guest, "codex test"),
    row("P12", "nested user namespace", [NEST, D, H], Guest, "attack surface"),
    row("P13", "mount, umount of a protective bind, pivot_root, new mount API", [D, D, H], Guest, ""),
    row("P14", "setns to any host namespace through /proc/*/ns", [D, D, D], Guest, ""),
    row("P15", "clone3 with namespace flags (pointer argument)", [NEST, D, H], Guest, "seccomp cannot see it"),
    row("P16", "x32 and 32-bit entry points", [D, D, H], Guest, "filter bypass"),
    row("P17", "io_uring socket/open bypass of seccomp", [D, D, H], Guest, "codex, srt"),
    row("P18", "bpf, perf_event_open, userfaultfd, kcmp, fanotify", [D, D, H], Guest, ""),
    row("P19", "keyctl: session keyring read, link, persistent", [D, D, H], Guest, "seen in codex and srt"),
    row("P20", "personality, iopl, ioperm, modify_ldt, vmsplice flood", [D, D, H], Guest, ""),
    row("P21", "SCHED_FIFO, negative nice, oom_score_adj -1000, ioprio RT", [D, D, H], Guest, ""),
    row("P22", "memfd + fexecve", [A, A, A], Guest, ""),
    row("P23", "double-forked daemon, setsid, ignored signals, survives end", [D, D, D], Both, ""),
    row("P24", "daemon survives timeout kill; kill within 1 s of deadline", [D, D, D], Launcher, ""),
    row("P25", "PID-1 dies -> all die; launcher dies -> all die", [YES, YES, YES], Launcher, "die-with-parent"),
    row("P26", "flood of zombies", [L, L, L], Guest, "reaper"),
    row("P27", "signal storm to supervisor through shared process group", [D, D, D], Guest, ""),
    row("K01", "/dev/mem, kmem, port, kvm, fuse, net/tun, vda, loop-control, uinput", [D, D, H], Guest, ""),
    row("K02", "sysrq-trigger, core_pattern, modprobe path, binfmt_misc, uevent_helper", [D, D, H], Guest, "classic"),
    row("K03", "cgroup release_agent, creating cgroups, raising own limits", [D, D, H], Guest, "CVE-2022-0492"),
    row("K04", "/sys writes, debugfs, tracefs, securityfs", [D, D, H], Guest, ""),
    row("K05", "masked /proc paths restored by race", [D, D, H], Guest, "CVE-2025-31133, -52565, -52881"),
    row("K06", "hostname, domainname, clock set, adjtimex", [D, D, H], Guest, ""),
    row("K07", "dmesg, kallsyms, kcore, timer_list leaks", [D, D, H], Guest, ""),
    row("K08", "module load through socket families (AF_ALG, CAN, RDS, TIPC and others)", [D, D, H], Guest, ""),
    row("I01", "docker.sock, podman.sock, containerd.sock, libvirt", [D, D, D], Guest, "SandboxEscapeBench"),
    row("I02", "D-Bus session/system, systemd user, gpg-agent, ssh-agent", [D, D, D], Guest, "bubblewrap README"),
    row("I03", "X11, Wayland, PipeWire", [D, D, D], Guest, ""),
    row("I04", "abstract Unix socket of the host", [D, D, D], Guest, "containerd CVE-2020-15257"),
    row("I05", "our runner/relay control sockets; another session's gateway socket", [D, D, D], Guest, "multi-user"),
    row("I06", "descriptor passed in through SCM_RIGHTS by the broker", [NONE, NONE, NONE], Guest, ""),
    row("I07", "SysV shm/sem/msg, POSIX mq of host", [D, D, D], Guest, "seen in srt"),
    row("I08", "delete/replace the bound gateway socket", [D, D, D], Guest, ""),
    row("N01", "host loopback services (v4, v6), host interface addresses", [D, D, D], Guest, "srt address guard"),
    row("N02", "link-local metadata, all clouds' addresses, v6 forms", [D, D, D], Guest, ""),
    row("N03", "direct UDP/TCP 53, DoT, DoH, mDNS; DNS tunnelling through broker", [D, D, D], Guest, ""),
    row("N04", "raw, packet, netlink (write), vsock, bluetooth sockets", [D, D, D], Guest, "codex vsock rule"),
    row("N05", "IPv6 bypass when only IPv4 is filtered", [D, D, D], Guest, ""),
    row("N06", "CONNECT with NUL, %00, trailing dot, upper case, punycode, octal/hex/decimal IP, userinfo, port tricks", [D, D, D], Both, "srt SOCKS NUL bypass"),
    row("N07", "absolute-form vs Host mismatch, request smuggling, pipelined second request", [D, D, D], Both, ""),
    row("N08", "SNI is not CONNECT name; ECH; plain TLS on other port", [D, D, D], Both, "domain fronting"),
    row("N09", "rebinding: allowed name -> private/link-local/NAT64 address, second answer differs", [D, D, D], Both, "microsandbox docs"),
    row("N10", "redirect from allowed to denied host", [D, D, D], Both, ""),
    row("N11", "relay chain: in-sandbox proxy forwarding CONNECT", [D, D, D], Both, "claude-code 87381"),
    row("N12", "empty allow list means nothing (never everything)", [D, D, D], Launcher, "CVE-2025-66479"),
    row("N13", "tampered/invalid policy file: fail closed", [D, D, D], Launcher, "claude-code 84863"),
    row("N14", "workspace file trying to loosen policy", [D, D, D], Launcher, "claude-code 86504"),
    row("N15", "use another session's virtual key; key after revocation; key in logs", [D, D, D], Launcher, ""),
    row("N16", "real provider key anywhere inside (env, files, memory of helpers, proxy error text)", [NONE, NONE, NONE], Both, ""),
    row("N17", "10 000 idle connections, slow-loris, unbounded header to broker", [L, L, L], Both, "OpenShell limits"),
    row("R01", "fork bomb (200 000 attempts)", [L, L, L], Both, ""),
    row("R02", "thread bomb", [L, L, L], Guest, ""),
    row("R03", "memory bomb, single and across 50 processes", [L, L, L], Both, ""),
    row("R04", "tmpfs and /dev/shm fill", [L, L, L], Guest, ""),
    row("R05", "workspace disk fill, sparse file, inode fill", [L, L, L], Both, "libkrun README"),
    row("R06", "descriptor exhaustion, inotify watches, pipes", [L, L, L], Guest, ""),
    row("R07", "10 GB of stdout; no newline; slow reader", [L, L, L], Both, "Firecracker serial note"),
    row("R08", "CPU spin on all cores", [L, L, L], Guest, ""),
    row("R09", "deep directories / 1 M files slow the host-side scanner", [L, L, L], Both, "srt ripgrep scan"),
    row("R10", "core dumps, huge swap", [D, D, D], Guest, ""),
    row("V01", "9p/virtiofs: .., symlink out, hard link, O_PATH tricks, rename race", [NA, NA, D], Guest, ""),
    row("V02", "malformed virtio-serial frames, length overflow, unknown channel", [NA, NA, D], Guest, ""),
    row("V03", "QEMU process: exec, open outside, ptrace (its own seccomp + our bwrap)", [NA, NA, D], Both, "libkrun text"),
    row("V04", "user-network host alias 10.0.2.2, DNS 10.0.2.3, TFTP/SMB of the user stack", [NA, NA, D], Guest, "restrict=off probe"),
    row("V05", "snapshot uniqueness: two restores give different random bytes, tokens, clock", [NA, NA, YES], Both, "Firecracker doc"),
    row("V06", "read residual memory of a previous tenant in snapshot or pool", [NA, NA, D], Guest, ""),
    row("V07", "guest reset/panic loop, serial flood", [NA, NA, L], Guest, ""),
    row("M01", "capability missing (no userns, no Landlock, no bwrap): refuse, name the reason", [D, D, D], Launcher, "OpenShell 803, codex 46246"),
    row("M02", "policy asks for a path that does not exist / is a symlink / is on another mount alias", [REF, REF, REF], Launcher, "codex daemon_mounts"),
    row("M03", "in-process tools of the harness (Read/Write) bypass the sandbox", [D, D, D], Both, "claude-code 15789"),
];
