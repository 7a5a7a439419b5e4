//! One probe in ten bytes: when, how long each phase took, and what came of it.
//!
//! Times are floating-point numbers without a sign, cut down: a phase keeps 7 bits
//! and is true to within a part in 128, the time since the probe before it keeps 9.

use crate::outcome::Phases;

/// A probe, packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Cell([u16; 5]);

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    /// Since the probe before, milliseconds.
    pub(super) ago_ms: u64,
    /// The reason's number.
    pub(super) code: u8,
    pub(super) phases: Phases,
}

/// Bits of the mantissa of a phase, and of the time since the probe before.
const PHASE: u32 = 7;
const AGO: u32 = 9;
/// Bits of the exponent of both.
const EXPONENT: u32 = 5;

impl Cell {
    pub(super) fn pack(facts: &Facts) -> Self {
        let mut bits = Bits(0);
        let phases = &facts.phases;
        let before_the_end = [phases.connect_us, phases.tls_us, phases.first_byte_us];
        for us in before_the_end.into_iter().chain([Some(phases.total_us)]) {
            // Nothing is not the same as no time at all.
            let us = us.map_or(0, |us| u64::from(us) + 1);
            bits.put(u64::from(cut(us, PHASE)), PHASE + EXPONENT);
        }
        bits.put(u64::from(cut(facts.ago_ms, AGO)), AGO + EXPONENT);
        let status = phases.status.filter(|status| *status < 1_000);
        bits.put(status.unwrap_or(0).into(), 10);
        bits.put(facts.code.into(), 8);
        Self([0, 1, 2, 3, 4].map(|part| (bits.0 >> (16 * part)) as u16))
    }

    pub(super) fn unpack(self) -> Facts {
        let parts = self.0.iter().rev();
        let mut bits = Bits(parts.fold(0, |bits, part| bits << 16 | u128::from(*part)));
        let code = bits.take(8) as u8;
        let status = bits.take(10) as u16;
        let ago_ms = whole(bits.take(AGO + EXPONENT), AGO);
        let mut phase = || {
            let us = whole(bits.take(PHASE + EXPONENT), PHASE).checked_sub(1)?;
            Some(u32::try_from(us).unwrap_or(u32::MAX))
        };
        let total_us = phase().unwrap_or(0);
        let [first_byte_us, tls_us, connect_us] = [phase(), phase(), phase()];
        Facts {
            ago_ms,
            code,
            phases: Phases {
                connect_us,
                tls_us,
                first_byte_us,
                total_us,
                status: (status > 0).then_some(status),
                degraded: false,
            },
        }
    }
}

/// Numbers in a row; the one that was put last is taken first.
struct Bits(u128);

impl Bits {
    fn put(&mut self, value: u64, bits: u32) {
        self.0 = self.0 << bits | u128::from(value);
    }

    fn take(&mut self, bits: u32) -> u64 {
        let value = self.0 & ((1 << bits) - 1);
        self.0 >>= bits;
        value as u64
    }
}

/// A number cut down to so many bits of mantissa, and an exponent.
const fn cut(value: u64, mantissa: u32) -> u32 {
    let bits = u64::BITS - value.leading_zeros();
    if bits <= mantissa {
        return value as u32;
    }
    let shift = bits - mantissa - 1;
    if shift + 1 >= 1 << EXPONENT {
        // More than anything that is measured here.
        return (1 << (mantissa + EXPONENT)) - 1;
    }
    (shift + 1) << mantissa | ((value >> shift) as u32 & ((1 << mantissa) - 1))
}

const fn whole(cut: u64, mantissa: u32) -> u64 {
    let (exponent, fraction) = (cut >> mantissa, cut & ((1 << mantissa) - 1));
    match exponent {
        0 => fraction,
        exponent => (fraction | 1 << mantissa) << (exponent - 1),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn near(kept: u32, true_us: u32) -> bool {
        kept <= true_us && (true_us - kept) <= true_us / 100 + 1
    }

    proptest! {
        #[test]
        fn what_is_packed_is_there_again_within_a_hundredth(
            connect in proptest::option::of(0..60_000_000_u32),
            tls in proptest::option::of(any::<u32>()),
            first_byte in proptest::option::of(0..1_000_u32),
            total_us in 0..60_000_000_u32,
            status in proptest::option::of(100..1_000_u16),
            code: u8,
            ago_ms in 0..10_000_000_u64,
        ) {
            let phases = Phases {
                connect_us: connect, tls_us: tls, first_byte_us: first_byte, total_us, status,
                degraded: false,
            };
            let facts = Facts { ago_ms, code, phases };
            let kept = Cell::pack(&facts).unpack();
            prop_assert_eq!((kept.code, kept.phases.status), (code, status));
            prop_assert!(kept.ago_ms <= ago_ms && ago_ms - kept.ago_ms <= ago_ms / 500);
            for (kept, us) in [
                (kept.phases.connect_us, connect),
                (kept.phases.tls_us, tls),
                (kept.phases.first_byte_us, first_byte),
                (Some(kept.phases.total_us), Some(total_us)),
            ] {
                prop_assert_eq!(kept.is_some(), us.is_some());
                prop_assert!(kept.zip(us).is_none_or(|(kept, us)| near(kept, us)), "{kept:?} {us:?}");
            }
        }
    }

    #[test]
    fn small_numbers_are_kept_whole_and_monstrous_ones_are_large() {
        for value in 0..256 {
            assert_eq!(whole(cut(value, PHASE).into(), PHASE), value);
        }
        assert!(whole(cut(u64::MAX, AGO).into(), AGO) > 1 << 38);
    }
}
