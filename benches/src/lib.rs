//! Watchfire's benchmarks: floors, peers and micro benches.
