//! Events for people who ask what became of a member or an artifact (feature `tracing`): what changes, with
//! peer, channel and artifact by name, and never a byte of what is inside.
//!
//! This is the only place that knows of the feature. Without it, all of this compiles to nothing, and what is
//! looked up for an event only is not looked up: see [`if_traced`]. With it, and without a subscriber that takes
//! DEBUG, an event costs a look at one number.
//!
//! All events have the target `slotcast`. What concerns a member or the node is at the level INFO or WARN,
//! what concerns an artifact at DEBUG, and what may change several times per round trip at TRACE. A [`NodeSpan`]
//! around them names the node.

#[cfg(feature = "quic")]
use core::fmt;
#[cfg(all(feature = "tracing", feature = "quic"))]
use core::mem::replace;
#[cfg(feature = "quic")]
use core::time::Duration;

use crate::broadcast::{Decision, Event};
#[cfg(feature = "quic")]
use crate::id::RouteId;
use crate::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
#[cfg(feature = "quic")]
use crate::rpc::{CallId, Outcome, RequestId};
#[cfg(feature = "quic")]
use crate::time::Time;

/// Something that waits for a window for so long is traced even if round trips take longer.
#[cfg(all(feature = "tracing", feature = "quic"))]
const FULL_WINDOW_MAX: Duration = Duration::from_millis(500);

/// Tells an event whose fields have to be looked up, unless nobody takes events at the level DEBUG.
#[inline]
pub(crate) fn if_traced(tell: impl FnOnce()) {
    #[cfg(feature = "tracing")]
    if tracing::level_enabled!(tracing::Level::DEBUG) {
        tell();
    }
    #[cfg(not(feature = "tracing"))]
    let _ = tell;
}

/// How a value is recorded.
#[cfg(feature = "tracing")]
trait Recorded {
    fn recorded(&self) -> impl tracing::Value;
}

#[cfg(feature = "tracing")]
macro_rules! recorded {
    ($($type:ty: $value:ident => $as:expr;)*) => {$(
        impl Recorded for $type {
            fn recorded(&self) -> impl tracing::Value {
                let $value = self;
                $as
            }
        }
    )*};
}

#[cfg(feature = "tracing")]
recorded! {
    u64: value => *value;
    bool: value => *value;
    &str: value => *value;
    ChannelId: value => u64::from(value.0);
    NodeId: value => tracing::field::display(*value);
    &ArtifactId: value => tracing::field::display(**value);
    Decision: value => tracing::field::debug(*value);
}

#[cfg(all(feature = "tracing", feature = "quic"))]
recorded! {
    RouteId: value => u64::from(value.0);
    CallId: value => value.0;
    RequestId: value => value.0;
    &dyn fmt::Debug: value => tracing::field::debug(*value);
    &dyn fmt::Display: value => tracing::field::display(*value);
}

macro_rules! events {
    ($(
        $(#[$attribute:meta])*
        $level:ident $name:ident($($field:ident: $type:ty),*) $text:literal;
    )*) => {$(
        $(#[$attribute])*
        #[inline]
        pub(crate) fn $name($($field: $type),*) {
            #[cfg(feature = "tracing")]
            tracing::event!(
                target: "slotcast",
                tracing::Level::$level,
                $($field = $field.recorded(),)*
                $text
            );
            #[cfg(not(feature = "tracing"))]
            {
                $(let _ = $field;)*
            }
        }
    )*};
}

// Artifacts.
events! {
    /// By this node, into a slot.
    DEBUG published(channel: ChannelId, artifact: &ArtifactId, bytes: u64) "published";
    /// This node does not advertise it any more, as publisher or relay.
    DEBUG aborted(channel: ChannelId, artifact: &ArtifactId, is_relay: bool) "aborted";
    /// A member is the first that advertises it, and the filter has decided.
    DEBUG first_told(channel: ChannelId, artifact: &ArtifactId, peer: NodeId, decision: Decision)
        "first told";
    /// The filter was asked again.
    DEBUG decided(channel: ChannelId, artifact: &ArtifactId, decision: Decision) "decided again";
    /// A member is asked for chunks, or for more of them.
    DEBUG asked(channel: ChannelId, artifact: &ArtifactId, peer: NodeId, chunks: u64) "asked";
    /// A member takes longer than another one is expected to: its chunks are asked of others, too.
    DEBUG overdue(channel: ChannelId, artifact: &ArtifactId, peer: NodeId) "overdue";
    /// All bytes are here. The member sent the last of them.
    DEBUG complete(channel: ChannelId, artifact: &ArtifactId, peer: NodeId, bytes: u64) "complete";
    DEBUG delivered(channel: ChannelId, artifact: &ArtifactId, peer: NodeId) "delivered";
    DEBUG withdrawn(channel: ChannelId, artifact: &ArtifactId, peer: NodeId) "withdrawn";
    DEBUG expired(channel: ChannelId, artifact: &ArtifactId) "expired";
    /// A stream to a member goes on only when QUIC takes more of it: its credit is used up.
    TRACE blocked(peer: NodeId) "blocked";
    TRACE unblocked(peer: NodeId) "unblocked";
}

/// What the application takes.
#[inline]
pub(crate) fn told(channel: ChannelId, event: &Event) {
    match event {
        Event::Delivered { artifact, from } => delivered(channel, &artifact.id(), *from),
        Event::Withdrawn { id, by } => withdrawn(channel, id, *by),
        Event::Expired { id } => expired(channel, id),
        Event::Covered { .. } => {}
    }
}

// Members and the node.
#[cfg(feature = "quic")]
events! {
    DEBUG dialling(peer: NodeId, address: &dyn fmt::Display) "dialling";
    INFO up(peer: NodeId, address: &dyn fmt::Display) "up";
    INFO down(peer: NodeId, why: &dyn fmt::Debug) "down";
    WARN fault(peer: NodeId, fault: &dyn fmt::Display) "fault";
    WARN cut_off(peer: NodeId) "cut off";
    /// What one side may send on a channel the other one does not take, because of this value of its
    /// configuration; that side keeps silent there.
    WARN inert(peer: NodeId, channel: ChannelId, silent: &str, value: &str) "inert channel";
    /// Something for a member has waited for longer than a round trip until what is in flight is acknowledged: the
    /// congestion window, or the send window, is full. In between, parts of it may have been sent.
    DEBUG window_full(peer: NodeId, in_flight: u64, congestion_window: u64) "window full";
    /// Nothing waits any more.
    DEBUG window_open(peer: NodeId, in_flight: u64, congestion_window: u64) "window open";
    INFO socket_error(operation: &dyn fmt::Debug, kind: &dyn fmt::Debug) "socket error";
    INFO shutdown() "shutdown";
}

// Calls. `call` and `request` are numbers of this node.
#[cfg(feature = "quic")]
events! {
    /// By this node's application. It may have to wait for credit.
    DEBUG called(peer: NodeId, route: RouteId, call: CallId, bytes: u64, wants_answer: bool) "called";
    /// At once: there is no call.
    DEBUG call_refused(peer: NodeId, route: RouteId, why: &dyn fmt::Display) "call refused";
    DEBUG call_answered(call: CallId, bytes: u64) "call answered";
    /// By the peer's refusal, the deadline or a lost connection.
    DEBUG call_failed(call: CallId, why: &dyn fmt::Display) "call failed";
    /// By this node's application, to be served.
    DEBUG request_taken(peer: NodeId, route: RouteId, request: RequestId, bytes: u64) "request taken";
    DEBUG request_answered(request: RequestId, bytes: u64) "request answered";
    DEBUG request_refused(request: RequestId, why: &dyn fmt::Debug) "request refused";
}

/// How a call ended.
#[cfg(feature = "quic")]
#[inline]
pub(crate) fn call_ended(outcome: &Outcome) {
    match &outcome.result {
        Ok(answer) => call_answered(outcome.call, answer.len() as u64),
        Err(why) => call_failed(outcome.call, why),
    }
}

/// What has become of the request of an artifact.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Note {
    Asked { chunks: u64 },
    Overdue,
}

/// What is noted where names are not known, until it is told where they are: artifacts by their index in
/// the catalogue. Nothing without the feature.
#[derive(Debug, Default)]
pub(crate) struct Notes(#[cfg(feature = "tracing")] alloc::vec::Vec<(u32, PeerIndex, Note)>);

impl Notes {
    #[inline]
    pub(crate) fn push(&mut self, known: u32, peer: PeerIndex, note: Note) {
        #[cfg(feature = "tracing")]
        if tracing::level_enabled!(tracing::Level::DEBUG) {
            self.0.push((known, peer, note));
        }
        #[cfg(not(feature = "tracing"))]
        let _ = (known, peer, note);
    }

    /// Takes all of them, each to be told.
    #[inline]
    pub(crate) fn drain(&mut self, tell: impl FnMut((u32, PeerIndex, Note))) {
        #[cfg(feature = "tracing")]
        self.0.drain(..).for_each(tell);
        #[cfg(not(feature = "tracing"))]
        let _ = tell;
    }
}

/// That something for a member waits for room in a window. Nothing without the feature.
#[cfg(feature = "quic")]
#[derive(Debug, Default)]
pub(crate) struct FullWindow {
    #[cfg(feature = "tracing")]
    since: Option<Time>,
    #[cfg(feature = "tracing")]
    is_told: bool,
}

#[cfg(feature = "quic")]
impl FullWindow {
    /// Whether it is to be told: once, when it has lasted for longer than a round trip, and once when it is over
    /// after that. So it is told at most twice per round trip, and not at each acknowledgement.
    #[inline]
    pub(crate) fn is_news(&mut self, now: Time, is_full: bool, round_trip: Duration) -> bool {
        #[cfg(feature = "tracing")]
        {
            if !is_full {
                self.since = None;
                return replace(&mut self.is_told, false);
            }
            let since = *self.since.get_or_insert(now);
            let span = round_trip.min(FULL_WINDOW_MAX);
            now.since(since) > span && !replace(&mut self.is_told, true)
        }
        #[cfg(not(feature = "tracing"))]
        {
            let _ = (now, is_full, round_trip);
            false
        }
    }
}

/// The span `node`, in which a driver runs.
#[cfg(feature = "driver")]
#[derive(Clone)]
pub(crate) struct NodeSpan(#[cfg(feature = "tracing")] tracing::Span);

#[cfg(feature = "driver")]
impl NodeSpan {
    pub(crate) fn new(node: NodeId) -> Self {
        #[cfg(feature = "tracing")]
        {
            Self(tracing::info_span!(target: "slotcast", "node", id = node.recorded()))
        }
        #[cfg(not(feature = "tracing"))]
        {
            let _ = node;
            Self()
        }
    }

    /// Runs something in the span.
    #[inline]
    pub(crate) fn run<T>(&self, run: impl FnOnce() -> T) -> T {
        #[cfg(feature = "tracing")]
        {
            self.0.in_scope(run)
        }
        #[cfg(not(feature = "tracing"))]
        {
            run()
        }
    }
}
