//! What peers say of their slots.

use super::catalogue::State;
use super::inbox::{Content, Forgotten, Told};
use super::{Broadcast, RequestId};
use crate::artifact::{self, Advert};
use crate::error::Fault;
use crate::id::{ChannelId, PeerIndex, Slot};
use crate::time::Time;
use crate::transfer::ChunksTold;
use crate::wire::Update;

/// What became of an update.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Taken {
    /// The update is dealt with.
    Done,
    /// Chunks follow in the update's stream: hand them in under this request.
    Chunks(RequestId),
    /// Chunks follow in the update's stream, but are not wanted (now): stop it.
    Unwanted,
}

impl Broadcast {
    /// An update of a peer's table. `Ok` for a channel that this node does not have.
    ///
    /// # Errors
    /// If the peer broke a rule; the update is not applied then.
    pub fn handle_update(
        &mut self,
        now: Time,
        peer: PeerIndex,
        channel: ChannelId,
        update: &Update<'_>,
    ) -> Result<Taken, Fault> {
        let now = self.clamp(now);
        let Some(channel_index) = self.channel_index(channel) else { return Ok(Taken::Done) };
        let config = &self.channels[channel_index as usize];
        let (artifact_max, push_max) = (config.artifact_bytes_max, config.push_bytes_max);
        let (hops_max, slots_max) = (config.relay_hops_max, config.slots_max);
        let publisher = config.sender_matters.then(|| self.peers.keys[peer.at()]);
        // Only the publisher itself is believed.
        let hops_max = if publisher.is_some() { 0 } else { hops_max };
        let is_news = |slot: &Slot, version: u64| {
            let is_within = slot.0 < slots_max;
            let is_news = || self.inbox.tables.is_news(peer, channel_index, *slot, version);
            if is_within { Ok(is_news()) } else { Err(Fault::SlotBeyondBound) }
        };
        let taken = match update {
            Update::Snapshot { live, .. } => {
                self.inbox.take_snapshot(peer, channel_index, *live)?;
                Taken::Done
            }
            Update::Clear { slot, version } | Update::Unknown { slot, version, .. } => {
                let is_clear = matches!(update, Update::Clear { .. });
                let is_newer = is_news(slot, version.0)?;
                let is_news = is_newer && self.inbox.clear((peer, channel_index, *slot), version.0);
                // What a peer of a newer version of this protocol says of a slot may be news for others.
                if is_clear || is_news || !is_newer {
                    self.peers.received[peer.at()].note_piece(is_news);
                }
                Taken::Done
            }
            Update::Push { slot, version, hops, key, metadata, bytes } => {
                if bytes.len() > push_max as usize || bytes.len() as u64 > artifact_max {
                    return Err(Fault::PushTooLong);
                }
                if *hops > hops_max {
                    return Err(Fault::HopsBeyondBound);
                }
                if !is_news(slot, version.0)? {
                    let received = &mut self.peers.received[peer.at()];
                    received.aborted += bytes.len() as u64;
                    received.note_piece(false);
                } else {
                    let root = artifact::root_of_chunk(bytes);
                    let length = bytes.len() as u64;
                    let id = artifact::id(length, *key, publisher.as_ref(), metadata, &root);
                    let told = Told::Push { key: *key, publisher, metadata, root, bytes };
                    let content = Content {
                        id,
                        told,
                        hops: *hops,
                        streamed: false,
                        spread: false,
                        have: None,
                    };
                    self.fill(now, (peer, channel_index, *slot), version.0, &content)?;
                }
                Taken::Done
            }
            Update::Advert { slot, version, hops, streamed, spread, advert }
            | Update::Partial { slot, version, hops, streamed, spread, advert, .. } => {
                if advert.length > artifact_max {
                    return Err(Fault::ArtifactTooLong);
                }
                if *hops > hops_max {
                    return Err(Fault::HopsBeyondBound);
                }
                let unwanted = if *streamed { Taken::Unwanted } else { Taken::Done };
                if is_news(slot, version.0)? {
                    let have = match update {
                        Update::Partial { have, .. } => Some(ChunksTold::new(*have)),
                        _ => None,
                    };
                    let own = publisher.map(|_| Advert { publisher, ..advert.clone() });
                    let advert = own.as_ref().unwrap_or(advert);
                    let (id, hops, streamed, spread) = (advert.id(), *hops, *streamed, *spread);
                    let told = Told::Advert(advert);
                    let content = Content { id, told, hops, streamed, spread, have };
                    let at = (peer, channel_index, *slot);
                    let request = self.fill(now, at, version.0, &content)?;
                    request.map_or(unwanted, Taken::Chunks)
                } else {
                    self.peers.received[peer.at()].note_piece(false);
                    unwanted
                }
            }
        };
        self.inbox.drop_stale_if_confirmed(peer, channel_index);
        self.after_unlinks(peer, true);
        Ok(taken)
    }

    fn fill(
        &mut self,
        now: Time,
        at: (PeerIndex, u16, Slot),
        version: u64,
        content: &Content<'_>,
    ) -> Result<Option<RequestId>, Fault> {
        let channel_index = at.1 as usize;
        let own_slot = self.outboxes[channel_index].slot_of(&content.id);
        let outcome = self.inbox.set_content(now, &self.peers, at, version, content, own_slot)?;
        let received = &mut self.peers.received[at.0.at()];
        received.note_piece(outcome.is_news);
        if let Told::Push { bytes, .. } = content.told {
            let count = match self.inbox.catalogue.items[outcome.known].state {
                _ if outcome.is_complete => &mut received.useful,
                State::Ready | State::Done => &mut received.duplicate,
                State::Wanted(_) | State::Later | State::Dropped => &mut received.aborted,
            };
            *count += bytes.len() as u64;
        }
        if let Some(slot) = own_slot {
            let active = self.outboxes[channel_index].active_mut(slot).expect("by id");
            active.known = Some(outcome.known);
            self.check_relay(outcome.known);
            self.repeat_relay(outcome.known, at.0);
        }
        if outcome.is_complete {
            self.relay_automatically(outcome.known);
        }
        Ok(outcome.request)
    }

    pub(super) fn after_unlinks(&mut self, peer: PeerIndex, is_member: bool) {
        let mut unlinked = self.inbox.take_unlinked();
        for known in unlinked.drain(..) {
            let channel_index = self.inbox.catalogue.items[known].channel;
            self.check_relay(known);
            self.repeat_relay(known, peer);
            if let Some(forgotten) = self.inbox.after_unlink(known, peer, is_member) {
                self.detach_own_slot(channel_index, &forgotten);
            }
        }
        self.inbox.give_back(unlinked);
    }

    /// An artifact has left the catalogue; this node may still have it in a slot.
    pub(super) fn detach_own_slot(&mut self, channel_index: u16, forgotten: &Forgotten) {
        if let Some(slot) = forgotten.own_slot {
            let active = self.outboxes[channel_index as usize].active_mut(slot).expect("own slot");
            assert_eq!(active.hops, 0, "a relay ends before its last holder");
            active.known = None;
        }
    }
}
