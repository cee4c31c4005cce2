//! Windows of a budget: calendar days, weeks and months in UTC, and all of time.

use serde::{Deserialize, Serialize};

const DAY: u64 = 86_400;

/// How long what was spent counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Window {
    Day,
    /// From Monday.
    Week,
    Month,
    /// For ever; of a session: as long as it is.
    Total,
}

impl Window {
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    /// As commands and tables spell it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    /// The window of that name; `session` is what a session's total is called.
    pub fn parse(name: &str) -> Option<Self> {
        let name = if name == "session" { "total" } else { name };
        Self::ALL.into_iter().find(|window| window.as_str() == name)
    }

    /// Which one it is at a moment, seconds since 1970.
    pub fn index(self, at: u64) -> u64 {
        let day = at / DAY;
        match self {
            Self::Day => day,
            // 1970 began on a Thursday.
            Self::Week => (day + 3) / 7,
            Self::Month => {
                let (year, month) = civil(day);
                year * 12 + month - 1
            }
            Self::Total => 0,
        }
    }

    /// When the next one begins; never, of all of time.
    pub fn resets_at(self, at: u64) -> Option<u64> {
        let day = at / DAY;
        match self {
            Self::Day => Some((day + 1) * DAY),
            Self::Week => Some(((self.index(at) + 1) * 7 - 3) * DAY),
            Self::Month => {
                let index = self.index(at);
                // A month begins within the next 31 days.
                (1..=31)
                    .map(|days| (day + days) * DAY)
                    .find(|start| self.index(*start) > index)
            }
            Self::Total => None,
        }
    }
}

/// Year and month (1 to 12) of a day since 1970, by the Gregorian calendar (Hinnant's algorithm).
fn civil(day: u64) -> (u64, u64) {
    let shifted = day + 719_468;
    let era = shifted / 146_097;
    let of_era = shifted % 146_097;
    let year_of_era = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let shifted_month = (5 * of_year + 2) / 153;
    let month = if shifted_month < 10 {
        shifted_month + 3
    } else {
        shifted_month - 9
    };
    (year_of_era + era * 400 + u64::from(month <= 2), month)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_begin_where_the_calendar_says() {
        // 2026-11-20 is a Friday; 2028-02-29 a Tuesday.
        for (at, window, resets) in [
            (1_795_190_400, Window::Day, 1_795_219_200),
            (1_795_190_400, Window::Week, 1_795_392_000),
            (1_795_190_400, Window::Month, 1_796_083_200),
            (1_835_395_200, Window::Month, 1_835_481_600),
        ] {
            let found = window.resets_at(at).unwrap();
            assert_eq!(found, resets, "{window:?} {at}");
            assert_eq!(window.index(found - 1), window.index(at));
            assert_eq!(window.index(found), window.index(at) + 1);
        }
        assert_eq!(Window::Total.resets_at(5), None);
        assert_eq!(Window::parse("session"), Some(Window::Total));
        assert_eq!(civil(0), (1970, 1));
        assert_eq!(civil(19_782), (2024, 2));
        assert_eq!(civil(19_783), (2024, 3));
    }
}
