//! What is to be done next, and when.

use super::shared::StreamOwner;
use super::{CallStream, Rpc};
use crate::id::PeerIndex;
use crate::time::Time;
use crate::wire::CallReset;

/// What the machine wants done.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Output {
    /// There is room for more bytes of a stream: hand in as many as [`Rpc::wants`] says.
    Read {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
    },
    /// Reset this node's direction of a stream and stop the peer's, as far as they have not ended.
    Close {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
        /// Why, for the peer.
        why: CallReset,
    },
    /// Stop the peer's direction of a stream, if it has not ended.
    Stop {
        /// The peer.
        peer: PeerIndex,
        /// The stream.
        stream: CallStream,
    },
    /// Nothing more to do until the next input, or until `wake_at`.
    Idle {
        /// When to call [`Rpc::poll`] again, [`Time::NEVER`] if only for inputs.
        wake_at: Time,
    },
}

impl Rpc {
    /// What is to be done next. Call after every input and command, and at `wake_at`, until it is
    /// [`Output::Idle`].
    pub fn poll(&mut self, now: Time) -> Output {
        let now = self.clamp(now);
        while let Some((at, owner)) = self.shared.timers.first().copied()
            && at <= now
        {
            match owner {
                StreamOwner::Call(index) => self.caller.expire(&mut self.shared, now, index),
                StreamOwner::Request(index) => self.callee.expire(&mut self.shared, now, index),
            }
        }
        self.caller.grant_all(&mut self.shared, now);
        self.callee.grant_all(&mut self.shared, now);
        let wake_at = self.next_deadline();
        self.shared.outputs.pop_front().unwrap_or(Output::Idle { wake_at })
    }

    /// The next time at which a call or request has to be checked if nothing happens before.
    pub fn next_deadline(&self) -> Time {
        self.shared.timers.first().map_or(Time::NEVER, |(at, _)| *at)
    }
}
