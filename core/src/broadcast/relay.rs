//! Relays: what this node passes on of what others publish, whole or in parts, and what it says of that.

use alloc::boxed::Box;

use super::Broadcast;
use super::catalogue::State;
use super::outbox::{Active, Body, Outbox, Part};
use crate::artifact::{Artifact, CHUNKS_PREFERRED_MAX};
use crate::config::Relay;
use crate::error::RelayError;
use crate::id::{ChannelId, PeerIndex, Slot};
use crate::transfer::Received;

/// For each peer that is told, so many bytes of an artifact have to come until it is told of them: the
/// frame that tells of them is less than 2 % of that.
const PROGRESS_BYTES: usize = 8 << 10;

impl Broadcast {
    /// Passes on a delivered artifact: advertises it to members that do not have it, as long as a
    /// member nearer to the publisher advertises it. If none does any more but others do, it waits for one,
    /// unless another relay needs its room.
    ///
    /// # Errors
    /// If no member nearer to the publisher advertises it, or there is no room. Nothing has changed
    /// then.
    pub fn relay(&mut self, channel: ChannelId, artifact: &Artifact) -> Result<(), RelayError> {
        let channel_index = self.channel_index(channel).ok_or(RelayError::UnknownChannel)?;
        let known = self.inbox.catalogue.find(channel_index, &artifact.id());
        let known = known.ok_or(RelayError::NotAdvertised)?;
        let outbox = &mut self.outboxes[channel_index as usize];
        let slot = outbox.slot_of(&artifact.id());
        let active = slot.and_then(|slot| outbox.active(slot));
        let (is_part, is_dormant) =
            active.map_or((false, false), |active| (active.is_part(), active.is_dormant()));
        match slot {
            Some(slot) if is_part => {
                outbox.complete(slot, artifact.clone());
                self.slot_changed(channel_index, slot);
                return Ok(());
            }
            Some(_) if !is_dormant => return self.relay_hops(channel_index, known).map(drop),
            _ => {}
        }
        let hops = self.relay_hops(channel_index, known)?;
        // It may be relayed from further away than it was.
        if let Some(slot) = slot {
            self.clear(channel_index, slot);
        }
        self.advertise(channel_index, known, Body::Whole(artifact.clone()), hops)
    }

    /// The distance from its publisher at which this node may relay an artifact.
    fn relay_hops(&self, channel_index: u16, known: u32) -> Result<u8, RelayError> {
        let hops = self.inbox.tables.nearest(&self.inbox.catalogue, known);
        let hops = hops.and_then(|hops| hops.checked_add(1));
        let hops_max = self.channels[channel_index as usize].relay_hops_max;
        hops.filter(|hops| *hops <= hops_max).ok_or(RelayError::NotAdvertised)
    }

    /// Advertises what this node has of an artifact that others advertise.
    fn advertise(
        &mut self,
        channel_index: u16,
        known: u32,
        body: Body,
        hops: u8,
    ) -> Result<(), RelayError> {
        let (bytes, full) = (body.length(), |_| RelayError::OutboxFull);
        let in_the_way = |outbox: &mut Outbox| outbox.in_the_way(bytes).map_err(full);
        while let Some(slot) = in_the_way(&mut self.outboxes[channel_index as usize])? {
            self.clear(channel_index, slot);
        }
        let outbox = &mut self.outboxes[channel_index as usize];
        let slot = outbox.insert(body, hops, Some(known)).expect("there is room");
        self.inbox.catalogue.items[known].own_slot = Some(slot);
        self.inbox.tables.begin_relay(&mut self.inbox.catalogue, known, hops);
        self.slot_changed(channel_index, slot);
        Ok(())
    }

    pub(super) fn relay_automatically(&mut self, known: u32) {
        let item = &self.inbox.catalogue.items[known];
        let config = &self.channels[item.channel as usize];
        if config.relay == Relay::Automatic
            && item.state == State::Ready
            && let Some(artifact) = self.inbox.catalogue.details(known).artifact.clone()
        {
            // Without room, or too far from the publisher, the artifact is just not passed on.
            let _ = self.relay(config.id, &artifact);
        }
    }

    /// A chunk of an artifact has come, and the channel passes on what is here: sends it on, if it is of
    /// this node's stripe. Otherwise tells others what is here, so often that it costs little beside the
    /// chunks; while they are sent it unasked, not at all.
    pub(super) fn pass_on(&mut self, chunk: u32, received: &Received) {
        if received.is_complete {
            self.relay_automatically(received.known);
        }
        let item = &self.inbox.catalogue.items[received.known];
        let channel_index = item.channel;
        if !self.tells_of_parts(received.known) {
            return;
        }
        let is_told =
            || received.is_of_stripe || !self.inbox.transfers.is_spreading(received.transfer);
        if !received.is_complete && is_told() {
            self.tell_progress(received);
        }
        let Some(slot) = self.inbox.catalogue.items[received.known].own_slot else { return };
        let outbox = &mut self.outboxes[channel_index as usize];
        if outbox.active(slot).is_some_and(Active::is_dormant) {
            return;
        }
        let was_spread = outbox.active(slot).is_some_and(|active| active.spread.is_some());
        let mut is_first = false;
        if received.is_of_stripe && self.may_spread {
            is_first = outbox.spread(slot).pass_on(chunk) || !was_spread;
        }
        let active = outbox.active_mut(slot).expect("own slot");
        let Some(spread) = &mut active.spread else { return };
        if received.is_complete {
            spread.end_round();
        }
        if is_first {
            // Others may have been told of the artifact, but not that chunks follow.
            self.repeat(channel_index, slot);
        }
        self.mark_chunks(channel_index, slot);
    }

    /// There is something new to be told of a slot.
    fn repeat(&mut self, channel_index: u16, slot: Slot) {
        self.outboxes[channel_index as usize].repeat(slot);
        self.slot_changed(channel_index, slot);
    }

    /// Whether members of a channel tell each other of parts of such an artifact.
    fn tells_of_parts(&self, known: u32) -> bool {
        let catalogue = &self.inbox.catalogue;
        let channel = &self.channels[catalogue.items[known].channel as usize];
        let is_relaying = channel.relay == Relay::Automatic;
        is_relaying && catalogue.advert(known).chunks() <= CHUNKS_PREFERRED_MAX
    }

    /// There is more to be sent from a slot to those that are sent chunks, or nothing any more.
    pub(super) fn mark_chunks(&mut self, channel_index: u16, slot: Slot) {
        let active = self.outboxes[channel_index as usize].active(slot).expect("it is served");
        active.serving.iter().for_each(|peer| self.sender.mark_chunks(peer, channel_index));
    }

    /// What has not come whole by being spread is told of as other artifacts are.
    pub(super) fn tell_spread(&mut self) {
        while let Some(known) = self.inbox.transfers.spread.pop() {
            let Some(item) = self.inbox.catalogue.items.get(known) else { continue };
            let (channel_index, State::Wanted(transfer)) = (item.channel, item.state) else {
                continue;
            };
            let own_slot = item.own_slot;
            if !self.tells_of_parts(known) || self.inbox.transfers.have_count(transfer) == 0 {
                continue;
            }
            match own_slot {
                Some(slot) => self.repeat(channel_index, slot),
                None => self.tell_first(known, transfer),
            }
        }
    }

    /// Tells others of the chunks of an artifact for the first time, if they were not told before.
    fn tell_first(&mut self, known: u32, transfer: u32) {
        if !self.inbox.transfers.take_first_telling(transfer) {
            return;
        }
        let item = &self.inbox.catalogue.items[known];
        let (channel_index, id) = (item.channel, item.id);
        let advert = self.inbox.catalogue.advert(known).clone();
        let Ok(hops) = self.relay_hops(channel_index, known) else { return };
        let body = Body::Part(Box::new(Part { transfer, id, advert }));
        if self.advertise(channel_index, known, body, hops).is_ok() {
            self.inbox.transfers.set_passed_on(transfer, true);
        }
    }

    /// Nothing more comes of what this node was sent of its stripe, or asked for as a part of it.
    pub(super) fn end_rounds(&mut self) {
        while let Some(known) = self.inbox.transfers.stripe_ends.pop() {
            let Some(item) = self.inbox.catalogue.items.get(known) else { continue };
            let (channel_index, Some(slot)) = (item.channel, item.own_slot) else { continue };
            let outbox = &mut self.outboxes[channel_index as usize];
            let active = outbox.active_mut(slot).expect("own slot");
            if let Some(spread) = active.spread.as_mut().filter(|_| active.hops > 0) {
                spread.end_round();
                self.mark_chunks(channel_index, slot);
            }
        }
    }

    fn tell_progress(&mut self, received: &Received) {
        let item = &self.inbox.catalogue.items[received.known];
        let channel_index = item.channel;
        let chunk_bytes = self.inbox.catalogue.advert(received.known).chunk_size();
        match item.own_slot {
            None => self.tell_first(received.known, received.transfer),
            Some(slot) if !received.is_of_stripe => {
                let have = self.inbox.transfers.have_count(received.transfer);
                let told = usize::from(self.outboxes[channel_index as usize].peers_end());
                let step = (told * PROGRESS_BYTES).div_ceil(chunk_bytes).max(1);
                if (have as usize).is_multiple_of(step) {
                    self.repeat(channel_index, slot);
                }
            }
            _ => {}
        }
    }

    /// What was here of artifacts, and was passed on, is not here any more.
    pub(super) fn end_lost(&mut self) {
        while let Some(known) = self.inbox.transfers.lost.pop() {
            let Some(item) = self.inbox.catalogue.items.get(known) else { continue };
            let (channel_index, Some(slot)) = (item.channel, item.own_slot) else { continue };
            let active = self.outboxes[channel_index as usize].active(slot);
            if active.is_some_and(Active::is_part) {
                self.clear(channel_index, slot);
            }
        }
    }

    /// A relay is advertised only while a holder nearer to the publisher advertises the artifact.
    /// Otherwise two nodes could keep an artifact alive, each because of the other, after its
    /// publisher has aborted it. Without one it is dormant, as long as others advertise it, so that it
    /// goes on when its publisher publishes it again; but not for ever again.
    pub(super) fn check_relay(&mut self, known: u32) {
        let item = &self.inbox.catalogue.items[known];
        let (channel_index, Some(slot)) = (item.channel, item.own_slot) else { return };
        if !item.is_relayed {
            return;
        }
        let has_nearer = self.inbox.catalogue.details(known).nearer > 0;
        let has_holders = !item.is_gone();
        let outbox = &mut self.outboxes[channel_index as usize];
        let active = outbox.active(slot).expect("own slot");
        if has_nearer {
            if outbox.resume(slot) {
                self.slot_changed(channel_index, slot);
            }
        } else if !has_holders || !(active.is_dormant() || active.may_wait()) {
            self.clear(channel_index, slot);
        } else if !active.is_dormant() {
            let serving = outbox.suspend(slot);
            self.slot_changed(channel_index, slot);
            self.sender.stop_serving(&serving, (channel_index, slot), &mut self.outputs);
        }
    }

    /// Those who have all of an artifact themselves wait for nothing when it is relayed.
    pub(super) fn forgo_holders(&mut self, channel: u16, slot: Slot) {
        let active = self.outboxes[channel as usize].active(slot);
        let known = active.filter(|active| active.hops > 0).and_then(|active| active.known);
        let Some(known) = known else { return };
        for peer in self.inbox.catalogue.holders(known).iter() {
            if self.inbox.holds_whole(known, peer) {
                self.forgo(channel, slot, peer);
            }
        }
    }

    /// A peer that has all of an artifact need not hear that it is relayed.
    fn forgo(&mut self, channel: u16, slot: Slot, peer: PeerIndex) {
        self.outboxes[channel as usize].forgo_relay(peer, slot);
        self.changed |= 1 << channel;
    }

    /// A relay is not announced to a peer that has all of the artifact itself. Once the peer does not
    /// advertise all of it any more, the relay must be announced.
    pub(super) fn repeat_relay(&mut self, known: u32, peer: PeerIndex) {
        let item = &self.inbox.catalogue.items[known];
        let (channel, own_slot) = (item.channel, item.own_slot);
        let outbox = &mut self.outboxes[channel as usize];
        let is_advertised =
            |slot: &Slot| outbox.active(*slot).is_some_and(|active| !active.is_dormant());
        let Some(slot) = own_slot.filter(is_advertised) else { return };
        if self.inbox.holds_whole(known, peer) {
            self.forgo(channel, slot, peer);
        } else if outbox.knows_nothing_of(peer, slot) {
            // The peer may not have come to the slot yet.
            if !outbox.awaits(peer, slot) {
                outbox.renew(peer, slot);
                self.undate(channel, slot);
            }
            self.sender.mark_updates(peer, channel);
        }
    }
}
