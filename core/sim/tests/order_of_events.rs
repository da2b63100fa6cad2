//! F14: what a node is told of two artifacts comes in the order in which their datagrams arrived,
//! whoever they came from and on whichever channels. Invariant 18.
//!
//! A publishes a cause, and B, once it has it, an effect. The process of C stands still meanwhile, so
//! that it finds the datagrams of both in its socket.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId};
use slotcast::node::{Ecn, Node, Occurrence, Output};
use slotcast::time::Time;
use slotcast_sim::{Application, Context, Link, Process, Setup, Subnet};

const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];

const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

const ROUNDS: u64 = 50;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn artifact(name: &str, round: u64) -> Artifact {
    Artifact::new(format!("{name} {round}").into(), &[]).expect("within the format's limits")
}

/// The application of A and B: B publishes the effect when it is told of the cause.
#[derive(Default)]
struct Answer {
    cause: Option<ArtifactId>,
    effect: Option<(ChannelId, Artifact)>,
}

impl Application for Answer {
    fn handle_event(&mut self, context: &mut Context<'_>, _: ChannelId, event: Event) {
        if let Event::Delivered { artifact, .. } = event
            && context.at() == B
            && self.cause == Some(artifact.id())
        {
            let (channel, effect) = self.effect.take().expect("it is delivered once");
            context.publish(channel, effect).expect("there is room");
        }
    }
}

/// What C was told, in order.
type Told = Rc<RefCell<Vec<ArtifactId>>>;

/// C: a node whose events are taken when it has nothing more to do.
struct Watched {
    node: Node,
    told: Told,
}

impl Watched {
    fn take_events(&mut self) {
        while let Some(occurrence) = self.node.poll_occurrence() {
            if let Occurrence::Artifact { event: Event::Delivered { artifact, .. }, .. } =
                occurrence
            {
                self.told.borrow_mut().push(artifact.id());
            }
        }
    }
}

impl Process for Watched {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.node.handle_datagrams(now, from, None, ecn, datagram.len(), datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let mut buffer = Vec::new();
        loop {
            match self.node.poll(now, 1, &mut buffer) {
                Output::Transmit(transmit) => send(transmit.destination, &buffer),
                Output::Idle { .. } if self.node.has_output() => {
                    self.take_events();
                }
                Output::Idle { wake_at, .. } => return wake_at,
            }
        }
    }
}

/// A, B and C, connected to each other.
fn connected() -> (Subnet<Answer>, Told) {
    let config = Config::new(CHANNELS.map(ChannelConfig::new));
    let setup = Setup::new(&config, 3).link(Link::new(ms(1)));
    let mut subnet = Subnet::stopped(setup, Answer::default());
    [A, B].into_iter().for_each(|at| subnet.start(at));
    let (key, seed) = (subnet.key(C).clone(), [7; 32]);
    let crypto = subnet.crypto().of_node(&key, &seed);
    let (topology, start) = (subnet.topology(0..3), subnet.start_instant());
    let node = Node::simulated(config, key, topology, seed, start, crypto);
    let told = Told::default();
    let node = Watched { node: node.expect("a valid setup"), told: told.clone() };
    subnet.install(C, Box::new(node));
    let are_up = |subnet: &mut Subnet<Answer>| {
        [A, B].iter().all(|at| subnet.node(*at).is_some_and(|node| node.peers_up().count() == 2))
    };
    subnet.run_until("connected", ms(5_000), are_up);
    subnet.elapse(ms(500));
    (subnet, told)
}

fn publish(subnet: &mut Subnet<Answer>, at: usize, channel: ChannelId, artifact: &Artifact) {
    let published = subnet.command(at, |_, node| node.publish(channel, artifact.clone()));
    published.expect("it runs").expect("there is room");
}

/// In how many rounds C was told of the effect before the cause.
fn inversions(cause_on: ChannelId, effect_on: ChannelId) -> usize {
    let (mut subnet, told) = connected();
    let mut inverted = 0;
    for round in 0..ROUNDS {
        let [before, cause, effect] =
            ["unrelated", "cause", "effect"].map(|name| artifact(name, round));
        subnet.application.cause = Some(cause.id());
        subnet.application.effect = Some((effect_on, effect.clone()));
        subnet.stall(C, ms(20));
        // B's connection is the first of which C finds a datagram.
        publish(&mut subnet, B, effect_on, &before);
        subnet.elapse(ms(1 + round % 5));
        publish(&mut subnet, A, cause_on, &cause);
        subnet.elapse(ms(10));
        assert!(told.borrow().is_empty(), "it stands still");
        subnet.run_until("all are delivered", ms(500), |_| told.borrow().len() == 3);
        let order = std::mem::take(&mut *told.borrow_mut());
        let place = |artifact: &Artifact| order.iter().position(|id| *id == artifact.id());
        inverted += usize::from(place(&effect).expect("told") < place(&cause).expect("told"));
        for (at, channel, artifact) in
            [(B, effect_on, &before), (A, cause_on, &cause), (B, effect_on, &effect)]
        {
            subnet.command(at, |_, node| node.abort(channel, &artifact.id()));
        }
        subnet.elapse(ms(100));
    }
    inverted
}

#[test]
fn f14_in_one_channel_a_cause_is_told_before_its_effect() {
    assert_eq!(inversions(CHANNELS[0], CHANNELS[0]), 0, "of {ROUNDS}");
}

#[test]
fn f14_across_channels_a_cause_is_told_before_its_effect() {
    for [cause_on, effect_on] in [[0, 1], [1, 0]] {
        assert_eq!(inversions(CHANNELS[cause_on], CHANNELS[effect_on]), 0, "of {ROUNDS}");
    }
}
