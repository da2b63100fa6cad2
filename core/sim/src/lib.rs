//! Whole subnets in one thread: real nodes and real QUIC, a seeded network, virtual time, and all
//! that can go wrong, members that lie included. A run depends on its seed alone, and can be taken
//! again at will.
//!
//! - [`Subnet`] holds nodes, their clocks and the [`Network`] between them, and moves them through
//!   time. What the replicas do is an [`Application`]: yours, to test your protocol with.
//! - [`Plan`] is a whole experiment: a subnet, paths, faults and hostile members drawn from a seed, an
//!   application that publishes and aborts, and checks of every invariant of this crate. The
//!   example `simulate` runs plans and draws them.
//! - [`Process`] is anything else that takes part: [`Byzantine`] is a member that speaks the
//!   protocol wrongly on purpose.
//!
//! A datagram passes the uplink of its sender, the [`Link`] between the two, and the downlink of its
//! receiver. A link has its own latency, rate, queue, loss and so on in each direction. Uplink and
//! downlink are a rate and a queue ([`Bottleneck`]) that all links of a participant share: a publisher
//! whose bulk traffic to some fills its uplink delays what it sends to everybody. They have no bound
//! unless [`Setup::uplink`], [`Setup::downlink`] or the methods of [`Network`] set one.
//!
//! With [`Crypto::Null`] there is no secrecy, only integrity: it is faster than TLS, leaves datagrams
//! readable to checks, and cannot be chosen outside this module.
//!
//! Thirteen nodes that publish 100 artifacts per second, each to twelve others, take about a
//! fifteenth of the time that they simulate (one core, release build); drawn plans, which are
//! smaller, less than a fiftieth.
//!
//! # A protocol in the simulator
//!
//! Replicas agree on blocks, one height after the other. The leader of a height publishes a block,
//! who has it publishes a vote, and who has seen enough votes goes on to the next height. A filter
//! refuses what is of the past and postpones votes of the future; what a replica has outgrown it
//! aborts, so that nobody is sent it any more. Here seven of them do so over a network that loses
//! every twentieth datagram, while one is killed and starts again with nothing.
//!
//! ```
//! use std::sync::Arc;
//! use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
//! use std::time::Duration;
//!
//! use slotcast::artifact::Artifact;
//! use slotcast::broadcast::{Candidate, Decision, Event, Priority};
//! use slotcast::config::{ChannelConfig, Class, Config};
//! use slotcast::id::{ArtifactId, ChannelId};
//! use slotcast_sim::{Application, Chance, Context, FaultKind, Link, Setup, Subnet};
//!
//! const BLOCKS: ChannelId = ChannelId(1);
//! const VOTES: ChannelId = ChannelId(2);
//! const REPLICAS: u64 = 7;
//!
//! #[derive(Default)]
//! struct Replica {
//!     /// Shared with the filters.
//!     height: Arc<AtomicU64>,
//!     votes: u64,
//!     published: Vec<(ChannelId, u64, ArtifactId)>,
//! }
//!
//! struct Agreement {
//!     replicas: Vec<Replica>,
//! }
//!
//! fn height(metadata: &[u8]) -> u64 {
//!     metadata.try_into().map_or(0, u64::from_be_bytes)
//! }
//!
//! impl Agreement {
//!     fn publish(&mut self, node: &mut Context<'_>, channel: ChannelId, height: u64) {
//!         let content = vec![node.at() as u8; if channel == BLOCKS { 50_000 } else { 96 }];
//!         let artifact = Artifact::new(content.into(), &height.to_be_bytes()).unwrap();
//!         self.replicas[node.at()].published.push((channel, height, artifact.id()));
//!         node.publish(channel, artifact).expect("few are active at a time");
//!     }
//!
//!     fn enter(&mut self, node: &mut Context<'_>, height: u64) {
//!         let replica = &mut self.replicas[node.at()];
//!         replica.height.store(height, Relaxed);
//!         replica.votes = 0;
//!         // The abort rule: the block and vote of the last height may still be needed.
//!         for (channel, _, id) in replica.published.extract_if(.., |(_, of, _)| *of + 1 < height) {
//!             node.abort(channel, &id);
//!         }
//!         node.reconsider(BLOCKS);
//!         node.reconsider(VOTES);
//!         if height % REPLICAS == node.at() as u64 {
//!             self.publish(node, BLOCKS, height);
//!             self.vote(node, height);
//!         }
//!     }
//!
//!     fn vote(&mut self, node: &mut Context<'_>, height: u64) {
//!         self.publish(node, VOTES, height);
//!         self.count_vote(node, height);
//!     }
//!
//!     fn count_vote(&mut self, node: &mut Context<'_>, height: u64) {
//!         let replica = &mut self.replicas[node.at()];
//!         replica.votes += 1;
//!         if replica.votes == REPLICAS - REPLICAS / 3 {
//!             self.enter(node, height + 1);
//!         }
//!     }
//! }
//!
//! impl Application for Agreement {
//!     fn start(&mut self, node: &mut Context<'_>) {
//!         self.replicas[node.at()] = Replica::default();
//!         let own = self.replicas[node.at()].height.clone();
//!         let blocks = move |candidate: &Candidate<'_>| {
//!             match height(&candidate.advert.metadata) < own.load(Relaxed) {
//!                 true => Decision::Drop,
//!                 false => Decision::Fetch(Priority::High),
//!             }
//!         };
//!         let own = self.replicas[node.at()].height.clone();
//!         let votes = move |candidate: &Candidate<'_>| {
//!             match height(&candidate.advert.metadata).cmp(&own.load(Relaxed)) {
//!                 std::cmp::Ordering::Less => Decision::Drop,
//!                 std::cmp::Ordering::Equal => Decision::Fetch(Priority::Normal),
//!                 std::cmp::Ordering::Greater => Decision::Later,
//!             }
//!         };
//!         node.node_mut().set_filter(BLOCKS, Box::new(blocks));
//!         node.node_mut().set_filter(VOTES, Box::new(votes));
//!         self.enter(node, 0);
//!     }
//!
//!     fn handle_event(&mut self, node: &mut Context<'_>, channel: ChannelId, event: Event) {
//!         let Event::Delivered { artifact, .. } = event else { return };
//!         let (of, own) = (height(artifact.metadata()), self.replicas[node.at()].height.clone());
//!         if channel == BLOCKS {
//!             // A real block proves that its parent was agreed on.
//!             if of > own.load(Relaxed) {
//!                 self.enter(node, of);
//!             }
//!             self.vote(node, of);
//!         } else if of == own.load(Relaxed) {
//!             self.count_vote(node, of);
//!         }
//!     }
//! }
//!
//! let channels = [BLOCKS, VOTES].map(|id| ChannelConfig::new(id).class(Class::Urgent));
//! let link = Link { loss: Chance::percent(5), ..Link::new(Duration::from_millis(30)) };
//! let setup = Setup::new(&Config::new(channels), REPLICAS as usize).link(link).seed(7);
//! let replicas = (0..REPLICAS).map(|_| Replica::default()).collect();
//! let mut subnet = Subnet::new(setup, Agreement { replicas });
//!
//! subnet.elapse(Duration::from_secs(5));
//! subnet.crash(3, FaultKind::CrashAndForget);
//! subnet.elapse(Duration::from_secs(2));
//! subnet.start(3);
//! subnet.run_until("all have come to height 60", Duration::from_secs(60), |subnet| {
//!     let mut replicas = subnet.application.replicas.iter();
//!     replicas.all(|replica| replica.height.load(Relaxed) >= 60)
//! });
//! ```

#![forbid(unsafe_code)]
// docs.rs says with each item which feature it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

mod application;
mod bottleneck;
mod clock;
mod crypto;
mod fault;
#[doc(hidden)]
pub mod hostile;
#[cfg(test)]
mod hostile_tests;
mod network;
mod null;
mod process;
mod processor;
mod setup;
mod subnet;
mod swarm;
mod trace;

pub use application::{Application, Context, Sent, address};
pub use bottleneck::Bottleneck;
pub use clock::Clock;
pub use crypto::Crypto;
pub use fault::{FaultCounts, FaultKind};
pub use hostile::{Byzantine, Tally, Trick};
pub use network::{Bursts, Chance, Latency, Link, Network};
pub use process::Process;
pub use setup::Setup;
pub use slotcast::internals::Random;
pub use subnet::Subnet;
pub use swarm::{
    Bytes, CONVERGED_WITHIN, CallCounts, Failure, Latencies, MemoryMeter, Paths, Plan, Report,
    Workload, byzantine_max,
};
pub use trace::{Entry, Trace, What};
