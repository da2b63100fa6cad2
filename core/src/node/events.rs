//! What happens on links: events of QUIC, timers, and what the machines want done with streams.

use quinn_proto::{ConnectionError, ConnectionHandle, Dir, Event, StreamEvent, TransportErrorCode};

use super::link::{Lane, Unread};
use super::{Closed, FAULTS, MachineOutput, NO_HELLO, Node, Notice, SHUTDOWN, SUPERSEDED, TWIN};
use crate::error::Fault;
use crate::id::PeerIndex;
use crate::rpc::CallStream;
use crate::time::Time;

impl Node {
    /// Something happened to a link: its events are to be dealt with.
    pub(super) fn touch(&mut self, handle: ConnectionHandle) {
        if let Some(link) = self.link(handle)
            && !std::mem::replace(&mut link.is_touched, true)
        {
            self.touched.push(handle);
        }
    }

    /// Timers of links, hellos that did not come, and silence.
    pub(super) fn expire(&mut self, now: Time) {
        while let Some(handle) = self.closing.due(now) {
            self.forget(handle);
        }
        let instant = self.instant(now);
        while let Some(index) = self.deadlines.due(now) {
            let handle = ConnectionHandle(index);
            let link = self.links[index].as_deref_mut().expect("its deadlines end with a link");
            if link.quic.poll_timeout().is_some_and(|timeout| timeout <= instant) {
                link.quic.handle_timeout(instant);
                self.touch(handle);
            }
            let link = self.links[index].as_deref_mut().expect("just looked at");
            if link.is_coming_up() && link.hello_deadline <= now {
                self.close(now, handle, NO_HELLO);
                continue;
            }
            if link.greet_at <= now {
                self.greet(now, handle);
            }
            self.read_held(now, handle);
            // It may have been closed, and its deadline with it.
            let Some(link) = self.links[index].as_deref_mut() else { continue };
            let (keep_alive, pause) =
                (self.config.transport.keep_alive, self.config.transport.hello_timeout);
            if link.falls_silent(now, keep_alive, pause)
                && let Some(peer) = link.peer()
            {
                self.peers.probe(now, peer);
            }
            self.set_deadline(handle);
        }
    }

    /// Sets when a link is to be looked at next, unless something happens to it before.
    pub(super) fn set_deadline(&mut self, handle: ConnectionHandle) {
        let link = self.links[handle.0].as_mut().expect("its deadlines end with a link");
        self.deadlines.set(handle.0, link.deadline(self.start, self.config.transport.keep_alive));
    }

    /// Deals with what quinn-proto has to say about links to which something happened.
    pub(super) fn handle_touched(&mut self, now: Time) {
        let mut at = 0;
        while let Some(handle) = self.touched.get(at).copied() {
            at += 1;
            self.handle_link(now, handle);
        }
        self.has_changed |= at > 0;
        self.touched.clear();
    }

    fn handle_link(&mut self, now: Time, handle: ConnectionHandle) {
        // Stream data and the reason for closing are reported before the end of a connection.
        while let Some(link) = self.link(handle)
            && let Some(event) = link.quic.poll()
        {
            self.handle_quic_event(now, handle, event);
        }
        // A connection that is over keeps its handle until what has come on it is read.
        while let Some(link) = self.link(handle).filter(|link| !link.is_ending())
            && let Some(event) = link.quic.poll_endpoint_events()
        {
            assert!(!event.is_drained(), "it was reported as lost before");
            if let Some(event) = self.endpoint.handle_event(handle, event) {
                self.link(handle).expect("just polled").quic.handle_event(event);
            }
        }
        let Some(link) = self.links.get_mut(handle.0).and_then(Option::as_deref_mut) else {
            return;
        };
        link.is_touched = false;
        self.stats.work += link.take_work();
        for lane in Lane::ALL {
            if link.reading(lane).begins_to_wait() {
                self.turns.wait(handle, lane);
            }
        }
        link.adjust_windows(now, &self.config, &mut self.window_pool);
        let peer = link.peer();
        if let Some(peer) = peer {
            link.effort.note_fruitless(self.machine.take_fruitless(peer));
        }
        let excess = link.take_excess();
        let level = link.pending_level();
        self.ready.push(handle, link, level);
        // There may be room now for what is more urgent than what QUIC holds.
        if let Some(next) = link.next_level(&self.config).filter(|next| *next < level) {
            self.ready.push(handle, link, next);
        }
        self.set_deadline(handle);
        if let Some(excess) = excess {
            self.note_effort(now, handle, excess);
        }
    }

    /// So much more of what has come on a link has brought nothing than something.
    fn note_effort(&mut self, now: Time, handle: ConnectionHandle, excess: i64) {
        let link = self.links[handle.0].as_deref_mut().expect("just looked at");
        match link.peer() {
            Some(peer) => self.note_fruitless(now, handle, peer, excess),
            // Nobody is known to have broken a rule: who has not proven its key may write any address.
            None if link.is_coming_up() && link.effort.note_early(excess) => {
                self.close(now, handle, NO_HELLO);
            }
            None => {}
        }
    }

    /// Counts so many pieces of a peer's work that have brought nothing, less those that did.
    pub(super) fn note_fruitless(
        &mut self,
        now: Time,
        handle: ConnectionHandle,
        peer: PeerIndex,
        excess: i64,
    ) {
        if self.peers.peer_mut(peer).fruitless.note(now, excess, &self.config.work) {
            self.notices.push(Notice::Fault(Fault::WorkWithoutProgress));
            self.handle_notices(now, handle);
        }
    }

    fn handle_quic_event(&mut self, now: Time, handle: ConnectionHandle, event: Event) {
        self.begin_input();
        match event {
            Event::Connected => self.connected(now, handle),
            Event::ConnectionLost { reason } => {
                let why = reason_of(&reason);
                // Before the peer has proven its key, anybody can send a close frame in its name.
                let link = self.links[handle.0].as_deref().filter(|link| link.key.is_some());
                if let (Closed::Twin, Some(node)) = (why, link.and_then(|link| link.node)) {
                    self.peers.note_own_twin(now, node);
                }
                self.lost(now, handle, why);
            }
            Event::Stream(event) => {
                let link = self.links[handle.0].as_deref_mut().expect("just polled");
                if link.is_open() {
                    self.handle_stream_event(now, handle, event);
                    self.handle_notices(now, handle);
                }
            }
            _ => {}
        }
    }

    fn handle_stream_event(&mut self, now: Time, handle: ConnectionHandle, event: StreamEvent) {
        let link = self.links[handle.0].as_deref_mut().expect("just polled");
        let (machine, rpc) = (&mut self.machine, &mut self.rpc);
        let peer = link.peer();
        match event {
            StreamEvent::Opened { dir } => self.note_unread(now, handle, Unread::Opened(dir)),
            StreamEvent::Readable { id } => self.note_unread(now, handle, Unread::More(id)),
            StreamEvent::Writable { id } if id.dir() == Dir::Bi => {
                if let Some(peer) = peer {
                    rpc.handle_writable(peer, CallStream(id.into()));
                }
            }
            StreamEvent::Writable { id } => {
                if let (Some(stream), Some(peer)) = (link.write_rest(id), peer) {
                    machine.handle_writable(peer, stream);
                }
            }
            StreamEvent::Stopped { id, .. } if id.dir() == Dir::Bi => link.call_stopped(id, rpc),
            StreamEvent::Stopped { id, .. } => {
                if let (Some(stream), Some(peer)) = (link.stopped(id), peer) {
                    machine.handle_stopped(peer, stream);
                }
            }
            StreamEvent::Finished { id } if id.dir() == Dir::Bi => {
                if let Some(peer) = peer {
                    rpc.handle_acked(peer, CallStream(id.into()));
                }
            }
            StreamEvent::Finished { id } => {
                if let (Some(stream), Some(peer)) = (link.ended(id), peer) {
                    machine.handle_acked(peer, stream);
                }
            }
            // Streams are opened when the link comes to its turn.
            StreamEvent::Available { .. } => {}
        }
    }

    /// Something has come on a link: it is read at once, unless the peer is beyond its share.
    pub(super) fn note_unread(&mut self, now: Time, handle: ConnectionHandle, unread: Unread) {
        let link = self.links[handle.0].as_deref_mut().expect("just polled");
        let lane = link.note_unread(unread);
        if !link.reading(lane).is_waiting {
            self.turns.note_within(now);
            self.read_unread(now, handle, lane);
        }
    }

    /// Reads what has come on a link in one lane, and what it goes on to in others that do not wait, within its share.
    pub(super) fn read_unread(&mut self, now: Time, handle: ConnectionHandle, lane: Lane) {
        let (turn, turn_max) = (self.turns.now(), self.config.work.turn_max);
        let link = self.links[handle.0].as_deref_mut().expect("its unread ends with it");
        for lane in Lane::ALL.into_iter().filter(|other| *other >= lane) {
            let reading = link.reading(lane);
            if !reading.is_waiting && reading.has_unread() {
                reading.share.begin(turn, turn_max);
                let (machine, channels) = (&mut self.machine, &self.config.channels);
                let (rpc, notices) = (&mut self.rpc, &mut self.notices);
                while link.read_next(now, lane, machine, channels, rpc, notices) {}
            }
        }
    }

    /// Reads some of what waits on the link whose turn it is.
    pub(super) fn read_waiting(&mut self, now: Time) {
        let shortened_by = self.shortened_by();
        let others_wait = shortened_by > 1 && self.has_output();
        let Some((handle, lane)) = self.turns.next(others_wait) else { return };
        self.begin_input();
        let (turn, turn_max) = (self.turns.now(), self.config.work.turn_max);
        let link = self.links[handle.0].as_deref_mut().expect("what waits ends with it");
        let reading = link.reading(lane);
        reading.is_waiting = false;
        reading.share.resume(turn, turn_max / shortened_by);
        self.read_unread(now, handle, lane);
        self.handle_notices(now, handle);
        self.end_lost(now, handle);
        self.touch(handle);
    }

    /// Reads what was held on a link for its quotas, as far as it is due.
    fn read_held(&mut self, now: Time, handle: ConnectionHandle) {
        // It may have been closed just now.
        let Some(link) = self.link(handle) else { return };
        // Of a connection that has just been lost it is read with all the rest.
        if !link.release_held(now) || !link.is_open() {
            return;
        }
        self.begin_input();
        self.read_unread(now, handle, Lane::First);
        self.handle_notices(now, handle);
        self.touch(handle);
    }

    /// The connection is over. What has come on it before is read within the peer's share and its quotas, like all else.
    /// Then the link ends, and what is beyond the quotas is dropped.
    fn lost(&mut self, now: Time, handle: ConnectionHandle, why: Closed) {
        let link = self.links[handle.0].as_deref_mut().expect("just polled");
        link.lost = Some(why);
        self.read_unread(now, handle, Lane::First);
        self.handle_notices(now, handle);
        self.end_lost(now, handle);
    }

    /// Ends a link whose connection is over if nothing is left to be read on it. If it is not in use, nothing more is
    /// read.
    pub(super) fn end_lost(&mut self, now: Time, handle: ConnectionHandle) {
        let Some(link) = self.link(handle).filter(|link| link.is_ending()) else { return };
        if let Some(why) = link.lost.filter(|_| !link.is_up() || !link.has_unread()) {
            self.ended(now, handle, why);
        }
    }

    /// Acts on what was found in what has just been read of a link, whose connection may have been lost by now.
    pub(super) fn handle_notices(&mut self, now: Time, handle: ConnectionHandle) {
        while !self.notices.is_empty() {
            let notice = self.notices.remove(0);
            // Once a peer is cut off, further faults found in the same pass are not counted. Those are that are
            // found when it has closed the connection itself.
            let Some(link) = self.link(handle) else { continue };
            let (is_up, is_open) = (link.is_up(), link.is_open());
            let Some(peer) = link.node.and_then(|node| self.peers.find(&node)) else { continue };
            match notice {
                Notice::Hello(_) if !is_open => {}
                Notice::Hello(hello) => self.on_hello(now, handle, peer, &hello),
                Notice::Twin => {
                    let node = self.peers.peer(peer).node;
                    self.peers.note_own_twin(now, node);
                }
                Notice::Fault(fault) => {
                    self.stats.faults += 1;
                    let transport = &self.config.transport;
                    let is_cut_off = self.peers.note_fault(now, peer, fault, transport);
                    if is_cut_off || !is_up {
                        self.close(now, handle, FAULTS);
                    }
                    // It may have broken the rules over another link than the one that is up.
                    if is_cut_off && let Some(other) = self.peers.peer(peer).connection {
                        self.close(now, other, FAULTS);
                    }
                }
            }
        }
    }

    /// Performs the stream operations that the broadcast machine asks for.
    pub(super) fn poll_machine(&mut self, now: Time) {
        loop {
            let peer = match self.machine.poll(now) {
                MachineOutput::Idle { .. } => break,
                MachineOutput::Reset { peer, stream } => {
                    if let Some(link) = self.link_to(peer) {
                        link.reset(stream);
                    }
                    peer
                }
                MachineOutput::Stop { peer, request } => {
                    if let Some(link) = self.link_to(peer) {
                        let aborted = link.stop_answer(request);
                        self.machine.note_read(peer, 0, aborted);
                    }
                    peer
                }
            };
            self.wake(peer);
        }
        while let Some(lag) = self.machine.poll_lag() {
            self.peers.note_lag(lag);
        }
    }

    /// There is something to be sent to a peer besides data of flows.
    pub(super) fn wake(&mut self, peer: PeerIndex) {
        self.has_changed = true;
        if let Some(handle) = self.peers.peer(peer).connection {
            let link = self.links[handle.0].as_deref_mut().expect("it is up");
            let level = link.pending_level();
            self.ready.push(handle, link, level);
        }
    }
}

fn reason_of(reason: &ConnectionError) -> Closed {
    match reason {
        ConnectionError::ApplicationClosed(close) if close.error_code == SHUTDOWN => {
            Closed::Shutdown
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == SUPERSEDED => {
            Closed::Superseded
        }
        ConnectionError::ApplicationClosed(close) if close.error_code == TWIN => Closed::Twin,
        // The other side has given the connection up in the handshake, where QUIC does not say why (RFC 9000,
        // section 10.2.3): in most cases for one that was dialled at the same time.
        ConnectionError::ConnectionClosed(close)
            if close.error_code == TransportErrorCode::APPLICATION_ERROR =>
        {
            Closed::Superseded
        }
        ConnectionError::ApplicationClosed(_) | ConnectionError::ConnectionClosed(_) => {
            Closed::ByPeer
        }
        ConnectionError::Reset => Closed::Reset,
        _ => Closed::Lost,
    }
}
