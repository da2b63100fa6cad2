//! A program without std that uses slotcast. It is built, never run.

#![no_std]

extern crate alloc;

use core::alloc::{GlobalAlloc, Layout};
use core::panic::PanicInfo;

use slotcast::broadcast::Broadcast;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::ChannelId;

struct NoMemory;

// SAFETY: an allocator may always fail.
unsafe impl GlobalAlloc for NoMemory {
    unsafe fn alloc(&self, _: Layout) -> *mut u8 {
        core::ptr::null_mut()
    }
    unsafe fn dealloc(&self, _: *mut u8, _: Layout) {}
}

#[global_allocator]
static MEMORY: NoMemory = NoMemory;

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Keeps the linker from leaving slotcast out.
#[unsafe(no_mangle)]
pub extern "C" fn known_artifacts() -> usize {
    let config = Config::new([ChannelConfig::new(ChannelId(1))]);
    Broadcast::new(&config, slotcast::id::NodeId([1; 32]), 1)
        .map_or(0, |machine| machine.known_count())
}
