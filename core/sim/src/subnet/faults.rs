//! What happens to participants and to the links between them.

use core::time::Duration;

use super::Subnet;
use crate::application::Application;
use crate::fault::FaultKind;
use crate::processor::Processor;
use crate::trace::What;

impl<A: Application> Subnet<A> {
    /// A participant does nothing for so long: what arrives waits in its socket.
    pub fn stall(&mut self, at: usize, span: Duration) {
        let until = self.now + span;
        self.faults.note(FaultKind::Stall);
        self.trace.note(self.now, at, What::Stalled(until));
        self.places[at].stalled_until = until;
        self.places[at].wake_at = until;
    }

    /// Has the work of a node take time from now on: so much for a thousand units, as
    /// [`WorkConfig`](slotcast::config::WorkConfig) counts them. Who takes part otherwise is as fast as ever.
    pub fn set_processor(&mut self, at: usize, per_thousand: Duration) {
        let mut processor = Processor::new(per_thousand);
        if let Some(node) = self.node(at) {
            processor.take(node);
        }
        self.places[at].processor = Some(processor);
    }

    /// A node's application takes no events for so long.
    pub fn deafen(&mut self, at: usize, span: Duration) {
        let until = self.now + span;
        self.faults.note(FaultKind::Deaf);
        self.trace.note(self.now, at, What::Deaf(until));
        self.places[at].deaf_until = until;
    }

    /// A node's application takes events again, before its time.
    pub fn undeafen(&mut self, at: usize) {
        self.places[at].deaf_until = self.now;
        self.trace.note(self.now, at, What::Deaf(self.now));
        self.wake(at);
    }

    /// A participant's clock jumps, forwards or backwards.
    pub fn jump_clock(&mut self, at: usize, nanoseconds: i64) {
        let (now, by) = (self.now, Duration::from_nanos(nanoseconds.unsigned_abs()));
        let clock = &mut self.places[at].clock;
        let kind = match nanoseconds >= 0 {
            true => FaultKind::ClockForward,
            false => FaultKind::ClockBack,
        };
        match nanoseconds >= 0 {
            true => clock.forward(now, by),
            false => clock.back(now, by),
        }
        self.faults.note(kind);
        self.trace.note(now, at, What::ClockJumped(nanoseconds));
        self.wake(at);
    }

    /// A participant's clock runs so many millionths faster, or slower, from now on.
    ///
    /// # Panics
    /// If it would run backwards.
    pub fn drift_clock(&mut self, at: usize, drift: i32) {
        let now = self.now;
        self.places[at].clock.drift(now, drift);
        if drift != 0 {
            self.faults.note(FaultKind::ClockDrift);
        }
        self.trace.note(now, at, What::ClockDrifts(drift));
        self.wake(at);
    }

    /// The NAT before a participant gives it another port: what it sends comes from there, and what is
    /// sent to the one before is lost. Topologies still name the first one.
    pub fn rebind(&mut self, at: usize) {
        self.places[at].port += 1;
    }

    /// Cuts all links between two groups, in both directions.
    pub fn cut(&mut self, a: &[usize], b: &[usize]) {
        self.network.cut(a, b);
        for (a, b) in a.iter().flat_map(|a| b.iter().map(move |b| (*a, *b))) {
            self.trace.note(self.now, a, What::Cut(Some((b as u16, true))));
        }
    }

    /// Cuts one direction between two participants.
    pub fn cut_one_way(&mut self, from: usize, to: usize) {
        self.network.cut_one_way(from, to);
        self.trace.note(self.now, from, What::Cut(Some((to as u16, false))));
    }

    /// Takes all cuts back.
    pub fn heal(&mut self) {
        self.network.heal();
        self.trace.note(self.now, 0, What::Cut(None));
    }

    /// Puts a datagram on the wire in the name of the participant at `from`.
    pub fn inject(&mut self, from: usize, to: usize, datagram: &[u8]) {
        self.network.send(self.now, from, to, None, datagram);
    }
}
