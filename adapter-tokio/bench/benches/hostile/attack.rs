//! The attacks: a stranger without any key, and a member that floods. The attackers run under tokio on
//! a thread of their own, whatever the members run under.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;

use slotcast::artifact::Metadata;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, RouteId, Slot, Version};
use slotcast::node::NodeKey;
use slotcast::wire::{CallHead, ChannelHello, Hello, RouteHello, StreamHead, Update};
use slotcast_testkit::flood::Flood;
use slotcast_testkit::foe::{ALPN, Credentials, Foe, Line, Transport};

/// What the members broadcast on, and what the attacker does.
pub(crate) const CHANNELS: [ChannelId; 2] = [ChannelId(1), ChannelId(2)];
pub(crate) const ROUTE: RouteId = RouteId(1);
const SLOTS_MAX: u32 = 64;
const ARTIFACT_BYTES_MAX: u64 = 1 << 20;
const PUSH_MAX: u32 = 4096;
const BODY_MAX: u32 = 1 << 16;
const IN_FLIGHT_MAX: u16 = 16;

/// First datagrams of handshakes per second.
const INITIALS_PER_SECOND: u64 = 10_000;

/// What floods at the same time: a call at a time is no flood.
const TASKS: usize = 16;

/// How the members are configured.
pub(crate) fn config() -> Config {
    let channels = CHANNELS.map(|id| {
        let mut channel = ChannelConfig::new(id);
        channel.slots_max = SLOTS_MAX;
        channel.artifact_bytes_max = ARTIFACT_BYTES_MAX;
        channel.push_bytes_max = PUSH_MAX;
        channel
    });
    let mut route = RouteConfig::new(ROUTE, "echo").bytes_max(BODY_MAX, BODY_MAX);
    route.in_flight_max = IN_FLIGHT_MAX;
    Config::new(channels).routes([route])
}

/// An attack under way.
pub(crate) struct Attacker {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Attacker {
    fn start(run: impl FnOnce(&Arc<AtomicBool>) -> u64 + Send + 'static) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let is_over = stop.clone();
        Self { stop, thread: thread::spawn(move || run(&is_over)) }
    }

    /// Ends it; how many datagrams, or batches, streams and calls it was made of.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        // Not on a thread of the runtime: the last calls are still to be answered.
        smol::unblock(|| self.thread.join().expect("it does not panic")).await
    }
}

/// A stranger sends first datagrams of handshakes, from no member's address.
pub(crate) fn initials(to: SocketAddr) -> Attacker {
    Attacker::start(move |is_over| {
        let flood = on_a_runtime(Flood::new());
        let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
        flood.run(&socket, to, u64::MAX, INITIALS_PER_SECOND, || !is_over.load(Relaxed)).sent
    })
}

/// The member with this key floods another one with updates of all its slots, with streams that are
/// reset, and with calls.
pub(crate) fn member(key: &NodeKey, to: SocketAddr) -> Attacker {
    let credentials = Credentials::Raw(key.clone());
    Attacker::start(move |is_over| on_a_runtime(flood(credentials, to, is_over)))
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

async fn flood(credentials: Credentials, to: SocketAddr, is_over: &Arc<AtomicBool>) -> u64 {
    let foe = Foe::new(credentials, ALPN, Transport::default());
    let line = foe.connect(to).await.expect("it is a member");
    line.write(&hello()).await;
    let done = Arc::new(AtomicU64::new(0));
    let spawn = |kind| {
        let (line, is_over, done) = (line.clone(), is_over.clone(), done.clone());
        tokio::spawn(async move {
            for round in 1.. {
                if is_over.load(Relaxed) {
                    return;
                }
                match kind {
                    0 => line.write(&updates(round)).await,
                    1 => reset(&line).await,
                    _ => call(&line).await,
                }
                done.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    for task in (0..TASKS).map(spawn).collect::<Vec<_>>() {
        task.await.expect("it has remained a peer");
    }
    // Else it was cut off at some time, and what was measured from then on was no attack.
    assert_eq!(line.0.close_reason(), None, "the attacker has remained a peer");
    line.hang_up();
    done.load(Relaxed)
}

/// Begins a stream and gives it up.
async fn reset(line: &Line) {
    let mut stream = line.open().await;
    let _ = stream.write_all(&head(StreamHead::Requests)).await;
    let _ = stream.reset(0_u32.into());
}

async fn call(line: &Line) {
    const BYTES: u32 = 1000;
    let head = CallHead {
        route: ROUTE,
        timeout_ms: 60_000,
        prepaid: 0,
        length: BYTES,
        wants_answer: true,
    };
    // Any bounded vector will do.
    let mut request = Metadata::new();
    head.encode(&mut request);
    let (_, mut answer) = line.ask(&[&request[..], &[7; BYTES as usize]].concat()).await;
    let _ = answer.read_to_end(2 * BYTES as usize).await;
}

/// The hello of a member like the others.
fn hello() -> Vec<u8> {
    let channel = |id| ChannelHello {
        id,
        slots_max: SLOTS_MAX,
        artifact_bytes_max: ARTIFACT_BYTES_MAX,
        push_bytes_max: PUSH_MAX,
        relay_hops_max: 4,
        sender_matters: false,
    };
    let route = RouteHello {
        id: ROUTE,
        request_bytes_max: BODY_MAX,
        response_bytes_max: BODY_MAX,
        in_flight_max: IN_FLIGHT_MAX,
        in_flight_bytes_max: u64::MAX,
        knows_grants: true,
    };
    let channels = CHANNELS.map(channel).to_vec();
    let mut bytes = Vec::new();
    Hello { incarnation: 1, channels, routes: vec![route], ..Hello::default() }.encode(&mut bytes);
    bytes
}

fn head(head: StreamHead) -> Vec<u8> {
    let mut bytes = Vec::new();
    head.encode(&mut bytes);
    bytes
}

/// New content for all slots.
fn updates(version: u64) -> Vec<u8> {
    let mut stream = head(StreamHead::Updates(CHANNELS[1]));
    let content = [&[7; 100][..], &version.to_be_bytes()].concat();
    for slot in 0..SLOTS_MAX {
        let (slot, version, metadata) = (Slot(slot), Version(version), &[]);
        let push = Update::Push { slot, version, hops: 0, key: None, metadata, bytes: &content };
        push.encode(&mut stream);
    }
    stream
}
