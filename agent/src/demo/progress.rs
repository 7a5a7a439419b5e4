//! The demo's progress: one live line on a terminal, a line for each phase
//! elsewhere.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// A bar that fills with the time that was promised.
pub(crate) struct Progress {
    bar: ProgressBar,
}

impl Progress {
    pub(crate) fn new(seconds: u64) -> Self {
        let bar = ProgressBar::new(seconds * 10);
        let style = ProgressStyle::with_template("{elapsed:>4} [{bar:24}] {prefix}  {msg}")
            .expect("the template is fixed and right")
            .progress_chars("=> ");
        bar.set_style(style);
        bar.enable_steady_tick(Duration::from_millis(100));
        Self { bar }
    }

    /// What goes on now. On a terminal what went on before stays above as a line.
    pub(crate) fn phase(&self, what: &str) {
        let before = self.bar.prefix();
        if !before.is_empty() {
            self.bar
                .println(format!("{:>4}s  {before}", self.bar.elapsed().as_secs()));
        }
        if self.bar.is_hidden() {
            eprintln!("{:>4}s  {what}", self.bar.elapsed().as_secs());
        }
        self.bar.set_prefix(what.to_owned());
    }

    /// Time has passed; this many origins are up, down and unknown.
    pub(crate) fn tick(&self, [up, down, unknown]: [u64; 3]) {
        let tenths = u64::try_from(self.bar.elapsed().as_millis() / 100).unwrap_or(u64::MAX);
        self.bar
            .set_position(tenths.min(self.bar.length().unwrap_or(0)));
        self.bar
            .set_message(format!("{up} up, {down} down, {unknown} unknown"));
    }

    /// Something that a person should know even without a terminal.
    pub(crate) fn note(&self, what: &str) {
        self.bar.suspend(|| eprintln!("note: {what}"));
    }

    pub(crate) fn finish(&self) {
        self.bar.finish_and_clear();
    }
}
