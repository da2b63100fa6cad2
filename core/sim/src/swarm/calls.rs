//! What the applications of a run's members call each other for, and what must hold between calls,
//! requests and answers.

use bytes::Bytes;
use core::time::Duration;
use std::collections::{BTreeMap, BTreeSet};

use super::oracle::Oracle;
use crate::Context;
use slotcast::config::RouteConfig;
use slotcast::error::{AnswerError, CallError};
use slotcast::id::{NodeId, RouteId};
use slotcast::internals::Random;
use slotcast::node::{Node, Request};
use slotcast::rpc::{CallId, Outcome, Refusal, RequestId};
use slotcast::time::Time;

/// Bytes of a request that say which it is, and what is asked.
const HEAD_BYTES: usize = 16;

/// A call that has not ended.
#[derive(Clone, Copy, Debug)]
struct Open {
    serial: u64,
    answer: u32,
}

/// A request that an application has.
#[derive(Clone, Copy, Debug)]
struct Held {
    id: RequestId,
    from: NodeId,
    route: RouteId,
    serial: u64,
    answer: u32,
}

/// What all applications know of calls.
#[derive(Debug, Default)]
pub(super) struct Calls {
    serial: u64,
    /// By caller.
    open: BTreeMap<(usize, CallId), Open>,
    /// By callee.
    held: BTreeMap<usize, Vec<Held>>,
    /// Serials of requests that were handed out.
    handed: BTreeSet<u64>,
    pub(super) counts: CallCounts,
}

/// What became of calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct CallCounts {
    /// Calls made.
    pub made: u64,
    /// Those that were answered.
    pub answered: u64,
    /// Those that ended with another word of the callee, or none.
    pub failed: u64,
    /// Those that were given up by their caller.
    pub cancelled: u64,
    /// Those that could not be made: no connection, no credit.
    pub not_made: u64,
}

impl CallCounts {
    /// Adds those of another run.
    pub const fn add(&mut self, other: &Self) {
        self.made += other.made;
        self.answered += other.answered;
        self.failed += other.failed;
        self.cancelled += other.cancelled;
        self.not_made += other.not_made;
    }
}

fn filling(serial: u64, length: usize) -> impl Iterator<Item = u8> {
    (0..length as u64).map(move |at| (serial.wrapping_mul(31) ^ at.wrapping_mul(7)) as u8)
}

fn request(serial: u64, answer: u32, length: usize) -> Bytes {
    let mut body = Vec::with_capacity(length.max(HEAD_BYTES));
    body.extend_from_slice(&serial.to_be_bytes());
    body.extend_from_slice(&u64::from(answer).to_be_bytes());
    body.extend(filling(serial, length.saturating_sub(HEAD_BYTES)));
    body.into()
}

/// The serial number and the length of the answer that a request asks for, if it is as it was sent.
fn asked(body: &[u8]) -> Option<(u64, u32)> {
    let (head, rest) = body.split_first_chunk::<HEAD_BYTES>()?;
    let serial = u64::from_be_bytes(*head.first_chunk()?);
    let answer = u64::from_be_bytes(*head.last_chunk()?);
    let is_whole = rest.iter().copied().eq(filling(serial, rest.len()));
    is_whole.then_some((serial, answer as u32))
}

fn answer(serial: u64, length: u32) -> Bytes {
    filling(!serial, length as usize).collect::<Vec<u8>>().into()
}

/// Up to `max`, mostly short.
fn length(random: &mut Random, max: u32) -> u32 {
    let max = u64::from(max);
    let limit = if random.below(4) == 0 { max } else { max.min(400) };
    random.below(limit + 1) as u32
}

impl Oracle {
    /// Has a node call another, or give a call up.
    pub(super) fn work_on_calls(
        &mut self,
        node: &mut Context<'_>,
        to: usize,
        route: &RouteConfig,
        random: &mut Random,
    ) {
        let at = node.at();
        if random.below(8) == 0 {
            let of_node = || self.calls.open.keys().filter(|(of, _)| *of == at);
            let place = random.below(of_node().count().max(1) as u64) as usize;
            let call = of_node().nth(place).copied();
            if let Some(call) = call {
                // Its end may have come, and is told then.
                if node.node_mut().cancel(call.1) {
                    self.calls.open.remove(&call);
                    self.calls.counts.cancelled += 1;
                }
            }
            return;
        }
        self.calls.serial += 1;
        let serial = self.calls.serial;
        let answer = length(random, route.response_bytes_max);
        let body = request(serial, answer, length(random, route.request_bytes_max) as usize);
        let timeout = Duration::from_millis(50 + random.below(5_000));
        match node.call(to, route.id, body, Some(timeout)) {
            Ok(call) => {
                let before = self.calls.open.insert((at, call), Open { serial, answer });
                self.calls.counts.made += 1;
                let time = node.time();
                self.check(13, time, before.is_none(), || format!("{call:?} of {at} made twice"));
            }
            Err(error) => {
                self.calls.counts.not_made += 1;
                let is_expected = matches!(
                    error,
                    CallError::NotConnected
                        | CallError::NotMember
                        | CallError::NotServed
                        | CallError::Pushback
                );
                let time = node.time();
                self.check(13, time, is_expected, || format!("{at} cannot call {to}: {error}"));
            }
        }
    }

    pub(super) fn requested(&mut self, node: &mut Context<'_>, route: &RouteConfig, r: Request) {
        let (at, time) = (node.at(), node.time());
        let Some((serial, answer)) = asked(&r.body) else {
            return self.check(13, time, false, || format!("{at} has a request nobody made"));
        };
        let is_first = self.calls.handed.insert(serial);
        self.check(13, time, is_first, || format!("request {serial} handed out twice, at {at}"));
        let (id, from) = (r.id, r.from);
        let held = self.calls.held.entry(at).or_default();
        held.push(Held { id, from, route: route.id, serial, answer });
        let of_peer = held.iter().filter(|held| (held.from, held.route) == (from, route.id));
        let (count, max) = (of_peer.count(), usize::from(route.in_flight_max));
        self.check(15, time, count <= max, || format!("{at} works on {count} of one peer"));
        // Half of them wait until something else happens.
        if serial % 2 == 0 {
            self.let_go(node, |held| held.id == id);
        }
    }

    /// Answers, or refuses, requests that a node has.
    pub(super) fn let_go_of_all(&mut self, node: &mut Context<'_>) {
        self.let_go(node, |_| true);
    }

    fn let_go(&mut self, node: &mut Context<'_>, which: impl Fn(&Held) -> bool) {
        let held = self.calls.held.entry(node.at()).or_default();
        for held in held.extract_if(.., |held| which(held)).collect::<Vec<_>>() {
            match held.serial % 16 {
                1 => {
                    node.refuse(held.id, Refusal::Dropped);
                }
                2 => {
                    node.refuse(held.id, Refusal::Busy { retry_after: Duration::ZERO });
                }
                _ => {
                    let answered = node.answer(held.id, answer(held.serial, held.answer));
                    // That nobody waits for it any more may not have been told yet.
                    let fits = answered != Err(AnswerError::TooLong);
                    let (at, time) = (node.at(), node.time());
                    self.check(13, time, fits, || format!("{at} cannot answer {}", held.serial));
                }
            }
        }
    }

    pub(super) fn request_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        let held = self.calls.held.entry(node.at()).or_default();
        held.retain(|held| held.id != request);
        node.refuse(request, Refusal::Dropped);
    }

    pub(super) fn call_ended(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        let (at, time) = (node.at(), node.time());
        let open = self.calls.open.remove(&(at, outcome.call));
        let what = || format!("{:?} of {at} ends, and is not under way", outcome.call);
        self.check(13, time, open.is_some(), what);
        let Some(open) = open else { return };
        match outcome.result {
            Ok(body) => {
                self.calls.counts.answered += 1;
                let is_right = body == answer(open.serial, open.answer);
                self.check(13, time, is_right, || format!("wrong answer to {}", open.serial));
            }
            Err(_) => self.calls.counts.failed += 1,
        }
    }

    /// A node was started: what it knew of calls is gone.
    pub(super) fn forget_calls(&mut self, at: usize) {
        self.calls.open.retain(|(of, _), _| *of != at);
        self.calls.held.remove(&at);
    }

    /// Calls that have not ended.
    pub(super) fn calls_open(&self) -> usize {
        self.calls.open.len()
    }

    /// Looks at what a node has of calls.
    pub(super) fn inspect_calls(&mut self, time: Time, at: usize, node: &Node) {
        let routes = node.config().routes.iter();
        let bound = routes.map(|route| 4 * route.body_bytes_max).sum::<u64>();
        let held = node.body_bytes();
        node.assert_calls_sound();
        self.check(14, time, held <= bound, || format!("{at} holds {held} bytes of bodies"));
    }
}
