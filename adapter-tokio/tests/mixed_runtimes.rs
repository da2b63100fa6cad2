//! Four nodes on loopback, two under tokio and two under smol, form one subnet: artifacts of every
//! size arrive, aborts are seen, and a node that restarts with its key gets what is still active.
//! The application is a plain thread per node: handles work without a runtime around them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use slotcast_tokio::slotcast::artifact::Artifact;
use slotcast_tokio::slotcast::broadcast::{Candidate, Decision, Event, Priority};
use slotcast_tokio::slotcast::config::{ChannelConfig, Class, Config};
use slotcast_tokio::slotcast::driver::{DriverError, TopologySource, Unfollowed};
use slotcast_tokio::slotcast::error::PublishError;
use slotcast_tokio::slotcast::id::{ArtifactId, ChannelId, NodeId};
use slotcast_tokio::slotcast::membership::{Topology, TopologyError};
use slotcast_tokio::slotcast::node::{NodeEvent, NodeKey};
use slotcast_tokio::{Channel, NodeHandle, Setup, StartError};

const SMALL: ChannelId = ChannelId(1);
const LARGE: ChannelId = ChannelId(2);

/// Nothing here takes a second; a loaded machine may be slow.
const PATIENCE: Duration = Duration::from_secs(60);

struct Subnet {
    runtime: tokio::runtime::Runtime,
    keys: Vec<NodeKey>,
    addresses: Vec<SocketAddr>,
    topology: Topology,
}

/// A node and what its application has been told.
struct Member {
    node: NodeHandle,
    channels: [Channel; 2],
    delivered: BTreeMap<ArtifactId, (NodeId, usize)>,
    expired: BTreeSet<ArtifactId>,
}

impl Subnet {
    fn new(nodes: u8) -> Self {
        let keys: Vec<NodeKey> = (0..nodes).map(|n| NodeKey::from_seed([n; 32])).collect();
        let sockets: Vec<UdpSocket> =
            keys.iter().map(|_| UdpSocket::bind("127.0.0.1:0").unwrap()).collect();
        let addresses: Vec<SocketAddr> =
            sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let members = keys.iter().zip(&addresses).map(|(key, at)| (key.id(), vec![*at]));
        let topology = Topology::new(1, members).unwrap();
        Self { runtime: tokio::runtime::Runtime::new().unwrap(), keys, addresses, topology }
    }

    fn setup(&self, node: usize) -> Setup {
        let config = Config::new([
            ChannelConfig::new(SMALL).class(Class::Urgent),
            ChannelConfig::new(LARGE).class(Class::Bulk),
        ]);
        Setup::new(self.keys[node].clone(), config, self.topology.clone())
    }

    /// Even nodes run under tokio, odd ones under smol.
    fn start(&self, node: usize) -> Member {
        let handle = match node % 2 {
            0 => {
                let _guard = self.runtime.enter();
                slotcast_tokio::bind(self.setup(node), self.addresses[node])
            }
            _ => slotcast_smol::bind(self.setup(node), self.addresses[node]),
        };
        Member::new(handle.unwrap())
    }
}

impl Member {
    fn new(node: NodeHandle) -> Self {
        Self {
            channels: [node.channel(SMALL).unwrap(), node.channel(LARGE).unwrap()],
            node,
            delivered: BTreeMap::new(),
            expired: BTreeSet::new(),
        }
    }

    fn take_events(&mut self) {
        for channel in &self.channels {
            while let Some(event) = channel.try_event() {
                match event {
                    Event::Delivered { artifact, from } => {
                        let seen = (from, artifact.bytes().len());
                        let before = self.delivered.insert(artifact.id(), seen);
                        assert_eq!(before, None, "delivered once");
                    }
                    Event::Expired { id } => drop(self.expired.insert(id)),
                    other => panic!("{other:?}"),
                }
            }
        }
    }
}

/// Takes events until `done`; the state ends the wait, the clock only a failure.
fn until(members: &mut [Member], what: &str, done: impl Fn(&[Member]) -> bool) {
    let start = Instant::now();
    loop {
        members.iter_mut().for_each(Member::take_events);
        if done(members) {
            return;
        }
        assert!(start.elapsed() < PATIENCE, "not reached: {what}");
        std::thread::yield_now();
    }
}

fn has_all(member: &Member, ids: &[ArtifactId]) -> bool {
    ids.iter().all(|id| member.delivered.contains_key(id))
}

#[test]
fn i9_four_nodes_under_two_runtimes_with_a_restart() {
    let subnet = Subnet::new(4);
    let mut members: Vec<Member> = (0..4).map(|node| subnet.start(node)).collect();

    // Each publishes before anyone is connected: a small and a large artifact.
    let mut published: Vec<[ArtifactId; 2]> = Vec::new();
    for (n, member) in members.iter().enumerate() {
        let small = member.channels[0].publish(vec![n as u8; 200], b"small").unwrap();
        let large = member.channels[1].publish(vec![n as u8; 4 << 20], b"large").unwrap();
        published.push([small, large]);
    }
    let from_others = |n: usize| -> Vec<ArtifactId> {
        (0..4).filter(|other| *other != n).flat_map(|other| published[other]).collect()
    };
    until(&mut members, "everything is everywhere", |members| {
        members.iter().enumerate().all(|(n, member)| has_all(member, &from_others(n)))
    });
    let (from, length) = members[0].delivered[&published[3][1]];
    assert_eq!((from, length), (subnet.keys[3].id(), 4 << 20));

    // An abort reaches everybody.
    let aborted = published[1][1];
    assert!(members[1].channels[1].abort(&aborted));
    assert!(!members[1].channels[1].abort(&aborted), "only once");
    until(&mut members, "the abort is seen", |members| {
        let others = [0, 2, 3];
        others.iter().all(|n| members[*n].expired.contains(&aborted))
    });

    // A node stops and comes back with the same key, and without its memory.
    let stopped = members.remove(2);
    smol::block_on(stopped.node.shutdown()).unwrap();
    assert_eq!(stopped.channels[0].publish(vec![1], b""), Err(PublishError::Closed));
    drop(stopped);
    members.insert(2, subnet.start(2));
    let news = members[2].channels[0].publish(vec![77; 300], b"after the restart").unwrap();
    until(&mut members, "the restarted node is up to date, and so are the others", |members| {
        let active = from_others(2).into_iter().filter(|id| *id != aborted);
        has_all(&members[2], &active.collect::<Vec<_>>())
            && [0, 1, 3].iter().all(|n| {
                let lost = published[2].iter().all(|id| members[*n].expired.contains(id));
                members[*n].delivered.contains_key(&news) && lost
            })
    });

    for member in &mut members {
        smol::block_on(member.node.shutdown()).unwrap();
        member.take_events();
        let after_the_end = smol::block_on(member.channels[0].next_event());
        assert_eq!(after_the_end, None, "nobody waits for a node that has shut down");
    }
}

/// Under tokio: smol lets a task's panic go through its executor.
#[test]
fn a_filter_that_panics_ends_the_node_with_an_error() {
    let subnet = Subnet::new(2);
    let publisher = subnet.start(1);
    let panics = |_: &Candidate<'_>| -> Decision { panic!("a filter that panics, for the test") };
    let setup = subnet.setup(0).filter(SMALL, panics);
    let node = {
        let _guard = subnet.runtime.enter();
        slotcast_tokio::bind(setup, subnet.addresses[0]).unwrap()
    };
    publisher.channels[0].publish("anything", b"").unwrap();
    let closed =
        subnet.runtime.block_on(async { tokio::time::timeout(PATIENCE, node.closed()).await });
    let closed = closed.expect("in time");
    assert!(matches!(closed, Err(DriverError::Panic(_))), "{closed:?}");
}

#[test]
fn mistakes_of_the_caller_are_typed_and_change_nothing() {
    let subnet = Subnet::new(1);
    let member = subnet.start(0);
    let taken = slotcast_smol::bind(subnet.setup(0), subnet.addresses[0]).unwrap_err();
    assert!(
        matches!(&taken, StartError::Socket { address, .. } if *address == subnet.addresses[0])
    );
    assert!(taken.to_string().contains("127.0.0.1"), "{taken}");

    assert!(member.node.channel(ChannelId(9)).is_err());
    let unknown =
        subnet.setup(0).filter(ChannelId(9), |_: &Candidate<'_>| Decision::Fetch(Priority::Normal));
    let unknown = slotcast_smol::bind(unknown, "127.0.0.1:0".parse().unwrap()).unwrap_err();
    assert!(matches!(unknown, StartError::UnknownChannel(ChannelId(9))));

    let channel = &member.channels[0];
    assert!(matches!(
        channel.publish(vec![0; (16 << 20) + 1], b""),
        Err(PublishError::Artifact(_))
    ));
    assert!(matches!(channel.publish(vec![0], &[0; 129]), Err(PublishError::Artifact(_))));
    for n in 0..1024_u32 {
        channel.publish(n.to_be_bytes().to_vec(), b"").unwrap();
    }
    assert_eq!(channel.publish(vec![0], b""), Err(PublishError::OutboxFull));
    let first = Artifact::new(0_u32.to_be_bytes().to_vec().into(), b"").unwrap();
    channel.publish_artifact(&first).expect("it is published already");
    assert!(channel.abort(&first.id()));
    channel.publish(vec![0], b"").unwrap();

    let large = &member.channels[1];
    let publish = |n: u8| large.publish(vec![n; 16 << 20], b"");
    assert!((0..4).all(|n| publish(n).is_ok()));
    assert_eq!(publish(4), Err(PublishError::ActiveBytesExceeded));
}

#[test]
fn t3_members_that_leave_the_topology_are_dropped_and_may_come_back() {
    let subnet = Subnet::new(3);
    let members: Vec<Member> = (0..3).map(|node| subnet.start(node)).collect();
    let (node, leaver) = (&members[0].node, subnet.keys[2].id());
    let expect = |wanted: fn(NodeEvent) -> Option<NodeId>, peer: NodeId| {
        smol::block_on(async { while node.next_event().await.and_then(wanted) != Some(peer) {} });
    };
    let up = |event| if let NodeEvent::Up { peer } = event { Some(peer) } else { None };
    let down = |event| if let NodeEvent::Down { peer, .. } = event { Some(peer) } else { None };
    expect(up, leaver);
    let without = |version, left: NodeId| {
        let stay = subnet.topology.members().filter(|(node, _)| *node != left);
        Topology::new(version, stay.map(|(node, at)| (node, at.to_vec()))).unwrap()
    };
    node.set_topology(without(2, leaver)).unwrap();
    expect(down, leaver);
    assert!(node.set_topology(without(1, leaver)).is_err(), "versions do not go back");
    let everyone = without(3, NodeId([0; 32]));
    node.set_topology(everyone).unwrap();
    expect(up, leaver);
}

/// What a source has to say, and whether it says nothing then or ends.
struct Told(VecDeque<Result<Topology, &'static str>>, bool);

impl TopologySource for Told {
    type Error = &'static str;

    async fn next(&mut self) -> Option<Result<Topology, &'static str>> {
        match self.0.pop_front() {
            None if !self.1 => std::future::pending().await,
            next => next,
        }
    }
}

#[test]
fn a_source_is_followed_in_force_or_not_until_it_or_the_node_ends() {
    let subnet = Subnet::new(2);
    let member = subnet.start(0);
    let node = member.node.clone();
    let of = |version, nodes: &[usize]| {
        let members = nodes.iter().map(|at| (subnet.keys[*at].id(), vec![subnet.addresses[*at]]));
        Topology::new(version, members).unwrap()
    };
    // A window that it replaces.
    node.add_topology(of(2, &[0])).unwrap();
    let news = [
        Ok(of(2, &[0])),
        Err("broken"),
        Ok(of(2, &[0])),
        Ok(of(1, &[0, 1])),
        Ok(of(2, &[1])),
        Ok(of(4, &[0, 1])),
    ];
    let mut told = Vec::new();
    let followed = node.follow(Told(news.into(), true), |result| {
        told.push(result.map(|topology| (topology.version(), topology.members().len())));
    });
    smol::block_on(followed);
    let refused = |version, error| Err(Unfollowed::Refused { version, error });
    let expected = [
        Ok((2, 1)),
        Err(Unfollowed::Source("broken")),
        refused(1, TopologyError::VersionBackwards),
        refused(2, TopologyError::VersionReused),
        Ok((4, 2)),
    ];
    assert_eq!(told, expected);
    assert_eq!(node.membership().versions(), [of(4, &[0, 1])]);
    node.add_topology(of(5, &[0])).unwrap();
    assert_eq!(node.membership().members().len(), 2);
    node.retire_topologies(5).unwrap();
    assert_eq!(node.membership().members().len(), 1);

    // It does not keep the node running, and ends with it.
    let endless = node.follow(Told(VecDeque::new(), false), |result| panic!("{result:?}"));
    drop((node, member));
    smol::block_on(endless);
}
