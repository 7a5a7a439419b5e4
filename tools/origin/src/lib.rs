//! An origin farm with faults, on many loopback addresses.
