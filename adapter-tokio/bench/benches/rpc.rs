//! Calls on loopback, beside one bidirectional stream per call over plain quinn in the same run.
//!
//! `cargo bench -p slotcast-bench --bench rpc [-- --runtime R --seconds S --rounds N --only NAME]`
//!
//! - *one by one*: the next call begins when the last has ended: latency.
//! - *at once*: so many calls are always under way: throughput.
//!
//! Datagrams per call are those of both ends, and do not depend on the machine's load as times do.
//!
//! The machine is shared and noisy: the two systems take turns, the better round of each counts,
//! and what matters is the ratio.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn::{Connection, Endpoint, VarInt};
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::driver::{NodeHandle, Route};
use slotcast::id::{ChannelId, NodeId, RouteId};
use slotcast_bench::options::Options;
use slotcast_bench::runtime::{self, Runtime};
use slotcast_bench::subnet::{all_connected, start_nodes};
use slotcast_bench::{cpu_time, plain};

const ROUTE: RouteId = RouteId(1);
const MIB: usize = 1 << 20;

#[derive(Clone, Copy)]
struct Case {
    name: &'static str,
    /// Calls under way.
    at_once: usize,
    request: usize,
    answer: usize,
}

impl Case {
    const ALL: [Self; 7] = [
        Self { name: "100 B, one by one", at_once: 1, request: 100, answer: 100 },
        Self { name: "100 B, 16 at once", at_once: 16, request: 100, answer: 100 },
        Self { name: "100 B, 64 at once", at_once: 64, request: 100, answer: 100 },
        Self { name: "1 MiB there, 8 at once", at_once: 8, request: MIB, answer: 100 },
        Self { name: "1 MiB back, 8 at once", at_once: 8, request: 100, answer: MIB },
        Self { name: "1 MiB there, one by one", at_once: 1, request: MIB, answer: 100 },
        Self { name: "1 MiB back, one by one", at_once: 1, request: 100, answer: MIB },
    ];
}

/// The answer to each request, and whoever calls.
trait System: Clone + Send + Sync + 'static {
    const NAME: &str;
    fn start<R: Runtime>(case: Case) -> impl Future<Output = Self> + Send;
    fn call(&self, request: Bytes) -> impl Future<Output = usize> + Send;
    /// Datagrams that both ends have sent.
    fn datagrams(&self) -> u64;
    fn stop(self) -> impl Future<Output = ()> + Send;
}

#[derive(Clone)]
struct Slotcast {
    nodes: Vec<NodeHandle>,
    route: Route,
    callee: NodeId,
}

impl System for Slotcast {
    const NAME: &str = "slotcast";

    async fn start<R: Runtime>(case: Case) -> Self {
        let route = RouteConfig::new(ROUTE, "bench").bytes_max(MIB as u32, case.answer as u32);
        let config = Config::new([ChannelConfig::new(ChannelId(1))]).routes([route]);
        let nodes = start_nodes(2, &config, R::bind);
        all_connected(&nodes).await;
        let server = nodes[1].route(ROUTE).expect("configured").serve().expect("served");
        let answer = Bytes::from(vec![1; case.answer]);
        drop(R::spawn(async move {
            while let Some(request) = server.next_request().await {
                // The bench may have ended.
                let _ = request.answer(answer.clone());
            }
        }));
        let route = nodes[0].route(ROUTE).expect("configured");
        let callee = nodes[1].key_id();
        Self { nodes, route, callee }
    }

    async fn call(&self, request: Bytes) -> usize {
        self.route.call(self.callee, request).await.expect("answered").len()
    }

    fn datagrams(&self) -> u64 {
        self.nodes.iter().map(|node| node.stats().sent_datagrams).sum()
    }

    async fn stop(self) {
        for node in &self.nodes {
            node.shutdown().await.expect("sockets are sound");
        }
    }
}

#[derive(Clone)]
struct Plain {
    endpoints: [Endpoint; 2],
    connection: Connection,
}

impl System for Plain {
    const NAME: &str = "plain quinn";

    async fn start<R: Runtime>(case: Case) -> Self {
        let keys: Vec<_> = (0..2).map(plain::node_key).collect();
        let transport = plain::transport_config(1452);
        let endpoint = |n: usize| plain::endpoint(&keys[n], &keys, &transport, 1452, R::quinn());
        let endpoints = [endpoint(0), endpoint(1)];
        let config = plain::client_config(&keys[0], &keys, &transport, plain::ALPN);
        let address = endpoints[1].local_addr().expect("bound");
        let callee = endpoints[1].clone();
        let answer = Bytes::from(vec![1; case.answer]);
        drop(R::spawn(async move {
            let connection = callee.accept().await.expect("open").await.expect("handshake");
            while let Ok((mut send, mut receive)) = connection.accept_bi().await {
                let answer = answer.clone();
                drop(R::spawn(async move {
                    // The bench may have ended.
                    if receive.read_to_end(MIB).await.is_ok() {
                        let _ = send.write_chunk(answer).await;
                        let _ = send.finish();
                    }
                }));
            }
        }));
        let connecting = endpoints[0].connect_with(config, address, "node").expect("an address");
        let connection = connecting.await.expect("handshake");
        Self { endpoints, connection }
    }

    async fn call(&self, request: Bytes) -> usize {
        let (mut send, mut receive) = self.connection.open_bi().await.expect("connected");
        send.write_chunk(request).await.expect("connected");
        send.finish().expect("not stopped");
        receive.read_to_end(MIB).await.expect("answered").len()
    }

    fn datagrams(&self) -> u64 {
        let stats = self.connection.stats();
        stats.udp_tx.datagrams + stats.udp_rx.datagrams
    }

    async fn stop(self) {
        for endpoint in &self.endpoints {
            endpoint.close(VarInt::from_u32(0), b"");
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy)]
struct Figures {
    calls_per_second: f64,
    mean: Duration,
    /// Of both nodes, per call.
    cpu: Duration,
    datagrams: f64,
}

async fn run<S: System, R: Runtime>(case: Case, seconds: f64) -> Figures {
    let system = S::start::<R>(case).await;
    let request = Bytes::from(vec![7; case.request]);
    let calls = Arc::new(AtomicU64::new(0));
    let (begun, cpu, sent) = (Instant::now(), cpu_time::of_process(), system.datagrams());
    let end = begun + Duration::from_secs_f64(seconds);
    let callers: Vec<_> = (0..case.at_once)
        .map(|_| {
            let (system, request, calls) = (system.clone(), request.clone(), calls.clone());
            R::spawn(async move {
                while Instant::now() < end {
                    assert_eq!(system.call(request.clone()).await, case.answer);
                    calls.fetch_add(1, Relaxed);
                }
            })
        })
        .collect();
    for caller in callers {
        caller.await;
    }
    let (elapsed, cpu) = (begun.elapsed(), cpu_time::of_process() - cpu);
    let calls = calls.load(Relaxed);
    let sent = system.datagrams() - sent;
    system.stop().await;
    Figures {
        calls_per_second: calls as f64 / elapsed.as_secs_f64(),
        mean: elapsed * case.at_once as u32 / calls.max(1) as u32,
        cpu: cpu / calls.max(1) as u32,
        datagrams: sent as f64 / calls.max(1) as f64,
    }
}

async fn better_of<S: System, R: Runtime>(best: &mut Option<Figures>, case: Case, seconds: f64) {
    let figures = run::<S, R>(case, seconds).await;
    if best.is_none_or(|best| figures.calls_per_second > best.calls_per_second) {
        *best = Some(figures);
    }
}

fn print(name: &str, system: &str, case: Case, figures: Figures) {
    let bytes = (case.request + case.answer) as f64;
    println!(
        "{name:<24} {system:<12} {:>10.0} {:>10.1} {:>10.1} {:>10.1} {:>10.1}",
        figures.calls_per_second,
        figures.calls_per_second * bytes / 1e6,
        figures.mean.as_secs_f64() * 1e6,
        figures.cpu.as_secs_f64() * 1e6,
        figures.datagrams,
    );
}

struct Rpc;

impl runtime::Bench for Rpc {
    async fn run<R: Runtime>(options: Options) {
        let (seconds, rounds) = (options.seconds.unwrap_or(2.0), options.rounds.unwrap_or(3));
        println!("calls from one node to another on loopback, {rounds} rounds");
        println!(
            "{:<24} {:<12} {:>10} {:>10} {:>10} {:>10} {:>10}",
            "load", "system", "calls/s", "MB/s", "us each", "CPU us", "datagrams"
        );
        for case in Case::ALL.into_iter().filter(|case| case.name.contains(&options.only)) {
            let (mut ours, mut theirs) = (None, None);
            for _ in 0..rounds {
                better_of::<Slotcast, R>(&mut ours, case, seconds).await;
                better_of::<Plain, R>(&mut theirs, case, seconds).await;
            }
            let (ours, theirs) = (ours.expect("a round"), theirs.expect("a round"));
            print(case.name, Slotcast::NAME, case, ours);
            print("", Plain::NAME, case, theirs);
            let ratio = ours.calls_per_second / theirs.calls_per_second;
            let cpu = ours.cpu.as_secs_f64() / theirs.cpu.as_secs_f64();
            let datagrams = ours.datagrams / theirs.datagrams;
            println!(
                "{:<24} {:<12} {ratio:>10.2} {:>10} {:>10} {cpu:>10.2} {datagrams:>10.2}\n",
                "", "ratio", "", ""
            );
        }
    }
}

fn main() {
    runtime::main::<Rpc>();
}
