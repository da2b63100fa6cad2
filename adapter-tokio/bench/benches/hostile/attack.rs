//! The attackers: a stranger without any key, and a member that floods. Both run under tokio on a thread of
//! their own, whatever the members run under.

use std::future::Future;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use quinn::{Connection, Endpoint, TokioRuntime};
use slotcast::artifact::Metadata;
use slotcast::config::{ChannelConfig, Config, RouteConfig};
use slotcast::id::{ChannelId, RouteId, Slot, Version};
use slotcast::node::NodeKey;
use slotcast::wire::{CallHead, ChannelHello, Hello, RouteHello, StreamHead, Update};
use slotcast_bench::plain;

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

/// What a client pads its first datagram to (RFC 9000, section 14.1).
const INITIAL_BYTES: usize = 1200;

/// UDP payload of the attackers' longest datagrams.
const MTU: u16 = 1452;

/// Handshakes of the stranger that are genuine as far as they go.
const GENUINE: usize = 200;

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

/// A flood under way.
pub(crate) struct Flood {
    stop: Arc<AtomicBool>,
    thread: thread::JoinHandle<u64>,
}

impl Flood {
    /// Ends it; tells how many datagrams, or batches, streams and calls it was made of.
    pub(crate) async fn stop(self) -> u64 {
        self.stop.store(true, Relaxed);
        // Not on a thread of the runtime: the last calls are still to be answered.
        smol::unblock(|| self.thread.join().expect("it does not panic")).await
    }
}

/// A stranger sends first datagrams of handshakes, from no member's address.
pub(crate) fn initials(to: SocketAddr) -> Flood {
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = stop.clone();
    let thread = thread::spawn(move || {
        let datagrams = on_a_runtime(first_datagrams());
        send_initials(datagrams, to, &is_over)
    });
    Flood { stop, thread }
}

/// The member with this key floods another one with updates of all its slots, with streams that are reset,
/// and with calls.
pub(crate) fn member(key: &NodeKey, to: SocketAddr, victim: &NodeKey) -> Flood {
    let stop = Arc::new(AtomicBool::new(false));
    let is_over = stop.clone();
    let (key, victim) = (key.clone(), victim.clone());
    let thread = thread::spawn(move || on_a_runtime(flood(key, to, victim, is_over)));
    Flood { stop, thread }
}

fn on_a_runtime<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

fn endpoint(key: &NodeKey) -> Endpoint {
    let key = plain::certified_key(key.seed());
    plain::endpoint(&key, &[], &Arc::default(), MTU, Arc::new(TokioRuntime))
}

fn client_config(key: &NodeKey, server: &NodeKey) -> quinn::ClientConfig {
    let [key, server] = [key, server].map(|key| plain::certified_key(key.seed()));
    plain::client_config(&key, &[server], &Arc::default(), b"slotcast/1")
}

/// Those of genuine clients, which dial where nobody answers; those that only look like it; and some that
/// look like nothing.
async fn first_datagrams() -> Vec<Vec<u8>> {
    let nobody = tokio::net::UdpSocket::bind("127.0.0.1:0").await.expect("a free port");
    let at = nobody.local_addr().expect("bound");
    let key = NodeKey::from_seed([99; 32]);
    let (client, config) = (endpoint(&key), client_config(&key, &key));
    // Dropped, they would close what they have begun.
    let mut attempts = Vec::new();
    let mut datagrams = Vec::new();
    for number in 0..GENUINE as u64 {
        attempts.push(client.connect_with(config.clone(), at, "node").expect("an address"));
        let mut genuine = vec![0; 2048];
        let length = nobody.recv(&mut genuine).await.expect("a client begins to speak");
        genuine.truncate(length);
        datagrams.extend([genuine, forged(number), noise(number, INITIAL_BYTES)]);
    }
    datagrams
}

/// The header of an Initial (RFC 9000, section 17.2.2), and noise where the rest would be.
fn forged(number: u64) -> Vec<u8> {
    let id = number.to_be_bytes();
    let mut datagram = [&[0xc3, 0, 0, 0, 1, 8][..], &id, &[8], &id, &[0]].concat();
    let rest = INITIAL_BYTES - datagram.len() - 2;
    datagram.extend((rest as u16 | 0x4000).to_be_bytes());
    datagram.extend(noise(number, rest));
    datagram
}

/// Bytes that depend on `seed` (xorshift64).
fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = 0x9e37_79b9_7f4a_7c15 ^ seed;
    let next = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    };
    (0..length).map(next).collect()
}

fn send_initials(mut datagrams: Vec<Vec<u8>>, to: SocketAddr, is_over: &AtomicBool) -> u64 {
    let socket = UdpSocket::bind("127.0.0.2:0").expect("loopback");
    socket.set_nonblocking(true).expect("a socket");
    let (begun, mut sent) = (Instant::now(), 0);
    while !is_over.load(Relaxed) {
        let due = begun.elapsed().as_micros() as u64 * INITIALS_PER_SECOND / 1_000_000;
        while sent < due {
            let at = sent as usize % datagrams.len();
            let datagram = &mut datagrams[at];
            // A forged one needs no crypto to be another one each time, by its connection id.
            if at % 3 == 1 {
                datagram[6..14].copy_from_slice(&sent.to_be_bytes());
            }
            // What the socket does not take is lost, as on any path.
            let _ = socket.send_to(datagram, to);
            sent += 1;
        }
        // Answers are read and dropped.
        while socket.recv(&mut [0; 2048]).is_ok() {}
        thread::sleep(Duration::from_millis(1));
    }
    sent
}

async fn flood(key: NodeKey, to: SocketAddr, victim: NodeKey, is_over: Arc<AtomicBool>) -> u64 {
    let endpoint = endpoint(&key);
    let connecting = endpoint.connect_with(client_config(&key, &victim), to, "node");
    let connection = connecting.expect("an address").await.expect("it is a member");
    write(&connection, &hello()).await;
    let done = Arc::new(AtomicU64::new(0));
    let spawn = |kind| {
        let (connection, is_over, done) = (connection.clone(), is_over.clone(), done.clone());
        tokio::spawn(async move {
            for round in 1.. {
                if is_over.load(Relaxed) {
                    return;
                }
                match kind {
                    0 => write(&connection, &updates(round)).await,
                    1 => reset(&connection).await,
                    _ => call(&connection).await,
                }
                done.fetch_add(1, Relaxed);
                tokio::task::yield_now().await;
            }
        })
    };
    for task in (0..TASKS).map(spawn).collect::<Vec<_>>() {
        task.await.expect("it does not panic");
    }
    // Else it was cut off at some time, and what was measured from then on was no attack.
    assert_eq!(connection.close_reason(), None, "the attacker has remained a peer");
    connection.close(0_u32.into(), b"");
    done.load(Relaxed)
}

/// Writes a whole stream. It may be stopped, or cut off, at any time.
async fn write(connection: &Connection, bytes: &[u8]) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    let _ = stream.write_all(bytes).await;
    let _ = stream.finish();
}

/// Begins a stream and gives it up.
async fn reset(connection: &Connection) {
    let Ok(mut stream) = connection.open_uni().await else { return };
    let _ = stream.write_all(&head(StreamHead::Requests)).await;
    let _ = stream.reset(0_u32.into());
}

async fn call(connection: &Connection) {
    const BYTES: u32 = 1000;
    let Ok((mut send, mut receive)) = connection.open_bi().await else { return };
    let head = CallHead { route: ROUTE, timeout_ms: 60_000, prepaid: 0, length: BYTES };
    // Any bounded vector will do.
    let mut request = Metadata::new();
    head.encode(&mut request);
    let _ = send.write_all(&[&request[..], &[7; BYTES as usize]].concat()).await;
    let _ = send.finish();
    let _ = receive.read_to_end(2 * BYTES as usize).await;
}

/// The hello of a member like the others.
fn hello() -> Vec<u8> {
    let channel = |id| ChannelHello {
        id,
        slots_max: SLOTS_MAX,
        artifact_bytes_max: ARTIFACT_BYTES_MAX,
        push_bytes_max: PUSH_MAX,
        relay_hops_max: 4,
    };
    let route = RouteHello {
        id: ROUTE,
        request_bytes_max: BODY_MAX,
        response_bytes_max: BODY_MAX,
        in_flight_max: IN_FLIGHT_MAX,
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
        let (slot, version, metadata) = (Slot(slot), Version(version), Metadata::new());
        Update::Push { slot, version, metadata, bytes: &content }.encode(&mut stream);
    }
    stream
}
