//! The attacks: a stranger without any key, and a member that floods. The attackers run under tokio on
//! a thread of their own, whatever the members run under, and the member in a process of its own, which is this
//! program started again: what it costs to attack is not the victim's.

use std::env;
use std::future::Future;
use std::io::Read;
use std::net::{SocketAddr, UdpSocket};
use std::process::{Child, Command, Stdio};
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

/// How often it is looked whether the attack is over.
const POLL: Duration = Duration::from_millis(5);

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
    let mut config = Config::new(channels).routes([route]);
    // Whoever is cut off for it costs nothing any more.
    config.work.fruitless_max = u32::MAX;
    config
}

/// In the environment of the process of the attacking member: the victim's address.
const VICTIM: &str = "HOSTILE_BENCH_VICTIM";

/// The cores that the members and the attacking member have for themselves, if there are several.
const CORES: [&str; 2] = ["0", "1"];

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

/// The attacking member, in a process of its own, floods another one with updates of all its slots, with
/// clears, with streams that are reset, and with calls.
pub(crate) fn member(to: SocketAddr) -> Attacker {
    Attacker::start(move |is_over| {
        let program = env::current_exe().expect("this bench is a file");
        let mut child = on_core(CORES[1], &program.to_string_lossy())
            .args(env::args_os().skip(1))
            .env(VICTIM, to.to_string())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        while !is_over.load(Relaxed) {
            thread::sleep(POLL);
        }
        end(&mut child)
    })
}

/// It ends when its standard input does, and says how much it has done.
fn end(child: &mut Child) -> u64 {
    drop(child.stdin.take());
    let mut done = String::new();
    child.stdout.take().expect("piped").read_to_string(&mut done).expect("a number");
    assert!(child.wait().expect("it has ended").success(), "the attacker has remained a peer");
    done.trim().parse().expect("a number")
}

/// A program on one core, if that can be chosen.
fn on_core(core: &str, program: &str) -> Command {
    let mut command = Command::new(if has_cores() { "taskset" } else { program });
    if has_cores() {
        command.args(["--cpu-list", core, program]);
    }
    command
}

fn has_cores() -> bool {
    let has_several = thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2);
    let can_choose =
        || Command::new("taskset").arg("--version").stdout(Stdio::null()).status().is_ok();
    env::var_os(VICTIM).is_none() && IS_PINNED.load(Relaxed) || has_several && can_choose()
}

/// Since it is, there seems to be one core only.
static IS_PINNED: AtomicBool = AtomicBool::new(false);

/// Keeps this process to its core, if there is another one for the attacking member.
pub(crate) fn pin() {
    if has_cores() {
        let id = std::process::id().to_string();
        let pin = Command::new("taskset")
            .args(["--all-tasks", "--cpu-list", "--pid", CORES[0], &id])
            .stdout(Stdio::null())
            .status();
        IS_PINNED.store(pin.is_ok_and(|status| status.success()), Relaxed);
    }
}

/// What the process of the attacking member does, if this is one.
pub(crate) fn run_member(key: &NodeKey) -> bool {
    let Ok(victim) = env::var(VICTIM) else { return false };
    let to = victim.parse().expect("an address");
    let credentials = Credentials::Raw(key.clone());
    let is_over = Arc::new(AtomicBool::new(false));
    let ends = is_over.clone();
    thread::spawn(move || {
        let _ = std::io::stdin().read(&mut [0]);
        ends.store(true, Relaxed);
    });
    println!("{}", on_a_runtime(flood(credentials, to, &is_over)));
    true
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
                    2 => line.write(&clears(round)).await,
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
