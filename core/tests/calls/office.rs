//! A simulated subnet whose applications call each other: [`Office`] answers as it is told to, and
//! writes down what becomes of everything.

use std::time::Duration;

use bytes::Bytes;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::error::{CallError, Fault};
use slotcast::id::{ChannelId, RouteId};
use slotcast::node::{NodeEvent, Request};
use slotcast::rpc::{CallId, Outcome, Refusal, RequestId};
use slotcast::sim::{self, Application, Context, Setup};
use slotcast::time::Time;

pub(crate) type Subnet = sim::Subnet<Office>;

pub(crate) const CHANNEL: ChannelId = ChannelId(1);
pub(crate) const ROUTE: RouteId = RouteId(7);

/// What a node does with a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(crate) enum Manner {
    /// Answers with as many bytes as the request asks for: see [`asking_for`].
    #[default]
    Answer,
    /// Keeps it.
    Keep,
    /// Says that it is busy.
    Busy(Duration),
    /// Drops it.
    Drop,
}

#[derive(Debug, Default)]
pub(crate) struct Desk {
    pub(crate) manner: Manner,
    /// Calls whose outcome has come, with its time.
    pub(crate) outcomes: Vec<(CallId, Time, Result<Bytes, CallError>)>,
    /// Requests that were handed over, with their time.
    pub(crate) requests: Vec<(Time, Request)>,
    pub(crate) cancelled: Vec<RequestId>,
    pub(crate) faults: Vec<Fault>,
    pub(crate) delivered: Vec<(Time, Bytes)>,
}

#[derive(Debug)]
pub(crate) struct Office {
    pub(crate) desks: Vec<Desk>,
}

/// A request of `length` bytes (eight at least) for an answer of `answer` bytes.
pub(crate) fn asking_for(answer: usize, length: usize) -> Bytes {
    let mut body = vec![0x5a; length.max(8)];
    body[..8].copy_from_slice(&(answer as u64).to_be_bytes());
    body.into()
}

/// The answer that [`Manner::Answer`] gives to a request.
pub(crate) fn answer_to(request: &[u8]) -> Bytes {
    let length = u64::from_be_bytes(*request.first_chunk().expect("eight bytes")) as usize;
    (0..length).map(|at| at as u8 ^ request.len() as u8).collect::<Vec<u8>>().into()
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
            let time = node.time();
            self.desks[node.at()].delivered.push((time, artifact.bytes().clone()));
        }
    }

    fn handle_node_event(&mut self, node: &mut Context<'_>, event: NodeEvent) {
        if let NodeEvent::Fault { fault, .. } = event {
            self.desks[node.at()].faults.push(fault);
        }
    }

    fn handle_request(&mut self, node: &mut Context<'_>, _: RouteId, request: Request) {
        let desk = &mut self.desks[node.at()];
        desk.requests.push((node.time(), request.clone()));
        match desk.manner {
            Manner::Answer => {
                node.answer(request.id, answer_to(&request.body)).expect("within bounds");
            }
            Manner::Keep => {}
            Manner::Busy(retry_after) => {
                assert!(node.refuse(request.id, Refusal::Busy { retry_after }));
            }
            Manner::Drop => assert!(node.refuse(request.id, Refusal::Dropped)),
        }
    }

    fn handle_cancelled(&mut self, node: &mut Context<'_>, request: RequestId) {
        self.desks[node.at()].cancelled.push(request);
        assert!(!node.refuse(request, Refusal::Dropped), "nobody waits");
    }

    fn handle_outcome(&mut self, node: &mut Context<'_>, outcome: Outcome) {
        let Outcome { call, result } = outcome;
        self.desks[node.at()].outcomes.push((call, node.time(), result));
    }
}

/// A configuration with one channel, and [`ROUTE`] as `change` has it.
pub(crate) fn config(change: impl FnOnce(&mut RouteConfig)) -> Config {
    let mut route = RouteConfig::new(ROUTE, "pieces");
    change(&mut route);
    Config::new([ChannelConfig::new(CHANNEL)]).routes([route])
}

/// Members that are connected to each other.
pub(crate) fn connected(setup: Setup) -> Subnet {
    let count = setup.configs.len();
    let office = Office { desks: (0..count).map(|_| Desk::default()).collect() };
    let mut subnet = Subnet::new(setup, office);
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
    let called = subnet.command(from, |_, node| node.call(to, ROUTE, body, timeout));
    called.expect("it runs")
}

/// Waits for the outcome of a call.
#[track_caller]
pub(crate) fn outcome(subnet: &mut Subnet, at: usize, call: CallId) -> Result<Bytes, CallError> {
    let find = |subnet: &Subnet| {
        let mut outcomes = subnet.application.desks[at].outcomes.iter();
        outcomes.find(|(of, ..)| *of == call).map(|(_, _, result)| result.clone())
    };
    let limit = Duration::from_secs(400);
    subnet.run_until("the call has ended", limit, |subnet| find(subnet).is_some());
    find(subnet).expect("it has ended")
}
