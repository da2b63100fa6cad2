//! What is to be told of artifacts to the application: read off their states when it takes it.

use super::{Forgotten, Inbox};
use crate::broadcast::Event;
use crate::broadcast::catalogue::State;
use crate::broadcast::peers::PeerTable;
use crate::id::Arrival;
use crate::snapshot::EventCounts;
use crate::trace;

impl Inbox {
    pub(super) fn report(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        if !core::mem::replace(&mut item.has_event, true) {
            let channel = item.channel as usize;
            self.channels[channel].events.push_back(&mut self.catalogue.items, known);
            self.reports.push_back(&mut self.catalogue.items, known);
            self.with_events |= 1 << channel;
            self.catalogue.details_mut(known).reported_at = self.arrival;
        }
    }

    /// There is nothing more to report of an artifact.
    pub(super) fn unreport(&mut self, known: u32) {
        let item = &mut self.catalogue.items[known];
        item.has_event = false;
        let channel = item.channel as usize;
        let events = &mut self.channels[channel].events;
        events.remove(&mut self.catalogue.items, known);
        if events.front().is_none() {
            self.with_events &= !(1 << channel);
        }
        self.reports.remove(&mut self.catalogue.items, known);
    }

    pub(in crate::broadcast) fn has_events(&self, channel: u16) -> bool {
        self.channels[channel as usize].events.front().is_some()
    }

    /// The channels with events: bit set.
    pub(in crate::broadcast) fn with_events(&self) -> u64 {
        self.with_events
    }

    /// Takes the next event of a channel, and the input since which there is something to report of the
    /// artifact; with it the slot of an artifact that has left the catalogue.
    pub(in crate::broadcast) fn poll_event(
        &mut self,
        peers: &PeerTable,
        channel: u16,
    ) -> Option<(Arrival, Event, Option<Forgotten>)> {
        loop {
            let known = self.channels[channel as usize].events.front()?;
            let arrival = self.catalogue.details(known).reported_at;
            if let Some((event, forgotten)) = self.take_report(peers, known) {
                return Some((arrival, event, forgotten));
            }
        }
    }

    /// The input since which there is something to report of the artifact that
    /// [`Inbox::poll_any_event`] comes to next. Removes what has become untrue.
    pub(in crate::broadcast) fn next_arrival(&mut self) -> Option<Arrival> {
        loop {
            let known = self.reports.front()?;
            if self.catalogue.items[known].has_report() {
                return Some(self.catalogue.details(known).reported_at);
            }
            self.unreport(known);
        }
    }

    /// The same for the artifact that has waited longest with something to report, and its channel.
    pub(in crate::broadcast) fn poll_any_event(
        &mut self,
        peers: &PeerTable,
    ) -> Option<(u16, Event, Option<Forgotten>)> {
        loop {
            let known = self.reports.front()?;
            let channel = self.catalogue.items[known].channel;
            if let Some((event, forgotten)) = self.take_report(peers, known) {
                return Some((channel, event, forgotten));
            }
        }
    }

    /// What there is to report of an artifact first, unless it has become untrue.
    fn take_report(&mut self, peers: &PeerTable, known: u32) -> Option<(Event, Option<Forgotten>)> {
        let event = self.next_event(peers, known);
        let item = &self.catalogue.items[known];
        let (is_gone, channel) = (item.is_gone(), item.channel);
        if !item.has_report() {
            self.unreport(known);
        }
        if let Some(event) = &event {
            let channel = &mut self.channels[channel as usize];
            channel.taken.note(event);
            trace::told(channel.config.id, event);
        }
        match &event {
            Some(Event::Expired { .. }) if is_gone => {
                let forgotten = self.forget(known);
                return Some((event?, Some(forgotten)));
            }
            Some(Event::Delivered { artifact, .. })
                if !self.catalogue.details(known).is_of_outbox =>
            {
                self.transfers.note_taken(channel, artifact.bytes().len() as u64);
            }
            _ => {}
        }
        Some((event?, None))
    }

    /// Takes what there is to report of an artifact now.
    fn next_event(&mut self, peers: &PeerTable, known: u32) -> Option<Event> {
        let item = &mut self.catalogue.items[known];
        if !item.has_report() {
            return None;
        }
        if item.has_withdrawn {
            let id = item.id;
            if self.catalogue.forget_withdrawn_here(known) {
                return Some(Event::Withdrawn { id, by: peers.own });
            }
            let peer = self.catalogue.details(known).withdrawn.first().expect("it has some");
            self.catalogue.forget_withdrawn(known, peer);
            return Some(Event::Withdrawn { id, by: peers.node(peer) });
        }
        if item.expiry_due || item.delivered {
            (item.delivered, item.expiry_due) = (false, false);
            return Some(Event::Expired { id: item.id });
        }
        (item.state, item.delivered) = (State::Done, true);
        let details = self.catalogue.details_mut(known);
        let artifact = details.artifact.take().expect("it is ready");
        Some(Event::Delivered { artifact, from: details.from.expect("set with the bytes") })
    }
}

impl EventCounts {
    fn note(&mut self, event: &Event) {
        match event {
            Event::Delivered { artifact, .. } => {
                self.delivered += 1;
                self.delivered_bytes += artifact.bytes().len() as u64;
            }
            Event::Withdrawn { .. } => self.withdrawn += 1,
            Event::Expired { .. } => self.expired += 1,
            // Of what this node has published.
            Event::Covered { .. } => {}
        }
    }
}
