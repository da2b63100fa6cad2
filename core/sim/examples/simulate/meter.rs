//! A counting allocator: how many heap bytes each node of a simulated subnet holds.
//!
//! A run takes place in one thread, which says whose code it is in ([`METER`]). Each block has its
//! owner written before it, so that it is counted off the same node wherever it is freed. What C
//! code allocates (the cryptography of real TLS) is not seen.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use slotcast_sim::MemoryMeter;

/// To be handed to [`Plan::run_metered`](slotcast_sim::Plan::run_metered), after a [`reset`].
pub(crate) const METER: MemoryMeter = MemoryMeter { enter, held };

/// Owners: nobody, and the node at each place.
const OWNERS: usize = 65;
const NOBODY: usize = 0;

/// Bytes before a block, so that there is room for the owner and blocks stay aligned as `malloc`
/// aligns them. They are not counted.
const HEAD: usize = 16;

#[derive(Clone, Copy)]
struct Account {
    /// Below zero if blocks from before a [`reset`] are freed.
    held: i64,
    /// The most since it was last asked for.
    peak: i64,
}

const EMPTY: Account = Account { held: 0, peak: 0 };

thread_local! {
    static OWNER: Cell<usize> = const { Cell::new(NOBODY) };
    static ACCOUNTS: [Cell<Account>; OWNERS] = const { [const { Cell::new(EMPTY) }; OWNERS] };
}

/// Forgets what was counted in this thread: a run begins.
pub(crate) fn reset() {
    OWNER.set(NOBODY);
    ACCOUNTS.with(|accounts| accounts.iter().for_each(|account| account.set(EMPTY)));
}

fn enter(node: Option<usize>) {
    OWNER.set(node.map_or(NOBODY, |at| at + 1));
}

/// The most that a node has held since this was last asked.
fn held(node: usize) -> u64 {
    ACCOUNTS.with(|accounts| {
        let Some(account) = accounts.get(node + 1) else { return 0 };
        let Account { held, peak } = account.get();
        account.set(Account { held, peak: held });
        u64::try_from(peak).unwrap_or(0)
    })
}

fn count(owner: usize, bytes: i64) {
    if owner == NOBODY {
        return;
    }
    ACCOUNTS.with(|accounts| {
        let Some(account) = accounts.get(owner) else { return };
        let Account { held, peak } = account.get();
        let held = held + bytes;
        account.set(Account { held, peak: peak.max(held) });
    });
}

struct Meter;

#[global_allocator]
static ALLOCATOR: Meter = Meter;

/// Bytes before a block.
fn head(layout: Layout) -> usize {
    layout.align().max(HEAD)
}

/// The block with what is before it.
fn whole(layout: Layout, size: usize) -> Option<Layout> {
    let size = size.checked_add(head(layout))?;
    Layout::from_size_align(size, layout.align().max(align_of::<usize>())).ok()
}

/// Notes the owner of a fresh block; the place behind the note.
///
/// # Safety
/// `base` is null, or the beginning of a block of the layout [`whole`]`(layout, ..)`.
unsafe fn own(base: *mut u8, layout: Layout) -> *mut u8 {
    if base.is_null() {
        return base;
    }
    let owner = OWNER.get();
    count(owner, layout.size() as i64);
    // SAFETY: at least `HEAD` bytes come before the place, which is aligned to a word.
    unsafe {
        let place = base.add(head(layout));
        place.cast::<usize>().sub(1).write(owner);
        place
    }
}

// SAFETY: every block is one of `System`'s, longer by `head`, of which callers are given all but
// the head; the head's length follows from the layout alone. Counting touches plain thread-local
// numbers only. (There is no safe way to see allocations; the crate itself forbids unsafe code.)
unsafe impl GlobalAlloc for Meter {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        match whole(layout, layout.size()) {
            // SAFETY: not empty, for the head's sake.
            Some(whole) => unsafe { own(System.alloc(whole), layout) },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        match whole(layout, layout.size()) {
            // SAFETY: as above.
            Some(whole) => unsafe { own(System.alloc_zeroed(whole), layout) },
            None => std::ptr::null_mut(),
        }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (Some(old), Some(new)) = (whole(layout, layout.size()), whole(layout, size)) else {
            return std::ptr::null_mut();
        };
        // SAFETY: the block is one of ours, of this layout. Its head moves with it.
        unsafe {
            let owner = place.cast::<usize>().sub(1).read();
            let base = System.realloc(place.sub(head(layout)), old, new.size());
            if base.is_null() {
                return base;
            }
            count(owner, size as i64 - layout.size() as i64);
            base.add(head(layout))
        }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        let Some(whole) = whole(layout, layout.size()) else { return };
        // SAFETY: as above.
        unsafe {
            let owner = place.cast::<usize>().sub(1).read();
            count(owner, -(layout.size() as i64));
            System.dealloc(place.sub(head(layout)), whole);
        }
    }
}
