//! The table's reader for C: `include/watchfire.h` says what each function
//! does.
//!
//! The header is the contract; a test compiles it and compares. Nothing here
//! unwinds into C: lookups have no panicking path, and a panic in `extern "C"`
//! aborts.

// Pointers from C are only as good as the caller's word. Each block names
// which word it takes.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr, c_char, c_int, c_void};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::slice;

use nix::errno::Errno;
use watchfire_table::answer::Answer;
use watchfire_table::limits::NAME_BYTES;
use watchfire_table::{Cursor, Lookup, Moved, PoolRule, Reader, Usage, WhenStale, rule};
use watchfire_wire::NodeId;
use watchfire_wire::limits::NODE_NAME_BYTES;

/// Opens a table.
///
/// # Safety
/// `path` is a string, `table` may be written, and `error` has `error_bytes`
/// writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_open(
    path: *const c_char,
    table: *mut *mut Reader,
    error: *mut c_char,
    error_bytes: usize,
) -> c_int {
    // SAFETY: `path` is a string by the caller's word.
    let path = unsafe { CStr::from_ptr(path) };
    let path = Path::new(OsStr::from_bytes(path.to_bytes()));
    let (reader, code) = match Reader::open(path) {
        Ok(reader) => (Box::into_raw(Box::new(reader)), 0),
        Err(refusal) => {
            if error_bytes > 0 {
                let words = refusal.to_string();
                let kept = words.len().min(error_bytes - 1);
                // SAFETY: `error` has `error_bytes` writable bytes by the
                // caller's word, and `kept` is less.
                unsafe {
                    error.copy_from_nonoverlapping(words.as_ptr().cast(), kept);
                    error.add(kept).write(0);
                }
            }
            (std::ptr::null_mut(), -refusal.errno())
        }
    };
    // SAFETY: `table` may be written by the caller's word.
    unsafe { table.write(reader) };
    code
}

/// Closes a handle.
///
/// # Safety
/// `table` came from [`watchfire_open`] or is null, and is used no more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_close(table: *mut Reader) {
    if !table.is_null() {
        // SAFETY: it came from `Box::into_raw` in `watchfire_open`, and the
        // caller gives it up.
        drop(unsafe { Box::from_raw(table) });
    }
}

/// Looks a name up.
///
/// # Safety
/// `table` is open, `name` has `name_bytes` readable bytes, `answer` may be
/// written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_lookup(
    table: *const Reader,
    name: *const c_void,
    name_bytes: usize,
    now_ns: u64,
    answer: *mut Answer,
) -> c_int {
    // SAFETY: by the caller's word.
    let name = unsafe { bytes(name, name_bytes) };
    // SAFETY: `table` is open by the caller's word.
    let found = unsafe { &*table }.get(name, now_ns);
    // SAFETY: by the caller's word.
    unsafe { give(found.into(), answer) }
}

/// What to do with an origin.
///
/// # Safety
/// As for [`watchfire_lookup`], and `table` may be null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_use(
    table: *const Reader,
    name: *const c_void,
    name_bytes: usize,
    now_ns: u64,
    when_stale: c_int,
    answer: *mut Answer,
) -> c_int {
    // SAFETY: by the caller's word.
    let name = unsafe { bytes(name, name_bytes) };
    // SAFETY: `table` is open or null by the caller's word.
    let table = unsafe { table.as_ref() };
    let found = table.map(|table| table.get(name, now_ns));
    let usage = rule::usage(found.as_ref(), stale_choice(when_stale));
    // SAFETY: by the caller's word.
    unsafe { give(found.map_or(NO_TABLE, Answer::from), answer) };
    c_int::from(usage as u8)
}

/// What to do with each origin of a pool.
///
/// # Safety
/// `table` is open or null, `names` has `count` names with their bytes,
/// `pool_rule` may be read, and `usages` has `count` writable bytes.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_pool(
    table: *const Reader,
    names: *const Name,
    count: usize,
    now_ns: u64,
    pool_rule: *const Rule,
    usages: *mut u8,
) -> c_int {
    if count == 0 {
        return 0;
    }
    // SAFETY: by the caller's word; all of them for the length of this call.
    let (table, names, asked) = unsafe {
        let names = slice::from_raw_parts(names, count);
        (table.as_ref(), names, &*pool_rule)
    };
    // SAFETY: `usages` has `count` writable bytes by the caller's word; a usage
    // is one byte, zero is one of its values, and they are zeroed first.
    let usages = unsafe {
        usages.write_bytes(0, count);
        slice::from_raw_parts_mut(usages.cast::<Usage>(), count)
    };
    let look = |at: usize| {
        let name: &Name = &names[at];
        // SAFETY: a name has its bytes by the caller's word.
        let name = unsafe { bytes(name.bytes, name.length) };
        table.map(|table| table.get(name, now_ns))
    };
    c_int::from(rule::pool(&asked.read(), look, usages))
}

/// How the POP is.
///
/// # Safety
/// `table` is open, `since_ms` may be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_pop_state(table: *const Reader, since_ms: *mut u64) -> c_int {
    // SAFETY: `table` is open by the caller's word.
    let state = unsafe { &*table }.pop_state();
    if !since_ms.is_null() {
        // SAFETY: it is not null, and then the caller vouches that it can be written.
        unsafe { since_ms.write(state.since_ms) };
    }
    c_int::from(state.condition as u8)
}

/// Whether the agent lives.
///
/// # Safety
/// `table` is open, `age_ns` may be written or is null.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_fresh(
    table: *const Reader,
    now_ns: u64,
    age_ns: *mut u64,
) -> c_int {
    // SAFETY: `table` is open by the caller's word.
    let freshness = unsafe { &*table }.freshness(now_ns);
    if !age_ns.is_null() {
        // SAFETY: it is not null, and then the caller vouches that it can be written.
        unsafe { age_ns.write(freshness.age_ns) };
    }
    c_int::from(freshness.fresh)
}

/// The next origin after the cursor.
///
/// # Safety
/// `table` is open; `name` has room for the longest name; the other pointers
/// may be written, and the cursor read.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_next(
    table: *const Reader,
    cursor: *mut Cursor,
    now_ns: u64,
    name: *mut c_char,
    name_bytes: *mut usize,
    answer: *mut Answer,
) -> c_int {
    // SAFETY: both by the caller's word.
    let (reader, cursor) = unsafe { (&*table, &mut *cursor) };
    let freshness = reader.freshness(now_ns);
    let mut found = [0; NAME_BYTES];
    match reader.next(cursor, &mut found) {
        Err(Moved) => -(Errno::EAGAIN as c_int),
        Ok(None) => 0,
        Ok(Some((length, entry))) => {
            // SAFETY: `name` has room for the longest name and the others may
            // be written, by the caller's word.
            unsafe {
                name.copy_from_nonoverlapping(found.as_ptr().cast(), length);
                name_bytes.write(length);
                answer.write(Answer::from(Lookup::Found { entry, freshness }));
            }
            1
        }
    }
}

/// The configured name of a node.
///
/// # Safety
/// `table` is open and `name` has room for the longest node name.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_node_name(
    table: *const Reader,
    node: u64,
    name: *mut c_char,
) -> c_int {
    let mut found = [0; NODE_NAME_BYTES];
    // SAFETY: `table` is open by the caller's word.
    let length = unsafe { &*table }.owner_name_into(NodeId(node), &mut found);
    let length = length.unwrap_or(0);
    // SAFETY: `name` has room for the longest node name.
    unsafe { name.copy_from_nonoverlapping(found.as_ptr().cast(), length) };
    length as c_int
}

/// A reason in words.
#[unsafe(no_mangle)]
pub extern "C" fn watchfire_reason(reason: u8) -> *const c_char {
    reasons::WORDS[usize::from(reason)].as_ptr()
}

/// Follows the agent to its present file.
///
/// # Safety
/// `table` is open.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn watchfire_refresh(table: *const Reader) -> c_int {
    // SAFETY: `table` is open by the caller's word.
    match unsafe { &*table }.refresh() {
        Ok(moved) => c_int::from(moved),
        Err(error) => -error.errno(),
    }
}

/// `CLOCK_MONOTONIC` in nanoseconds.
#[unsafe(no_mangle)]
pub extern "C" fn watchfire_now_ns() -> u64 {
    watchfire_table::monotonic_ns()
}

/// A name of a pool: `watchfire_name`.
#[derive(Debug)]
#[repr(C)]
pub struct Name {
    /// Its bytes.
    pub bytes: *const c_void,
    /// How many.
    pub length: usize,
}

/// When a pool is in panic: `watchfire_rule`.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
pub struct Rule {
    /// Origins that must be usable.
    pub at_least: u32,
    /// Share of the pool that must be usable, percent.
    pub share_percent: u8,
    /// What a stale table means.
    pub when_stale: u8,
    /// Zero.
    pub reserved: u16,
}

impl Rule {
    fn read(self) -> PoolRule {
        PoolRule {
            at_least: self.at_least,
            share_percent: self.share_percent,
            when_stale: stale_choice(self.when_stale.into()),
        }
    }
}

/// Anything but the one number is the default.
const fn stale_choice(number: c_int) -> WhenStale {
    if number == WhenStale::Open as c_int {
        WhenStale::Open
    } else {
        WhenStale::Static
    }
}

/// The answer where there is no table.
const NO_TABLE: Answer = Answer {
    since_ms: 0,
    owner: 0,
    age_ns: u64::MAX,
    latency_us: 0,
    verdict: watchfire_table::answer::NOT_IN_TABLE,
    flags: 0,
    reason: 0,
    fresh: 0,
};

/// The caller's bytes; none for a length of zero, whatever the pointer.
///
/// # Safety
/// Where the length is not zero, so many bytes from `start` on can be read, and
/// do not change while the answer is in use.
#[inline]
unsafe fn bytes<'a>(start: *const c_void, length: usize) -> &'a [u8] {
    if length == 0 {
        return &[];
    }
    // SAFETY: the caller vouches for these bytes; of no bytes it was not asked.
    unsafe { slice::from_raw_parts(start.cast(), length) }
}

/// Hands an answer out and says its verdict.
///
/// # Safety
/// `answer` is null, or an aligned answer can be written there.
#[inline]
unsafe fn give(found: Answer, answer: *mut Answer) -> c_int {
    if !answer.is_null() {
        // SAFETY: it is not null, and then the caller vouches that it can be written.
        unsafe { answer.write(found) };
    }
    c_int::from(found.verdict)
}

mod reasons {
    //! Every reason's words as a C string, made once.

    use std::ffi::CString;
    use std::sync::LazyLock;

    use watchfire_table::entry::reason_words;

    pub(super) static WORDS: LazyLock<Vec<CString>> = LazyLock::new(|| {
        (0..=u8::MAX)
            .map(|code| CString::new(reason_words(code)).unwrap_or_default())
            .collect()
    });
}
