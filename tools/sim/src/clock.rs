//! A host's clocks: a monotonic one that may run fast or slow and leap forward,
//! and a wall clock that may be wrong by hours.

use watchfire_wire::Time;

/// Millionths.
const MILLION: i128 = 1_000_000;

/// One host's clocks, as a function of the simulation's own time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    /// When the rate last changed: simulation time and local time.
    base_us: u64,
    local_us: u64,
    rate_ppm: i32,
    wall_offset_ms: i64,
}

impl Clock {
    /// A clock that shows `local_us` at the beginning of time.
    #[must_use]
    pub const fn new(local_us: u64, rate_ppm: i32) -> Self {
        Self {
            base_us: 0,
            local_us,
            rate_ppm,
            wall_offset_ms: 0,
        }
    }

    /// What the monotonic clock shows.
    #[must_use]
    pub fn local(&self, now_us: u64) -> Time {
        let passed = i128::from(now_us.saturating_sub(self.base_us));
        let run = passed * (MILLION + i128::from(self.rate_ppm)) / MILLION;
        Time(self.local_us + u64::try_from(run).expect("clocks run forward"))
    }

    /// The first simulation time at which the monotonic clock shows `local` or
    /// more; `u64::MAX` for never.
    #[must_use]
    pub fn when_us(&self, local: Time) -> u64 {
        if local == Time::NEVER {
            return u64::MAX;
        }
        let ahead = i128::from(local.0.saturating_sub(self.local_us));
        let rate = MILLION + i128::from(self.rate_ppm);
        let wait = (ahead * MILLION + rate - 1) / rate;
        self.base_us
            .saturating_add(u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// The wall clock at the monotonic clock's zero, milliseconds since 1970,
    /// as a process would work it out now.
    #[must_use]
    pub fn wall_at_zero_ms(&self, now_us: u64) -> u64 {
        let wall_ms = WALL_START_MS + (now_us / 1_000) as i64 + self.wall_offset_ms;
        u64::try_from(wall_ms - self.local(now_us).as_millis() as i64).unwrap_or(0)
    }

    /// Changes the rate from now on.
    pub fn set_rate(&mut self, now_us: u64, rate_ppm: i32) {
        self.local_us = self.local(now_us).0;
        self.base_us = now_us;
        self.rate_ppm = rate_ppm;
    }

    /// The monotonic clock leaps forward.
    pub fn leap(&mut self, by_us: u64) {
        self.local_us += by_us;
    }

    /// Sets the wall clock wrong by this much, for processes that start later.
    pub fn set_wall_offset_ms(&mut self, offset_ms: i64) {
        self.wall_offset_ms = offset_ms;
    }
}

/// The wall clock when a simulation begins, milliseconds since 1970: a Tuesday
/// in 2027, and a multiple of every usual interval.
pub(crate) const WALL_START_MS: i64 = 1_800_000_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_reached_and_not_passed() {
        for rate_ppm in [-50_000, -100, 0, 100, 50_000] {
            let mut clock = Clock::new(77_000_123, rate_ppm);
            clock.set_rate(1_000_000, rate_ppm / 2);
            clock.leap(333);
            for local in (78_100_000..79_000_000).step_by(33_331).map(Time) {
                let at_us = clock.when_us(local);
                assert!(clock.local(at_us) >= local);
                assert!(clock.local(at_us - 1) < local);
            }
        }
        assert_eq!(Clock::new(0, 0).when_us(Time::NEVER), u64::MAX);
    }

    #[test]
    fn the_wall_clock_stands_beside_the_monotonic_one() {
        let mut clock = Clock::new(5_000_000, 0);
        let honest = clock.wall_at_zero_ms(2_000_000);
        assert_eq!(honest, WALL_START_MS as u64 - 5_000);
        clock.set_wall_offset_ms(-3_600_000);
        assert_eq!(clock.wall_at_zero_ms(2_000_000), honest - 3_600_000);
    }
}
