//! The system call filter: what no coding agent needs and every escape starts with.
//!
//! A list of denials, because an allow-list for "any program a developer runs" would be the whole table.
//! Filters are inherited and cannot be removed, so init loads them once, for itself and all commands.

use std::collections::BTreeMap;
use std::env::consts::ARCH;

use seccompiler::{
    BackendError, BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule, TargetArch, apply_filter,
};

#[derive(Debug, thiserror::Error)]
pub(crate) enum SeccompError {
    #[error("no system call filter for the architecture {ARCH}")]
    Architecture,
    #[error("cannot build the system call filter: {0}")]
    Build(#[from] BackendError),
    #[error("cannot load the system call filter: {0}; the kernel must offer seccomp filters")]
    Load(#[from] seccompiler::Error),
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

/// Newer than the C library's list; the same on every architecture.
const FCHMODAT2: i64 = 452;
const LSM_SET_SELF_ATTR: i64 = 460;
const OPEN_TREE_ATTR: i64 = 467;

/// Denied whatever the arguments are.
const DENIED: &[i64] = &[
    // other processes' memory and descriptors
    libc::SYS_ptrace,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_kcmp,
    libc::SYS_pidfd_getfd,
    libc::SYS_process_madvise,
    libc::SYS_process_mrelease,
    libc::SYS_move_pages,
    libc::SYS_migrate_pages,
    // key rings are not namespaced
    libc::SYS_keyctl,
    libc::SYS_add_key,
    libc::SYS_request_key,
    // large attack surface
    libc::SYS_bpf,
    libc::SYS_perf_event_open,
    libc::SYS_userfaultfd,
    libc::SYS_fanotify_init,
    libc::SYS_fanotify_mark,
    libc::SYS_lookup_dcookie,
    // pages given to a pipe are nobody's memory
    libc::SYS_vmsplice,
    // file handles step around the mount tree
    libc::SYS_open_by_handle_at,
    libc::SYS_name_to_handle_at,
    // the machine
    libc::SYS_init_module,
    libc::SYS_finit_module,
    libc::SYS_delete_module,
    libc::SYS_kexec_load,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_kexec_file_load,
    libc::SYS_reboot,
    libc::SYS_swapon,
    libc::SYS_swapoff,
    libc::SYS_syslog,
    libc::SYS_acct,
    libc::SYS_quotactl,
    libc::SYS_quotactl_fd,
    LSM_SET_SELF_ATTR,
    libc::SYS_vhangup,
    libc::SYS_settimeofday,
    libc::SYS_clock_settime,
    libc::SYS_clock_adjtime,
    libc::SYS_adjtimex,
    libc::SYS_sethostname,
    libc::SYS_setdomainname,
    libc::SYS_nfsservctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_uselib,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ustat,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_sysfs,
    #[cfg(target_arch = "x86_64")]
    libc::SYS__sysctl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_modify_ldt,
];

/// Denied as well when the sandbox may not hold another one.
const DENIED_WITHOUT_NESTING: &[i64] = &[
    libc::SYS_mount,
    libc::SYS_umount2,
    libc::SYS_pivot_root,
    libc::SYS_chroot,
    libc::SYS_fsopen,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fspick,
    libc::SYS_move_mount,
    libc::SYS_open_tree,
    OPEN_TREE_ATTR,
    libc::SYS_mount_setattr,
    libc::SYS_setns,
    libc::SYS_unshare,
];

/// Calls whose absence programs know how to live with, so they are told that it does not exist.
const ABSENT: &[i64] = &[
    libc::SYS_io_uring_setup,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    // memory that is in no process's figures
    libc::SYS_memfd_secret,
    // the mode of a file it makes lies behind a pointer: see `SET_ID_MODES`
    libc::SYS_openat2,
];

/// Calls that give a file a mode, and the number of the argument that is it. A program that runs with its owner's or
/// group's rights must not appear on the host, where the workspace may be mounted without `nosuid`.
const SET_ID_MODES: &[(i64, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_chmod, 1),
    (libc::SYS_fchmod, 1),
    (libc::SYS_fchmodat, 2),
    (FCHMODAT2, 2),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_creat, 1),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_mknod, 1),
    (libc::SYS_mknodat, 2),
];

/// Those where it counts only when a file is made, and the number of the argument that says so.
const SET_ID_OPENS: &[(i64, u8, u8)] = &[
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_open, 1, 2),
    (libc::SYS_openat, 2, 3),
];

/// Requests to a terminal that type into it, or change who interprets its bytes (which loads kernel modules).
const DENIED_REQUESTS: &[libc::Ioctl] = &[libc::TIOCSTI, libc::TIOCLINUX, libc::TIOCSETD, libc::TIOCCONS];

/// What IPv4 and IPv6 sockets may speak; others load a kernel module each.
const PROTOCOLS: &[libc::c_int] = &[
    0,
    libc::IPPROTO_ICMP,
    libc::IPPROTO_TCP,
    libc::IPPROTO_UDP,
    libc::IPPROTO_ICMPV6,
    libc::IPPROTO_MPTCP,
];

/// Scheduling classes that starve everybody else, with and without the flag that children do not inherit them.
const DENIED_SCHEDULING: &[libc::c_int] = &[libc::SCHED_FIFO, libc::SCHED_RR, libc::SCHED_DEADLINE];
const RESET_ON_FORK: libc::c_int = 0x4000_0000;

const NAMESPACE_FLAGS: &[libc::c_int] = &[
    libc::CLONE_NEWNS,
    libc::CLONE_NEWCGROUP,
    libc::CLONE_NEWUTS,
    libc::CLONE_NEWIPC,
    libc::CLONE_NEWUSER,
    libc::CLONE_NEWPID,
    libc::CLONE_NEWNET,
];

/// Loads the filters into this process; children inherit them. Needs `no_new_privs`.
pub(crate) fn load(nesting: bool) -> Result<(), SeccompError> {
    let mut absent: Rules = ABSENT.iter().map(|&call| (call, Vec::new())).collect();
    if !nesting {
        // Its flags lie behind a pointer that no filter can follow; the C library falls back to clone.
        absent.insert(libc::SYS_clone3, Vec::new());
    }
    for (rules, errno) in [(denied(nesting)?, libc::EPERM), (absent, libc::ENOSYS)] {
        apply_filter(&compile(rules, errno)?)?;
    }
    #[cfg(target_arch = "x86_64")]
    apply_filter(&without_x32())?;
    Ok(())
}

fn compile(rules: Rules, errno: i32) -> Result<BpfProgram, SeccompError> {
    let arch = TargetArch::try_from(ARCH).map_err(|_| SeccompError::Architecture)?;
    let denial = SeccompAction::Errno(errno.cast_unsigned());
    Ok(SeccompFilter::new(rules, SeccompAction::Allow, denial, arch)?.try_into()?)
}

fn denied(nesting: bool) -> Result<Rules, BackendError> {
    let further = if nesting { &[] } else { DENIED_WITHOUT_NESTING };
    let mut rules: Rules = DENIED
        .iter()
        .chain(further)
        .map(|&call| (call, Vec::new()))
        .collect();
    let requests = DENIED_REQUESTS.iter().map(|&request| rule([is(1, request)?]));
    rules.insert(libc::SYS_ioctl, requests.collect::<Result<_, _>>()?);
    let classes = DENIED_SCHEDULING
        .iter()
        .flat_map(|&class| [class, class | RESET_ON_FORK])
        .map(|class| rule([is(1, class)?]));
    rules.insert(libc::SYS_sched_setscheduler, classes.collect::<Result<_, _>>()?);
    // Anything but asking (all ones) and the ordinary execution domain.
    rules.insert(
        libc::SYS_personality,
        vec![rule([is_not(0, 0u64)?, is_not(0, 0xffff_ffffu64)?])?],
    );
    rules.extend(set_id()?);
    rules.insert(libc::SYS_socket, sockets()?);
    rules.insert(libc::SYS_socketpair, vec![rule([is_not(0, libc::AF_UNIX)?])?]);
    if !nesting {
        let flags = NAMESPACE_FLAGS.iter().map(|&flag| rule([has(0, flag)?]));
        rules.insert(libc::SYS_clone, flags.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

fn set_id() -> Result<Rules, BackendError> {
    let bits = [libc::S_ISUID, libc::S_ISGID].map(u32::cast_signed);
    let mut rules = Rules::new();
    for &(call, mode) in SET_ID_MODES {
        let each = bits.iter().map(|&bit| rule([has(mode, bit)?]));
        rules.insert(call, each.collect::<Result<_, _>>()?);
    }
    for &(call, flags, mode) in SET_ID_OPENS {
        let makes = [libc::O_CREAT, libc::O_TMPFILE & !libc::O_DIRECTORY];
        let each = makes.iter().flat_map(|&make| bits.map(|bit| (make, bit)));
        let each = each.map(|(make, bit)| rule([has(flags, make)?, has(mode, bit)?]));
        rules.insert(call, each.collect::<Result<_, _>>()?);
    }
    Ok(rules)
}

/// Unix, IPv4 and IPv6 with the usual protocols; of netlink only the routing protocol, which programs ask for their interfaces.
/// Everything else may load a kernel module or, like VM sockets, lead to the host.
fn sockets() -> Result<Vec<SeccompRule>, BackendError> {
    let (unix, v4, v6, netlink) = (libc::AF_UNIX, libc::AF_INET, libc::AF_INET6, libc::AF_NETLINK);
    let mut rules = vec![
        rule([
            is_not(0, unix)?,
            is_not(0, v4)?,
            is_not(0, v6)?,
            is_not(0, netlink)?,
        ])?,
        rule([is(0, netlink)?, is_not(2, libc::NETLINK_ROUTE)?])?,
    ];
    for family in [v4, v6] {
        let others = PROTOCOLS.iter().map(|&protocol| is_not(2, protocol));
        let conditions = std::iter::once(is(0, family)).chain(others);
        rules.push(SeccompRule::new(conditions.collect::<Result<_, _>>()?)?);
    }
    Ok(rules)
}

/// The x32 table holds the same calls under other numbers, which a list of denials would miss.
#[cfg(target_arch = "x86_64")]
fn without_x32() -> BpfProgram {
    use seccompiler::sock_filter;
    const X32_BIT: u32 = 0x4000_0000;
    let step = |code: u32, jt: u8, jf: u8, k: u32| sock_filter {
        code: (code & 0xffff) as u16,
        jt,
        jf,
        k,
    };
    vec![
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0),
        step(libc::BPF_JMP | libc::BPF_JGE | libc::BPF_K, 0, 1, X32_BIT),
        step(
            libc::BPF_RET | libc::BPF_K,
            0,
            0,
            libc::SECCOMP_RET_ERRNO | libc::ENOSYS.cast_unsigned(),
        ),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ]
}

fn rule<const N: usize>(conditions: [SeccompCondition; N]) -> Result<SeccompRule, BackendError> {
    SeccompRule::new(conditions.into_iter().collect())
}

/// The kernel looks at the lower 32 bits of all these arguments only, so the filter does too.
fn condition(argument: u8, operator: SeccompCmpOp, value: u64) -> Result<SeccompCondition, BackendError> {
    SeccompCondition::new(argument, SeccompCmpArgLen::Dword, operator, value)
}

trait Value {
    fn bits(self) -> u64;
}

impl Value for u64 {
    fn bits(self) -> u64 {
        self
    }
}

impl Value for i32 {
    fn bits(self) -> u64 {
        u64::from(self.cast_unsigned())
    }
}

fn is(argument: u8, value: impl Value) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Eq, value.bits())
}

fn is_not(argument: u8, value: impl Value) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::Ne, value.bits())
}

fn has(argument: u8, flag: i32) -> Result<SeccompCondition, BackendError> {
    condition(argument, SeccompCmpOp::MaskedEq(flag.bits()), flag.bits())
}
