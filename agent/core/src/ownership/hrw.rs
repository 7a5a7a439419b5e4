//! Rendezvous scores in integers: the same bits on every machine.
//!
//! Weighted rendezvous hashing ranks nodes by weight / -ln(u) with u uniform in
//! (0, 1) from a hash of node and check (Schindelhauer and Schomaker 2005). A
//! floating-point logarithm differs between libraries in its last bits, and two
//! nodes that rank differently both own a check or neither does; so the
//! logarithm is a table with linear interpolation in fixed point. Its error is
//! below 2^-22, far below what would show in anybody's share.

use watchfire_wire::{CheckId, NodeId};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// A node's score for a check; the greater ranks first. 0 if the node's
/// capacity is 0: it owns nothing.
#[must_use]
pub fn score(node: NodeId, capacity: u16, check: CheckId) -> u64 {
    let hash = xxh3_64_with_seed(&check.0, node.0);
    // The weight fits above 47 bits, the logarithm below 39: the quotient keeps
    // 24 significant bits or more where it matters, at the top.
    ((u64::from(capacity)) << 47) / neg_log2(hash)
}

/// -log2((hash + 1/2) / 2^64) with 32 fractional bits, at least 1.
const fn neg_log2(hash: u64) -> u64 {
    if hash == 0 {
        return 65 << 32;
    }
    let zeros = hash.leading_zeros();
    // The mantissa in [1, 2), its top bit at 63.
    let mantissa = hash << zeros;
    let cell = ((mantissa << 1) >> (64 - CELL_BITS)) as usize;
    let within = (mantissa << (1 + CELL_BITS)) >> 32;
    let low = LOG2[cell];
    let step = LOG2[cell + 1] - low;
    let log2 = low + ((step * within) >> 32);
    let whole = (zeros as u64 + 1) << 32;
    let result = whole - log2;
    if result == 0 { 1 } else { result }
}

const CELL_BITS: u32 = 10;

/// log2(1 + i / 1024) with 32 fractional bits.
const LOG2: [u64; (1 << CELL_BITS) + 1] = {
    let mut table = [0; (1 << CELL_BITS) + 1];
    let mut i = 0;
    while i < 1 << CELL_BITS {
        table[i] = log2_by_squaring((1 << 62) + ((i as u64) << (62 - CELL_BITS)));
        i += 1;
    }
    table[1 << CELL_BITS] = 1 << 32;
    table
};

/// log2 of a number in [1, 2) given with 62 fractional bits: each squaring
/// brings out one binary digit.
const fn log2_by_squaring(mut x: u64) -> u64 {
    let mut result = 0;
    let mut digit = 1 << 31;
    while digit > 0 {
        let square = (x as u128 * x as u128) >> 62;
        if square >= 2 << 62 {
            result |= digit;
            x = (square >> 1) as u64;
        } else {
            x = square as u64;
        }
        digit >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_logarithm_is_right_and_never_decreases() {
        let mut last = 0;
        for step in 0..=200_000_u64 {
            let hash = u64::MAX - step * (u64::MAX / 200_000);
            let ours = neg_log2(hash);
            assert!(ours >= last, "{hash}");
            last = ours;
            if hash > 0 {
                let exact = 64.0 - (hash as f64).log2();
                let error = (ours as f64 / 4_294_967_296.0 - exact).abs();
                assert!(error < 2.4e-7, "{hash}: {error}");
            }
        }
    }

    #[test]
    fn the_bits_are_the_same_everywhere() {
        // Two machines that disagree here would both own a check, or neither.
        let check = CheckId::of_canonical(b"tcp 192.0.2.1:80");
        let scores: Vec<u64> = [1, 100, 65_535]
            .map(|capacity| score(NodeId::of_name("edge-1"), capacity, check))
            .to_vec();
        assert_eq!(
            scores,
            [139_720, 13_972_071, 9_156_597_121],
            "the score of a node is part of the protocol"
        );
        assert_eq!(score(NodeId::of_name("edge-1"), 0, check), 0);
    }

    #[test]
    fn shares_follow_capacities() {
        let nodes: Vec<(NodeId, u16)> = (1..=8)
            .map(|n| (NodeId::of_name(&format!("edge-{n}")), n * 100))
            .collect();
        let mut owned = [0_u32; 8];
        let checks = 60_000;
        for n in 0..checks {
            let check = CheckId::of_canonical(&u32::to_le_bytes(n));
            let best = (0..8)
                .max_by_key(|&at| (score(nodes[at].0, nodes[at].1, check), nodes[at].0))
                .unwrap();
            owned[best] += 1;
        }
        for (at, &owned) in owned.iter().enumerate() {
            let share = f64::from(owned) / f64::from(checks);
            let fair = (at + 1) as f64 / 36.0;
            assert!((share / fair - 1.0).abs() < 0.06, "{at}: {share} {fair}");
        }
    }
}
