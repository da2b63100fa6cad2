//! What the application does: makes calls, answers requests, gives and reads bodies in parts.

use bytes::Bytes;
use core::time::Duration;

use super::caller::Manner;
use super::events::Permit;
use super::parts::{PART_BYTES_MAX, Part, Stream, StreamEvent};
use super::{Body, CallId, RequestId, Rpc};
use crate::error::{AnswerError, CallError, PartError};
use crate::id::{PeerIndex, RouteId};
use crate::time::Time;

/// Why a callee does not answer.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    /// The callee is overloaded.
    Busy {
        /// How long the caller should wait before it tries again.
        retry_after: Duration,
    },
    /// No reason is given: the request is dropped.
    Dropped,
}

impl Rpc {
    /// Calls a peer. Without a `timeout`, the route's deadline holds. If the peer's [`Credit`](super::Credit) of
    /// calls or of bytes is used up, the call waits for it, in order, unless it was not to: `waits`. The outcome of a
    /// call whose answer is read [in parts](Body::InParts) is empty once all of it has been read.
    ///
    /// # Errors
    /// If it cannot be made; nothing has changed then.
    pub fn call(
        &mut self,
        now: Time,
        peer: PeerIndex,
        route: RouteId,
        body: impl Into<Body>,
        timeout: Option<Duration>,
        waits: bool,
    ) -> Result<CallId, CallError> {
        let now = self.clamp(now);
        let manner = if waits { Manner::Wait } else { Manner::Try };
        self.caller.call(&mut self.shared, now, peer, route, body.into(), timeout, manner)
    }

    /// Sends a peer a message. It waits for a connection and for credit, in order with calls, and its
    /// outcome is empty once the peer's application has it. When the deadline passes before, or the
    /// connection is lost when it has been sent, it is not sent again, and its outcome says so.
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn tell(
        &mut self,
        now: Time,
        peer: PeerIndex,
        route: RouteId,
        body: Bytes,
        timeout: Option<Duration>,
    ) -> Result<CallId, CallError> {
        let now = self.clamp(now);
        self.caller.call(&mut self.shared, now, peer, route, body.into(), timeout, Manner::Tell)
    }

    /// Gives a call up. False if it has ended: its outcome is, or was, to be had.
    pub fn cancel(&mut self, call: CallId) -> bool {
        self.caller.cancel(&mut self.shared, call)
    }

    /// Answers a request. For an answer that is given [in parts](Body::InParts) there is room in any case, and
    /// [`StreamEvent::Over`] says when it has arrived, or will not.
    ///
    /// # Errors
    /// If the answer is too long, the request is read in parts and has not been read to its end, there is no room for it
    /// (that for [`ANSWER_BYTES_KEPT`](super::ANSWER_BYTES_KEPT) is kept, and [`Rpc::reserve`] waits for more), or the
    /// caller does not wait for it any more. In the last case the request is removed, in the others nothing has changed.
    pub fn answer(
        &mut self,
        now: Time,
        request: RequestId,
        body: impl Into<Body>,
    ) -> Result<(), AnswerError> {
        let now = self.clamp(now);
        self.callee.answer(&mut self.shared, now, request, body.into())
    }

    /// Breaks off an answer that was given in parts: the caller is told that there is none. False if it was
    /// over.
    pub fn break_off(&mut self, request: RequestId) -> bool {
        self.callee.break_off(&mut self.shared, request)
    }

    /// Gives the next part of a request or an answer, of up to [`PART_BYTES_MAX`] bytes: the first one at
    /// once, the others each after [`StreamEvent::Writable`].
    ///
    /// # Errors
    /// If it cannot be sent; nothing has changed then.
    pub fn give(&mut self, now: Time, stream: Stream, part: Bytes) -> Result<(), PartError> {
        self.clamp(now);
        let (owner, peer, route, sending) = match stream {
            Stream::Call(call) => self.caller.giving(call),
            Stream::Request(request) => self.callee.giving(request),
        }
        .ok_or(PartError::NotWanted)?;
        if sending.has_ended() {
            return Err(PartError::NotWanted);
        }
        if !sending.is_given() {
            return Err(PartError::NotYet);
        }
        if part.len() > sending.wants().min(PART_BYTES_MAX) {
            return Err(PartError::TooLong);
        }
        if part.is_empty() {
            self.shared.stream_events.push_back(StreamEvent::Writable(stream));
            return Ok(());
        }
        sending.give(part);
        // Of a call without a stream, the flow is marked when there is credit for it.
        if let Some(owner) = owner {
            self.shared.note_due(peer, route, owner, sending);
        }
        Ok(())
    }

    /// Takes what has arrived of a request or an answer that is read in parts. For what is taken, there is
    /// room for more.
    pub fn read(&mut self, now: Time, stream: Stream) -> Part {
        let now = self.clamp(now);
        match stream {
            Stream::Call(call) => self.caller.read(&mut self.shared, now, call),
            Stream::Request(request) => self.callee.read(&mut self.shared, now, request),
        }
    }

    /// Waits for room for an answer of so many bytes, which the request then keeps: [`Rpc::poll_reserved`]
    /// says when. It replaces what was waited for before. Unless it has so much already, it keeps no room while
    /// it waits, so that no requests wait for each other; and no more requests of the peer on the
    /// route are taken up.
    ///
    /// # Errors
    /// As for [`Rpc::answer`]; nothing has changed then.
    pub fn reserve(
        &mut self,
        now: Time,
        request: RequestId,
        bytes: u32,
    ) -> Result<(), AnswerError> {
        self.clamp(now);
        self.callee.reserve(request, bytes)
    }

    /// Ends a request without an answer. False if the caller did not wait for it any more.
    pub fn refuse(&mut self, now: Time, request: RequestId, refusal: Refusal) -> bool {
        self.clamp(now);
        self.callee.refuse(&mut self.shared, request, refusal)
    }

    /// Says whether requests of a route are wanted. At first they wait until they are; once they are
    /// not any more, they are refused. False if there is no such route.
    pub fn serve(&mut self, now: Time, route: RouteId, is_wanted: bool) -> bool {
        self.clamp(now);
        self.callee.serve(&mut self.shared, route, is_wanted)
    }

    /// The application has taken what a permit was for.
    pub fn release(&mut self, permit: Permit) {
        match permit.of_answer {
            true => self.caller.release(permit),
            false => self.callee.release(permit),
        }
    }
}
