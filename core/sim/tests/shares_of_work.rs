//! What a peer sends beyond its share of a node's work waits, in the order in which it came, and is read bit by
//! bit, calls as well as broadcast. Chunks that it was asked for wait by themselves, and hold up nothing else that it
//! sends. Invariants 9, 11, 18.
//!
//! The process of B stands still meanwhile, so that it finds many datagrams in its socket.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use bytes::Bytes;
use slotcast::artifact::Artifact;
use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config, RouteConfig};
use slotcast::id::{ArtifactId, ChannelId, RouteId};
use slotcast::node::{Ecn, Node, Occurrence, Output};
use slotcast::time::Time;
use slotcast_sim::{Application, Context, Link, Process, Setup, Subnet};

const CHANNEL: ChannelId = ChannelId(1);
const BLOCKS: ChannelId = ChannelId(2);
const ROUTE: RouteId = RouteId(1);

const A: usize = 0;
const B: usize = 1;

const TURN_MAX: u32 = 100;
/// A link that was quiet may have so much at once.
const SAVED: u64 = 4 * TURN_MAX as u64;
/// What `WorkConfig` says of a datagram.
const DATAGRAM: u64 = 30;

const fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

struct Silent;

impl Application for Silent {
    fn handle_event(&mut self, _: &mut Context<'_>, _: ChannelId, _: Event) {}
}

#[derive(Default)]
struct Seen {
    told: Vec<ArtifactId>,
    /// The most work in a turn, besides that for datagrams.
    most: u64,
}

struct Watched {
    node: Node,
    seen: Rc<RefCell<Seen>>,
    datagrams: u64,
    work_before: u64,
}

impl Watched {
    fn end_turn(&mut self) {
        let work = self.node.stats().work;
        let read = work - self.work_before - DATAGRAM * std::mem::take(&mut self.datagrams);
        self.work_before = work;
        let mut seen = self.seen.borrow_mut();
        seen.most = seen.most.max(read);
        while let Some(occurrence) = self.node.poll_occurrence() {
            if let Occurrence::Artifact { event: Event::Delivered { artifact, .. }, .. } =
                occurrence
            {
                seen.told.push(artifact.id());
            }
        }
    }
}

impl Process for Watched {
    fn handle_datagram(&mut self, now: Time, from: SocketAddr, ecn: Option<Ecn>, datagram: &[u8]) {
        self.datagrams += 1;
        self.node.handle_datagrams(now, from, None, ecn, datagram.len(), datagram);
    }

    fn poll(&mut self, now: Time, send: &mut dyn FnMut(SocketAddr, &[u8])) -> Time {
        let mut buffer = Vec::new();
        loop {
            match self.node.poll(now, 1, &mut buffer) {
                Output::Transmit(transmit) => {
                    self.datagrams += 1;
                    send(transmit.destination, &buffer);
                }
                Output::Idle { wake_at, .. } => {
                    self.end_turn();
                    if !self.node.has_output() {
                        return wake_at;
                    }
                }
            }
        }
    }
}

fn connected() -> (Subnet<Silent>, Rc<RefCell<Seen>>) {
    let blocks = ChannelConfig::new(BLOCKS).class(Class::Bulk);
    let mut config = Config::new([ChannelConfig::new(CHANNEL), blocks]);
    config.routes.push(RouteConfig::new(ROUTE, "bodies").bytes_max(1 << 20, 1 << 20));
    config.work.turn_max = TURN_MAX;
    let setup = Setup::new(&config, 2).link(Link::new(ms(1)));
    let mut subnet = Subnet::stopped(setup, Silent);
    subnet.start(A);
    let (key, seed) = (subnet.key(B).clone(), [7; 32]);
    let crypto = subnet.crypto().of_node(&key, &seed);
    let (topology, start) = (subnet.topology(0..2), subnet.start_instant());
    let node = Node::simulated(config, key, topology, seed, start, crypto);
    let mut node = node.expect("a valid setup");
    assert!(node.serve(Time(1), ROUTE, true));
    let seen = Rc::<RefCell<Seen>>::default();
    let (datagrams, work_before) = (0, 0);
    let watched = Watched { node, seen: seen.clone(), datagrams, work_before };
    subnet.install(B, Box::new(watched));
    let is_up = |subnet: &mut Subnet<Silent>| {
        subnet.node(A).is_some_and(|node| node.peers_up().count() == 1)
    };
    subnet.run_until("connected", ms(5_000), is_up);
    subnet.elapse(ms(500));
    (subnet, seen)
}

fn publish(subnet: &mut Subnet<Silent>, artifacts: &[Artifact]) {
    publish_in(CHANNEL, subnet, artifacts);
}

fn publish_in(channel: ChannelId, subnet: &mut Subnet<Silent>, artifacts: &[Artifact]) {
    let all = artifacts.to_vec();
    let published = subnet.command(A, move |_, node| {
        all.into_iter().for_each(|a| node.publish(channel, a).expect("there is room"));
    });
    published.expect("it runs");
}

#[test]
fn what_is_left_of_a_batch_is_read_before_what_came_behind_it() {
    let (mut subnet, seen) = connected();
    for round in 0..8_u64 {
        let artifact = |at: usize| {
            Artifact::new(format!("{round} {at}").into(), &[]).expect("within the limits")
        };
        let batch: Vec<_> = (0..200).map(artifact).collect();
        let later: Vec<_> = (200..210).map(artifact).collect();
        subnet.stall(B, ms(20));
        publish(&mut subnet, &batch);
        subnet.elapse(ms(1));
        for one in &later {
            publish(&mut subnet, std::slice::from_ref(one));
        }
        subnet.elapse(ms(10));
        assert!(seen.borrow().told.is_empty(), "it stands still");
        let len = batch.len() + later.len();
        subnet.run_until("all are delivered", ms(2_000), |_| seen.borrow().told.len() == len);
        let told = std::mem::take(&mut seen.borrow_mut().told);
        let order: Vec<_> =
            later.iter().map(|a| told.iter().position(|id| *id == a.id())).collect();
        let expected: Vec<_> = (batch.len()..len).map(Some).collect();
        assert_eq!(order, expected, "in round {round}");
        let ids: Vec<_> = batch.iter().chain(&later).map(Artifact::id).collect();
        subnet.command(A, move |_, node| {
            for id in &ids {
                node.abort(CHANNEL, id);
            }
        });
        subnet.elapse(ms(500));
    }
    let most = seen.borrow().most;
    assert!(most > u64::from(TURN_MAX), "a batch is beyond the share");
}

#[test]
fn the_body_of_a_call_is_read_within_the_share() {
    let (mut subnet, seen) = connected();
    let to = subnet.key(B).id();
    let called = subnet.command(A, move |_, context| {
        let node = context.node_mut();
        node.call(Time(1), &to, ROUTE, Bytes::from(vec![7; 1 << 20]), None, true)
    });
    called.expect("it runs").expect("there is credit");
    for _ in 0..40 {
        subnet.stall(B, ms(20));
        subnet.elapse(ms(25));
    }
    let most = seen.borrow().most;
    assert!(most <= SAVED + 100, "{most} in a turn");
    assert!(most > u64::from(TURN_MAX), "it is beyond the share");
}

/// What has come before the end of a connection is read all the same, but no faster: or who is beyond its share would
/// only have to close its connections.
#[test]
fn what_came_before_the_end_of_a_connection_is_read_within_the_share() {
    let (mut subnet, seen) = connected();
    let artifact =
        |at: usize| Artifact::new(format!("{at}").into(), &[]).expect("within the limits");
    let all: Vec<_> = (0..1000).map(artifact).collect();
    subnet.stall(B, ms(20));
    publish(&mut subnet, &all);
    subnet.elapse(ms(5));
    subnet.command(A, |_, context| {
        let now = context.time();
        context.node_mut().shutdown(now);
    });
    subnet.elapse(ms(10));
    assert!(seen.borrow().told.is_empty(), "it stands still");
    subnet.elapse(ms(2_000));
    let (most, told) = (seen.borrow().most, seen.borrow().told.len());
    assert_eq!(told, all.len());
    assert!(most <= SAVED + 1000, "{most} in a turn");
}

/// A node that was busy for a while finds chunks of long artifacts and, behind them, short ones in its socket.
#[test]
fn w2_what_is_short_is_read_before_the_chunks_that_came_before_it() {
    let (mut subnet, seen) = connected();
    for round in 0..8_u8 {
        let block = Artifact::new(vec![round; 200_000].into(), &[]).expect("within the limits");
        let short = Artifact::new(vec![round; 100].into(), &[]).expect("within the limits");
        publish_in(BLOCKS, &mut subnet, std::slice::from_ref(&block));
        // It has been asked for.
        subnet.elapse(ms(2));
        subnet.stall(B, ms(20));
        subnet.elapse(ms(2));
        publish(&mut subnet, std::slice::from_ref(&short));
        subnet.elapse(ms(10));
        assert!(seen.borrow().told.is_empty(), "it stands still");
        subnet.run_until("both are delivered", ms(5_000), |_| seen.borrow().told.len() == 2);
        let told = std::mem::take(&mut seen.borrow_mut().told);
        assert_eq!(told, [short.id(), block.id()], "in round {round}");
        subnet.elapse(ms(500));
    }
}
