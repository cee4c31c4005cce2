//! Money: whole nano-dollars, never a fraction in binary.

use serde::{Deserialize, Serialize};

/// Billionths of a US dollar. Sums saturate: an absurd figure can never wrap into a small one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Nanos(pub u64);

const PER_DOLLAR: u64 = 1_000_000_000;

/// Why a text is no amount.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an amount is dollars with at most nine decimals, such as `5usd` or `0.25`, below 18 billion")]
pub struct BadAmount;

impl Nanos {
    pub const ZERO: Self = Self(0);

    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self(self.0.saturating_add(other.0))
    }

    #[must_use]
    pub fn minus(self, other: Self) -> Self {
        Self(self.0.saturating_sub(other.0))
    }

    /// Rounded up: a price computed in binary fractions never comes out below the true one by a nano-dollar.
    pub fn from_dollars(dollars: f64) -> Self {
        if !dollars.is_finite() || dollars <= 0.0 {
            return Self::ZERO;
        }
        // What is noise of the binary fraction is not rounded up to a whole nano-dollar.
        let nanos = (dollars * 1e9 - 1e-3).ceil();
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // a cast of floats saturates
        Self(nanos as u64)
    }

    /// Reads `5usd`, `$5`, `5` or `0.25`.
    pub fn parse(text: &str) -> Result<Self, BadAmount> {
        let text = text.trim().to_ascii_lowercase();
        let text = text.strip_suffix("usd").unwrap_or(&text).trim();
        let text = text.strip_prefix('$').unwrap_or(text);
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
        if whole.len() + fraction.len() == 0 || fraction.len() > 9 || !digits(whole) || !digits(fraction) {
            return Err(BadAmount);
        }
        let number = |text: &str| match text {
            "" => Ok(0),
            text => text.parse::<u64>().map_err(|_| BadAmount),
        };
        let whole = number(whole)?.checked_mul(PER_DOLLAR).ok_or(BadAmount)?;
        let nanos = number(&format!("{fraction:0<9}"))?;
        whole.checked_add(nanos).map(Self).ok_or(BadAmount)
    }
}

impl std::fmt::Display for Nanos {
    /// Dollars with at least two decimals and no more than are needed.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let fraction = format!("{:09}", self.0 % PER_DOLLAR);
        let kept = fraction.trim_end_matches('0').len().max(2);
        write!(f, "${}.{}", self.0 / PER_DOLLAR, &fraction[..kept])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_as_people_write_them() {
        for (text, nanos, shown) in [
            ("5usd", 5_000_000_000, "$5.00"),
            ("$0.25", 250_000_000, "$0.25"),
            (" 1.000000001 USD", 1_000_000_001, "$1.000000001"),
            (".5", 500_000_000, "$0.50"),
            ("0", 0, "$0.00"),
        ] {
            let parsed = Nanos::parse(text).unwrap();
            assert_eq!((parsed.0, parsed.to_string().as_str()), (nanos, shown), "{text}");
        }
        for text in [
            "",
            "usd",
            "-1",
            "1e3",
            "1.0000000001",
            "20000000000",
            "five",
            "1.2.3",
            ".",
        ] {
            assert_eq!(Nanos::parse(text), Err(BadAmount), "{text}");
        }
    }

    #[test]
    fn fractions_round_up_but_noise_does_not() {
        assert_eq!(Nanos::from_dollars(0.1 + 0.2), Nanos(300_000_000));
        assert_eq!(Nanos::from_dollars(1.1e-9), Nanos(2));
        assert_eq!(Nanos::from_dollars(f64::NAN), Nanos::ZERO);
        assert_eq!(Nanos(u64::MAX).plus(Nanos(1)), Nanos(u64::MAX));
    }
}
