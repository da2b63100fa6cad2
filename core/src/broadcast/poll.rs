//! What is to be done next, and when.

use super::{Broadcast, OutStream, RequestId};
use crate::id::PeerIndex;
use crate::time::Time;
use crate::trace::{self, Note};

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// Reset a stream to a peer: nothing in it is current any more.
    Reset {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: OutStream,
    },
    /// Stop the stream that answers this request, if there is one: it is not needed any more.
    Stop {
        /// The peer.
        peer: PeerIndex,
        /// The request.
        request: RequestId,
    },
    /// Nothing more to do until the next input, or until `wake_at`.
    Idle {
        /// When to call [`Broadcast::poll`] again, [`Time::NEVER`] if only for inputs.
        wake_at: Time,
        /// What is due then.
        why: Wake,
    },
}

/// What a machine waits for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub enum Wake {
    /// The next input.
    Input,
    /// A holder that has to have sent a chunk, or may be asked again.
    Fetch,
    /// A peer that has still to be told what is not active any more.
    Update,
    /// A peer that is [behind](super::Lag) unless it is told more until then.
    Lag,
    /// A call or request whose deadline passes, or whose body is too slow.
    Call,
    /// The deadline of a flush.
    Flush,
    /// A timer of a connection, or the next dial.
    Connection,
}

impl Broadcast {
    /// What is to be done next. Call after every input and command, and at `wake_at`, until it is
    /// [`Output::Idle`].
    pub fn poll(&mut self, now: Time) -> Output {
        let now = self.clamp(now);
        self.sender.release_due_clears(now, &self.outboxes);
        self.sender.resume_paced(now);
        self.look_for_lags(now);
        self.inbox.transfers.advance(now);
        self.trace_requests();
        self.end_lost();
        self.end_rounds();
        self.tell_spread();
        self.mark_requests();
        for (peer, request) in self.inbox.transfers.stops.drain(..) {
            self.outputs.push_back(Output::Stop { peer, request });
        }
        self.outputs.pop_front().unwrap_or_else(|| {
            let fetch_at = self.inbox.transfers.wake_at();
            let update_at = self.sender.held.earliest().min(self.sender.pacing.earliest());
            let lag_at = self.lag_at();
            let wake_at = fetch_at.min(update_at).min(lag_at);
            let why = match wake_at {
                Time::NEVER => Wake::Input,
                _ if fetch_at == wake_at => Wake::Fetch,
                _ if update_at == wake_at => Wake::Update,
                _ => Wake::Lag,
            };
            Output::Idle { wake_at, why }
        })
    }

    /// Traces what has become of requests, now that names are at hand.
    pub(super) fn trace_requests(&mut self) {
        let (items, channels, peers) = (&self.inbox.catalogue.items, &self.channels, &self.peers);
        self.inbox.transfers.notes.drain(|(known, peer, note)| {
            // Each is told in the step in which it was noted: nothing has left since.
            let (item, peer) = (&items[known], peers.node(peer));
            let channel = channels[item.channel as usize].id;
            match note {
                Note::Asked { chunks } => trace::asked(channel, &item.id, peer, chunks),
                Note::Overdue => trace::overdue(channel, &item.id, peer),
            }
        });
    }
}
