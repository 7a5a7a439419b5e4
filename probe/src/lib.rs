//! Probe threads: the io_uring and epoll drivers of watchfire-probe-core.
