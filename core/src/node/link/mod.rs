//! A link: one QUIC connection to a peer, with its streams in both directions, between quinn-proto
//! and the machines. Broadcast uses the unidirectional streams, calls use the bidirectional ones.
//!
//! `ingress` reads, `egress` writes, `windows` says how much at a time, `silence` whether the peer is
//! still there. Until the peer's hello has been read, nothing else is read and
//! only our own hello is sent. The reason is that QUIC reports a client as connected before the
//! server has verified its key.

mod egress;
mod ingress;
mod quota;
mod silence;
mod snapshot;
mod unread;
mod windows;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use std::vec::Vec;

use bytes::Bytes;
use foldhash::quality::FixedState;
use hashbrown::HashMap;
use quinn_proto::{StreamId, VarInt};

use super::Closed;
use super::closing::ClosePacket;
use super::congestion::Meter;
use super::progress::{Effort, Seen};
use super::ready::Queued;
use super::transmit::Transmit;
use super::usage::Usage;
use crate::config::{Config, Windows};
use crate::id::{NodeId, PeerIndex};
use crate::rpc::CallStream;
use crate::sched::Schedule;
use crate::time::Time;
use crate::trace::{self, FullWindow};
use egress::Egress;
use ingress::Ingress;
use quota::Quotas;
use silence::Silence;
use unread::Reading;
use windows::LinkWindows;

pub(super) use ingress::Notice;
pub(super) use quota::{quota_hello, told_quota};
pub(super) use unread::{Lane, Unread};

/// Error codes of streams. Those of calls have more, which the peer reads: see
/// [`CallReset`](crate::wire::CallReset).
const UNNEEDED: VarInt = VarInt::from_u32(1);
const BREACH: VarInt = VarInt::from_u32(2);

/// Stream ids are consecutive numbers, so a peer cannot choose ids that collide in the hash table.
type StreamMap<V> = HashMap<StreamId, V, FixedState>;

/// How far a link has come.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Phase {
    /// The peer has not proven its key yet.
    Handshaking,
    /// Another link to the peer is in use. This node waits for the peer's hello before it sends its own,
    /// so that a twin of the peer is not connected for a moment; or, if it has dialled since that link is
    /// silent, until it is clear that it stays so.
    Listening,
    /// This node has sent its hello, and waits for the peer's.
    Greeting,
    /// It is the link in use to this peer.
    Up {
        /// The peer.
        peer: PeerIndex,
        /// The incarnation number from the peer's hello, which differs after a restart.
        incarnation: u64,
    },
}

pub(super) struct Link {
    pub(super) quic: quinn_proto::Connection,
    pub(super) phase: Phase,
    /// Whether this node dialled.
    pub(super) is_client: bool,
    /// Its first datagram carried a valid token, which proves the peer's address.
    pub(super) is_proven: bool,
    /// The member. The dialling side knows it from the start, the accepting side after the
    /// handshake.
    pub(super) node: Option<NodeId>,
    /// The key that the peer has proven in the handshake; `None` before.
    pub(super) key: Option<NodeId>,
    /// If no hello has been read by then, the link is closed.
    pub(super) hello_deadline: Time,
    /// While it [listens](Phase::Listening): when it is to be used.
    pub(super) greet_at: Time,
    /// It was dialled since the link in use was silent at this time, and is not needed if that is heard again.
    pub(super) probes_since: Option<Time>,
    /// Channels on which one side keeps silent; known when it is up.
    pub(super) silent_channels: u64,
    /// Why the connection is over, while what has come on it is still to be read.
    pub(super) lost: Option<Closed>,
    /// There is something to send, and no window has room for it. Only traced.
    full_window: FullWindow,
    /// Where it stands among the node's ready links.
    pub(super) queued: Queued,
    /// It may have events of QUIC to be dealt with, and is in the node's list of those.
    pub(super) is_touched: bool,
    /// The machines were asked for data for it since QUIC had nothing more to send.
    pub(super) is_fed: bool,
    /// By [`Lane`].
    readings: [Reading; Lane::ALL.len()],
    /// What the peer has done lately.
    pub(super) effort: Effort,
    /// What it may send in channels, when it is up.
    quotas: Quotas,
    meter: Arc<Meter>,
    ingress: Ingress,
    egress: Egress,
    windows: LinkWindows,
    silence: Silence,
}

fn stream_id(stream: CallStream) -> StreamId {
    VarInt::from_u64(stream.0).expect("it was one").into()
}

impl Link {
    /// A link that this node dials to `node`, or that somebody has dialled.
    pub(super) fn new(
        quic: quinn_proto::Connection,
        node: Option<NodeId>,
        meter: Arc<Meter>,
        (now, hello_deadline): (Time, Time),
        schedule: Schedule,
        windows: Windows,
    ) -> Self {
        Self {
            quic,
            phase: Phase::Handshaking,
            is_client: node.is_some(),
            is_proven: false,
            node,
            key: None,
            hello_deadline,
            greet_at: Time::NEVER,
            probes_since: None,
            silent_channels: 0,
            lost: None,
            full_window: FullWindow::default(),
            queued: Queued::default(),
            is_touched: false,
            is_fed: false,
            readings: Default::default(),
            effort: Effort::default(),
            quotas: Quotas::default(),
            meter,
            ingress: Ingress::default(),
            egress: Egress::new(schedule),
            windows: LinkWindows::new(windows),
            silence: Silence::new(now),
        }
    }

    /// How much more work of the peer has brought nothing than something, if it is to be settled.
    pub(super) fn take_excess(&mut self) -> Option<i64> {
        self.effort.is_due().then(|| self.settle_effort())
    }

    fn settle_effort(&mut self) -> i64 {
        let seen = Seen::of(&self.quic.stats());
        self.effort.settle(seen, self.meter.take_acked())
    }

    /// The peer's current address.
    pub(super) fn address(&self) -> IpAddr {
        self.quic.remote_address().ip().to_canonical()
    }

    /// The peer, if this is the link in use to it.
    pub(super) fn peer(&self) -> Option<PeerIndex> {
        match self.phase {
            Phase::Up { peer, .. } => Some(peer),
            _ => None,
        }
    }

    /// Nothing can be written now: because no window has room for what waits, or because nothing waits. Traced
    /// when it lasts, and when it is over.
    pub(super) fn note_window(&mut self, now: Time) {
        let is_full = self.schedule().most_urgent().is_some();
        if self.full_window.is_news(now, is_full, self.quic.rtt())
            && let Some(node) = self.node
        {
            let (in_flight, window) = (self.meter.in_flight(), self.meter.window());
            match is_full {
                true => trace::window_full(node, in_flight, window),
                false => trace::window_open(node, in_flight, window),
            }
        }
    }

    /// The incarnation of the peer, if this is the link in use to it.
    pub(super) fn incarnation(&self) -> Option<u64> {
        match self.phase {
            Phase::Up { incarnation, .. } => Some(incarnation),
            _ => None,
        }
    }

    pub(super) fn is_up(&self) -> bool {
        self.peer().is_some()
    }

    /// Whether the connection is over, and what has come on it is still to be read.
    pub(super) fn is_ending(&self) -> bool {
        self.lost.is_some()
    }

    /// Whether neither side has closed it.
    pub(super) fn is_open(&self) -> bool {
        !self.quic.is_closed()
    }

    /// Whether it is on its way to be up.
    pub(super) fn is_coming_up(&self) -> bool {
        self.is_open() && !self.is_up()
    }

    /// Closes the connection and notifies the peer.
    pub(super) fn close(&mut self, now: Instant, code: VarInt) {
        self.meter.close();
        self.quic.close(now, code, Bytes::new());
    }

    /// It is the link in use to its peer from now on, which has used so much over earlier ones.
    pub(super) fn set_used(&mut self, used: &Usage, turn: u64, config: &Config) {
        for (reading, used) in self.readings.iter_mut().zip(used.shares) {
            reading.share.go_on(used, turn, config.work.turn_max);
        }
        self.effort.note_fruitless(used.excess);
        self.quotas = Quotas::new(&config.channels, &used.quotas);
    }

    /// What the peer has used of it. It is not in use any more.
    pub(super) fn end(&mut self) -> Usage {
        // What was useful long ago makes up for nothing.
        let excess = self.settle_effort().max(0);
        let shares = Lane::ALL.map(|lane| self.readings[lane as usize].share.remainder());
        Usage { shares, excess, quotas: self.quotas.end() }
    }

    /// The close packet of a connection that is over, if this side has closed it. There is none either if QUIC may not
    /// send that much to an address that is not proven. (A peer that has broken a rule of QUIC while what had come
    /// before was still to be read has been sent it.)
    pub(super) fn take_close_packet(&mut self, now: Instant) -> Option<ClosePacket> {
        use Closed::{ByPeer, Shutdown, Superseded, Twin};
        if matches!(self.lost, Some(ByPeer | Shutdown | Superseded | Twin)) {
            return None;
        }
        self.meter.close();
        let mut datagram = Vec::new();
        // All that it says is in one datagram.
        let transmit = self.quic.poll_transmit(now, 1, &mut datagram)?;
        Some(ClosePacket {
            transmit: Transmit::from_quic(transmit),
            datagram: datagram.into_boxed_slice(),
        })
    }

    /// When no datagrams of a connection that is over are expected any more; `None`, if none are now.
    pub(super) fn drained_at(&mut self, start: Instant) -> Option<Time> {
        (!self.quic.is_drained()).then(|| self.quic_deadline(start))
    }

    /// When QUIC has something to do. Of a connection that is over, that is its end.
    fn quic_deadline(&mut self, start: Instant) -> Time {
        let timeout = self.quic.poll_timeout();
        timeout.map_or(Time::NEVER, |at| Time::ZERO + at.saturating_duration_since(start))
    }

    /// When something is due, unless it happens before.
    pub(super) fn deadline(&mut self, start: Instant, keep_alive: Duration) -> Time {
        let timeout = self.quic_deadline(start);
        match self.is_coming_up() {
            true => timeout.min(self.hello_deadline).min(self.greet_at),
            false if self.is_up() => {
                timeout.min(self.silent_at(keep_alive)).min(self.quotas.earliest())
            }
            false => timeout,
        }
    }
}
