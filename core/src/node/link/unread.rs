//! What has come on a link and waits to be read, since the peer is beyond its share of this node's work. QUIC
//! holds it meanwhile: it is within what the peer was given credit for. Noted is each stream, once.

use std::collections::VecDeque;

use foldhash::quality::FixedState;
use hashbrown::HashSet;
use quinn_proto::{Dir, StreamId};

use super::stream_id;
use crate::config::Class;
use crate::node::share::Share;
use crate::rpc::CallStream;

/// In which order a link is read: each has a share of the node's work of its own, so that long artifacts are not in
/// the way of all else that the same peer sends.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(in crate::node) enum Lane {
    /// New streams, updates, requests and calls.
    First,
    /// Chunks that the peer was asked for, in all channels but those of bulk.
    Chunks,
    /// Those of channels of bulk.
    Bulk,
}

impl Lane {
    pub(in crate::node) const ALL: [Self; 3] = [Self::First, Self::Chunks, Self::Bulk];

    /// Of chunks of a channel of a class.
    pub(super) fn of_chunks(class: Class) -> Self {
        if class == Class::Bulk { Self::Bulk } else { Self::Chunks }
    }
}

/// What waits to be read in one lane, and how much of it may be read.
#[derive(Debug, Default)]
pub(in crate::node) struct Reading {
    pub(in crate::node) share: Share,
    /// It is among those that wait for their turn to be read.
    pub(in crate::node) is_waiting: bool,
    pub(super) unread: UnreadQueue,
}

impl Reading {
    pub(in crate::node) fn has_unread(&self) -> bool {
        !self.unread.is_empty()
    }

    /// Whether it waits from now on, and did not before.
    pub(in crate::node) fn begins_to_wait(&mut self) -> bool {
        self.has_unread() && !std::mem::replace(&mut self.is_waiting, true)
    }
}

/// Something to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::node) enum Unread {
    /// The peer has opened streams.
    Opened(Dir),
    /// More of a stream has come.
    More(StreamId),
}

impl Unread {
    /// More of a call's stream is to be read, for which there is room now.
    pub(in crate::node) fn of_call(stream: CallStream) -> Self {
        Self::More(stream_id(stream))
    }
}

/// In the order in which it came.
#[derive(Debug, Default)]
pub(super) struct UnreadQueue {
    queue: VecDeque<Unread>,
    /// Those among it.
    streams: HashSet<StreamId, FixedState>,
    /// Whether there are opened ones among it, by direction.
    is_opened: [bool; 2],
}

impl UnreadQueue {
    /// Notes it. False if it is noted already.
    fn note(&mut self, unread: Unread) -> bool {
        match unread {
            Unread::Opened(dir) => !std::mem::replace(&mut self.is_opened[dir as usize], true),
            Unread::More(stream) => self.streams.insert(stream),
        }
    }

    pub(super) fn push(&mut self, unread: Unread) {
        if self.note(unread) {
            self.queue.push_back(unread);
        }
    }

    /// Only a part of it was read.
    pub(super) fn put_back(&mut self, unread: Unread) {
        if self.note(unread) {
            self.queue.push_front(unread);
        }
    }

    pub(super) fn pop(&mut self) -> Option<Unread> {
        let unread = self.queue.pop_front()?;
        match unread {
            Unread::Opened(dir) => self.is_opened[dir as usize] = false,
            Unread::More(stream) => drop(self.streams.remove(&stream)),
        }
        Some(unread)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use quinn_proto::Side;

    #[test]
    fn each_stream_is_noted_once_and_what_is_put_back_comes_first() {
        let mut queue = UnreadQueue::default();
        let stream = |at| Unread::More(StreamId::new(Side::Client, Dir::Uni, at));
        let opened = Unread::Opened(Dir::Uni);
        for unread in [stream(1), opened, stream(2), stream(1), opened, stream(2)] {
            queue.push(unread);
        }
        assert_eq!(queue.pop(), Some(stream(1)));
        queue.push(stream(1));
        assert_eq!(queue.pop(), Some(opened));
        queue.put_back(opened);
        for expected in [opened, stream(2), stream(1)] {
            assert_eq!(queue.pop(), Some(expected));
        }
        assert!(queue.is_empty() && queue.pop().is_none());
    }
}
