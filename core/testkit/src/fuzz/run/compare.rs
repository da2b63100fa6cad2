//! The comparison of machine and model, after each step and in the end.

use core::sync::atomic::Ordering;
use core::time::Duration;

use super::given::Fate;
use super::{CHANNELS, Run, TIGHT, channel_id, index};
use crate::fuzz::model::{PEERS, Step};
use crate::fuzz::pool::{self, ARTS, Art};
use slotcast::broadcast::{Output, RequestId, Wake};
use slotcast::config::Relay;
use slotcast::id::Slot;
use slotcast::time::Time;

impl Run {
    /// What follows each step.
    pub(super) fn check(&mut self) {
        self.poll();
        self.follow_parts();
        self.forget_chunks();
        if self.is_quick {
            return;
        }
        self.compare();
    }

    /// Drains what the machine wants done.
    fn poll(&mut self) {
        for _ in 0..1000 {
            match self.machine.poll(self.now) {
                Output::Idle { wake_at, why } => {
                    assert!(wake_at > self.now);
                    assert_eq!(why == Wake::Input, wake_at == Time::NEVER);
                    return;
                }
                Output::Reset { peer, stream } => {
                    let streams = &mut self.peers[usize::from(peer.0) / 3].streams;
                    let at = streams.iter().position(|other| other.stream == Some(stream));
                    streams.swap_remove(at.expect("a stream that has not ended"));
                }
                Output::Stop { peer, request } => {
                    self.peers[usize::from(peer.0) / 3].asked.remove(&request.0);
                    assert!(!self.machine.is_awaited(peer, request));
                }
            }
        }
        panic!("the machine does not come to rest");
    }

    /// The model does not know which chunks are here, and so not when this node advertises a part of
    /// an artifact. It may, as long as the artifact is wanted.
    fn follow_parts(&mut self) {
        for (at, model) in self.model.iter_mut().enumerate() {
            let is_partial = |step: Step| !matches!(step, Step::Ready(_) | Step::Done);
            let wanted = model.known.iter().filter(|(_, known)| is_partial(known.step));
            let wanted: Vec<Art> = wanted.map(|(art, _)| *art).collect();
            for art in wanted {
                let id = Some(pool::artifact(art).id());
                let mut slots = 0..model.config.slots_max;
                let is_told =
                    slots.any(|slot| self.machine.own_slot(channel_id(at), Slot(slot)) == id);
                match (model.own_slot(art), is_told) {
                    (None, true) => {
                        assert_eq!(model.config.relay, Relay::Automatic);
                        assert_eq!(model.relay(art), Ok(()));
                        model.set_is_part(art, true);
                        self.chunks.part((at, art));
                    }
                    (Some(slot), false) => {
                        let (_, hops) = model.own.remove(&slot).expect("by artifact");
                        assert!(hops > 0, "what this node published stays");
                        model.set_is_part(art, false);
                    }
                    _ => {}
                }
            }
        }
    }

    /// What is not wanted any more is not here, and what left its slot is not sent.
    fn forget_chunks(&mut self) {
        let model = &self.model;
        self.chunks.forget(
            |(channel, art)| {
                model[channel].known.get(&art).is_some_and(|known| known.step == Step::Wanted)
            },
            |(channel, art)| model[channel].own_slot(art).is_some(),
        );
        for want in self.peers.iter_mut().flat_map(|peer| peer.wants.values_mut()) {
            want.is_held &= model[want.channel].own_slot(want.art).is_some();
        }
    }

    /// Machine and model say the same.
    pub(in crate::fuzz) fn compare(&mut self) {
        self.machine.assert_invariants();
        let mut known = 0;
        for (at, model) in self.model.iter().enumerate() {
            let channel = channel_id(at);
            known += model.known.len();
            for slot in 0..model.config.slots_max {
                let own = model.own.get(&slot).map(|(art, _)| pool::artifact(*art).id());
                assert_eq!(self.machine.own_slot(channel, Slot(slot)), own);
            }
            assert_eq!(self.machine.active_count(channel) as usize, model.own.len());
            for art in 0..ARTS {
                let id = pool::artifact(art).id();
                assert_eq!(self.machine.is_advertised(channel, &id), model.is_advertised(art));
            }
            for (peer, state) in self.peers.iter().enumerate() {
                if state.node.is_some() {
                    let slots = self.machine.peer_slots(index(peer), channel);
                    let slots: Vec<_> = slots.map(|(slot, id)| (slot, pool::art(&id))).collect();
                    assert_eq!(slots, model.peer_slots(peer), "invariant 4");
                }
            }
            assert!(self.machine.has_events(channel) || !model.has_event());
        }
        assert_eq!(self.machine.known_count(), known, "invariant 5");
        for (peer, state) in self.peers.iter().enumerate() {
            for (request, asked) in &state.asked {
                assert!(self.machine.is_awaited(index(peer), RequestId(*request)));
                assert_eq!(self.model[asked.channel].known[&asked.art].step, Step::Wanted);
            }
        }
    }

    /// Once all was sent and has arrived, a peer knows this node's slots.
    pub(in crate::fuzz) fn drain(&mut self, peer: usize) {
        if !self.peers[peer].up {
            return;
        }
        let sends = (0..1000).find(|_| !self.send(peer, 1 << 20));
        assert!(sends.is_some(), "there is no end of sending");
        for nth in 0..self.peers[peer].streams.len() {
            self.arrive(peer, nth, Fate::Read);
        }
        let state = &self.peers[peer];
        for (at, model) in self.model.iter().enumerate().filter(|(at, _)| state.channels[*at]) {
            for slot in 0..model.config.slots_max {
                let told = state.heard.get(&(at, slot)).and_then(|(_, held)| *held);
                match model.own.get(&slot) {
                    // What a peer has itself it need not hear from a relay.
                    Some((art, hops)) if *hops > 0 && told.is_none() => {
                        assert!(model.heard[peer].holds_whole(*art), "peer {peer} misses a relay");
                    }
                    own => {
                        let is_part = |art: Art| self.chunks.is_part((at, art));
                        assert_eq!(told, own.map(|(art, _)| (*art, is_part(*art))));
                    }
                }
                if state.snapshots[&at].contains(&slot) {
                    assert!(state.heard.contains_key(&(at, slot)), "announced and never told");
                }
            }
        }
    }

    /// All faults end: connected peers confirm what they said and answer what they are asked. What
    /// is wanted and held by one of them must come (invariant 12), however often the view moves.
    pub(in crate::fuzz) fn heal(&mut self) {
        for (peer, channel) in (0..PEERS).flat_map(|peer| (0..CHANNELS).map(move |c| (peer, c))) {
            if !self.model[channel].has_snapshot(peer) {
                self.snapshot(peer, channel, &[]);
            }
        }
        for _ in 0..100 {
            self.advance(Duration::from_millis(300));
            for peer in 0..PEERS {
                self.drain(peer);
                while let Some((_, asked)) = self.nth_asked(peer, 0) {
                    let had = self.peers[peer].had.get(&(asked.channel, asked.art));
                    let has = |chunk: &&u32| had.is_some_and(|had| had.contains(*chunk));
                    match asked.chunks.iter().find(has) {
                        Some(chunk) => self.chunk(peer, 0, Some(*chunk), 0),
                        None => self.fail(peer, 0, false),
                    }
                }
            }
            for channel in 0..CHANNELS {
                self.take_events(channel, usize::MAX, None);
                self.reconsider(channel, self.view.load(Ordering::Relaxed));
            }
            if !self.is_hungry() {
                return;
            }
        }
        let mut wanted = Vec::new();
        for (channel, model) in self.model.iter().enumerate() {
            let known = model.known.iter().filter(|(_, known)| known.step == Step::Wanted);
            let id = |art: &Art| pool::artifact(*art).id();
            let explain = |art: &Art| self.machine.explain(channel_id(channel), &id(art));
            wanted.extend(known.map(|(art, _)| explain(art)));
        }
        panic!("a wanted artifact does not come: {wanted:#?}");
    }

    /// Whether something is wanted, and connected peers hold all that is missing of it.
    fn is_hungry(&self) -> bool {
        let is_held = |channel: usize, art: Art, chunk: u32| {
            let heard = &self.model[channel].heard;
            (0..PEERS).any(|peer| self.peers[peer].up && heard[peer].has_chunk(art, chunk))
        };
        let can_come = |channel: usize, art: Art| {
            // Of what has come on the tight channel, the room may have been taken.
            let is_here =
                |chunk: u32| channel != TIGHT && self.chunks.has_come((channel, art), chunk);
            let mut chunks = 0..pool::artifact(art).advert().chunks();
            chunks.all(|chunk| is_here(chunk) || is_held(channel, art, chunk))
        };
        self.model.iter().enumerate().any(|(channel, model)| {
            let mut known = model.known.iter();
            known.any(|(art, known)| known.step == Step::Wanted && can_come(channel, *art))
        })
    }
}
