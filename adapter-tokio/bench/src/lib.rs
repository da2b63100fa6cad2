//! What the benches have in common: runtimes, options, the systems that are compared, figures.
//!
//! Everything runs in one process on loopback, and what is compared takes turns in one run: slotcast and
//! plain quinn under the same load, or slotcast with and without an attack. The machine may be shared
//! and noisy, so only the ratio of the two counts.

pub mod cpu_time;
pub mod in_flight;
pub mod latencies;
pub mod mesh;
pub mod one_stream;
pub mod options;
pub mod plain;
pub mod reference;
pub mod runtime;
pub mod subnet;
pub mod system;

use std::net::{SocketAddr, UdpSocket};

/// Addresses on loopback whose ports are free.
///
/// # Panics
/// If there are none. A bench that cannot go on panics, here and elsewhere in this crate.
pub fn free_addresses(count: usize) -> Vec<SocketAddr> {
    // All are bound before the first is released, so that they differ.
    let bind = |_| UdpSocket::bind("127.0.0.1:0").expect("a free port");
    let sockets: Vec<UdpSocket> = (0..count).map(bind).collect();
    sockets.iter().map(|socket| socket.local_addr().expect("bound")).collect()
}

/// The middle one of some values. Of an even number of values, the higher one of the two in the middle.
pub fn median(values: impl IntoIterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
