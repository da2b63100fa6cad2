//! A simulated subnet whose applications call each other: [`Office`] answers as it is told to, and
//! writes down what becomes of everything.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use bytes::Bytes;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config, RouteConfig};
use slotcast::error::{AnswerError, CallError, Fault};
use slotcast::id::{ArtifactId, ChannelId, RouteId};
use slotcast::node::{NodeEvent, Request};
use slotcast::rpc::{CallId, Outcome, Refusal, RequestId};
use slotcast::time::Time;
use slotcast_sim::{self as sim, Application, Context, Link, Sent, Setup};

pub(crate) type Subnet = sim::Subnet<Office>;

pub(crate) const CHANNEL: ChannelId = ChannelId(1);
pub(crate) const ROUTE: RouteId = RouteId(7);

/// What a node does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Manner {
    /// Answers with as many bytes as the request asks for: see [`asking_for`].
    #[default]
    Answer,
    /// Keeps it, if it asks for less than 64 KiB.
    KeepSmall,
    /// Keeps it.
    Keep,
    /// Does not even take it.
    Ignore,
    /// Says that it is busy.
    Busy(Duration),
    /// Drops it.
    Drop,
}

#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) manner: Manner,
    /// So many requests are taken; without it, all.
    pub(crate) budget: Option<u32>,
    /// What is cancelled is not let go of.
    pub(crate) is_stubborn: bool,
    /// Calls whose outcome has come, with its time.
    pub(crate) outcomes: Vec<(CallId, Time, Result<Bytes, CallError>)>,
    /// Requests that were handed over, with their time.
    pub(crate) requests: Vec<(Time, Request)>,
    /// Those of them that were kept.
    pub(crate) kept: Vec<Request>,
    pub(crate) cancelled: Vec<(Time, RequestId)>,
    /// Answers that wait for room.
    unsent: BTreeMap<RequestId, Bytes>,
    pub(crate) faults: Vec<Fault>,
    /// Who published the artifacts that were delivered, and what time that took: see [`publish`].
    pub(crate) delivered: Vec<(usize, Duration)>,
    /// What it has published and not aborted.
    active: VecDeque<ArtifactId>,
    /// Calls that are under way, with the request's length and the answer's.
    asked: BTreeMap<CallId, (usize, usize)>,
}

#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) desks: Vec<Desk>,
    /// Bytes of datagrams that one participant has sent to another.
    sent: BTreeMap<(usize, usize), u64>,
    /// Bodies are checked and not kept.
    pub(crate) is_forgetful: bool,
}

const PERIOD: usize = 251;

/// What bodies consist of: tells a byte's place, and one body from others of other lengths.
fn period(seed: usize) -> [u8; PERIOD] {
    std::array::from_fn(|at| (at + seed) as u8)
}

fn pattern(length: usize, seed: usize) -> Vec<u8> {
    let mut body = period(seed).repeat(length.div_ceil(PERIOD));
    body.truncate(length);
    body
}

/// Whether a body is as it should be, from a place that is no more than a period from its start.
fn is_pattern(body: &[u8], from: usize, seed: usize) -> bool {
    let period = period(seed);
    let mut pieces = body.chunks(PERIOD).enumerate();
    pieces.all(|(at, piece)| {
        let from = if at == 0 { from.min(piece.len()) } else { 0 };
        piece[from..] == period[from..piece.len()]
    })
}

/// A request of `length` bytes (eight at least) for an answer of `answer` bytes.
pub(crate) fn asking_for(answer: usize, length: usize) -> Bytes {
    let mut body = pattern(length.max(8), length);
    body[..8].copy_from_slice(&(answer as u64).to_be_bytes());
    body.into()
}

fn asked_for(request: &[u8]) -> usize {
    number(request) as usize
}

fn number(bytes: &[u8]) -> u64 {
    u64::from_be_bytes(*bytes.first_chunk().expect("eight bytes"))
}

/// The answer that [`Manner::Answer`] gives to a request.
pub(crate) fn answer_to(request: &[u8]) -> Bytes {
    let length = asked_for(request);
    pattern(length, length ^ request.len()).into()
}

impl Application for Office {
    fn start(&mut self, node: &mut Context<'_>) {
        let routes: Vec<RouteId> = node.node().config().routes.iter().map(|r| r.id).collect();
        for route in routes {
            node.serve(route, true);
        }
    }

    fn handle_event(&mut self, node: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event {
            let took = node.time().since(Time(number(artifact.metadata())));
            let publisher = number(&artifact.bytes()[8..]) as usize;
            self.desks[node.at()].delivered.push((publisher, took));
        }
    }

    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        if let NodeEvent::Fault { fault, .. } = event {
            self.desks[node.at()].faults.push(fault);
        }
    }

    fn takes_requests(&self, at: usize, _: RouteId) -> bool {
        self.desks[at].manner != Manner::Ignore && self.desks[at].budget != Some(0)
    }

    fn handle_request(&mut self, node: &mut Context<'_>, _: RouteId, mut request: Request) {
        let desk = &mut self.desks[node.at()];
        desk.budget = desk.budget.map(|rest| rest - 1);
        let (id, body) = (request.id, request.body.clone());
        assert!(
            is_pattern(&body, 8, body.len()),
            "the request as it was sent, {} bytes",
            body.len()
        );
        if self.is_forgetful {
            request.body = Bytes::new();
        }
        let manner = match desk.manner {
            Manner::KeepSmall if asked_for(&body) < 64 << 10 => Manner::Keep,
            Manner::KeepSmall => Manner::Answer,
            manner => manner,
        };
        if manner == Manner::Keep {
            desk.kept.push(request.clone());
        }
        desk.requests.push((node.time(), request));
        match manner {
            Manner::Answer => {
                let answer = answer_to(&body);
                match node.answer(id, answer.clone()) {
                    Err(AnswerError::NoRoom) => {
                        node.reserve(id, answer.len() as u32).expect("it waits");
                        desk.unsent.insert(id, answer);
                    }
                    answered => answered.expect("within bounds"),
                }
            }
            Manner::Keep => {}
            Manner::Busy(retry_after) => assert!(node.refuse(id, Refusal::Busy { retry_after })),
            Manner::Drop => assert!(node.refuse(id, Refusal::Dropped)),
            Manner::Ignore | Manner::KeepSmall => unreachable!("none was taken"),
        }
    }

    fn handle_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        self.desks[node.at()].cancelled.push((node.time(), request));
        self.desks[node.at()].unsent.remove(&request);
        if !self.desks[node.at()].is_stubborn {
            assert!(!node.refuse(request, Refusal::Dropped), "nobody waits");
        }
    }

    fn handle_reserved(&mut self, node: &mut Context<'_>, request: RequestId) {
        let answer = self.desks[node.at()].unsent.remove(&request).expect("it waits for room");
        node.answer(request, answer).expect("it has room");
    }

    fn handle_outcome(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        let Outcome { call, mut result } = outcome;
        let desk = &mut self.desks[node.at()];
        let (request, answer) = desk.asked.remove(&call).expect("one outcome of each call");
        if let Ok(body) = &mut result {
            let is_right = body.len() == answer && is_pattern(body, 0, answer ^ request);
            assert!(is_right, "the right answer to {request} bytes");
            if self.is_forgetful {
                *body = Bytes::new();
            }
        }
        desk.outcomes.push((call, node.time(), result));
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        *self.sent.entry((sent.from, sent.to)).or_default() += sent.bytes.len() as u64;
    }
}

impl Desk {
    /// The node has ended, and its calls with it.
    pub(crate) fn forget(&mut self) {
        self.asked.clear();
        self.outcomes.clear();
        self.kept.clear();
        self.active.clear();
    }
}

impl Office {
    /// Bytes of datagrams that one participant has sent to another.
    pub(crate) fn sent(&self, from: usize, to: usize) -> u64 {
        self.sent.get(&(from, to)).copied().unwrap_or(0)
    }

    /// The outcome of a call, and its time.
    pub(crate) fn outcome(&self, at: usize, call: CallId) -> Option<(Time, &OutcomeOf)> {
        let mut outcomes = self.desks[at].outcomes.iter();
        outcomes.find(|(of, ..)| *of == call).map(|(_, time, result)| (*time, result))
    }
}

pub(crate) type OutcomeOf = Result<Bytes, CallError>;

/// A configuration with one channel, and [`ROUTE`] as `change` has it.
pub(crate) fn config(change: impl FnOnce(&mut RouteConfig)) -> Config {
    let mut route = RouteConfig::new(ROUTE, "pieces").bytes_max(1 << 20, 1 << 20);
    change(&mut route);
    let mut config = Config::new([ChannelConfig::new(CHANNEL).class(Class::Urgent)]);
    config.transport.initial_window = 14_720;
    config.routes([route])
}

/// A link of so many bytes per second, with a queue of 100 ms before it.
pub(crate) fn limited(latency: Duration, bytes_per_second: u64) -> Link {
    let queue_bytes_max = bytes_per_second / 10;
    Link { bytes_per_second, queue_bytes_max, ..Link::new(latency) }
}

/// Members that are connected to each other.
pub(crate) fn connected(setup: Setup) -> Subnet {
    let count = setup.configs.len();
    let desks = (0..count).map(|_| Desk::default()).collect();
    let mut subnet =
        Subnet::new(setup, Office { desks, sent: BTreeMap::new(), is_forgetful: false });
    subnet.run_until("all are connected", Duration::from_secs(10), |subnet| {
        (0..count).all(|a| (0..a).all(|b| subnet.is_up(a, b)))
    });
    subnet
}

/// Has a node call another.
#[track_caller]
pub(crate) fn call(subnet: &mut Subnet, from: usize, to: usize, body: Bytes) -> CallId {
    try_call(subnet, from, to, body, None).expect("there is credit")
}

pub(crate) fn try_call(
    subnet: &mut Subnet,
    from: usize,
    to: usize,
    body: Bytes,
    timeout: Option<Duration>,
) -> Result<CallId, CallError> {
    call_route(subnet, from, to, ROUTE, body, timeout)
}

pub(crate) fn call_route(
    subnet: &mut Subnet,
    from: usize,
    to: usize,
    route: RouteId,
    body: Bytes,
    timeout: Option<Duration>,
) -> Result<CallId, CallError> {
    let lengths = (body.len(), asked_for(&body));
    let called = subnet.command(from, |office, node| {
        let call = node.call(to, route, body, timeout)?;
        office.desks[from].asked.insert(call, lengths);
        Ok(call)
    });
    called.expect("it runs")
}

/// Gives a call up. False if it has ended.
pub(crate) fn cancel(subnet: &mut Subnet, at: usize, call: CallId) -> bool {
    let cancelled = subnet.command(at, |office, node| {
        let was_open = node.node_mut().cancel(call);
        if was_open {
            office.desks[at].asked.remove(&call);
        }
        was_open
    });
    cancelled.expect("it runs")
}

/// Answers a request that was kept.
pub(crate) fn answer(subnet: &mut Subnet, at: usize, request: &Request) -> Result<(), AnswerError> {
    let body = answer_to(&request.body);
    subnet.command(at, |_, node| node.answer(request.id, body)).expect("it runs")
}

/// Waits for the outcome of a call.
#[track_caller]
pub(crate) fn outcome(subnet: &mut Subnet, at: usize, call: CallId) -> OutcomeOf {
    let limit = Duration::from_secs(400);
    subnet.run_until("the call has ended", limit, |subnet| {
        subnet.application.outcome(at, call).is_some()
    });
    subnet.application.outcome(at, call).expect("it has ended").1.clone()
}

/// Has a node publish an artifact that tells when it was published, and abort what it published a
/// while ago.
pub(crate) fn publish(subnet: &mut Subnet, at: usize, number: u64) {
    publish_long(subnet, at, number, 200);
}

pub(crate) fn publish_long(subnet: &mut Subnet, at: usize, number: u64, length: usize) {
    const ACTIVE_MAX: usize = 32;
    let begun = subnet.now();
    let content = [number.to_be_bytes(), (at as u64).to_be_bytes()].concat();
    let content = content.repeat(length.div_ceil(content.len()));
    let artifact = Artifact::new(content.into(), &begun.0.to_be_bytes()).expect("small");
    let published = subnet.command(at, |office, node| {
        let active = &mut office.desks[at].active;
        if active.len() == ACTIVE_MAX {
            node.abort(CHANNEL, &active.pop_front().expect("some"));
        }
        active.push_back(artifact.id());
        node.publish(CHANNEL, artifact)
    });
    published.expect("it runs").expect("there is room");
}

/// Nothing is left of calls anywhere, and nobody broke a rule. Connections that lost datagrams are
/// given a moment.
#[track_caller]
pub(crate) fn assert_all_over(subnet: &mut Subnet) {
    subnet.elapse(Duration::from_secs(2));
    for at in 0..subnet.members() {
        if let Some(node) = subnet.node(at) {
            node.assert_calls_sound();
            assert_eq!((node.calls(), node.body_bytes()), (0, 0), "node {at}");
            assert_eq!(node.stats().faults, 0, "node {at}");
        }
        assert_eq!(subnet.application.desks[at].faults, [], "node {at}");
    }
}
