//! Broadcast on loopback, beside the reference's rule over plain quinn in the same run.
//!
//! `cargo bench -p slotcast-bench --bench broadcast [-- --seconds S --mtu BYTES --rounds R]`
//!
//! - *flood*: at most 1,000 artifacts that are not yet delivered everywhere, each aborted once it is.
//! - *paced*: each node publishes 20 artifacts a second, which stay active for a second.
//! - *large*: one artifact after the other, each aborted when it is delivered everywhere.
//!
//! The machine is shared and noisy: the two systems take turns, the better round of each counts,
//! and what matters is the ratio.

mod measure;
mod ours;
mod reference;

use std::collections::HashMap;
use std::future::Future;
use std::time::{Duration, Instant};

use bytes::Bytes;
use measure::{Figures, Row};
use reference::{Delivery, Id};
use slotcast_bench::cpu::cpu_time;

const OUTSTANDING_MAX: usize = 1_000;
const PACED_PER_SECOND: u64 = 20;

/// A broadcast system: all nodes in this process, on loopback.
trait System: Sized + Send + Sync + 'static {
    const NAME: &str;
    fn start(nodes: usize, mtu: u16) -> impl Future<Output = Self> + Send;
    fn publish(&self, node: usize, bytes: Bytes) -> Id;
    fn abort(&self, node: usize, id: &Id);
    /// Waits for deliveries and appends them.
    fn deliveries(&self, into: &mut Vec<Delivery>) -> impl Future<Output = ()> + Send;
    fn udp_bytes(&self) -> u64;
    fn shutdown(self) -> impl Future<Output = ()> + Send;
}

impl System for reference::Subnet {
    const NAME: &str = "stream per update";

    async fn start(nodes: usize, mtu: u16) -> Self {
        Self::start(nodes, mtu).await
    }
    fn publish(&self, node: usize, bytes: Bytes) -> Id {
        self.publish(node, bytes)
    }
    fn abort(&self, node: usize, id: &Id) {
        self.abort(node, id);
    }
    async fn deliveries(&self, into: &mut Vec<Delivery>) {
        self.deliveries(into).await;
    }
    fn udp_bytes(&self) -> u64 {
        self.udp_bytes()
    }
    async fn shutdown(self) {
        self.shutdown().await;
    }
}

/// What is published, and how fast.
#[derive(Clone, Copy, Debug)]
enum Load {
    Flood,
    Paced,
    OneByOne,
}

#[derive(Clone, Copy, Debug)]
struct Case {
    load: Load,
    nodes: usize,
    size: usize,
}

impl Case {
    const ALL: [Self; 10] = [
        Self { load: Load::Flood, nodes: 4, size: 200 },
        Self { load: Load::Flood, nodes: 13, size: 200 },
        Self { load: Load::Flood, nodes: 4, size: 4 << 10 },
        Self { load: Load::Flood, nodes: 13, size: 4 << 10 },
        Self { load: Load::Paced, nodes: 4, size: 200 },
        Self { load: Load::Paced, nodes: 13, size: 200 },
        Self { load: Load::OneByOne, nodes: 4, size: 1 << 20 },
        Self { load: Load::OneByOne, nodes: 13, size: 1 << 20 },
        Self { load: Load::OneByOne, nodes: 4, size: 4 << 20 },
        Self { load: Load::OneByOne, nodes: 13, size: 4 << 20 },
    ];

    fn name(&self) -> String {
        let load = match self.load {
            Load::Flood => "flood",
            Load::Paced => "paced",
            Load::OneByOne => "large",
        };
        let size = if self.size < 1 << 20 {
            format!("{} B", self.size)
        } else {
            format!("{} MiB", self.size >> 20)
        };
        format!("{load}, {} nodes, {size}", self.nodes)
    }
}

/// An artifact on its way.
struct Open {
    node: usize,
    published: Instant,
    /// Bit per node that has it.
    delivered: u64,
}

async fn run<S: System>(case: Case, seconds: f64, mtu: u16) -> Figures {
    let system = S::start(case.nodes, mtu).await;
    let mut open: HashMap<Id, Open> = HashMap::new();
    let mut arrived = Vec::new();
    let mut latencies = Vec::new();
    let (start, cpu, udp) = (Instant::now(), cpu_time(), system.udp_bytes());
    let end = start + Duration::from_secs_f64(seconds);
    let mut number = 0_u64;
    let mut publish = |open: &mut HashMap<Id, Open>| {
        let mut bytes = vec![0; case.size];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let node = number as usize % case.nodes;
        number += 1;
        let published = Instant::now();
        let id = system.publish(node, bytes.into());
        open.insert(id, Open { node, published, delivered: 1 << node });
        number
    };
    let mut next_paced = start;
    let step = Duration::from_secs(1) / (PACED_PER_SECOND as u32 * case.nodes as u32);
    let limit = match case.load {
        Load::Flood => OUTSTANDING_MAX,
        Load::OneByOne => 1,
        Load::Paced => 0,
    };
    loop {
        let now = Instant::now();
        if now >= end && open.is_empty() {
            break;
        }
        if now < end {
            while open.len() < limit {
                publish(&mut open);
            }
            while matches!(case.load, Load::Paced) && next_paced <= now {
                publish(&mut open);
                next_paced += step;
            }
        }
        arrived.clear();
        let patience = match case.load {
            Load::Paced if now < end => next_paced.saturating_duration_since(now),
            _ => Duration::from_secs(20),
        };
        if tokio::time::timeout(patience, system.deliveries(&mut arrived)).await.is_err() {
            assert!(
                matches!(case.load, Load::Paced) && now < end,
                "{}: stuck in {case:?}",
                S::NAME
            );
        }
        for delivery in &arrived {
            let item = open.get_mut(&delivery.id).expect("active until it is everywhere");
            latencies.push(delivery.at.saturating_duration_since(item.published));
            assert!(item.delivered >> delivery.node & 1 == 0, "{}: delivered twice", S::NAME);
            item.delivered |= 1 << delivery.node;
            if item.delivered.count_ones() as usize == case.nodes {
                let item = open.remove(&delivery.id).expect("just seen");
                system.abort(item.node, &delivery.id);
            }
        }
    }
    let figures = Figures::new(
        start.elapsed(),
        cpu_time() - cpu,
        system.udp_bytes() - udp,
        case.size,
        latencies,
    );
    system.shutdown().await;
    figures
}

async fn best_of<S: System>(best: &mut Option<Figures>, case: Case, seconds: f64, mtu: u16) {
    // In a task: the main thread's future is polled less eagerly.
    let figures = tokio::spawn(run::<S>(case, seconds, mtu)).await.expect("the run does not panic");
    if best.as_ref().is_none_or(|best| figures.per_second() > best.per_second()) {
        *best = Some(figures);
    }
}

fn option(name: &str, default: f64) -> f64 {
    let mut arguments = std::env::args().skip_while(|argument| argument != name);
    let value = arguments.nth(1);
    value.map_or(default, |value| value.parse().unwrap_or_else(|_| panic!("{name} takes a number")))
}

#[tokio::main]
async fn main() {
    let (seconds, mtu) = (option("--seconds", 2.0), option("--mtu", 1452.0) as u16);
    let rounds = option("--rounds", 2.0) as usize;
    let only = std::env::args().skip_while(|argument| argument != "--only").nth(1);
    println!("{}", Row::head());
    for case in Case::ALL {
        if only.as_ref().is_some_and(|only| !case.name().contains(only)) {
            continue;
        }
        let (mut ours, mut theirs) = (None, None);
        for round in 0..rounds {
            eprintln!("{}: round {} of {rounds}", case.name(), round + 1);
            best_of::<ours::Subnet>(&mut ours, case, seconds, mtu).await;
            best_of::<reference::Subnet>(&mut theirs, case, seconds, mtu).await;
        }
        let (ours, theirs) = (ours.expect("a round"), theirs.expect("a round"));
        println!("{}", Row { name: &case.name(), system: ours::Subnet::NAME, figures: &ours });
        let name = reference::Subnet::NAME;
        println!("{}", Row { name: "", system: name, figures: &theirs });
        println!("{}", ours.ratios(&theirs));
    }
}
