//! One replica from start to shutdown: a node, a thread for what it receives, one for what it says
//! about its peers, and this one for the folder to publish from.

use std::error::Error;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;
use std::{fs, io};

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;
use slotcast_tokio::slotcast::config::{ChannelConfig, Config, PEERS_LIMIT, Relay};
use slotcast_tokio::slotcast::driver::{LoadError, Unfollowed, load_topology};
use slotcast_tokio::slotcast::id::{ChannelId, NodeId};
use slotcast_tokio::slotcast::membership::Topology;
use slotcast_tokio::slotcast::node::{Closed, NodeEvent, SocketBuffers, SocketOperation};
use slotcast_tokio::{NodeHandle, Setup, StartError};
use smol::block_on;
use tokio::runtime::Runtime as Tokio;

use crate::Failure;
use crate::args::{Run, Runtime};
use crate::key;
use crate::log::Log;
use crate::metrics::Listener;
use crate::probe;
use crate::publish::Publisher;
use crate::received::Received;

/// The one channel of this application. Its bounds are the same at all members.
const FILES: ChannelConfig = ChannelConfig::new(ChannelId(1));

/// Files of others that a replica passes on, if it does: as many as it publishes at most.
const RELAYED_MAX: u32 = 1024;

/// Members beside this one: more, if the topology has more at the start.
const PEERS_MAX: u16 = 64;

/// Between two looks at the folder to publish from, and at whether to shut down.
const SCAN_PAUSE: Duration = Duration::from_millis(200);

/// Runs a replica until it is asked to end.
pub(crate) fn run(arguments: &Run) -> Result<(), Failure> {
    let log = Log::new(arguments.log_times);
    let stop = stop_flag().map_err(|error| Failure::Start(format!("signals: {error}")))?;
    let key = key::load(&arguments.key)?;
    let id = key.id();
    let loaded = load_topology(&arguments.topology);
    let topology = loaded.map_err(|error| Failure::Start(with_causes(&error)))?;
    let (publish, received) = (folder(&arguments.publish)?, folder(&arguments.received)?);
    if publish.starts_with(&received) {
        let inner = publish.display();
        return Err(Failure::Start(format!("{inner}: --publish must not lie in --received")));
    }
    let mut received = Received::open(received, log)?;
    let mut config = Config::new([match arguments.spreads {
        true => FILES.relaying(Relay::Automatic, RELAYED_MAX),
        false => FILES,
    }]);
    config = config.routes([probe::route()]);
    // Who comes later needs a place, too.
    config.peers_max = PEERS_MAX.max(topology.members().len() as u16).min(PEERS_LIMIT);
    let listener = arguments.metrics.map(Listener::bind).transpose()?;
    let setup = Setup::new(key, config, topology.clone());
    let start = |error: StartError| Failure::Start(with_causes(&error));
    let idle = Idle::bind(arguments.runtime, setup, arguments.listen).map_err(start)?;
    let node = idle.node.clone();
    let channel = node.channel(FILES.id).expect("the channel is configured");
    let mut publisher = Publisher::new(publish, channel.clone(), FILES, log);
    let (address, runtime) = (node.local_address(), arguments.runtime.name());
    log.line(format_args!("started {id} on {address} ({runtime})"));
    check_place(&topology, id, address, log);
    let probes = node.route(probe::PROBE).expect("the route is configured");
    probe::answer(probes.serve().expect("it serves"));
    if let Some(listener) = listener {
        log.line(format_args!("metrics at http://{}/metrics", listener.address()));
        listener.serve(&node);
        probe::ask(node.clone(), stop.clone());
    }

    // What is published before the first connection is made, peers hear of all at once. So those
    // who know it from before a restart do not see it go and come back.
    publisher.scan();
    if publisher.is_unsettled() {
        thread::sleep(SCAN_PAUSE);
        publisher.scan();
    }
    let topology_file = arguments.topology.clone();
    let runtime = idle.spawn(topology_file, move |told| log_topology(log, id, address, told));

    let deliveries = thread::spawn(move || {
        while let Some(event) = block_on(channel.next_event()) {
            received.handle(event);
        }
    });
    let peers = thread::spawn({
        let (node, stop) = (node.clone(), stop.clone());
        move || {
            while let Some(event) = block_on(node.next_event()) {
                // That all peers are gone is no news then.
                if !stop.load(Ordering::Relaxed) {
                    log_peer(log, event);
                }
            }
        }
    });
    // A thread ends before it is asked to if the node has ended, or by a panic.
    while !stop.load(Ordering::Relaxed) && !deliveries.is_finished() && !peers.is_finished() {
        publisher.scan();
        thread::sleep(SCAN_PAUSE);
    }
    log.line(format_args!("shutting down"));
    let ended = block_on(node.shutdown());
    let joined = deliveries.join().and(peers.join());
    drop(runtime);
    match (ended, joined) {
        (Ok(()), Ok(())) if stop.load(Ordering::Relaxed) => Ok(()),
        (Err(error), _) => {
            Err(Failure::Broken(format!("the node has ended: {}", with_causes(&error))))
        }
        _ => Err(Failure::Broken("the node has ended".into())),
    }
}

/// Set by Ctrl-C and SIGTERM; the second of them ends the process at once.
fn stop_flag() -> io::Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in TERM_SIGNALS {
        flag::register_conditional_shutdown(*signal, 1, stop.clone())?;
        flag::register(*signal, stop.clone())?;
    }
    Ok(stop)
}

/// A folder by its full name, made if it is not there.
fn folder(path: &Path) -> Result<PathBuf, Failure> {
    let made = fs::create_dir_all(path).and_then(|()| path.canonicalize());
    made.map_err(|error| Failure::Start(format!("cannot use {}: {error}", path.display())))
}

/// What has become of a topology in the file.
type Told<'a> = Result<&'a Topology, Unfollowed<LoadError>>;

type Report = Box<dyn FnMut(Told<'_>) + Send>;

/// A node whose driver waits to be spawned: the only thing here that knows of runtimes.
struct Idle {
    node: NodeHandle,
    spawn: Box<dyn FnOnce(PathBuf, Report) -> Option<Tokio>>,
}

impl Idle {
    fn bind(runtime: Runtime, setup: Setup, address: SocketAddr) -> Result<Self, StartError> {
        match runtime {
            Runtime::Tokio => {
                let mut builder = tokio::runtime::Builder::new_multi_thread();
                let built = builder.worker_threads(1).enable_all().build();
                let runtime = built.map_err(|error| StartError::Socket { address, error })?;
                let guard = runtime.enter();
                let (node, driver) = slotcast_tokio::bind_unspawned(setup, address)?;
                drop(guard);
                let handle = node.clone();
                let spawn = move |file: PathBuf, told: Report| {
                    drop(runtime.spawn(driver));
                    let file = slotcast_tokio::topology_file(file);
                    drop(runtime.spawn(handle.follow(file, told)));
                    Some(runtime)
                };
                Ok(Self { node, spawn: Box::new(spawn) })
            }
            Runtime::Smol => {
                let (node, driver) = slotcast_smol::bind_unspawned(setup, address)?;
                let handle = node.clone();
                let spawn = move |file: PathBuf, told: Report| {
                    smol::spawn(driver).detach();
                    let file = slotcast_smol::topology_file(file);
                    smol::spawn(handle.follow(file, told)).detach();
                    None
                };
                Ok(Self { node, spawn: Box::new(spawn) })
            }
        }
    }

    /// Spawns the driver, and has the node follow a topology file. What is returned keeps both
    /// running.
    fn spawn(self, file: PathBuf, told: impl FnMut(Told<'_>) + Send + 'static) -> Option<Tokio> {
        (self.spawn)(file, Box::new(told))
    }
}

/// An error and what caused it, in a line.
fn with_causes(error: &dyn Error) -> String {
    let causes = std::iter::successors(error.source(), |&cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

fn log_topology(log: Log, id: NodeId, local: SocketAddr, told: Told<'_>) {
    match told {
        Ok(topology) => {
            let (version, members) = (topology.version(), topology.members().len());
            log.line(format_args!("topology version {version} is in force: {members} members"));
            check_place(topology, id, local, log);
        }
        Err(why) => {
            let why = with_causes(&why);
            log.line(format_args!("the topology stays as it is: {why}"));
        }
    }
}

/// Warns of a topology which does not send members here.
fn check_place(topology: &Topology, id: NodeId, local: SocketAddr, log: Log) {
    let name = topology.owner(&id);
    match name.and_then(|name| topology.addresses(&name)) {
        None => log.line(format_args!(
            "warning: {id} is no member of this topology: the node keeps no connections"
        )),
        Some(addresses) if !addresses.iter().any(|address| address.port() == local.port()) => {
            log.line(format_args!(
                "warning: the topology sends members to {}, and this node listens on {local}",
                addresses[0]
            ));
        }
        Some(_) => {}
    }
}

fn log_peer(log: Log, event: NodeEvent) {
    match event {
        NodeEvent::Up { peer } => log.line(format_args!("peer {peer:#} is up")),
        NodeEvent::Down { peer, why } => {
            let why = match why {
                Closed::Shutdown => "it has shut down",
                Closed::Reset => "it has restarted",
                Closed::Lost => "nothing was heard from it",
                Closed::ByPeer => "it has closed the connection",
                Closed::CutOff => "cut off for its faults",
                Closed::Left => "it has left the topology",
                _ => "the connection has ended",
            };
            log.line(format_args!("peer {peer:#} is down: {why}"));
        }
        NodeEvent::Fault { peer, fault, count } => {
            log.line(format_args!("peer {peer:#} broke a rule ({count} times): {fault}"));
        }
        NodeEvent::Refused { handshakes, datagrams } => log.line(format_args!(
            "refused {handshakes} handshakes, dropped {datagrams} datagrams of strangers"
        )),
        NodeEvent::SocketErrors { operation, kind, count } => {
            let what = match operation {
                SocketOperation::Send => "sending",
                SocketOperation::Receive => "receiving",
            };
            log.line(format_args!("warning: {what} has failed ({count} times): {kind}"));
        }
        NodeEvent::SocketBuffers(SocketBuffers { wanted, send, receive }) => {
            let granted = send.min(receive) >> 10;
            log.line(format_args!(
                "warning: the system grants the socket {granted} KiB of {} KiB, so that datagrams get \
                 lost under load: raise net.core.rmem_max and net.core.wmem_max",
                wanted >> 10
            ));
        }
        _ => {}
    }
}
