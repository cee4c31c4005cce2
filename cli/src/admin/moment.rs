//! Moments as people write them: a day, or so long from now.

use std::time::{SystemTime, UNIX_EPOCH};

const DAY: u64 = 86_400;

/// A day or a distance, seconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    /// Since 1970, at 00:00 UTC.
    Day(u64),
    Distance(u64),
}

impl Moment {
    /// Seconds since 1970 of what is to come.
    pub(super) fn ahead(self) -> u64 {
        match self {
            Self::Day(at) => at,
            Self::Distance(seconds) => now().saturating_add(seconds),
        }
    }

    /// Seconds since 1970 of what is past.
    pub(super) fn ago(self) -> u64 {
        match self {
            Self::Day(at) => at,
            Self::Distance(seconds) => now().saturating_sub(seconds),
        }
    }
}

fn now() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
}

/// Reads `2026-12-31`, `30d`, `12h` or `45m`.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    let bad = || format!("`{text}` is neither a day such as 2026-12-31 nor a time such as 30d, 12h or 45m");
    let number = |digits: &str| {
        let plain =
            !digits.is_empty() && digits.len() <= 6 && digits.bytes().all(|byte| byte.is_ascii_digit());
        plain.then(|| digits.parse::<u64>().ok()).flatten()
    };
    for (unit, seconds) in [('d', DAY), ('h', 3600), ('m', 60)] {
        if let Some(digits) = text.strip_suffix(unit) {
            return number(digits)
                .map(|count| Moment::Distance(count * seconds))
                .ok_or_else(bad);
        }
    }
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else {
        return Err(bad());
    };
    let (year, month, day) = number(year)
        .zip(number(month))
        .zip(number(day))
        .map(|((year, month), day)| (year, month, day))
        .ok_or_else(bad)?;
    let days = (1970..=9999)
        .contains(&year)
        .then(|| days(year, month, day))
        .flatten();
    days.map(|days| Moment::Day(days * DAY)).ok_or_else(bad)
}

/// The second in UTC, of seconds since 1970.
pub(super) fn shown_exactly(at: u64) -> String {
    let second = at % DAY;
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{} {hour:02}:{minute:02}:{second:02}", shown(at))
}

/// The day, of seconds since 1970; 0 is never.
pub(super) fn shown(at: u64) -> String {
    if at == 0 {
        return String::new();
    }
    let mut left = at / DAY;
    let mut year = 1970;
    while left >= length(year) {
        left -= length(year);
        year += 1;
    }
    let mut month = 1;
    while left >= days_of(year, month) {
        left -= days_of(year, month);
        month += 1;
    }
    format!("{year:04}-{month:02}-{:02}", left + 1)
}

/// Days since 1970.
fn days(year: u64, month: u64, day: u64) -> Option<u64> {
    if !(1..=12).contains(&month) || day == 0 || day > days_of(year, month) {
        return None;
    }
    let years: u64 = (1970..year).map(length).sum();
    let months: u64 = (1..month).map(|month| days_of(year, month)).sum();
    Some(years + months + day - 1)
}

fn is_leap(year: u64) -> bool {
    year.is_multiple_of(4) && !year.is_multiple_of(100) || year.is_multiple_of(400)
}

fn length(year: u64) -> u64 {
    365 + u64::from(is_leap(year))
}

fn days_of(year: u64, month: u64) -> u64 {
    match month {
        2 => 28 + u64::from(is_leap(year)),
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_and_distances() {
        assert_eq!(parse("2026-11-20"), Ok(Moment::Day(1_795_132_800)));
        assert_eq!(
            parse("2028-02-29").map(|moment| shown(moment.ahead())),
            Ok("2028-02-29".to_owned())
        );
        assert_eq!(parse("30d"), Ok(Moment::Distance(30 * DAY)));
        assert_eq!(parse("45m"), Ok(Moment::Distance(2700)));
        for text in [
            "",
            "d",
            "-1d",
            "2026-02-29",
            "2026-13-01",
            "2026-1",
            "1e3d",
            "9999999d",
            "soon",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(Moment::Distance(60).ahead() > Moment::Distance(60).ago());
        assert_eq!(shown(0), "");
    }
}
