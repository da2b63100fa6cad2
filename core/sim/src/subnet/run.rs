//! The loop that moves all participants through time, and carries datagrams between them.

use core::time::Duration;
use std::net::SocketAddr;

use super::{Resident, Subnet};
use crate::application::{Application, Sent, address, place};
use crate::network::Datagram;
use crate::processor;
use slotcast::id::NodeId;
use slotcast::node::Output;
use slotcast::time::Time;

/// Steps at one point in time beyond which something spins (invariant 9).
const STEPS_MAX: u32 = 50_000;

/// Bytes that the socket of a node that does nothing holds; what comes then is lost. As much as
/// systems give a UDP socket by default.
const SOCKET_BYTES_MAX: usize = 212_992;

/// Datagrams in a batch that a node hands to its socket.
const SEGMENTS_MAX: usize = 10;

impl<A: Application> Subnet<A> {
    /// What the clock at a place shows.
    pub fn clock(&self, at: usize) -> Time {
        self.places[at].clock.at(self.now)
    }

    /// Lets things take their course until `is_done`, or `end`. Whether it is done.
    ///
    /// # Panics
    /// If a participant spins, so that time stands still.
    pub fn run(&mut self, end: Time, mut is_done: impl FnMut(&mut Self) -> bool) -> bool {
        let mut steps = 0;
        loop {
            self.step();
            if is_done(self) {
                return true;
            }
            let next = self.next_at();
            if next > end {
                self.now = self.now.max(end);
                return false;
            }
            steps = if next <= self.now { steps + 1 } else { 0 };
            assert!(steps < STEPS_MAX, "invariant 9: time stands still\n{}", self.state());
            self.now = self.now.max(next);
        }
    }

    /// Lets things take their course until `is_done`; the time that took.
    ///
    /// # Panics
    /// After `limit`, with the state of all nodes.
    pub fn run_until(
        &mut self,
        what: &str,
        limit: Duration,
        mut is_done: impl FnMut(&mut Self) -> bool,
    ) -> Duration {
        let begun = self.now;
        let in_time = self.run(begun + limit, &mut is_done);
        assert!(in_time, "not within {limit:?}: {what}\n{}", self.state());
        self.now.since(begun)
    }

    /// Lets so much time pass.
    pub fn elapse(&mut self, span: Duration) {
        self.run(self.now + span, |_| false);
    }

    fn next_at(&self) -> Time {
        let due = self.places.iter().map(|place| place.wake_at);
        due.fold(self.network.next_at(), Time::min)
    }

    /// Everything that is due by now.
    fn step(&mut self) {
        while let Some(datagram) = self.network.arrived(self.now) {
            let place = &mut self.places[datagram.to];
            let bytes_max = match place.processor {
                Some(_) => processor::SOCKET_BYTES_MAX,
                None => SOCKET_BYTES_MAX,
            };
            if place.stalled_until <= self.now && place.processor.is_none() {
                self.hand_over(datagram);
            } else if place.socket_bytes + datagram.bytes.len() <= bytes_max {
                let at = datagram.to;
                place.socket_bytes += datagram.bytes.len();
                place.socket.push_back(datagram);
                if self.places[at].processor.is_some() {
                    self.wake(at);
                }
            }
        }
        for at in 0..self.places.len() {
            if self.places[at].wake_at <= self.now {
                while !self.has_slice(at)
                    && let Some(datagram) = self.places[at].socket.pop_front()
                {
                    self.places[at].socket_bytes -= datagram.bytes.len();
                    self.hand_over(datagram);
                }
                let input_waits = !self.places[at].socket.is_empty();
                if let Resident::Node(node) = &mut self.places[at].resident {
                    node.set_input_waits(input_waits);
                }
                self.poll(at);
                self.take_time(at);
            }
        }
    }

    /// Whether a node with a processor has received as much as it does at a time.
    fn has_slice(&self, at: usize) -> bool {
        match (&self.places[at].processor, self.node(at)) {
            (Some(processor), Some(node)) => processor.has_slice(node),
            _ => false,
        }
    }

    /// What a node with a processor has done takes time.
    fn take_time(&mut self, at: usize) {
        let place = &mut self.places[at];
        let (Some(processor), Resident::Node(node)) = (&mut place.processor, &place.resident)
        else {
            return;
        };
        let free_at = self.now + processor.take(node);
        place.stalled_until = place.stalled_until.max(free_at);
        let wake_at = if place.socket.is_empty() { place.wake_at } else { self.now };
        place.wake_at = wake_at.max(place.stalled_until);
    }

    fn hand_over(&mut self, datagram: Datagram) {
        let Datagram { from, to, ecn, bytes } = datagram;
        self.application.handle_received(&Sent { time: self.now, from, to, bytes: &bytes });
        self.enter(Some(to));
        let source = SocketAddr::new(address(from).ip(), self.places[from].port);
        let now = self.clock(to);
        match &mut self.places[to].resident {
            Resident::Nobody => {}
            Resident::Node(node) => {
                node.handle_datagrams(now, source, None, ecn, bytes.len(), &bytes);
            }
            Resident::Other(process) => process.handle_datagram(now, source, ecn, &bytes),
        }
        self.enter(None);
        self.wake(to);
    }

    /// Has a participant polled at the next step, unless it does nothing. For who has something of
    /// a [`Process`] in hand, too, and has it act between steps.
    pub(crate) fn wake(&mut self, at: usize) {
        let place = &mut self.places[at];
        if !matches!(place.resident, Resident::Nobody) {
            place.wake_at = self.now.max(place.stalled_until);
        }
    }

    fn poll(&mut self, at: usize) {
        match self.places[at].resident {
            Resident::Nobody => self.places[at].wake_at = Time::NEVER,
            Resident::Node(_) => self.poll_node(at),
            Resident::Other(_) => self.poll_other(at),
        }
    }

    fn poll_other(&mut self, at: usize) {
        let now = self.clock(at);
        let Self { places, network, trace, application, .. } = self;
        let time = self.now;
        let Resident::Other(process) = &mut places[at].resident else { return };
        let wake_at = process.poll(now, &mut |destination, datagram| {
            let Some(to) = place(destination) else { return };
            trace.note_datagram(time, at, to, datagram.len());
            application.handle_sent(&Sent { time, from: at, to, bytes: datagram });
            network.send(time, at, to, None, datagram);
        });
        let place = &mut places[at];
        place.wake_at = place.clock.when(wake_at);
    }

    /// Polls a node to idle and takes its events.
    fn poll_node(&mut self, at: usize) {
        self.places[at].polls += 1;
        if self.places[at].application_at <= self.clock(at) {
            self.places[at].application_at = Time::NEVER;
            self.call(at, |application, context| application.wake(context));
        }
        loop {
            let idle_until = self.drain(at);
            let place = &mut self.places[at];
            place.wake_at = place.clock.when(idle_until.min(place.application_at));
            if place.deaf_until > self.now {
                place.wake_at = place.wake_at.min(place.deaf_until);
                return;
            }
            if !self.take_events(at) {
                return;
            }
            if self.places[at].processor.is_some() {
                // What has arrived meanwhile comes before what this leads to.
                self.places[at].wake_at = self.now;
                return;
            }
        }
    }

    /// Sends what a node has to send; when it is to be polled again, by its clock.
    fn drain(&mut self, at: usize) -> Time {
        let mut buffer = std::mem::take(&mut self.buffer);
        let now = self.clock(at);
        let wake_at = loop {
            self.enter(Some(at));
            let Resident::Node(node) = &mut self.places[at].resident else { break Time::NEVER };
            let output = node.poll(now, SEGMENTS_MAX, &mut buffer);
            let is_closed = node.is_closed();
            let written = node.take_written();
            self.enter(None);
            self.tell_written(at, written);
            match output {
                Output::Transmit(transmit) => {
                    assert_eq!(transmit.size, buffer.len(), "all that is in the buffer");
                    let Some(to) = self.listener(transmit.destination) else { continue };
                    for datagram in buffer.chunks(transmit.segment_size.unwrap_or(transmit.size)) {
                        self.trace.note_datagram(self.now, at, to, datagram.len());
                        let sent = Sent { time: self.now, from: at, to, bytes: datagram };
                        self.application.handle_sent(&sent);
                        self.network.send(self.now, at, to, transmit.ecn, datagram);
                    }
                }
                Output::Idle { .. } if is_closed => break Time::NEVER,
                Output::Idle { wake_at, .. } => break wake_at,
            }
        };
        self.buffer = buffer;
        wake_at
    }

    fn tell_written(&mut self, at: usize, written: Vec<(NodeId, Vec<u8>)>) {
        for (node, bytes) in written {
            if let Some(to) = self.place_of(&node) {
                let written = Sent { time: self.now, from: at, to, bytes: &bytes };
                self.application.handle_written(&written);
            }
        }
    }

    /// Who is reached at an address.
    fn listener(&self, destination: SocketAddr) -> Option<usize> {
        let at = place(SocketAddr::new(destination.ip(), address(0).port()))?;
        let is_reached = self.places.get(at)?.port == destination.port();
        is_reached.then_some(at)
    }
}
