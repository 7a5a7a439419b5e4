//! Probe threads: the io_uring and epoll drivers of watchfire-probe-core.

// The kernel takes addresses of buffers through io_uring entries; each block
// names what keeps them valid.
#![allow(unsafe_code)]

#[doc(hidden)]
pub mod floor;
