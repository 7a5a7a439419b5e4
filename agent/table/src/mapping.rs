//! Files in memory: the one place that calls `mmap`.
//!
//! What keeps a mapped table sound: its file lives wholly in memory before
//! anybody maps it (`fallocate`), nobody ever cuts it short, and everything
//! shared is accessed as atomic words. A mapping is never longer than its
//! file.

use std::fs::File;
use std::num::NonZeroUsize;
use std::ops::Deref;
use std::ptr::NonNull;

use nix::errno::Errno;
use nix::sys::mman::{MapFlags, ProtFlags, mmap, mmap_anonymous, munmap};

use crate::layout::WORD;
use crate::sync::AtomicU64;

/// A file mapped for its writer; unmapped on drop.
#[derive(Debug)]
pub struct Mapping {
    base: NonNull<AtomicU64>,
    words: usize,
}

// SAFETY: the mapping is plain shared memory of atomic words; its address does
// not depend on a thread.
unsafe impl Send for Mapping {}
// SAFETY: all access through a shared reference is by atomic words.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `words` words of a file for reading and writing. The
    /// file must be at least so long and stay so.
    pub(crate) fn writable(file: &File, words: usize) -> Result<Self, Errno> {
        let bytes = NonZeroUsize::new(words * WORD).ok_or(Errno::EINVAL)?;
        // SAFETY: a fresh address range of the kernel's choice; the file is as
        // long as the mapping by this function's contract.
        let base = unsafe {
            mmap(
                None,
                bytes,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
                file,
                0,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            words,
        })
    }
}

impl Deref for Mapping {
    type Target = [AtomicU64];

    fn deref(&self) -> &[AtomicU64] {
        // SAFETY: `base` maps `words` words until drop, page-aligned, and any
        // bytes are a valid atomic word.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), self.words) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: this range was mapped by `writable`, and no reference into
        // it outlives `self`.
        let unmapped = unsafe { munmap(self.base.cast(), self.words * WORD) };
        debug_assert_eq!(unmapped, Ok(()), "an own range can be unmapped");
    }
}

/// An address range of a reader: it shows a file, or zeros once the reader has
/// moved on. It stays readable until it is dropped, so a lookup that is still
/// under way in it reads old words or zeros and never faults.
#[derive(Debug)]
pub(crate) struct Range {
    base: NonNull<AtomicU64>,
    bytes: usize,
}

// SAFETY: as for `Mapping`.
unsafe impl Send for Range {}
// SAFETY: as for `Mapping`.
unsafe impl Sync for Range {}

impl Range {
    /// A new range that shows the first `bytes` bytes of a file, read-only.
    /// The file must be at least so long and stay so.
    pub(crate) fn showing(file: &File, bytes: usize) -> Result<Self, Errno> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        // SAFETY: a fresh address range of the kernel's choice; the file is as
        // long as the mapping by this function's contract.
        let base = unsafe {
            mmap(
                None,
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE,
                file,
                0,
            )
        }?;
        Ok(Self {
            base: base.cast(),
            bytes,
        })
    }

    /// Shows another file in this range, which must be at least as large. What
    /// the range has beyond the file stays readable.
    pub(crate) fn show(&mut self, file: &File, bytes: usize) -> Result<(), Errno> {
        let length = NonZeroUsize::new(bytes).ok_or(Errno::EINVAL)?;
        if bytes > self.bytes {
            return Err(Errno::ENOMEM);
        }
        // SAFETY: the fixed range lies inside one that belongs to `self`, so
        // nobody else's mapping is replaced; references into it are to atomic
        // words, whose values may change at any time, and stay readable.
        unsafe {
            mmap(
                Some(self.address()),
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_SHARED | MapFlags::MAP_POPULATE | MapFlags::MAP_FIXED,
                file,
                0,
            )
        }?;
        Ok(())
    }

    /// Lets go of the file's memory: the range shows zeros from now on.
    pub(crate) fn blank(&mut self) -> Result<(), Errno> {
        let length = NonZeroUsize::new(self.bytes).ok_or(Errno::EINVAL)?;
        // SAFETY: as in `show`: exactly the range that belongs to `self`.
        unsafe {
            mmap_anonymous(
                Some(self.address()),
                length,
                ProtFlags::PROT_READ,
                MapFlags::MAP_PRIVATE | MapFlags::MAP_FIXED | MapFlags::MAP_NORESERVE,
            )
        }?;
        Ok(())
    }

    /// Its size, bytes.
    pub(crate) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where it begins, as a number to keep in an atomic word.
    pub(crate) fn base(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    /// The first `words` words of the range.
    pub(crate) fn words(&self, words: usize) -> &[AtomicU64] {
        assert!(words * WORD <= self.bytes, "a range is read within itself");
        // SAFETY: `base` maps `bytes` readable bytes until drop, page-aligned;
        // `words` lies within by the assertion; any bytes are atomic words.
        unsafe { core::slice::from_raw_parts(self.base.as_ptr(), words) }
    }

    fn address(&self) -> NonZeroUsize {
        self.base.addr()
    }
}

impl Drop for Range {
    fn drop(&mut self) {
        // SAFETY: this range belongs to `self`, and no reference into it
        // outlives the reader that owns it.
        let unmapped = unsafe { munmap(self.base.cast(), self.bytes) };
        debug_assert_eq!(unmapped, Ok(()), "an own range can be unmapped");
    }
}

/// The words that a [`Range::base`] names.
///
/// # Safety
/// The range must be one of a living owner's, at least `words` words long, and
/// must not be dropped while the answer is in use.
#[inline]
pub(crate) unsafe fn words_at<'a>(base: u64, words: usize) -> &'a [AtomicU64] {
    let base = core::ptr::with_exposed_provenance::<AtomicU64>(base as usize);
    // SAFETY: the caller vouches that a living owner's range begins there and is
    // at least so long; a range is mapped, or allocated, until it is dropped, is
    // aligned to a word, and is only ever touched as atomic words.
    unsafe { core::slice::from_raw_parts(base, words) }
}
