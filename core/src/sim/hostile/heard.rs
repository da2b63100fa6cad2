//! What a hostile member learns by reading its peers' streams.

use std::collections::{BTreeMap, VecDeque};
use std::vec::Vec;

use quinn_proto::StreamId;

use crate::artifact::{Advert, CHUNK_BYTES};
use crate::id::{ArtifactId, ChannelId, NodeId};
use crate::wire::{Item, Request, StreamDecoder, StreamHead, Update};

/// Adverts of other members that are remembered: the latest.
const HEARD_MAX: usize = 64;

/// Bytes of a frame that it listens to: longer than any update.
const FRAME_MAX: usize = 2 * CHUNK_BYTES;

/// An artifact that a member advertises.
#[derive(Clone, Debug)]
pub(super) struct Heard {
    pub(super) channel: ChannelId,
    pub(super) id: ArtifactId,
    pub(super) advert: Advert,
    pub(super) from: NodeId,
}

/// The latest adverts of all members, each artifact once.
#[derive(Debug, Default)]
pub(super) struct Pool(VecDeque<Heard>);

impl Pool {
    /// Whether it is new.
    pub(super) fn insert(&mut self, heard: Heard) -> bool {
        if self.0.iter().any(|known| known.id == heard.id) {
            return false;
        }
        if self.0.len() == HEARD_MAX {
            self.0.pop_front();
        }
        self.0.push_back(heard);
        true
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn at(&self, at: usize) -> &Heard {
        &self.0[at]
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    Unknown,
    Updates(ChannelId),
    Requests,
    /// Nothing to be learnt from it.
    Ignored,
}

/// One stream of a peer.
#[derive(Debug)]
struct Incoming {
    role: Role,
    decoder: StreamDecoder,
}

/// The streams of a peer that have begun, and what has been said in them.
#[derive(Debug, Default)]
pub(super) struct Ears {
    streams: BTreeMap<StreamId, Incoming>,
    pub(super) adverts: Vec<(ChannelId, Advert)>,
    pub(super) requests: Vec<Request>,
}

impl Ears {
    /// Takes what has arrived of a stream; `None` is its end.
    pub(super) fn take(&mut self, stream: StreamId, bytes: Option<&[u8]>) {
        let Some(mut bytes) = bytes else {
            self.streams.remove(&stream);
            return;
        };
        let new = || Incoming { role: Role::Unknown, decoder: StreamDecoder::new(FRAME_MAX) };
        let Incoming { role, decoder } = self.streams.entry(stream).or_insert_with(new);
        while *role != Role::Ignored {
            match decoder.next(&mut bytes) {
                Ok(Some(Item::Head(StreamHead::Updates(channel)))) => {
                    *role = Role::Updates(channel);
                }
                Ok(Some(Item::Head(StreamHead::Requests))) => *role = Role::Requests,
                Ok(Some(Item::Head(_))) | Err(_) => *role = Role::Ignored,
                Ok(Some(Item::Frame { kind, body })) => match *role {
                    Role::Updates(channel) => match Update::decode(kind, body) {
                        Ok(Some(Update::Advert { advert, .. })) => {
                            self.adverts.push((channel, advert));
                        }
                        // Another hostile member may push anything.
                        Ok(Some(Update::Push { metadata, bytes, .. }))
                            if bytes.len() <= CHUNK_BYTES =>
                        {
                            self.adverts.push((channel, Advert::of_chunk(metadata, bytes)));
                        }
                        _ => {}
                    },
                    _ => self.requests.extend(Request::decode(kind, body).ok().flatten()),
                },
                Ok(None) => return,
            }
        }
    }
}
