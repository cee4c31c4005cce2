//! The table, and the file it is written to.

use crate::load::{Seen, Tally};
use crate::proc::{self, Memory};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// How much of everything is measured.
#[derive(Debug, Clone, Copy)]
pub struct Sizes {
    pub quick: bool,
    /// At 50 a second.
    pub slow_events: u64,
    /// At 1,000 a second.
    pub fast_events: u64,
    /// As fast as possible, to 1, 100 and 1,000 clients.
    burst: [u64; 3],
    pub idle_sockets: usize,
    pub creates: usize,
}

impl Sizes {
    pub const FULL: Self = Self {
        quick: false,
        slow_events: 200,
        fast_events: 5_000,
        burst: [100_000, 20_000, 2_000],
        idle_sockets: 1_000,
        creates: 20,
    };
    pub const QUICK: Self = Self {
        quick: true,
        slow_events: 50,
        fast_events: 1_000,
        burst: [20_000, 5_000, 500],
        idle_sockets: 200,
        creates: 5,
    };

    /// How long a client is away.
    pub fn away(&self) -> Duration {
        Duration::from_secs(if self.quick { 2 } else { 5 })
    }

    /// Events, at 1,000 a second, of a turn that a client misses the middle of.
    pub fn away_events(&self) -> u64 {
        if self.quick { 4_000 } else { 7_500 }
    }

    /// Rows, clients and events of the runs without a pace.
    pub fn bursts(&self) -> [(Row, usize, u64); 3] {
        [
            (Row::Burst1, 1, self.burst[0]),
            (Row::Burst100, 100, self.burst[1]),
            (Row::Burst1000, 1_000, self.burst[2]),
        ]
    }
}

/// A line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Row {
    Latency50,
    Latency1000,
    Cpu1000,
    Burst1,
    Burst1Cpu,
    Burst100,
    Burst1000,
    Viewers,
    ViewersRate,
    ViewersCpu,
    MemoryParts,
    MemorySession,
    MemorySocket,
    Create,
    Offline,
}

const ROWS: [(Row, &str, &str); 15] = [
    (Row::Latency50, "50 events/s, 1 client: p50 / p99", "p50 ≤ 100 µs"),
    (Row::Latency1000, "1,000 events/s, 1 client: p50 / p99", ""),
    (Row::Cpu1000, "CPU a delivery there", ""),
    (Row::Burst1, "no pace, 1 client: events/s", ""),
    (Row::Burst1Cpu, "events a second of CPU there", "≥ 200,000"),
    (
        Row::Burst100,
        "no pace, 100 clients: deliveries/s, CPU a delivery",
        "",
    ),
    (
        Row::Burst1000,
        "no pace, 1,000 clients: deliveries/s, CPU a delivery",
        "",
    ),
    (
        Row::Viewers,
        "100 viewers, 1,000 events/s: p50 / p99",
        "p50 ≤ 10 ms, none lost",
    ),
    (Row::ViewersRate, "deliveries/s there", ""),
    (Row::ViewersCpu, "CPU a delivery there", "≤ 1 µs"),
    (Row::MemoryParts, "memory of the parts", ""),
    (
        Row::MemorySession,
        "memory of an idle session, without the harness",
        "",
    ),
    (Row::MemorySocket, "memory of a further connection", "≤ 10 KB"),
    (Row::Create, "session: create → first event / ready (median)", ""),
    (
        Row::Offline,
        "5 s offline at 1,000 events/s: all back after, lost",
        "≤ 100 ms, none lost",
    ),
];

/// One system's column.
#[derive(Debug, Default)]
pub struct Cells {
    texts: BTreeMap<Row, String>,
    /// Whether an aim was met.
    verdicts: BTreeMap<Row, bool>,
    /// Remarks under the table.
    pub notes: Vec<String>,
}

impl Cells {
    /// A column of a system that could not be measured.
    pub fn failed(error: &anyhow::Error) -> Self {
        let why = format!("could not be measured: {error:#}").replace(['\n', '|'], " ");
        let mut cells = Self::default();
        for (row, ..) in ROWS {
            cells.set(row, "not measured, see below".to_owned());
        }
        cells.notes.push(why);
        cells
    }

    pub fn set(&mut self, row: Row, text: String) {
        self.texts.insert(row, text);
    }

    pub fn verdict(&mut self, row: Row, met: bool) {
        self.verdicts.insert(row, met);
    }

    /// Median and 99th percentile, and what was lost.
    pub fn latency(&mut self, row: Row, seen: &Seen, events: u64) {
        let text = format!(
            "{} / {}{}",
            nanos(seen.percentile(0.5)),
            nanos(seen.percentile(0.99)),
            losses(seen, events)
        );
        self.set(row, text);
    }

    pub fn cpu(&mut self, row: Row, used: Duration, seen: &Seen) {
        self.set(row, nanos(per(used, seen.delivered)));
    }

    /// A run without a pace.
    pub fn burst(&mut self, row: Row, seen: &Seen, events: u64, used: Duration) {
        let losses = losses(seen, events);
        if row == Row::Burst1 {
            self.set(row, format!("{}{losses}", rate(seen)));
            self.set(Row::Burst1Cpu, count(a_second(seen.delivered, used)));
        } else {
            self.set(
                row,
                format!("{}, {}{losses}", rate(seen), nanos(per(used, seen.delivered))),
            );
        }
    }

    /// What each of `items` costs.
    pub fn per_item(&mut self, row: Row, before: Memory, after: Memory, items: usize) {
        let each =
            |before: u64, after: u64| as_f64(after.saturating_sub(before)) / as_f64(items.max(1) as u64);
        if after.rss <= before.rss {
            return self.set(row, "within the noise of its heap".to_owned());
        }
        let (pss, rss) = (each(before.pss, after.pss), each(before.rss, after.rss));
        self.set(row, format!("{:.1} KiB", if after.pss > 0 { pss } else { rss }));
        self.verdict(row, pss.max(rss) * 1.024 <= 10.0);
    }
}

/// Precise enough for a table.
#[allow(clippy::cast_precision_loss)]
pub fn as_f64(value: u64) -> f64 {
    value as f64
}

/// Nanoseconds of each of `count`.
pub fn per(used: Duration, count: u64) -> Option<u64> {
    u64::try_from(used.as_nanos()).ok()?.checked_div(count)
}

/// How many a second.
pub fn a_second(count: u64, time: Duration) -> u64 {
    let nanos = time.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// Deliveries a second over the whole span.
pub fn rate(seen: &Seen) -> String {
    count(a_second(seen.delivered, seen.span))
}

/// Nanoseconds as people read them.
pub fn nanos(nanos: Option<u64>) -> String {
    match nanos {
        None => "–".to_owned(),
        Some(ns) if ns < 10_000 => format!("{:.2} µs", as_f64(ns) / 1e3),
        Some(ns) if ns < 1_000_000 => format!("{:.0} µs", as_f64(ns) / 1e3),
        Some(ns) if ns < 100_000_000 => format!("{:.2} ms", as_f64(ns) / 1e6),
        Some(ns) => format!("{:.0} ms", as_f64(ns) / 1e6),
    }
}

/// A number with commas.
pub fn count(value: u64) -> String {
    let digits = value.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// What did not come as it should; empty where all did.
pub fn losses(seen: &Seen, events: u64) -> String {
    let mut text = match seen.lost(events) {
        0 => ", 0 lost".to_owned(),
        lost => {
            let share = as_f64(lost) * 100.0 / as_f64((events * seen.clients as u64).max(1));
            format!(", {} lost ({share:.1} %)", count(lost))
        }
    };
    if seen.folded > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {} in snapshots", count(seen.folded));
    }
    if seen.older > 0 {
        let _ = write!(text, ", {} left to history by snapshots", count(seen.older));
    }
    if seen.doubled > 0 {
        let _ = write!(text, ", {} doubled", count(seen.doubled));
    }
    text
}

/// What a client that was away got of what it had missed by `back_ns`, at 1,000 events a second.
pub fn missed(tally: &Tally, back_ns: u64, away: Duration) -> String {
    // At one event a millisecond; a little was on its way when it left and when it came back.
    let expected = u64::try_from(away.as_millis()).unwrap_or(u64::MAX);
    if tally.before_cut == 0 {
        return format!("nothing of about {} came back", count(expected));
    }
    let took = nanos(Some(tally.cut_done_ns.saturating_sub(back_ns)));
    let mut text = format!(
        "{} back after {took}, {} lost",
        count(tally.before_cut),
        count(tally.skipped)
    );
    if tally.doubled > 0 {
        // Writing to a string cannot fail.
        let _ = write!(text, ", {} doubled", count(tally.doubled));
    }
    text
}

/// KiB as people read them.
pub fn kib(kib: u64) -> String {
    if kib < 10_240 {
        format!("{} KiB", count(kib))
    } else {
        format!("{:.1} MiB", as_f64(kib) / 1024.0)
    }
}

/// What the table is about.
#[derive(Debug)]
pub struct Report {
    pub quick: bool,
    pub load_before: String,
    /// Of one hop, at 50 lines a second.
    pub floor: String,
    pub versions: Vec<(String, String)>,
    /// Systems in order, Lodge first.
    pub columns: Vec<(String, Cells)>,
    pub took: Duration,
}

impl Report {
    /// The whole file.
    pub fn markdown(&self) -> String {
        let mut out = String::from("# Results\n\n");
        let command = if self.quick {
            "benches/run --quick"
        } else {
            "benches/run"
        };
        let _ = writeln!(
            out,
            "Made by `{command}` in one run of {} s, {}. All figures are from that run.\n",
            self.took.as_secs(),
            today()
        );
        let _ = writeln!(out, "- Machine: {}", proc::machine());
        let _ = writeln!(
            out,
            "- Load average before and after: {}; {}",
            self.load_before,
            proc::load()
        );
        let _ = writeln!(
            out,
            "- One hop at 50 lines a second (Unix socket, a thread that waits): {}",
            self.floor
        );
        for (name, version) in &self.versions {
            let _ = writeln!(out, "- {name}: {version}");
        }
        self.table(&mut out);
        for (name, cells) in &self.columns {
            for note in &cells.notes {
                let _ = writeln!(out, "- **{name}**: {note}");
            }
        }
        out.push_str(include_str!("../METHOD.md"));
        out
    }

    fn table(&self, out: &mut String) {
        out.push_str("\n| |");
        for (name, _) in &self.columns {
            let _ = write!(out, " {name} |");
        }
        out.push_str(" aim of Lodge |\n|---|");
        out.push_str(&"---|".repeat(self.columns.len() + 1));
        out.push('\n');
        for (row, title, aim) in ROWS {
            let _ = write!(out, "| {title} |");
            for (_, cells) in &self.columns {
                let _ = write!(out, " {} |", cells.texts.get(&row).map_or("–", String::as_str));
            }
            let verdict = self
                .columns
                .first()
                .filter(|(name, _)| name == "Lodge")
                .and_then(|(_, lodge)| lodge.verdicts.get(&row));
            let _ = match (aim, verdict) {
                ("", _) => writeln!(out, " |"),
                (aim, Some(true)) => writeln!(out, " {aim}: **met** |"),
                (aim, Some(false)) => writeln!(out, " {aim}: **missed** |"),
                (aim, None) => writeln!(out, " {aim}: not measured |"),
            };
        }
        out.push('\n');
    }
}

/// The date, UTC.
pub fn today() -> String {
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap_or_default();
    let days = now.as_secs() / 86_400;
    // Civil date from days (Hinnant), for years after 1970.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    format!("{}-{month:02}-{day:02} (UTC)", year_of_era + era * 400 + next)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_readable() {
        assert_eq!(count(1_234_567), "1,234,567");
        assert_eq!(count(12), "12");
        assert_eq!(nanos(Some(1_500)), "1.50 µs");
        assert_eq!(nanos(Some(2_500_000)), "2.50 ms");
        assert_eq!(nanos(None), "–");
        assert_eq!(a_second(10, Duration::from_millis(100)), 100);
        assert!(today().starts_with("20"));
    }
}
