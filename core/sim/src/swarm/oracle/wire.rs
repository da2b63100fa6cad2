//! What members send each other: what is written into streams, and whose bytes datagrams carry.

use super::{Oracle, Place};
use crate::Sent;
use crate::swarm::content::{self, WORD};
use slotcast::artifact::{Artifact, CHUNK_BYTES_MAX};
use slotcast::wire::{Item, StreamDecoder, StreamHead, Update};

/// Bytes of a frame that is looked into: longer than any update or chunk.
const FRAME_MAX: usize = 2 * CHUNK_BYTES_MAX;

impl Oracle {
    /// Updates of an honest member's table. In an epoch, which begins with a snapshot, a slot is told
    /// again only if it was aborted in between (invariant 2). Relays come and go unseen.
    pub(super) fn check_updates(&mut self, written: &Sent<'_>) {
        let (from, to, time) = (written.from, written.to, written.time);
        let mut decoder = StreamDecoder::new(FRAME_MAX);
        let (mut bytes, mut channel) = (written.bytes, None);
        while let Ok(Some(item)) = decoder.next(&mut bytes) {
            let (kind, body, channel) = match (item, channel) {
                (Item::Head(StreamHead::Updates(of)), _) => {
                    channel = Some(of);
                    continue;
                }
                (Item::Frame { kind, body }, Some(channel)) => (kind, body, channel),
                _ => return,
            };
            let update = Update::decode(kind, body).ok().flatten();
            let (slot, id) = match &update {
                Some(Update::Snapshot { .. }) => {
                    let is_older =
                        |place: &Place| (place.0, place.1, place.2) == (from, to, channel);
                    self.told.retain(|place, _| !is_older(place));
                    continue;
                }
                Some(Update::Push { slot, hops: 0, key, metadata, bytes, .. }) => {
                    let artifact = Artifact::keyed(*key, bytes.to_vec().into(), metadata);
                    (*slot, Some(artifact.expect("within bounds").id()))
                }
                Some(Update::Advert { slot, hops: 0, advert, .. }) => (*slot, Some(advert.id())),
                Some(
                    Update::Clear { slot, .. }
                    | Update::Push { slot, .. }
                    | Update::Advert { slot, .. }
                    | Update::Partial { slot, .. }
                    | Update::Unknown { slot, .. },
                ) => (*slot, None),
                None => continue,
            };
            let place = (from, to, channel, slot);
            let was = self.told.remove(&place);
            let serial = id.and_then(|id| self.serials.get(&(channel, id)).copied());
            let Some(serial) = serial else { continue };
            self.told.insert(place, (serial, time));
            let ended = self.replicas[from].ended.get(&serial).copied();
            let again = was.filter(|(told, _)| *told == serial);
            let is_news = again.is_none_or(|(_, since)| ended.is_some_and(|end| end >= since));
            self.check(2, time, is_news, || {
                format!("{from} tells {to} again of {slot:?}, channel {}", channel.0)
            });
        }
    }

    /// A datagram of an honest member: whose bytes it carries. Those of a fetched artifact have a
    /// stream of their own, which ends with the abort.
    pub(super) fn count_content(&mut self, sent: &Sent<'_>) {
        let (from, to) = (sent.from, sent.to);
        let mut content = 0;
        for (serial, word) in content::words(sent.bytes) {
            let Some(made) = self.made.get_mut(serial as usize) else { continue };
            content += WORD as u64;
            let progress = &mut made.sent[from * self.ids.len() + to];
            let is_new = word >= *progress;
            *progress = (*progress).max(word + 1);
            let bytes = &mut self.counts.bytes;
            if made.aborted_by.contains(&from) {
                bytes.aborted += WORD as u64;
                let (id, is_fetched) = (made.id, made.is_fetched);
                self.check(3, sent.time, !is_fetched, || {
                    format!("{from} sends {to} word {word} of {id:#}, which it has aborted")
                });
            } else if is_new {
                bytes.useful += WORD as u64;
            } else {
                bytes.duplicate += WORD as u64;
            }
        }
        self.counts.bytes.control += (sent.bytes.len() as u64).saturating_sub(content);
    }
}
