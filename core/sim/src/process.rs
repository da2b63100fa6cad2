//! What takes part in a simulated subnet without being one of our nodes.

use std::net::SocketAddr;

use slotcast::node::Ecn;
use slotcast::time::Time;

/// A participant that speaks for itself: a hostile member, a stranger, another implementation.
/// Sees its own clock.
pub trait Process {
    /// A datagram has arrived.
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]);

    /// Called after datagrams and at the time that it named last: hands out what there is to be
    /// sent, and says when to be called again without a datagram.
    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time;
}
