//! An allocator that counts what nodes allocate, and takes the backtrace of some of it.

use std::alloc::{GlobalAlloc, Layout, System};
use std::backtrace::Backtrace;
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;

thread_local! {
    /// Whether a node is at work, and not the bench.
    static IS_COUNTING: Cell<bool> = const { Cell::new(false) };
    static COUNT: Cell<u64> = const { Cell::new(0) };
    static BYTES: Cell<u64> = const { Cell::new(0) };
    /// One of so many is traced; 0 for none.
    static TRACED_EACH: Cell<u64> = const { Cell::new(0) };
    static TRACED: RefCell<Vec<(u64, Backtrace)>> = const { RefCell::new(Vec::new()) };
}

pub(crate) struct Counting;

fn note(bytes: usize) {
    if !IS_COUNTING.get() {
        return;
    }
    COUNT.set(COUNT.get() + 1);
    BYTES.set(BYTES.get() + bytes as u64);
    let each = TRACED_EACH.get();
    if each > 0 && COUNT.get().is_multiple_of(each) {
        IS_COUNTING.set(false);
        let trace = Backtrace::force_capture();
        TRACED.with_borrow_mut(|traced| traced.push((bytes as u64, trace)));
        IS_COUNTING.set(true);
    }
}

// SAFETY: everything is left to `System`; counting touches plain thread-local values only, and what traces
// allocate is not counted. (There is no safe way to see allocations; the crate itself forbids unsafe code.)
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        note(layout.size());
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        note(size);
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Counts what `node` allocates.
pub(crate) fn counted<T>(node: impl FnOnce() -> T) -> T {
    IS_COUNTING.set(true);
    let result = node();
    IS_COUNTING.set(false);
    result
}

/// Allocations so far, and bytes in them.
pub(crate) fn so_far() -> (u64, u64) {
    (COUNT.get(), BYTES.get())
}

/// Traces one of so many from now on; none with 0.
pub(crate) fn trace_each(each: u64) {
    TRACED_EACH.set(each);
}

/// The sites of what was traced, with how often each was seen and its bytes, most often first.
pub(crate) fn sites() -> Vec<(String, u64, u64)> {
    let mut sites: BTreeMap<String, (u64, u64)> = BTreeMap::new();
    for (bytes, trace) in TRACED.take() {
        if std::env::var_os("RAW").is_some() {
            println!("{trace}\n----");
        }
        let seen = sites.entry(site(&trace.to_string())).or_default();
        *seen = (seen.0 + 1, seen.1 + bytes);
    }
    let mut sites: Vec<_> = sites.into_iter().map(|(site, (n, bytes))| (site, n, bytes)).collect();
    sites.sort_by_key(|(_, count, _)| std::cmp::Reverse(*count));
    sites
}

/// The innermost functions of a backtrace that belong to this crate, QUIC or TLS, innermost first.
fn site(trace: &str) -> String {
    const FRAMES: usize = 4;
    let mut frames = Vec::new();
    let mut lines = trace.lines().map(str::trim).peekable();
    while let Some(line) = lines.next() {
        let Some((_, function)) = line.split_once(": ") else { continue };
        let Some(at) = lines.next_if(|next| next.starts_with("at ")) else { continue };
        let is_shown =
            ["/core/src/", "/quinn-proto-", "/rustls-"].iter().any(|path| at.contains(path));
        if is_shown && !at.contains("/library/") && frames.len() < FRAMES {
            let place: Vec<&str> = at.rsplit(['/', ':']).skip(1).take(2).collect();
            frames.push(format!("{function} ({}:{})", place[1], place[0]));
        }
    }
    frames.join(" < ")
}
