//! What the machine gives: events, and what it sends.

use std::collections::BTreeSet;

use super::asked::Asked;
use super::{Run, channel_id, index};
use crate::fuzz::chunks::Source;
use crate::fuzz::model::Step;
use crate::fuzz::pool::{self, Art};
use slotcast::artifact::Artifact;
use slotcast::broadcast::{Event, OutStream};
use slotcast::config::Relay;
use slotcast::wire::{Chunk, Item, Refusal, Request, StreamDecoder, StreamHead, Update};

/// What this node says of a slot: the artifact, and whether it has a part of it only.
pub(super) type Said = (Art, bool);

/// A stream that the machine has begun to a peer.
pub(super) struct OutgoingStream {
    pub(super) stream: Option<OutStream>,
    pub(super) decoder: StreamDecoder,
    pub(super) head: Option<StreamHead>,
    /// The updates in it, not yet applied at the peer: channel, slot, version, content.
    pub(super) updates: Vec<(usize, u32, u64, Option<Said>)>,
    /// The chunks that come next: channel, artifact, which ones.
    pub(super) chunks: Option<(usize, Art, Source)>,
    pub(super) finished: bool,
}

/// What becomes of a stream that a peer has read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::fuzz) enum Fate {
    Read,
    Acked,
    Stopped,
}

impl Run {
    /// Takes up to `limit` events of a channel. Of `pushed`, the bytes may have been taken.
    pub(in crate::fuzz) fn take_events(
        &mut self,
        channel: usize,
        limit: usize,
        pushed: Option<Art>,
    ) {
        for _ in 0..limit {
            let Some(event) = self.machine.poll_event(channel_id(channel)) else {
                assert!(!self.model[channel].has_event(), "not all was told");
                break;
            };
            let model = &mut self.model[channel];
            if let Event::Delivered { artifact, from } = &event
                && let art = pool::art(&artifact.id())
                && Some(art) == pushed
                && model.known[&art].step == Step::Wanted
            {
                model.ready(art, *from);
            }
            model.event(&event, |peer| self.peers[peer].node);
        }
        self.check();
    }

    /// Encodes once for a peer; false if there was nothing.
    pub(in crate::fuzz) fn send(&mut self, peer: usize, room: usize) -> bool {
        if self.peers[peer].node.is_none() {
            return false;
        }
        let mut out = core::mem::take(&mut self.out);
        let backlog = self.machine.has_backlog(index(peer));
        let sent = self.machine.poll_send(self.now, index(peer), room, &mut out);
        let Some(send) = sent else {
            assert!(out.is_empty());
            assert!(room == 0 || !self.machine.has_backlog(index(peer)), "nothing, yet a backlog");
            self.out = out;
            self.check();
            return false;
        };
        assert!(backlog && self.peers[peer].up && (!out.is_empty() || send.finish));
        assert!(out.len() <= room.max(1024) + 2 * 65_536 + Chunk::OVERHEAD_MAX);
        let mut bytes = Vec::new();
        out.for_each_piece(|piece| bytes.extend_from_slice(piece));
        assert_eq!(bytes.len(), out.len());
        self.out = out;
        let streams = &mut self.peers[peer].streams;
        let mut stream = if send.open {
            assert!(
                !streams.iter().any(|other| send.stream.is_some() && other.stream == send.stream)
            );
            OutgoingStream {
                stream: send.stream,
                decoder: StreamDecoder::new(1 << 20),
                head: None,
                updates: Vec::new(),
                chunks: None,
                finished: false,
            }
        } else {
            let at = streams.iter().position(|other| other.stream == send.stream);
            streams.swap_remove(at.expect("a stream that was not reset"))
        };
        assert!(!stream.finished);
        stream.finished = send.finish;
        self.take_sent(peer, &mut stream, &bytes);
        if stream.finished {
            assert_eq!(stream.decoder.finish(), Ok(()));
            if let Some((_, _, source)) = &stream.chunks {
                source.assert_ended();
            }
        }
        if stream.stream.is_some() {
            self.peers[peer].streams.push(stream);
        }
        self.check();
        true
    }

    fn take_sent(&mut self, peer: usize, stream: &mut OutgoingStream, bytes: &[u8]) {
        let mut input = bytes;
        let mut decoder = core::mem::replace(&mut stream.decoder, StreamDecoder::new(0));
        while let Some(item) = decoder.next(&mut input).expect("well-formed") {
            match item {
                Item::Head(head) => {
                    stream.head = Some(head);
                    if let StreamHead::Chunks(request) = head {
                        let want = self.peers[peer].wants.remove(&request).expect("asked for");
                        assert!(want.is_held, "what is not here cannot be sent");
                        let source = Source::Listed(want.chunks.into());
                        stream.chunks = Some((want.channel, want.art, source));
                    }
                }
                Item::Frame { kind, body } => match stream.head.expect("comes first") {
                    StreamHead::Requests => {
                        let request = Request::decode(kind, body).expect("well-formed");
                        self.take_request(peer, request.expect("known"));
                    }
                    StreamHead::Updates(id) if stream.chunks.is_none() => {
                        let update = Update::decode(kind, body).expect("well-formed");
                        let channel = usize::from(id != channel_id(0));
                        self.take_update(peer, channel, stream, &update.expect("known"));
                    }
                    _ => self.take_chunk(peer, stream, kind, body),
                },
            }
        }
        stream.decoder = decoder;
    }

    fn take_request(&mut self, peer: usize, request: Request) {
        match request {
            Request::Fetch { request, channel, id, ranges } => {
                let channel = usize::from(channel != channel_id(0));
                let art = pool::art(&id);
                let count = pool::artifact(art).advert().chunks();
                assert!(ranges.iter().all(|range| range.is_within(count)));
                let chunks = ranges.iter().flat_map(|range| range.first..range.first + range.count);
                let asked = Asked::new(channel, art, chunks);
                let had = &self.peers[peer].had[&(channel, art)];
                assert!(asked.chunks.iter().all(|chunk| had.contains(chunk)), "it has them");
                let distinct: BTreeSet<&u32> = asked.chunks.iter().collect();
                assert_eq!(distinct.len(), asked.chunks.len(), "each is asked for once");
                self.ask(peer, request, asked);
            }
            Request::Cancel { request } => assert!(!self.peers[peer].asked.contains_key(&request)),
            Request::Refuse { request, refusal } => {
                let want = self.peers[peer].wants.remove(&request).expect("asked for");
                match refusal {
                    Refusal::NotHeld => assert!(!want.is_held, "it is here"),
                    refusal => assert_eq!(refusal, Refusal::Busy),
                }
            }
            Request::Receipt { .. } => {}
            Request::Unknown { .. } => unreachable!("a node knows what it asks for"),
        }
    }

    fn take_update(
        &mut self,
        peer: usize,
        channel: usize,
        stream: &mut OutgoingStream,
        update: &Update<'_>,
    ) {
        let (model, state) = (&self.model[channel], &mut self.peers[peer]);
        assert!(state.channels[channel], "inert towards the peer");
        let have = match update {
            Update::Partial { have, .. } => Some(*have),
            _ => None,
        };
        let (slot, version, art) = match update {
            Update::Snapshot { live, .. } => {
                let live: BTreeSet<u32> = live.iter().map(|slot| slot.0).collect();
                assert!(live.iter().all(|slot| model.own.contains_key(slot)));
                assert!(state.snapshots.insert(channel, live).is_none(), "one in an epoch");
                return;
            }
            Update::Clear { slot, version } => (slot.0, version.0, None),
            Update::Push { slot, version, hops, key, metadata, bytes } => {
                assert!(bytes.len() <= model.config.push_bytes_max as usize);
                let artifact = Artifact::keyed(*key, bytes.to_vec().into(), metadata);
                let art = pool::art(&artifact.expect("short").id());
                assert!(*hops == 0 || model.config.relay == Relay::Confirmed, "in an overlay");
                assert!(!model.heard[peer].holds_whole(art), "it has it");
                (slot.0, version.0, Some((art, *hops)))
            }
            Update::Advert { slot, version, hops, streamed, spread, advert }
            | Update::Partial { slot, version, hops, streamed, spread, advert, .. } => {
                let art = pool::art(&advert.id());
                let key = (channel, art);
                if *streamed {
                    let source = self.chunks.begin_stream(key, peer, *hops, *spread);
                    stream.chunks = Some((channel, art, source));
                }
                assert!(!spread || self.chunks.is_spread_to(key, peer) && *hops == 0);
                (slot.0, version.0, Some((art, *hops)))
            }
            Update::Unknown { .. } => unreachable!("a node knows what it says"),
        };
        assert!(state.snapshots.contains_key(&channel), "the snapshot comes first");
        match art {
            Some((held, _)) => {
                assert_eq!(model.own.get(&slot).copied(), art, "invariant 3");
                assert_eq!(self.chunks.is_part((channel, held)), have.is_some());
                let is_here = |chunk: u32| self.chunks.is_here((channel, held), chunk);
                assert!(have.is_none_or(|have| have.iter().all(is_here)), "it is here");
            }
            None => {
                let held = model.own.get(&slot);
                let is_relay_of_own =
                    |(art, hops): &(Art, u8)| *hops > 0 && model.heard[peer].holds_whole(*art);
                assert!(held.is_none_or(is_relay_of_own), "invariant 3");
                let was_told = state.encoded.contains_key(&(channel, slot))
                    || state.snapshots[&channel].contains(&slot);
                assert!(was_told, "it never heard of the slot");
            }
        }
        let last = state.encoded.insert((channel, slot), version);
        assert!(last.is_none_or(|last| last < version), "invariant 2");
        let said = art.map(|(art, _)| (art, have.is_some()));
        stream.updates.push((channel, slot, version, said));
    }

    fn take_chunk(&mut self, peer: usize, stream: &mut OutgoingStream, kind: u64, body: &[u8]) {
        let chunk = Chunk::decode(kind, body).expect("well-formed").expect("known");
        let (channel, art, source) = stream.chunks.as_mut().expect("a stream of chunks");
        let key = (*channel, *art);
        assert!(self.model[*channel].own_slot(*art).is_some(), "no byte leaves after the abort");
        assert!(self.chunks.is_here(key, chunk.index));
        self.chunks.take_sent(key, source, (peer, self.peers[peer].had.get(&key)), chunk.index);
        let (bytes, proof) = pool::artifact(*art).chunk(chunk.index);
        assert_eq!(chunk.proof, proof);
        assert!(chunk.bytes == bytes);
    }

    /// A stream arrives: the peer applies its updates, whatever came before.
    pub(in crate::fuzz) fn arrive(&mut self, peer: usize, nth: usize, fate: Fate) {
        let state = &mut self.peers[peer];
        let at = nth % state.streams.len().max(1);
        let Some(stream) = state.streams.get_mut(at) else { return };
        for (channel, slot, version, art) in stream.updates.drain(..) {
            let heard = state.heard.entry((channel, slot)).or_default();
            if heard.0 < version {
                *heard = (version, art);
            }
        }
        let Some(id) = stream.stream else { return };
        match fate {
            Fate::Read => return,
            Fate::Acked if stream.finished => self.machine.handle_acked(index(peer), id),
            Fate::Stopped if stream.chunks.is_some() => {
                self.machine.handle_stopped(index(peer), id);
            }
            Fate::Acked | Fate::Stopped => return,
        }
        state.streams.swap_remove(at);
        self.check();
    }
}
