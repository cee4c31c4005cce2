//! A machine as data: QEMU's arguments and the plan of the sandbox around it. Pure functions.
//!
//! Nothing of a session is in the arguments or on the kernel's command line: what guest init has to know goes over the
//! framed stream.

use std::num::NonZeroU32;
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use lodge_guest::mux;
use lodge_guest::walls::Walls;
use lodge_sandbox::plan::{Access, MUX_FD, Mount, Network, Plan, Source};
use lodge_sandbox::policy::{Limits, Tier};
use lodge_sandbox::size::Bytes;

use super::view;

/// Name of the port in the guest: the first of the first controller, after the one reserved for a console.
const PORT: &str = "/dev/vport0p1";
/// Directory of the image's files in QEMU's view.
const FILES: &str = "/vm";
/// Memory for the guest's kernel and init beside what the policy grants, in MiB.
const OVERHEAD: u64 = 192;
/// Sizes are rounded up, so that few snapshots serve many policies; in MiB.
const STEP: u64 = 256;
/// The most memory of a machine, also where the policy grants more: each page costs its share of every start. In MiB.
const MAX_MEMORY: u64 = 4096;
/// Processors of a machine at most: emulated ones gain little beyond.
const MAX_CPUS: u32 = 4;
/// What QEMU keeps of translated code, in MiB.
const TRANSLATED: u32 = 256;
/// Ticks a second of Debian's kernel.
const HZ: u64 = 250;
/// Scratch space of QEMU.
const SCRATCH: Bytes = Bytes(1 << 20);

/// How big a machine is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Size {
    /// MiB.
    pub(super) memory: u64,
    pub(super) cpus: u32,
}

impl Size {
    /// For a policy with these limits on a host with that many processors.
    pub(super) fn of(limits: &Limits, processors: NonZeroU32) -> Self {
        let memory = match limits.memory {
            Some(Bytes(bytes)) => (bytes >> 20).saturating_add(OVERHEAD),
            None => MAX_MEMORY,
        };
        Self {
            memory: memory.min(MAX_MEMORY).next_multiple_of(STEP),
            cpus: processors.get().min(MAX_CPUS),
        }
    }

    pub(super) fn bytes(self) -> u64 {
        self.memory << 20
    }
}

/// What runs the guest's instructions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Kvm,
    /// The host's time stamp counter in kHz: a guest on a loaded host would measure it wrong, or for ever.
    Emulated {
        tsc_khz: u64,
    },
}

impl Engine {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Kvm => "kvm",
            Self::Emulated { .. } => "tcg",
        }
    }
}

/// Where a machine begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begin {
    Cold,
    /// A state is loaded over the monitor.
    Restored,
}

/// Descriptors that QEMU inherits, besides the stream as [`MUX_FD`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Descriptors {
    /// The guest's memory.
    pub(super) ram: RawFd,
    pub(super) console: RawFd,
    pub(super) monitor: Option<RawFd>,
}

/// Files of the guest image on the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    pub(super) rootfs: PathBuf,
    pub(super) vmlinux: PathBuf,
    pub(super) initramfs: PathBuf,
}

/// Everything about one machine but the session in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Machine {
    pub(super) qemu: PathBuf,
    /// What QEMU needs of the host's system: `/usr` and the links into it.
    pub(super) system: Vec<Mount>,
    pub(super) files: Files,
    pub(super) size: Size,
    pub(super) engine: Engine,
    /// User and group around QEMU; the guest's files get the same.
    pub(super) uid: u32,
    pub(super) gid: u32,
}

impl Machine {
    /// The plan around QEMU; `tree` is what it shares.
    pub(super) fn plan(&self, begin: Begin, fds: Descriptors, tree: Vec<Mount>) -> Plan {
        Plan {
            tier: Tier::Microvm,
            session_id: String::new(),
            workspace: "/".into(),
            mounts: self.mounts(begin, tree),
            uid: self.uid,
            gid: self.gid,
            deny_user_namespaces: true,
            hostname: "lodge-vm".to_owned(),
            init_env: Vec::new(),
            guest_env: Vec::new(),
            argv: self.argv(begin, fds),
            walls: Walls::default(),
            unprotected: Vec::new(),
            placeholders: Vec::new(),
            network: Network::None,
            limits: Limits::default(),
        }
    }

    fn mounts(&self, begin: Begin, tree: Vec<Mount>) -> Vec<Mount> {
        let read = |from: &Path, name: &str| Mount::Bind {
            from: from.to_owned(),
            at: Path::new(FILES).join(name),
            access: Access::Read,
            source: Source::File,
        };
        let mut mounts = self.system.clone();
        mounts.extend([
            Mount::Proc { at: "/proc".into() },
            Mount::Dev { at: "/dev".into() },
        ]);
        if self.engine == Engine::Kvm {
            mounts.push(Mount::Bind {
                from: "/dev/kvm".into(),
                at: "/dev/kvm".into(),
                access: Access::Write,
                source: Source::Device,
            });
        }
        mounts.extend([
            Mount::RemountReadOnly { at: "/dev".into() },
            Mount::Tmpfs {
                at: "/tmp".into(),
                size: SCRATCH,
                mode: 0o700,
            },
            read(&self.files.rootfs, "rootfs"),
        ]);
        if begin == Begin::Cold {
            mounts.push(read(&self.files.vmlinux, "kernel"));
            mounts.push(read(&self.files.initramfs, "initramfs"));
        }
        mounts.extend(tree);
        mounts.push(Mount::RemountReadOnly { at: "/".into() });
        mounts
    }

    fn argv(&self, begin: Begin, fds: Descriptors) -> Vec<String> {
        let Size { memory, cpus } = self.size;
        let (accel, cpu) = match self.engine {
            Engine::Kvm => ("kvm".to_owned(), "host"),
            Engine::Emulated { .. } => (format!("tcg,thread=multi,tb-size={TRANSLATED}"), "max"),
        };
        let mut argv = Arguments(vec![self.qemu.display().to_string()]);
        argv.flags(&["-no-user-config", "-nodefaults", "-no-reboot"]);
        argv.set("-display", "none");
        argv.set(
            "-sandbox",
            "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
        );
        argv.set(
            "-machine",
            "microvm,acpi=on,rtc=on,pit=on,pic=on,isa-serial=on,memory-backend=ram",
        );
        argv.set("-accel", accel);
        argv.set("-cpu", cpu);
        argv.set("-smp", cpus.to_string());
        argv.set("-m", format!("{memory}M"));
        // What is saved has to be the file's; what is restored from sealed memory cannot be.
        let share = if begin == Begin::Cold { "on" } else { "off" };
        let ram = fds.ram;
        argv.set(
            "-object",
            format!("memory-backend-file,id=ram,size={memory}M,mem-path=/proc/self/fd/{ram},share={share}"),
        );
        argv.set("-chardev", format!("socket,id=console,fd={}", fds.console));
        argv.set("-serial", "chardev:console");
        argv.set("-device", "virtio-serial-device,max_ports=2");
        argv.set("-chardev", format!("socket,id=mux,fd={MUX_FD}"));
        argv.set("-device", "virtserialport,chardev=mux,id=mux,name=lodge");
        argv.set(
            "-drive",
            format!("if=none,id=root,file={FILES}/rootfs,format=raw,readonly=on"),
        );
        argv.set("-device", "virtio-blk-device,drive=root");
        argv.set(
            "-fsdev",
            format!(
                "local,id=tree,path={},security_model=none,multidevs=remap",
                view::TREE
            ),
        );
        argv.set("-device", "virtio-9p-device,fsdev=tree,mount_tag=lodge");
        if let Some(monitor) = fds.monitor {
            argv.set("-chardev", format!("socket,id=monitor,fd={monitor}"));
            argv.set("-mon", "chardev=monitor,mode=control");
        }
        match begin {
            Begin::Cold => {
                argv.set("-kernel", format!("{FILES}/kernel"));
                argv.set("-initrd", format!("{FILES}/initramfs"));
                argv.set("-append", self.command_line());
            }
            Begin::Restored => argv.set("-incoming", "defer"),
        }
        argv.0
    }

    /// Ends in a reset, which ends QEMU, when init ends; waits for no device that is not there.
    fn command_line(&self) -> String {
        let mut words = vec![
            "console=ttyS0 quiet panic=-1 reboot=t pci=off audit=0 8250.nr_uarts=1".to_owned(),
            "lsm=landlock,yama random.trust_cpu=on rcupdate.rcu_expedited=1 cryptomgr.notests".to_owned(),
        ];
        if let Engine::Emulated { tsc_khz } = self.engine {
            let loops = tsc_khz * 1000 / HZ;
            words.push("nokaslr mitigations=off no_timer_check tsc=reliable".to_owned());
            words.push(format!("tsc_early_khz={tsc_khz} lpj={loops}"));
        }
        words.push(format!("{}={PORT}", mux::ENV_DEVICE));
        words.join(" ")
    }
}

struct Arguments(Vec<String>);

impl Arguments {
    fn flags(&mut self, flags: &[&str]) {
        self.0.extend(flags.iter().map(|flag| (*flag).to_owned()));
    }

    fn set(&mut self, option: &str, value: impl Into<String>) {
        self.0.extend([option.to_owned(), value.into()]);
    }
}
