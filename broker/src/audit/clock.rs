//! Wall and monotonic time as records show them, formatted without a calendar library.

use super::error::AuditError;
use nix::time::{ClockId, clock_gettime};

/// One reading of both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Instants {
    pub unix_seconds: u64,
    pub micros: u32,
    /// CLOCK_MONOTONIC in microseconds; with the boot id of the opening record it orders records
    /// whatever somebody does to the wall clock.
    pub mono_us: u64,
}

impl Instants {
    pub fn now() -> Result<Self, AuditError> {
        let wall = clock_gettime(ClockId::CLOCK_REALTIME).map_err(AuditError::Clock)?;
        let mono = clock_gettime(ClockId::CLOCK_MONOTONIC).map_err(AuditError::Clock)?;
        let mono_us = u64::try_from(mono.tv_sec())
            .unwrap_or(0)
            .saturating_mul(1_000_000)
            .saturating_add(u64::try_from(mono.tv_nsec()).unwrap_or(0) / 1000);
        Ok(Self {
            unix_seconds: u64::try_from(wall.tv_sec()).unwrap_or(0),
            micros: u32::try_from(wall.tv_nsec() / 1000).unwrap_or(0),
            mono_us,
        })
    }
}

/// `YYYY-MM-DDTHH:MM:SS` of the last second asked for; a hot log asks for the same one again and again.
#[derive(Debug, Default)]
pub(super) struct SecondsText {
    seconds: Option<u64>,
    text: String,
}

impl SecondsText {
    pub fn of(&mut self, unix_seconds: u64) -> &str {
        if self.seconds != Some(unix_seconds) {
            self.text = utc_text(unix_seconds);
            self.seconds = Some(unix_seconds);
        }
        &self.text
    }
}

/// Formats seconds since the epoch, UTC, proleptic Gregorian (the civil-from-days algorithm).
#[allow(clippy::arithmetic_side_effects, reason = "every term is bounded by the four-digit year")]
pub(super) fn utc_text(unix_seconds: u64) -> String {
    // The year is held to four digits: segment names and record times have a fixed width.
    let unix_seconds = unix_seconds.min(253_402_300_799);
    let (days, rest) = (unix_seconds / 86_400, unix_seconds % 86_400);
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_index = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_index + 2) / 5 + 1;
    let month = if month_index < 10 { month_index + 3 } else { month_index - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}", rest / 3600, rest % 3600 / 60, rest % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_dates() {
        assert_eq!(utc_text(0), "1970-01-01T00:00:00");
        assert_eq!(utc_text(951_782_400), "2000-02-29T00:00:00");
        assert_eq!(utc_text(1_795_219_199), "2026-11-20T23:59:59");
        assert_eq!(utc_text(4_107_542_399), "2100-02-28T23:59:59");
        assert_eq!(utc_text(u64::MAX), "9999-12-31T23:59:59");
    }

    #[test]
    fn the_cached_second_changes_with_the_second() {
        let mut text = SecondsText::default();
        assert_eq!(text.of(0), "1970-01-01T00:00:00");
        assert_eq!(text.of(0), "1970-01-01T00:00:00");
        assert_eq!(text.of(1), "1970-01-01T00:00:01");
    }
}
