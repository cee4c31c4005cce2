//! What two machines restored from one snapshot would otherwise have in common, and what a guest must not change.

use std::fs::{self, File, OpenOptions};
use std::path::Path;

use lodge_guest::mux::Configure;

use super::{VmError, failed, sys};

/// Clock, randomness and name of this session.
pub(super) fn refresh(configure: &Configure) -> Result<(), VmError> {
    sys::set_clock(configure.clock_ns).map_err(failed("set the clock"))?;
    let entropy = unhex(&configure.entropy).filter(|bytes| bytes.len() == sys::ENTROPY);
    let entropy = entropy.ok_or(VmError::Refused {
        what: "the entropy is not 64 bytes in hexadecimal",
    })?;
    let random = OpenOptions::new().write(true).open("/dev/random");
    let reseeded = random.and_then(|random: File| sys::reseed(&random, &entropy));
    reseeded.map_err(failed("reseed the random number generator"))?;
    sys::set_hostname(&configure.hostname).map_err(failed("set the host name"))
}

/// Settings of the kernel that even a process that got root in here should find tight.
pub(super) fn restrict(nesting: bool) -> Result<(), VmError> {
    let mut settings = vec![
        ("kernel/dmesg_restrict", "1"),
        ("kernel/kptr_restrict", "2"),
        ("kernel/perf_event_paranoid", "3"),
        ("kernel/unprivileged_bpf_disabled", "1"),
        ("kernel/sysrq", "0"),
        ("kernel/modules_disabled", "1"),
        ("fs/protected_hardlinks", "1"),
        ("fs/protected_symlinks", "1"),
        ("fs/suid_dumpable", "0"),
    ];
    if !nesting {
        settings.push(("user/max_user_namespaces", "0"));
    }
    for (name, value) in settings {
        let path = Path::new("/proc/sys").join(name);
        // A kernel without the setting has not what it is about.
        if path.exists() {
            fs::write(&path, value).map_err(failed("tighten the kernel's settings"))?;
        }
    }
    Ok(())
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let pairs = text.as_bytes().chunks(2);
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|d| u8::try_from(d).ok());
    pairs
        .map(|pair| match pair {
            [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
            _ => None,
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::unhex;

    #[test]
    fn hexadecimal_is_read_whole_or_not_at_all() {
        assert_eq!(unhex("00fFa5"), Some(vec![0, 255, 165]));
        assert_eq!(unhex("0"), None);
        assert_eq!(unhex("0g"), None);
        assert_eq!(unhex("é"), None);
    }
}
