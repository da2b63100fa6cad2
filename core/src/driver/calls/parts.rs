//! Bodies in parts: a call whose request is given and whose answer is read piece by piece, and the same at
//! its callee. The node asks for parts; what nobody reads stays at whoever gives it.

use std::boxed::Box;
use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;
use std::vec::Vec;

use bytes::Bytes;
use futures_core::Stream;

use super::{Call, CallCommand, CallTable, Calls, Request, Route, SlotState, refusal_of};
use crate::driver::node_handle::NodeHandle;
use crate::driver::shared::{Command, Shared, State};
use crate::driver::waiters::{Source, Waiters, Waiting};
use crate::error::{AnswerError, CallError};
use crate::id::NodeId;
use crate::node::Node;
use crate::rpc::{self, Body, Manner, PART_BYTES_MAX, Part, RequestId, StreamEvent};
use crate::time::Time;

/// What is given or read in parts.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(in crate::driver) enum Key {
    /// A call, by its slot.
    Call(u32),
    Request(RequestId),
}

/// The state of one of them.
#[derive(Default)]
pub(super) struct Parts {
    /// The node takes another part of the body that is given.
    is_writable: bool,
    /// Bytes that have not been given.
    missing: u64,
    /// The node was asked for the next part of the body that is read; and has given it.
    is_asked: bool,
    next: Option<Bytes>,
    /// Bytes of the body that is read that were not taken.
    unread: u64,
    /// All has been read.
    has_end: bool,
    /// Of an answer: whether it has arrived, or why it will not.
    over: Option<Result<(), AnswerError>>,
    /// Those who wait at a call. Those at a request wait with others.
    pub(super) waiters: Waiters,
}

impl Parts {
    /// The body that is given has so many bytes.
    pub(super) fn giving(length: u32) -> Box<Self> {
        Box::new(Self { is_writable: true, missing: length.into(), ..Self::default() })
    }

    /// The body that is read has so many bytes.
    pub(super) fn reading(length: u32) -> Box<Self> {
        Box::new(Self { unread: length.into(), ..Self::default() })
    }

    /// Whether all bytes of the body that is read were taken.
    pub(super) fn is_read(&self) -> bool {
        self.unread == 0
    }

    fn take_next(&mut self) -> Option<Bytes> {
        let part = self.next.take()?;
        self.is_asked = false;
        self.unread = self.unread.saturating_sub(part.len() as u64);
        Some(part)
    }

    /// Whether the node is to be asked for the next part.
    fn asks(&mut self) -> bool {
        let asks = !self.is_asked && !self.has_end;
        self.is_asked |= asks;
        asks
    }

    /// Whether another part can be given, which is then under way.
    fn takes(&mut self, bytes: usize) -> bool {
        let takes = std::mem::take(&mut self.is_writable);
        if takes {
            self.missing -= bytes as u64;
        }
        takes
    }
}

impl Calls {
    fn parts(&mut self, key: Key) -> Option<&mut Parts> {
        match key {
            Key::Call(slot) => {
                self.slots.get(slot)?;
                self.slots[slot].parts.as_deref_mut()
            }
            Key::Request(request) => self.taken.get_mut(&request)?.parts.as_deref_mut(),
        }
    }

    /// The futures that wait at a call.
    pub(in crate::driver) fn part_waiters(&mut self, slot: u32) -> Option<&mut Waiters> {
        self.parts(Key::Call(slot)).map(|parts| &mut parts.waiters)
    }

    fn wake(&mut self, key: Key, wakers: &mut Vec<Waker>) {
        let waiters = match key {
            Key::Call(slot) => self.part_waiters(slot),
            Key::Request(request) => self.cancellation_waiters(request),
        };
        wakers.extend(waiters.into_iter().flat_map(Waiters::drain));
    }
}

impl CallTable {
    fn stream_of(&self, key: Key) -> Option<rpc::Stream> {
        match key {
            Key::Call(slot) => self.calls.get(&slot).map(|call| rpc::Stream::Call(*call)),
            Key::Request(request) => Some(rpc::Stream::Request(request)),
        }
    }

    fn key_of(&self, stream: rpc::Stream) -> Option<Key> {
        match stream {
            rpc::Stream::Call(call) => self.slots.get(&call).map(|slot| Key::Call(*slot)),
            rpc::Stream::Request(request) => Some(Key::Request(request)),
        }
    }

    /// Gives the node a part. If the body is over, the handle is told how.
    pub(super) fn give(&self, now: Time, node: &mut Node, key: Key, part: Bytes) {
        if let Some(stream) = self.stream_of(key) {
            let _ = node.give(now, stream, part);
        }
    }

    /// Asks the node for a part, which is handed over with the next events.
    pub(super) fn read(&mut self, now: Time, node: &mut Node, key: Key) {
        if let Some(stream) = self.stream_of(key) {
            match node.read(now, stream) {
                Part::None => {}
                part => self.read.push((key, part)),
            }
        }
    }

    pub(super) fn answer_in_parts(
        &mut self,
        now: Time,
        node: &mut Node,
        request: RequestId,
        length: u32,
    ) {
        if let Err(error) = node.answer(now, request, Body::InParts(length)) {
            node.refuse(now, request, refusal_of(error));
            self.over.push((request, Err(error)));
        }
    }

    /// Hands over what has happened to bodies in parts. True if there was anything.
    pub(super) fn stage_parts(
        &mut self,
        now: Time,
        node: &mut Node,
        calls: &mut Calls,
        wakers: &mut Vec<Waker>,
    ) -> bool {
        let mut any = false;
        while let Some(event) = node.poll_stream() {
            match event {
                StreamEvent::Writable(stream) => {
                    let Some(key) = self.key_of(stream) else { continue };
                    if let Some(parts) = calls.parts(key) {
                        parts.is_writable = true;
                    }
                    calls.wake(key, wakers);
                }
                StreamEvent::Readable(stream) => {
                    if let Some(key) = self.key_of(stream) {
                        self.read(now, node, key);
                    }
                }
                StreamEvent::Over { request, has_arrived } => {
                    let over = if has_arrived { Ok(()) } else { Err(AnswerError::Cancelled) };
                    self.over.push((request, over));
                }
            }
            any = true;
        }
        for (key, part) in self.read.drain(..) {
            any = true;
            if let Some(parts) = calls.parts(key) {
                match part {
                    Part::Bytes(bytes) => parts.next = Some(bytes),
                    Part::End | Part::None => parts.has_end = true,
                }
            }
            calls.wake(key, wakers);
        }
        for (request, over) in self.over.drain(..) {
            any = true;
            let key = Key::Request(request);
            calls.wake(key, wakers);
            if let Some(parts) = calls.parts(key) {
                parts.over = Some(over);
            }
        }
        any
    }
}

impl Route {
    /// Calls a member with a request of `length` bytes that is given in parts, and reads the answer in parts
    /// while it arrives. Neither end holds more than about half a megabyte of a body, however long it is.
    /// Lengths, the deadline, the least rate and credit are those of other calls: see [`Route::call`]. The
    /// deadline is for all of the call: long bodies may need [another one](Self::call_in_parts_within).
    ///
    /// ```
    /// use slotcast::driver::Route;
    /// use slotcast::error::CallError;
    /// use slotcast::id::NodeId;
    ///
    /// /// Sends a file in pieces, and counts the bytes of the answer.
    /// async fn send(route: &Route, to: NodeId, pieces: Vec<Vec<u8>>) -> Result<usize, CallError> {
    ///     let length = pieces.iter().map(Vec::len).sum::<usize>();
    ///     let mut call = route.call_in_parts(to, length as u32);
    ///     for piece in pieces {
    ///         call.write(piece).await?;
    ///     }
    ///     let mut count = 0;
    ///     while let Some(part) = call.next_part().await {
    ///         count += part?.len();
    ///     }
    ///     Ok(count)
    /// }
    /// ```
    pub fn call_in_parts(&self, to: NodeId, length: u32) -> CallInParts {
        CallInParts::new(self.call_of(to, Body::InParts(length), None))
    }

    /// The same with a deadline of its own.
    pub fn call_in_parts_within(&self, to: NodeId, length: u32, timeout: Duration) -> CallInParts {
        CallInParts::new(self.call_of(to, Body::InParts(length), Some(timeout)))
    }

    /// The same if the member has credit left: see [`Route::try_call`].
    ///
    /// # Errors
    /// As for [`Route::try_call`].
    pub fn try_call_in_parts(&self, to: NodeId, length: u32) -> Result<CallInParts, CallError> {
        self.begin(to, Body::InParts(length), None, Manner::Try).map(CallInParts::new)
    }
}

/// A call whose request is given, and whose answer is read, in parts: [`Route::call_in_parts`]. It is a
/// stream of the answer's parts. Dropping it gives the call up.
#[must_use = "a call is given up when it is dropped"]
pub struct CallInParts {
    /// `None`, if the call could not be made.
    waiting: Option<Waiting<Arc<Shared>>>,
    call: Call,
}

impl fmt::Debug for CallInParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CallInParts").field("call", &self.call).finish()
    }
}

impl CallInParts {
    fn new(call: Call) -> Self {
        let source = call.slot.as_ref().ok().map(|slot| Source::Parts(*slot));
        let waiting = source.map(|source| Waiting::new(call.node.shared_arc(), source));
        Self { waiting, call }
    }

    /// Gives the next bytes of the request, and waits until the node has taken all but the last part of them.
    /// Dropped before, it may have given some.
    ///
    /// # Errors
    /// [`CallError::TooLong`] if they are more than are missing, and nothing was given; or how the call has
    /// ended.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), CallError> {
        let mut bytes = bytes.into();
        let slot = match &mut self.call.slot {
            Ok(slot) => *slot,
            Err(error) => return Err(error.take().unwrap_or(CallError::Closed)),
        };
        let waiting = self.waiting.as_mut().expect("the call was made");
        let node = &self.call.node;
        let missing = node.shared().lock().calls.parts(Key::Call(slot)).map_or(0, |p| p.missing);
        if bytes.len() as u64 > missing {
            return Err(CallError::TooLong);
        }
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(PART_BYTES_MAX));
            let taken = poll_fn(|cx| {
                waiting.poll(cx, |state| {
                    let slot = &mut state.calls.slots[slot];
                    match &slot.state {
                        SlotState::Done(Err(error), _) => Some((Err(*error), false)),
                        SlotState::Done(Ok(_), _) => Some((Err(CallError::Dropped), false)),
                        _ => {
                            let parts = slot.parts.as_mut().expect("a call in parts");
                            parts.takes(part.len()).then_some((Ok(()), false))
                        }
                    }
                })
            });
            taken.await?;
            let key = Key::Call(slot);
            node.shared().command(|state| {
                state.commands.push_back(Command::Call(CallCommand::Give { key, part }));
            });
        }
        Ok(())
    }

    /// The next part of the answer; `None` once all of it has been read, and after an error.
    pub async fn next_part(&mut self) -> Option<Result<Bytes, CallError>> {
        poll_fn(|cx| self.poll_part(cx)).await
    }

    /// The same for who polls.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, CallError>>> {
        let slot = match &mut self.call.slot {
            Ok(slot) => *slot,
            Err(error) => return Poll::Ready(error.take().map(Err)),
        };
        let waiting = self.waiting.as_mut().expect("the call was made");
        let mut polled = poll_next_part(waiting, cx, Key::Call(slot), |state| {
            match &state.calls.slots[slot].state {
                SlotState::Done(Err(error), _) => Some(Some(*error)),
                SlotState::Done(Ok(_), _) => Some(None),
                _ => None,
            }
        });
        if let Poll::Ready(None | Some(Err(_))) = &mut polled {
            // It has nothing more to say.
            self.waiting = None;
            let node = self.call.node.clone();
            drop(std::mem::replace(&mut self.call, Call { node, slot: Err(None) }));
        }
        polled
    }
}

impl Stream for CallInParts {
    type Item = Result<Bytes, CallError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll_part(cx)
    }
}

/// The next part that is read. `ends` says whether it is over, and why.
fn poll_next_part<S, E>(
    waiting: &mut Waiting<S>,
    cx: &Context<'_>,
    key: Key,
    ends: impl Fn(&State) -> Option<Option<E>>,
) -> Poll<Option<Result<Bytes, E>>>
where
    S: std::ops::Deref<Target = Shared>,
{
    let driver = {
        let mut state = waiting.shared().lock();
        let asks = state.calls.parts(key).is_some_and(Parts::asks);
        if asks {
            state.commands.push_back(Command::Call(CallCommand::Read { key }));
        }
        if asks { state.driver.take() } else { None }
    };
    if let Some(driver) = driver {
        driver.wake();
    }
    waiting.poll(cx, |state| {
        let parts = state.calls.parts(key);
        let has_end = parts.as_ref().is_none_or(|parts| parts.has_end);
        if let Some(part) = parts.and_then(Parts::take_next) {
            return Some((Some(Ok(part)), false));
        }
        match ends(state) {
            Some(end) => Some((end.map(Err), false)),
            None => has_end.then_some((None, false)),
        }
    })
}

/// The body of a request, in parts as they arrive: [`Request::parts`].
#[must_use = "streams do nothing unless they are polled"]
pub struct RequestParts<'a> {
    waiting: Waiting<&'a Shared>,
    id: RequestId,
    /// All of it, if it is not read in parts.
    whole: Option<Bytes>,
    has_ended: bool,
}

impl fmt::Debug for RequestParts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RequestParts").finish_non_exhaustive()
    }
}

impl RequestParts<'_> {
    /// The next part; `None` once all has been read, and after an error: the caller does not wait any more.
    pub async fn next_part(&mut self) -> Option<Result<Bytes, AnswerError>> {
        poll_fn(|cx| self.poll_part(cx)).await
    }

    /// The same for who polls.
    pub fn poll_part(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, AnswerError>>> {
        if let Some(whole) = self.whole.take() {
            return Poll::Ready(Some(Ok(whole)));
        }
        if self.has_ended {
            return Poll::Ready(None);
        }
        let id = self.id;
        let polled = poll_next_part(&mut self.waiting, cx, Key::Request(id), |state| {
            match state.calls.taken.get(&id) {
                Some(taken) => taken.cancelled.map(Some),
                None => Some(Some(AnswerError::Closed)),
            }
        });
        self.has_ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        polled
    }
}

impl Stream for RequestParts<'_> {
    type Item = Result<Bytes, AnswerError>;

    fn poll_next(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.get_mut().poll_part(cx)
    }
}

impl Request {
    /// The body as a stream of parts. On a route that
    /// [reads in parts](crate::config::RouteConfig::reads_in_parts) they come while they arrive, and what
    /// is not read waits at the caller. Otherwise all of it is one part.
    pub fn parts(&self) -> RequestParts<'_> {
        let waiting = Waiting::new(self.node.shared(), Source::Cancellation(self.id));
        let whole = match self.in_parts {
            Some(_) => None,
            None => Some(self.body.clone()).filter(|body| !body.is_empty()),
        };
        RequestParts { waiting, id: self.id, whole, has_ended: self.in_parts.is_none() }
    }

    /// Answers with `length` bytes that are given in parts. For this there is room for sure, unless more was
    /// [waited for](Self::room) in vain: if there is none, the caller is told that this node is
    /// [`Busy`](crate::error::CallError::Busy), and [`write`](AnswerInParts::write) fails. All of the request has
    /// to be read before.
    ///
    /// # Errors
    /// If the answer is too long or the request was not read (the caller is told that there is none), or the
    /// caller does not wait any more.
    pub fn answer_in_parts(mut self, length: u32) -> Result<AnswerInParts, AnswerError> {
        if !self.wants_answer {
            return Err(AnswerError::NotWanted);
        }
        if length > self.answer_bytes_max {
            return Err(AnswerError::TooLong);
        }
        let id = self.id;
        self.node.shared().command(|state| {
            let State { calls, commands, .. } = state;
            let taken = calls.taken.get_mut(&id).ok_or(AnswerError::Closed)?;
            if let Some(why) = taken.cancelled {
                return Err(why);
            }
            if !taken.is_read() {
                return Err(AnswerError::NotRead);
            }
            taken.parts = Some(Parts::giving(length));
            let answer = CallCommand::AnswerInParts { request: id, length };
            commands.push_back(Command::Call(answer));
            Ok(())
        })?;
        self.is_over = true;
        Ok(AnswerInParts { node: self.node.clone(), id })
    }
}

/// An answer that is given in parts: [`Request::answer_in_parts`]. Dropped before all of it was given, it is
/// broken off, and the caller is told that there is none.
#[must_use = "an answer is broken off when this is dropped"]
pub struct AnswerInParts {
    node: NodeHandle,
    id: RequestId,
}

impl fmt::Debug for AnswerInParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AnswerInParts").finish_non_exhaustive()
    }
}

impl AnswerInParts {
    /// Gives the next bytes, and waits until the node has taken all but the last part of them. Dropped before,
    /// it may have given some.
    ///
    /// # Errors
    /// [`AnswerError::TooLong`] if they are more than are missing, and nothing was given; or the caller
    /// does not wait any more.
    pub async fn write(&mut self, bytes: impl Into<Bytes>) -> Result<(), AnswerError> {
        let mut bytes = bytes.into();
        let (id, key) = (self.id, Key::Request(self.id));
        let missing = self.node.shared().lock().calls.parts(key).map_or(u64::MAX, |p| p.missing);
        if bytes.len() as u64 > missing {
            return Err(AnswerError::TooLong);
        }
        let mut waiting = Waiting::new(self.node.shared(), Source::Cancellation(id));
        while !bytes.is_empty() {
            let part = bytes.split_to(bytes.len().min(PART_BYTES_MAX));
            let taken = poll_fn(|cx| {
                waiting.poll(cx, |state| {
                    let Some(parts) = state.calls.parts(key) else {
                        return Some((Err(AnswerError::Closed), false));
                    };
                    match parts.over {
                        Some(Err(why)) => Some((Err(why), false)),
                        _ => parts.takes(part.len()).then_some((Ok(()), false)),
                    }
                })
            });
            taken.await?;
            self.node.shared().command(|state| {
                state.commands.push_back(Command::Call(CallCommand::Give { key, part }));
            });
        }
        Ok(())
    }

    /// Waits until all of it was sent, and the caller has it or has ended the call.
    ///
    /// # Errors
    /// If the call was over before.
    pub async fn arrived(&self) -> Result<(), AnswerError> {
        let source = Source::Cancellation(self.id);
        let mut waiting = Waiting::new(self.node.shared(), source);
        let over = poll_fn(|cx| {
            waiting.poll(cx, |state| match state.calls.parts(Key::Request(self.id)) {
                Some(parts) => parts.over.map(|over| (over, false)),
                None => Some((Err(AnswerError::Closed), false)),
            })
        });
        over.await
    }
}

impl Drop for AnswerInParts {
    fn drop(&mut self) {
        let request = self.id;
        // Dropped when the lock is released.
        let _garbage = self.node.shared().command(|state| {
            let State { calls, commands, .. } = state;
            let parts = calls.parts(Key::Request(request))?;
            if parts.missing > 0 && parts.over.is_none() {
                commands.push_back(Command::Call(CallCommand::BreakOff { request }));
            }
            calls.taken.remove(&request)
        });
    }
}
