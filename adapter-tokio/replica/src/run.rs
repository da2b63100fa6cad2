//! One replica from start to shutdown: a node, a thread for what it receives in each channel, one for
//! what it says about its peers, and this one for the folders to publish from.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;
use std::{fs, io};

use signal_hook::consts::TERM_SIGNALS;
use signal_hook::flag;
use slotcast_tokio::slotcast::config::{ChannelConfig, PEERS_LIMIT};
use slotcast_tokio::slotcast::membership::Overlay;
use slotcast_tokio::{NodeHandle, Setup, StartError};
use smol::block_on;

use crate::Failure;
use crate::http::{Listener, Site};
use crate::key;
use crate::log::Log;
use crate::probe;
use crate::publish::Publisher;
use crate::qlog;
use crate::received::Received;
use crate::report::{check_place, log_peer, log_topology, with_causes};
use crate::runtime::Idle;
use crate::settings::Settings;
use crate::topology;
use crate::trace;

/// Between two looks at the folders to publish from, and at whether to shut down.
const SCAN_PAUSE: Duration = Duration::from_millis(200);

/// Runs a replica until it is asked to end.
pub(crate) fn run(settings: Settings) -> Result<(), Failure> {
    let log = Log::new(settings.log_times);
    let ended = run_with(settings, &log);
    log.flush();
    ended
}

fn run_with(settings: Settings, log: &Log) -> Result<(), Failure> {
    let stop = stop_flag().map_err(|error| Failure::Start(format!("signals: {error}")))?;
    let key = key::load(&settings.key)?;
    let id = key.id();
    let trace = settings.trace.map(|path| trace::begin(path, id, log.clone()));
    let mut config = settings.node;
    let channels = config.channels.clone();
    let (topology, topologies) = topology::watch(settings.topology)?;
    let folders = Folders::open(&settings.publish, &settings.received, &channels, log)?;
    if config.transport.overlay == Overlay::FullMesh {
        // Members that come later need a place, too, but no more than the configuration has.
        config.peers_max = config.peers_max.max(topology.members().len() as u16).min(PEERS_LIMIT);
    }
    let listener = settings.metrics.map(Listener::bind).transpose()?;
    let mut setup = Setup::new(key, config, topology.clone());
    let qlog = settings.qlog.map(|path| folder(&path)).transpose()?;
    let qlog = qlog.map(|path| qlog::begin(path, log.clone()));
    if let Some(qlog) = &qlog {
        setup = setup.qlog(qlog::writers(qlog.clone()));
    }
    let start = |error: StartError| Failure::Start(with_causes(&error));
    let idle = Idle::bind(settings.runtime, setup, settings.listen).map_err(start)?;
    let node = idle.node.clone();
    let (mut publishers, received) = folders.of(&node, &channels, log);
    let (address, runtime) = (node.local_address(), settings.runtime.name());
    log.line(format_args!("started {id} on {address} ({runtime})"));
    check_place(&topology, id, address, log);
    let probes = node.route(probe::PROBE).expect("the route is configured");
    if let Ok(server) = probes.serve() {
        probe::answer(server);
    }
    if let Some(listener) = listener {
        log.line(format_args!("status at http://{}/", listener.address()));
        listener.serve(Site::new(&node, settings.runtime))?;
        probe::ask(node.clone(), stop.clone());
    }

    // What is published before the first connection is made, peers hear of all at once. So those
    // who know it from before a restart do not see it go and come back.
    scan(&mut publishers);
    if publishers.iter().any(Publisher::is_unsettled) {
        thread::sleep(SCAN_PAUSE);
        scan(&mut publishers);
    }
    let runtime = idle.spawn(topologies, {
        let log = log.clone();
        move |told| log_topology(&log, id, address, told)
    });

    let mut threads = deliver(&node, &channels, received);
    threads.push(thread::spawn({
        let (log, node, stop) = (log.clone(), node.clone(), stop.clone());
        move || {
            while let Some(event) = block_on(node.next_event()) {
                // That all peers are gone is no news then.
                if !stop.load(Ordering::Relaxed) {
                    log_peer(&log, event);
                }
            }
        }
    }));
    // A thread ends before it is asked to if the node has ended, or by a panic.
    while !stop.load(Ordering::Relaxed) && !threads.iter().any(JoinHandle::is_finished) {
        scan(&mut publishers);
        thread::sleep(SCAN_PAUSE);
    }
    log.line(format_args!("shutting down"));
    let ended = block_on(node.shutdown());
    let joined = threads.into_iter().all(|thread| thread.join().is_ok());
    drop(runtime);
    if let Some(qlog) = &qlog {
        qlog.flush();
    }
    if let Some(trace) = &trace {
        trace.flush();
    }
    match ended {
        Ok(()) if joined && stop.load(Ordering::Relaxed) => Ok(()),
        Err(error) => Err(Failure::Broken(format!("the node has ended: {}", with_causes(&error)))),
        _ => Err(Failure::Broken("the node has ended".into())),
    }
}

fn scan(publishers: &mut [Publisher]) {
    publishers.iter_mut().for_each(Publisher::scan);
}

/// Threads that write what is received in each channel.
fn deliver(
    node: &NodeHandle,
    channels: &[ChannelConfig],
    received: Vec<Received>,
) -> Vec<JoinHandle<()>> {
    let folders = channels.iter().zip(received);
    let threads = folders.map(|(config, mut received)| {
        let channel = node.channel(config.id).expect("the channel is configured");
        thread::spawn(move || {
            while let Some(event) = block_on(channel.next_event()) {
                received.handle(event);
            }
        })
    });
    threads.collect()
}

/// The folders of all channels.
struct Folders {
    publish: Vec<PathBuf>,
    received: Vec<Received>,
}

impl Folders {
    fn open(
        publish: &Path,
        received: &Path,
        channels: &[ChannelConfig],
        log: &Log,
    ) -> Result<Self, Failure> {
        let (publish, received) = (folder(publish)?, folder(received)?);
        if publish.starts_with(&received) {
            let inner = publish.display();
            return Err(Failure::Start(format!("{inner}: --publish must not lie in --received")));
        }
        let mut folders = Self { publish: Vec::new(), received: Vec::new() };
        for channel in channels {
            // One channel needs no folders for channels.
            let of_channel = |path: &Path| match channels {
                [_] => Ok(path.to_path_buf()),
                _ => folder(&path.join(channel.id.0.to_string())),
            };
            folders.publish.push(of_channel(&publish)?);
            folders.received.push(Received::open(of_channel(&received)?, log.clone())?);
        }
        Ok(folders)
    }

    /// What publishes from them, and what writes into them, for each channel.
    fn of(
        self,
        node: &NodeHandle,
        channels: &[ChannelConfig],
        log: &Log,
    ) -> (Vec<Publisher>, Vec<Received>) {
        let publishers = channels.iter().zip(self.publish).map(|(config, folder)| {
            let channel = node.channel(config.id).expect("the channel is configured");
            Publisher::new(folder, channel, config.clone(), log.clone())
        });
        (publishers.collect(), self.received)
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
