//! Medians and rows.

use std::time::Duration;

/// Durations of many rounds.
pub struct Samples(Vec<Duration>);

impl Samples {
    /// Takes and sorts them.
    pub fn new(mut all: Vec<Duration>) -> Self {
        all.sort();
        Self(all)
    }

    /// The same samples once more.
    pub fn copy(&self) -> Self {
        Self(self.0.clone())
    }

    /// The value that `percent` of the rounds stayed below.
    pub fn percentile(&self, percent: usize) -> Duration {
        let at = self.0.len().saturating_sub(1).saturating_mul(percent) / 100;
        self.0.get(at).copied().unwrap_or_default()
    }
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// Prints one comparison.
pub fn row(name: &str, floor: &Samples, ours: &Samples, goal: f64) {
    let (low, high) = (micros(floor.percentile(50)), micros(ours.percentile(50)));
    let ratio = if low > 0.0 { high / low } else { f64::NAN };
    let verdict = if ratio <= goal { "" } else { "  MISSED" };
    println!(
        "{name:<44} {low:>8.1}us {high:>8.1}us {ratio:>6.2}x {:>9}{verdict}",
        if goal.is_finite() { format!("<={goal}x") } else { "-".to_owned() }
    );
    println!("{:<44} {:>8.1}us {:>8.1}us", "  p95", micros(floor.percentile(95)), micros(ours.percentile(95)));
}

/// Prints one comparison by what it costs above the floor, in microseconds.
pub fn over(name: &str, floor: &Samples, ours: &Samples, goal: Option<f64>) {
    let (low, high) = (micros(floor.percentile(50)), micros(ours.percentile(50)));
    let above = high - low;
    let (goal, verdict) = match goal {
        Some(goal) => (format!("<={goal}us"), if above <= goal { "" } else { "  MISSED" }),
        None => ("-".to_owned(), ""),
    };
    println!("{name:<58} {low:>8.2}us {high:>8.2}us {above:>+7.2}us {goal:>8}{verdict}");
}
