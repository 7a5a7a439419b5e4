//! A deterministic simulator over Watchfire's production core.
