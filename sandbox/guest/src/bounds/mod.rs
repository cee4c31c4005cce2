//! Bounds that the kernel does not hold here: measured from time to time, and everything ends when one is crossed.
//!
//! A measure is late by nature. How late follows from how fast it can change: memory is looked at the more often the
//! less room is left, files in small portions between the other work of the loop.

mod disk;
mod memory;
mod nameless;

use std::time::Duration;

use lodge_guest::mux::Limit;
use lodge_guest::walls::Walls;

use crate::sys;
use disk::Disk;
use memory::Memory;

/// Longest time between two looks at anything.
const SLOWEST: Duration = Duration::from_secs(1);

/// What other parts of init have counted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Counts {
    /// Bytes of output of all commands.
    pub(crate) output: u64,
    /// Bytes of the framed stream and of connections, both ways.
    pub(crate) traffic: u64,
}

/// A bound was crossed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Crossed {
    pub(crate) limit: Limit,
    /// Whether the commands get time to end by themselves.
    pub(crate) gently: bool,
}

#[derive(Debug)]
pub(crate) struct Bounds {
    output: Option<u64>,
    wall: Option<Duration>,
    idle: Option<Duration>,
    memory: Option<Memory>,
    disk: Option<Disk>,
    started: Duration,
    /// Traffic at the last change, and when that was.
    active: (u64, Duration),
}

impl Bounds {
    /// Starts to measure; `count_processes` when the kernel does not bound them. `None` when there is no bound.
    pub(crate) fn new(walls: &Walls, count_processes: bool) -> Option<Self> {
        let bounds = &walls.bounds;
        let started = sys::boot_time();
        let processes = walls.limits.processes.filter(|_| count_processes);
        let memory = Memory::new(bounds.memory, processes);
        let disk = bounds.disk.map(|allowed| Disk::new(allowed, &bounds.disk_roots));
        let this = Self {
            output: bounds.output,
            wall: bounds.wall_seconds.map(Duration::from_secs),
            idle: bounds.idle_seconds.map(Duration::from_secs),
            memory,
            disk,
            started,
            active: (0, started),
        };
        let any = this.output.is_some()
            || this.wall.is_some()
            || this.idle.is_some()
            || this.memory.is_some()
            || this.disk.is_some();
        any.then_some(this)
    }

    /// Measures what is due. Otherwise says when to look again.
    pub(crate) fn look(&mut self, counts: Counts) -> Result<Duration, Crossed> {
        let now = sys::boot_time();
        if let Some(allowed) = self.output.filter(|&allowed| counts.output > allowed) {
            return Err(crossed("limits.output", allowed, counts.output));
        }
        let mut next = SLOWEST.min(self.clocks(counts.traffic, now)?);
        if let Some(memory) = &mut self.memory {
            next = next.min(memory.look(now)?);
        }
        if let Some(disk) = &mut self.disk {
            next = next.min(disk.look(now)?);
        }
        Ok(next)
    }

    fn clocks(&mut self, traffic: u64, now: Duration) -> Result<Duration, Crossed> {
        if traffic != self.active.0 {
            self.active = (traffic, now);
        }
        let mut next = SLOWEST;
        for (key, allowed, since) in [
            ("limits.wall_seconds", self.wall, self.started),
            ("limits.idle_seconds", self.idle, self.active.1),
        ] {
            let Some(allowed) = allowed else { continue };
            let passed = now.saturating_sub(since);
            if passed >= allowed {
                return Err(Crossed {
                    limit: limit(key, allowed.as_secs(), passed.as_secs()),
                    gently: true,
                });
            }
            next = next.min(allowed.saturating_sub(passed));
        }
        Ok(next)
    }
}

fn limit(key: &str, allowed: u64, found: u64) -> Limit {
    Limit {
        key: key.to_owned(),
        allowed,
        found,
    }
}

/// For bounds beyond which every further moment makes it worse.
fn crossed(key: &str, allowed: u64, found: u64) -> Crossed {
    Crossed {
        limit: limit(key, allowed, found),
        gently: false,
    }
}
