//! Sizes and durations as people write them: `"256MiB"`, `"10m"`. Pure; used for policies, manifests and flags alike.

use std::time::Duration;

/// Why a size or duration was not understood.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    #[error(
        "`{0}` is not a size; write a whole number and one of B, KiB, MiB, GiB, TiB, kB, MB, GB, TB, as in \"256MiB\""
    )]
    Size(String),
    #[error(
        "`{0}` is not a duration; write whole numbers with ms, s, m, h or d, as in \"500ms\", \"10m\" or \"1m30s\""
    )]
    Duration(String),
    #[error("`{0}` is more than can be counted")]
    TooLarge(String),
}

/// The beginning of a text that a message repeats.
fn shown(text: &str) -> String {
    text.chars().take(40).flat_map(char::escape_debug).collect()
}

/// A whole number with single underscores between its digits.
fn number(digits: &str) -> Option<Result<u64, ()>> {
    let plausible = digits.starts_with(|first: char| first.is_ascii_digit())
        && digits.ends_with(|last: char| last.is_ascii_digit())
        && digits.chars().all(|each| each.is_ascii_digit() || each == '_')
        && !digits.contains("__");
    plausible.then(|| digits.replace('_', "").parse::<u64>().map_err(|_| ()))
}

/// Bytes from `"64KiB"`, `"1 GB"`, `"512"` or `"100B"`. Binary units end in `iB`; `kB`, `MB`… are powers of a thousand.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let wrong = || UnitError::Size(shown(text));
    let end = text.find(|each: char| !each.is_ascii_digit() && each != '_').unwrap_or(text.len());
    let (digits, unit) = text.split_at_checked(end).ok_or_else(wrong)?;
    let factor: u64 = match unit.trim_start_matches(' ') {
        "" | "B" => 1,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        "TiB" => 1 << 40,
        "kB" | "KB" => 1_000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "TB" => 1_000_000_000_000,
        _ => return Err(wrong()),
    };
    let count = number(digits).ok_or_else(wrong)?;
    count.ok().and_then(|count| count.checked_mul(factor)).ok_or_else(|| UnitError::TooLarge(shown(text)))
}

/// A duration from `"500ms"`, `"2s"`, `"10m"`, `"1h30m"`. A unit is always said; each at most once, larger first.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let wrong = || UnitError::Duration(shown(text));
    let mut total_ms: u64 = 0;
    let mut smallest_ms = u64::MAX;
    let mut rest = text;
    while !rest.is_empty() {
        let end = rest.find(|each: char| !each.is_ascii_digit() && each != '_').ok_or_else(wrong)?;
        let (digits, tail) = rest.split_at_checked(end).ok_or_else(wrong)?;
        let unit_end = tail.find(|each: char| !each.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end).ok_or_else(wrong)?;
        let unit_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return Err(wrong()),
        };
        if unit_ms >= smallest_ms {
            return Err(wrong());
        }
        smallest_ms = unit_ms;
        let count = number(digits).ok_or_else(wrong)?;
        total_ms = count
            .ok()
            .and_then(|count| count.checked_mul(unit_ms))
            .and_then(|part| total_ms.checked_add(part))
            .ok_or_else(|| UnitError::TooLarge(shown(text)))?;
        rest = tail;
    }
    if text.is_empty() { Err(wrong()) } else { Ok(Duration::from_millis(total_ms)) }
}

/// The number in the first unit it is a whole number of.
fn whole_units(number: u64, units: &[(&str, u64)]) -> Option<String> {
    let (unit, factor) = units.iter().find(|(_, factor)| number != 0 && number.is_multiple_of(*factor))?;
    Some(format!("{}{unit}", number.checked_div(*factor)?))
}

/// The shortest exact text of a size that [`parse_size`] reads back.
pub fn format_size(bytes: u64) -> String {
    let units = [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    whole_units(bytes, &units).unwrap_or_else(|| format!("{bytes}B"))
}

/// The shortest exact text of a duration that [`parse_duration`] reads back. Counts whole milliseconds.
pub fn format_duration(duration: Duration) -> String {
    let ms = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let units = [("h", 3_600_000u64), ("m", 60_000), ("s", 1_000)];
    whole_units(ms, &units).unwrap_or_else(|| format!("{ms}ms"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_that_people_write() {
        for (text, bytes) in [
            ("256MiB", 256 << 20),
            ("1 GiB", 1 << 30),
            ("64KiB", 65536),
            ("10", 10),
            ("1_000B", 1000),
            ("2kB", 2000),
            ("0", 0),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
    }

    #[test]
    fn sizes_that_are_refused() {
        for text in ["", "MiB", "1.5MiB", "-1", "1M", "12MiB ", "0x10", "1__0", "_1", "1_", "١MiB", "256 mib"] {
            assert!(matches!(parse_size(text), Err(UnitError::Size(_))), "{text}");
        }
        for text in ["99999999999999999999", "17179869184TiB"] {
            assert!(matches!(parse_size(text), Err(UnitError::TooLarge(_))), "{text}");
        }
    }

    #[test]
    fn durations_that_people_write() {
        for (text, ms) in [("10m", 600_000), ("2s", 2_000), ("500ms", 500), ("1h30m", 5_400_000), ("0s", 0)] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(ms)), "{text}");
        }
    }

    #[test]
    fn durations_that_are_refused() {
        for text in ["", "10", "m", "1.5s", "-1s", "10 m", "1m1m", "1s1m", "1w", "s10", "10min"] {
            assert!(matches!(parse_duration(text), Err(UnitError::Duration(_))), "{text}");
        }
        assert!(matches!(parse_duration("999999999999999999d"), Err(UnitError::TooLarge(_))));
    }

    #[test]
    fn what_is_formatted_reads_back() {
        for bytes in [0, 1, 1023, 1024, 1536, 64 << 20, u64::MAX] {
            assert_eq!(parse_size(&format_size(bytes)), Ok(bytes));
        }
        for ms in [0, 1, 999, 1000, 90_000, 600_000, 7_200_000] {
            let duration = Duration::from_millis(ms);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
    }
}
