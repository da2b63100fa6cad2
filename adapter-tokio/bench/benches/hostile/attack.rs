//! The attacks: a stranger without any key, and a member that floods. The attackers run under tokio,
//! whatever the members run under.

use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use slotcast::artifact::Metadata;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, RouteId, Slot, Version};
use slotcast::node::NodeKey;
use slotcast::wire::{CallHead, ChannelHello, Hello, RouteHello, StreamHead, Update};
use slotcast_testkit::flood::Flood;
use slotcast_testkit::foe::{ALPN, Credentials, Foe, Line, Transport};

use crate::process::{Other, Role};

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

/// More often they would only become fewer packets.
const CREDIT_PACE: Duration = Duration::from_millis(1);

/// How often it is looked whether the attack is over.
const POLL: Duration = Duration::from_millis(5);

/// What floods at the same time, in each way: a call at a time is no flood.
const TASKS_PER_WAY: usize = 3;

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
    let mut config = Config::new(channels).routes([route]);
    // Whoever is cut off for it costs nothing any more.
    config.work.fruitless_max = u32::MAX;
    config
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

/// An attacker in a process of its own: a stranger that sends first datagrams of handshakes, from no member's address,
/// or a member that floods another one in all [ways](Way).
pub(crate) fn begin(role: Role, addresses: &[SocketAddr]) -> Attacker {
    let addresses = addresses.to_vec();
    Attacker::start(move |is_over| {
        let mut attacker = Other::start(role, "tokio", &addresses, true);
        let mut lines = attacker.lines();
        while !is_over.load(Relaxed) {
            thread::sleep(POLL);
        }
        attacker.hang_up();
        let done = lines.next().expect("it has gone on").expect("a line");
        attacker.end();
        done.parse().expect("a number")
    })
}

/// What the process of the stranger does. It says how much it has sent.
pub(crate) fn run_stranger(victim: SocketAddr) {
    let is_over = until_told();
    let flood = on_a_runtime(Flood::new());
    let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    let goes_on = || !is_over.load(Relaxed);
    println!("{}", flood.run(&socket, victim, u64::MAX, INITIALS_PER_SECOND, goes_on).sent);
}

/// What the process of the attacking member does. It says how much it has done.
pub(crate) fn run_member(key: NodeKey, victim: SocketAddr) {
    let is_over = until_told();
    println!("{}", on_a_runtime(flood(Credentials::Raw(key), victim, &is_over)));
}

/// Becomes true when the standard input ends.
fn until_told() -> Arc<AtomicBool> {
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = is_over.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ends.store(true, Relaxed);
    });
    is_over
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
    let spawn = |way: Way| {
        let (line, is_over, done) = (line.clone(), is_over.clone(), done.clone());
        tokio::spawn(async move {
            for round in 1.. {
                if is_over.load(Relaxed) {
                    return;
                }
                way.go_on(&line, round).await;
                done.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    let ways = [Way::ALL; TASKS_PER_WAY];
    for task in ways.into_iter().flatten().map(spawn).collect::<Vec<_>>() {
        task.await.expect("it has remained a peer");
    }
    // Else it was cut off at some time, and what was measured from then on was no attack.
    assert_eq!(line.0.close_reason(), None, "the attacker has remained a peer");
    line.hang_up();
    done.load(Relaxed)
}

/// What a flood is made of.
#[derive(Clone, Copy)]
enum Way {
    Updates,
    Clears,
    /// Answers to requests that were never made.
    Chunks,
    Resets,
    Calls,
    /// QUIC frames that say that we take more streams than we took until now: packets without any data.
    Credit,
}

impl Way {
    const ALL: [Self; 6] =
        [Self::Updates, Self::Clears, Self::Chunks, Self::Resets, Self::Calls, Self::Credit];

    async fn go_on(self, line: &Line, round: u64) {
        match self {
            Self::Updates => line.write(&updates(round)).await,
            Self::Clears => line.write(&clears(round)).await,
            Self::Chunks => line.write(&head(StreamHead::Chunks((1 << 40) + round))).await,
            Self::Resets => reset(line).await,
            Self::Calls => call(line).await,
            Self::Credit => {
                let streams = (1000 + round).try_into().expect("within 62 bits");
                line.0.set_max_concurrent_uni_streams(streams);
                // It is sent when quinn's own task has run.
                tokio::time::sleep(CREDIT_PACE).await;
            }
        }
    }
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

/// All slots of the other channel are empty.
fn clears(version: u64) -> Vec<u8> {
    let mut stream = head(StreamHead::Updates(CHANNELS[0]));
    for slot in 0..SLOTS_MAX {
        Update::Clear { slot: Slot(slot), version: Version(version) }.encode(&mut stream);
    }
    stream
}

/// New content for all slots.
fn updates(version: u64) -> Vec<u8> {
    let mut stream = head(StreamHead::Updates(CHANNELS[1]));
    for slot in 0..SLOTS_MAX {
        // An artifact in two slots would be a fault.
        let content = [&[7; 100][..], &version.to_be_bytes(), &slot.to_be_bytes()].concat();
        let (slot, version, metadata) = (Slot(slot), Version(version), &[]);
        let push = Update::Push { slot, version, hops: 0, key: None, metadata, bytes: &content };
        push.encode(&mut stream);
    }
    stream
}
