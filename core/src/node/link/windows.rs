//! How much a peer may send ahead of what was read, on how many streams, and how much may be
//! unacknowledged to it.
//!
//! Before the peer's hello has been read, it may send a little on few streams. From then on, a link has the least of
//! each, and takes more from the node's pool as it uses them: twice as much
//! when a good part was used within a round trip or two. Credit that a peer was given cannot be taken back (RFC
//! 9000, section 4.1). A smaller receive window takes effect as the peer uses its credit, and counts as the
//! larger one until then. The number of streams only grows, since quinn-proto keeps what it has allocated
//! for a stream and uses it for later ones.

use core::time::Duration;

use quinn_proto::{Dir, VarInt};

use super::Link;
use crate::config::{Config, Windows};
use crate::node::window_pool::WindowPool;
use crate::time::Time;

/// What was used of something, to find out whether it is used fast.
#[derive(Debug, Default)]
struct Usage {
    count: u64,
    /// When the first of these was used.
    since: Time,
}

impl Usage {
    fn note(&mut self, now: Time, count: u64) {
        if self.count == 0 {
            self.since = now;
        }
        self.count += count;
    }

    /// Whether so much was used since the last time it was, and how fast.
    fn reaches(&mut self, now: Time, count: u64, span: Duration) -> Option<Pace> {
        if self.count < count {
            return None;
        }
        let is_fast = now.since(self.since) < span;
        self.count = 0;
        Some(if is_fast { Pace::Fast } else { Pace::Slow })
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Pace {
    /// Within the time given.
    Fast,
    Slow,
}

#[derive(Debug)]
pub(super) struct LinkWindows {
    now: Windows,
    /// Receive credit beyond the window, which the peer has been given before the window became smaller.
    excess: u64,
    /// Bytes of the pool that it holds.
    held: u64,
    read: Usage,
    opened: Usage,
    /// Bytes that were read, and streams that were opened, since the windows were last looked at.
    read_bytes: u64,
    opened_count: u64,
}

impl LinkWindows {
    pub(super) fn new(least: Windows) -> Self {
        Self {
            now: least,
            excess: 0,
            held: 0,
            read: Usage::default(),
            opened: Usage::default(),
            read_bytes: 0,
            opened_count: 0,
        }
    }

    /// Bytes that may be unacknowledged.
    pub(super) fn send(&self) -> u64 {
        self.now.send
    }

    /// The peer has opened a stream.
    pub(super) fn note_opened(&mut self) {
        self.opened_count += 1;
    }

    /// Bytes of a unidirectional stream were read.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.read_bytes += bytes as u64;
    }
}

impl Link {
    /// Bytes of the node's pool that it holds.
    pub(in crate::node) fn held_of_pool(&self) -> u64 {
        self.windows.held
    }

    /// What may be under way on it.
    pub(in crate::node) fn windows(&self) -> Windows {
        self.windows.now
    }

    /// The peer's hello has been read: it may use what each link has for itself.
    pub(in crate::node) fn open_windows(&mut self, config: &Config) {
        let Windows { receive, streams, .. } = self.windows.now;
        self.allow(Dir::Uni, streams);
        self.allow(Dir::Bi, config.calls_max().into());
        self.set_receive_window(receive + config.unread_bytes_max());
    }

    fn allow(&mut self, dir: Dir, streams: u64) {
        let streams = VarInt::from_u64(streams).unwrap_or(VarInt::MAX);
        self.quic.set_max_concurrent_streams(dir, streams);
    }

    fn set_receive_window(&mut self, bytes: u64) {
        self.quic.set_receive_window(VarInt::from_u64(bytes).unwrap_or(VarInt::MAX));
    }

    /// Lets the windows follow what was used of them since the last time.
    pub(in crate::node) fn adjust_windows(
        &mut self,
        now: Time,
        config: &Config,
        pool: &mut WindowPool,
    ) {
        if !self.is_up() || !self.is_open() {
            return;
        }
        let open_streams = self.ingress.open_streams() as u64;
        let round_trip = self.quic.rtt();
        let windows = &mut self.windows;
        let read_bytes = core::mem::take(&mut windows.read_bytes);
        windows.read.note(now, read_bytes);
        windows.opened.note(now, core::mem::take(&mut windows.opened_count));
        let used = read_bytes.min(windows.excess);
        windows.excess -= used;
        give_back(pool, &mut windows.held, Windows::receive_bytes(used));

        let before = windows.now;
        let mut wanted = before;
        let read = windows.read.reaches(now, before.receive / 4, round_trip);
        if read == Some(Pace::Fast) {
            wanted.receive *= 2;
        }
        // Who waits for more streams to be allowed learns of them a round trip after others have ended.
        let opened = windows.opened.reaches(now, before.streams / 2, 2 * round_trip);
        if opened == Some(Pace::Fast) || open_streams >= before.streams / 2 {
            wanted.streams *= 2;
        }
        if self.meter.window() > before.send / 2 {
            wanted.send *= 2;
        }
        if pool.is_over(windows.held) {
            let unacked = self.meter.unacked();
            windows.shrink(pool, read.is_some(), unacked);
        } else if wanted != before {
            // Credit that is left over from a larger window is credit, too.
            wanted.receive = wanted.receive.saturating_sub(windows.excess).max(before.receive);
            windows.now = pool.grow(&mut windows.held, before, wanted);
        }
        let after = self.windows.now;
        if after.receive != before.receive {
            self.set_receive_window(after.receive + config.unread_bytes_max());
        }
        if after.send != before.send {
            self.quic.set_send_window(after.send);
        }
        if after.streams != before.streams {
            self.allow(Dir::Uni, after.streams);
        }
    }
}

impl LinkWindows {
    /// Others need of the pool what it holds. It gives back a quarter of the receive window each time that
    /// a quarter of it `was_read`, and what it does not need of the send window.
    fn shrink(&mut self, pool: &mut WindowPool, was_read: bool, unacked: u64) {
        let least = pool.least();
        if was_read && self.excess == 0 {
            let less = (self.now.receive - least.receive) / 4;
            self.now.receive -= less;
            self.excess += less;
        }
        let needed = self.now.send - (self.now.send - least.send) / 4;
        if unacked <= needed {
            give_back(pool, &mut self.held, Windows::send_bytes(self.now.send - needed));
            self.now.send = needed;
        }
    }
}

fn give_back(pool: &mut WindowPool, held: &mut u64, bytes: u64) {
    // Halves of bytes were lost in parts of it.
    let bytes = bytes.min(*held);
    *held -= bytes;
    pool.give_back(bytes);
}
