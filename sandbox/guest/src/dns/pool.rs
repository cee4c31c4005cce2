//! Which address stands for which name.

use std::collections::{BTreeSet, HashMap};
use std::net::Ipv4Addr;
use std::time::Duration;

use super::Name;

/// The addresses are `127.1.0.1` to `127.1.255.254`: loopback in every network namespace, nobody's otherwise.
pub const POOL: [u8; 2] = [127, 1];
/// How long after its last answer an address keeps its name even without a connection: programs resolve first and
/// connect later, and some remember an address beyond its time to live.
const KEEP: Duration = Duration::from_mins(5);

#[derive(Debug)]
struct Entry {
    name: Name,
    /// When it was last asked for or connected to.
    used: Duration,
    connections: usize,
}

/// A bounded table of names with an address each.
///
/// A full table gives the address that was not used for the longest time to a new name, but never one that a
/// connection still uses or that was asked for within the last five minutes.
#[derive(Debug)]
pub struct Pool {
    capacity: usize,
    entries: HashMap<Ipv4Addr, Entry>,
    by_name: HashMap<Name, Ipv4Addr>,
    /// Those without a connection, the longest unused first.
    idle: BTreeSet<(Duration, Ipv4Addr)>,
}

impl Pool {
    /// At most `capacity` names, and never more than the 65 024 addresses there are.
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity: capacity.clamp(1, 256 * 254),
            entries: HashMap::new(),
            by_name: HashMap::new(),
            idle: BTreeSet::new(),
        }
    }

    /// The address of `name`; `None` when all are in use. `now` is any clock that does not go back.
    pub fn address(&mut self, name: &Name, now: Duration) -> Option<Ipv4Addr> {
        if let Some(&address) = self.by_name.get(name) {
            self.touch(address, now);
            return Some(address);
        }
        let address = if self.entries.len() < self.capacity {
            nth(self.entries.len())?
        } else {
            let &(used, address) = self.idle.first()?;
            if now.saturating_sub(used) < KEEP {
                return None;
            }
            self.idle.remove(&(used, address));
            if let Some(old) = self.entries.remove(&address) {
                self.by_name.remove(&old.name);
            }
            address
        };
        self.by_name.insert(name.clone(), address);
        self.entries.insert(
            address,
            Entry {
                name: name.clone(),
                used: now,
                connections: 0,
            },
        );
        self.idle.insert((now, address));
        Some(address)
    }

    /// The name that `address` stands for, which it does at least until [`Pool::release`].
    pub fn acquire(&mut self, address: Ipv4Addr, now: Duration) -> Option<Name> {
        self.touch(address, now);
        let entry = self.entries.get_mut(&address)?;
        if entry.connections == 0 {
            self.idle.remove(&(entry.used, address));
        }
        entry.connections += 1;
        Some(entry.name.clone())
    }

    /// A connection that was acquired is gone.
    pub fn release(&mut self, address: Ipv4Addr, now: Duration) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        entry.connections = entry.connections.saturating_sub(1);
        if entry.connections == 0 {
            entry.used = entry.used.max(now);
            self.idle.insert((entry.used, address));
        }
    }

    fn touch(&mut self, address: Ipv4Addr, now: Duration) {
        let Some(entry) = self.entries.get_mut(&address) else {
            return;
        };
        let idle = self.idle.remove(&(entry.used, address));
        entry.used = entry.used.max(now);
        if idle {
            self.idle.insert((entry.used, address));
        }
    }
}

fn nth(index: usize) -> Option<Ipv4Addr> {
    let third = u8::try_from(index / 254).ok()?;
    let last = u8::try_from(index % 254 + 1).ok()?;
    Some(Ipv4Addr::new(POOL[0], POOL[1], third, last))
}
