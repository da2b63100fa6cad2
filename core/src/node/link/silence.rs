//! Silence: nothing arrives from a peer although it should have answered by now.
//!
//! An idle peer answers a keep-alive within a round trip. If it does not, it may be gone, which the idle
//! timeout finds out, or be reachable at another path only: its address or this node's is not the one that
//! the connection knows, as when a NAT rebinds. The node then dials it beside the connection in use. QUIC's
//! own migration (RFC 9000, section 9) is not used, since it helps only if the client's address changes.

use std::net::SocketAddr;
use std::time::Duration;

use super::Link;
use crate::node::address::canonical;
use crate::time::Time;

/// What an answer to a keep-alive may take beyond its round trips, so that a busy peer is not dialled.
const GRACE: Duration = Duration::from_millis(500);

/// An answer is waited for as many round trips: the keep-alive or the answer may be lost, and QUIC repeats
/// what was not acknowledged after less than two.
const ROUND_TRIPS: u32 = 3;

#[derive(Clone, Copy, Debug)]
pub(super) struct Silence {
    /// When something last arrived from the peer's present address.
    heard_at: Time,
    /// Not looked at before.
    checked_until: Time,
}

impl Silence {
    pub(super) const fn new(now: Time) -> Self {
        Self { heard_at: now, checked_until: Time::ZERO }
    }
}

impl Link {
    /// A datagram for this connection has come from an address. QUIC ignores those from another one than
    /// the peer's.
    pub(in crate::node) fn note_heard(&mut self, now: Time, from: SocketAddr) {
        if from == canonical(self.quic.remote_address()) {
            self.silence.heard_at = now;
        }
    }

    pub(in crate::node) fn heard_at(&self) -> Time {
        self.silence.heard_at
    }

    /// When the peer is to be dialled beside this connection, unless something arrives before.
    pub(super) fn silent_at(&self, keep_alive: Duration) -> Time {
        let patience = keep_alive + GRACE + ROUND_TRIPS * self.quic.rtt();
        (self.silence.heard_at + patience).max(self.silence.checked_until)
    }

    /// Whether the peer is to be dialled now. If so, not again before the `pause` is over.
    pub(in crate::node) fn falls_silent(
        &mut self,
        now: Time,
        keep_alive: Duration,
        pause: Duration,
    ) -> bool {
        let is_due = self.is_up() && self.silent_at(keep_alive) <= now;
        if is_due {
            self.silence.checked_until = now + pause;
        }
        is_due
    }

    /// Whether the peer has not answered a keep-alive, so that a connection that comes up now is the better
    /// one. It takes less than to dial it, so that both ends find the same, although they do not hear the last
    /// of each other at the same time.
    pub(in crate::node) fn is_quiet(&self, now: Time, keep_alive: Duration) -> bool {
        now.since(self.silence.heard_at) > keep_alive + GRACE / 2 + self.quic.rtt()
    }
}
