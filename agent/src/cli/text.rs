//! Tables and times for people.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Prints a line to standard output. Whoever reads it may have read enough
/// (`watchfire table dump | head`): then the program ends in silence.
macro_rules! say {
    ($($piece:tt)*) => {
        $crate::cli::text::print_line(format_args!($($piece)*))
    };
}

/// What [`say`] does.
pub(super) fn print_line(line: std::fmt::Arguments<'_>) {
    let mut out = std::io::stdout().lock();
    if writeln!(out, "{line}").is_err() {
        std::process::exit(0);
    }
}

/// Rows of cells as aligned columns; the first row is the head.
pub(super) fn columns(rows: &[Vec<String>]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..count).map(width).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:<width$}  ", width = *width));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How long ago a wall-clock time was, like `3m 20s`.
pub(super) fn ago(since_ms: u64) -> String {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let age = now.saturating_sub(Duration::from_millis(since_ms));
    if since_ms == 0 {
        return "never".to_owned();
    }
    humantime::format_duration(Duration::from_secs(age.as_secs())).to_string()
}

/// The end of what an operator decided, if it has one.
pub(super) fn until(ms: Option<u64>) -> String {
    ms.map_or_else(String::new, |ms| {
        let at = std::time::UNIX_EPOCH + std::time::Duration::from_millis(ms);
        format!(" until {}", humantime::format_rfc3339_seconds(at))
    })
}

/// What an operator gave as the reason, if any.
pub(super) fn because(why: &str) -> String {
    match why {
        "" => String::new(),
        why => format!(" ({why})"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let row = |a: &str, b: &str| vec![a.to_owned(), b.to_owned()];
        let text = columns(&[row("NAME", "STATE"), row("a-long-name", "up")]);
        assert_eq!(text, "NAME         STATE\na-long-name  up\n");
    }
}
