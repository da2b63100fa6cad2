//! Connections that are over: what RFC 9000, section 10.2, requires to be kept of them.
//!
//! A connection that this node has closed is in the closing state: its close packet may have been lost, and is
//! repeated when datagrams of the peer show that. One that the peer has closed is in the draining state, in which
//! nothing is sent. Either way, what is still on its way to it is dropped, and is not answered with a stateless
//! reset. All that takes is the close packet as it was sent, so that the QUIC connection with all that the peer has put
//! into its buffers is freed at once (section 10.2.1).
//!
//! A connection's handle belongs to its link, or to its entry here, or to nobody. Invariant 8.

use std::boxed::Box;
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::Duration;
use std::vec::Vec;

use quinn_proto::ConnectionHandle;

use super::address::canonical;
use super::transmit::Transmit;
use crate::config::{CLOSED_PER_PEER_MAX, CLOSED_UNKNOWN_MAX};
use crate::deadlines::Deadlines;
use crate::id::PeerIndex;
use crate::time::Time;

/// The longest time for which an entry is kept. QUIC asks for three probe timeouts, which a peer can stretch by
/// acknowledging late. Whoever has not learned of the end by then finds it out by its idle timeout, or by a stateless
/// reset.
const SPAN_MAX: Duration = Duration::from_secs(30);

/// What may be sent to an address for what has come from it (RFC 9000, section 8.1): who has written the address on
/// a datagram may not be there.
const AMPLIFICATION_MAX: u64 = 3;

/// The last datagram of a connection.
#[derive(Debug)]
pub(super) struct ClosePacket {
    pub(super) transmit: Transmit,
    pub(super) datagram: Box<[u8]>,
}

#[derive(Debug)]
struct Entry {
    /// The member whose connection in use it was.
    peer: Option<PeerIndex>,
    packet: Option<ClosePacket>,
    is_queued: bool,
    /// When it is forgotten, once the packet has been sent: the socket may have been full for longer.
    ends_at: Time,
    /// What has come since from the address that the packet goes to.
    datagrams: u64,
    bytes: u64,
    /// Bytes that were sent in answer.
    answered: u64,
}

impl Entry {
    /// A datagram has come. Whether it is to be answered: the first one, the second, the fourth, the eighth and so on
    /// are, so that two ends that have both closed fall silent (section 10.2.1).
    fn answers(&mut self, from: SocketAddr, bytes: usize) -> bool {
        let Some(packet) = &self.packet else { return false };
        if from != canonical(packet.transmit.destination) {
            return false;
        }
        self.datagrams += 1;
        self.bytes += bytes as u64;
        let answered = self.answered + packet.datagram.len() as u64;
        let is_due = self.datagrams.is_power_of_two() && !self.is_queued;
        if !is_due || answered > AMPLIFICATION_MAX * self.bytes {
            return false;
        }
        self.answered = answered;
        true
    }
}

/// Connections that are over, by handle.
#[derive(Debug)]
pub(super) struct Closing {
    entries: Vec<Option<Entry>>,
    deadlines: Deadlines,
    /// Those whose packet is to be sent.
    queue: VecDeque<ConnectionHandle>,
    /// By peer, of connections that were in use: at most `CLOSED_PER_PEER_MAX` of each, the oldest first.
    of_peers: Vec<VecDeque<ConnectionHandle>>,
    /// All others: at most `CLOSED_UNKNOWN_MAX`, the oldest first.
    others: VecDeque<ConnectionHandle>,
    /// The number of those that are of peers.
    were_up: usize,
}

impl Closing {
    pub(super) fn new() -> Self {
        Self {
            entries: Vec::new(),
            deadlines: Deadlines::new(),
            queue: VecDeque::new(),
            of_peers: Vec::new(),
            others: VecDeque::new(),
            were_up: 0,
        }
    }

    /// A connection is over, which was in use to `peer` if that is given. Its packet is to be sent, if this node has
    /// closed it.
    pub(super) fn insert(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        peer: Option<PeerIndex>,
        packet: Option<ClosePacket>,
        ends_at: Time,
    ) {
        if self.entries.len() <= handle.0 {
            self.entries.resize_with(handle.0 + 1, || None);
        }
        let (is_queued, ends_at) = (packet.is_some(), ends_at.min(now + SPAN_MAX));
        let entry = Entry { peer, packet, is_queued, ends_at, datagrams: 0, bytes: 0, answered: 0 };
        assert!(self.entries[handle.0].replace(entry).is_none(), "handles are unique");
        match is_queued {
            true => self.queue.push_back(handle),
            false => self.deadlines.set(handle.0, ends_at),
        }
        self.were_up += usize::from(peer.is_some());
        self.list(peer).push_back(handle);
    }

    fn list(&mut self, peer: Option<PeerIndex>) -> &mut VecDeque<ConnectionHandle> {
        let Some(peer) = peer else { return &mut self.others };
        if self.of_peers.len() <= peer.at() {
            self.of_peers.resize_with(peer.at() + 1, VecDeque::new);
        }
        &mut self.of_peers[peer.at()]
    }

    /// A connection that is to be forgotten, since there are too many of this peer, or of none.
    pub(super) fn excess(&mut self, peer: Option<PeerIndex>) -> Option<ConnectionHandle> {
        let most = if peer.is_some() { CLOSED_PER_PEER_MAX } else { CLOSED_UNKNOWN_MAX };
        let list = self.list(peer);
        list.front().copied().filter(|_| list.len() > most)
    }

    /// A connection that has been kept long enough.
    pub(super) fn due(&self, now: Time) -> Option<ConnectionHandle> {
        self.deadlines.due(now).map(ConnectionHandle)
    }

    pub(super) fn next_deadline(&self) -> Time {
        self.deadlines.earliest()
    }

    /// Forgets a connection, whether or not its packet was sent.
    pub(super) fn remove(&mut self, handle: ConnectionHandle) {
        let entry = self.entries[handle.0].take().expect("it is there");
        self.deadlines.set(handle.0, Time::NEVER);
        self.were_up -= usize::from(entry.peer.is_some());
        self.list(entry.peer).retain(|other| *other != handle);
        if entry.is_queued {
            self.queue.retain(|other| *other != handle);
        }
    }

    /// A peer is no member any more, and its index may become another one's.
    pub(super) fn remove_peer(&mut self, peer: PeerIndex) {
        let handles = std::mem::take(self.list(Some(peer)));
        for handle in &handles {
            self.entries[handle.0].as_mut().expect("it is in a list").peer = None;
        }
        self.were_up -= handles.len();
        self.others.extend(handles);
    }

    /// A datagram of so many bytes has come. False if it is not for any of these connections.
    pub(super) fn handle_datagram(
        &mut self,
        handle: ConnectionHandle,
        from: SocketAddr,
        bytes: usize,
    ) -> bool {
        let Some(entry) = self.entries.get_mut(handle.0).and_then(Option::as_mut) else {
            return false;
        };
        if entry.answers(from, bytes) {
            entry.is_queued = true;
            self.queue.push_back(handle);
        }
        true
    }

    /// The next packet that is to be sent.
    pub(super) fn poll_transmit(&mut self, buffer: &mut Vec<u8>) -> Option<Transmit> {
        let handle = self.queue.pop_front()?;
        let entry = self.entries[handle.0].as_mut().expect("it is in the queue");
        entry.is_queued = false;
        self.deadlines.set(handle.0, entry.ends_at);
        let packet = entry.packet.as_ref().expect("it is in the queue");
        buffer.extend_from_slice(&packet.datagram);
        Some(packet.transmit)
    }

    /// Whether a packet waits to be sent.
    pub(super) fn has_packets(&self) -> bool {
        !self.queue.is_empty()
    }

    /// Whether the members that were connected have been told, as far as it can be known, so that the node can end.
    pub(super) fn is_done(&self) -> bool {
        self.queue.is_empty() && self.were_up == 0
    }

    #[cfg(any(test, feature = "internals"))]
    pub(super) fn len(&self) -> usize {
        self.others.len() + self.were_up
    }
}

#[cfg(test)]
mod tests {
    use std::vec;

    use super::*;

    const HANDLE: ConnectionHandle = ConnectionHandle(3);
    const PEER: PeerIndex = PeerIndex(1);
    const NOW: Time = Time(1_000);
    const MTU: usize = 1_200;

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    fn packet(size: usize) -> ClosePacket {
        let transmit =
            Transmit { destination: address(1), size, segment_size: None, ecn: None, src_ip: None };
        ClosePacket { transmit, datagram: vec![7; size].into() }
    }

    fn in_a_second() -> Time {
        NOW + Duration::from_secs(1)
    }

    /// One connection, whose packet of so many bytes was sent.
    fn closed(size: usize) -> Closing {
        let mut closing = Closing::new();
        closing.insert(NOW, HANDLE, Some(PEER), Some(packet(size)), in_a_second());
        assert_eq!(sent(&mut closing), [size]);
        closing
    }

    /// The sizes of what is to be sent.
    fn sent(closing: &mut Closing) -> Vec<usize> {
        let mut sizes = Vec::new();
        let mut buffer = Vec::new();
        while let Some(transmit) = closing.poll_transmit(&mut buffer) {
            assert_eq!(
                (transmit.destination, buffer.as_slice()),
                (address(1), &*vec![7; transmit.size])
            );
            sizes.push(transmit.size);
            buffer.clear();
        }
        assert!(!closing.has_packets());
        sizes
    }

    /// Which of so many datagrams, counted from 1, are answered.
    fn answered(
        closing: &mut Closing,
        datagrams: usize,
        from: SocketAddr,
        bytes: usize,
    ) -> Vec<usize> {
        let is_answered = |_: &usize| {
            assert!(closing.handle_datagram(HANDLE, from, bytes));
            !sent(closing).is_empty()
        };
        (1..=datagrams).filter(is_answered).collect()
    }

    #[test]
    fn ever_fewer_datagrams_are_answered() {
        let mut closing = closed(50);
        assert_eq!(answered(&mut closing, 100, address(1), MTU), [1, 2, 4, 8, 16, 32, 64]);
        assert!(!closing.handle_datagram(ConnectionHandle(2), address(1), MTU), "of another one");
        assert!(!closing.handle_datagram(ConnectionHandle(9), address(1), MTU), "of another one");
    }

    #[test]
    fn what_comes_from_elsewhere_is_not_answered() {
        let mut closing = closed(50);
        assert!(answered(&mut closing, 10, address(2), MTU).is_empty());
        assert_eq!(answered(&mut closing, 2, address(1), MTU), [1, 2]);
    }

    #[test]
    fn little_datagrams_are_not_answered_with_more_than_three_times_their_bytes() {
        let mut closing = closed(MTU);
        // Of 40 bytes, thirty are worth three packets.
        assert_eq!(answered(&mut closing, 70, address(1), 40), [16, 32, 64]);
        let mut closing = closed(40);
        assert_eq!(answered(&mut closing, 10, address(1), 40), [1, 2, 4, 8]);
    }

    #[test]
    fn a_packet_that_waits_for_the_socket_waits_once() {
        let mut closing = Closing::new();
        closing.insert(NOW, HANDLE, None, Some(packet(50)), in_a_second());
        assert!((0..10).all(|_| closing.handle_datagram(HANDLE, address(1), MTU)));
        assert!(!closing.is_done());
        assert_eq!(sent(&mut closing), [50]);
        assert!(closing.is_done(), "nobody was connected");
        closing.insert(NOW, ConnectionHandle(4), None, Some(packet(50)), in_a_second());
        closing.remove(ConnectionHandle(4));
        assert!(sent(&mut closing).is_empty());
    }

    #[test]
    fn nothing_is_sent_for_a_connection_that_was_lost_or_closed_by_the_peer() {
        let mut closing = Closing::new();
        closing.insert(NOW, HANDLE, Some(PEER), None, in_a_second());
        assert!(answered(&mut closing, 100, address(1), MTU).is_empty());
        assert!(!closing.is_done(), "it was in use");
        assert_eq!(closing.due(in_a_second()), Some(HANDLE));
        closing.remove(HANDLE);
        assert!(closing.is_done());
    }

    #[test]
    fn an_entry_ends_when_quic_says_so_or_after_half_a_minute() {
        for (ends_at, expected) in [
            (in_a_second(), in_a_second()),
            (Time::NEVER, NOW + SPAN_MAX),
            (NOW + 2 * SPAN_MAX, NOW + SPAN_MAX),
        ] {
            let mut closing = Closing::new();
            closing.insert(NOW, HANDLE, Some(PEER), Some(packet(50)), ends_at);
            assert_eq!(closing.next_deadline(), Time::NEVER, "it has not been sent");
            assert_eq!(sent(&mut closing), [50]);
            assert_eq!(closing.next_deadline(), expected);
            // A packet that waits once more does not delay it.
            assert!(closing.handle_datagram(HANDLE, address(1), MTU));
            assert_eq!(closing.due(Time(expected.0 - 1)), None);
            assert_eq!(closing.due(expected), Some(HANDLE));
            closing.remove(HANDLE);
            assert_eq!((closing.next_deadline(), closing.len()), (Time::NEVER, 0));
            assert!(!closing.handle_datagram(HANDLE, address(1), MTU));
        }
    }

    #[test]
    fn the_oldest_goes_when_there_are_too_many_and_who_left_is_one_of_the_others() {
        let mut closing = Closing::new();
        let insert = |closing: &mut Closing, at, peer| {
            closing.insert(NOW, ConnectionHandle(at), peer, None, in_a_second());
            let excess = closing.excess(peer);
            excess.into_iter().for_each(|handle| closing.remove(handle));
            excess.map(|handle| handle.0)
        };
        let of_peer: Vec<_> = (0..4).map(|at| insert(&mut closing, at, Some(PEER))).collect();
        assert_eq!(of_peer, [None, None, Some(0), Some(1)]);
        assert_eq!(insert(&mut closing, 0, Some(PeerIndex(0))), None, "another one has its own");
        closing.remove_peer(PEER);
        let others: Vec<_> = (10..42).filter_map(|at| insert(&mut closing, at, None)).collect();
        assert_eq!(others, [2, 3], "those of the one that left");
        assert_eq!(insert(&mut closing, 1, Some(PEER)), None);
        assert_eq!(closing.len(), CLOSED_UNKNOWN_MAX + 2);
    }
}
