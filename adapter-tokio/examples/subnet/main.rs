//! A subnet in one process: nodes under tokio and under smol, connected over UDP on loopback.
//!
//! They publish on three channels and abort a share of it, one of them restarts on the way, and a
//! ledger tells in the end whether each artifact came where it had to, once and unharmed, and
//! whether every abort was seen. The node that restarted calls others for what it has missed and is
//! no longer active. `--help` lists the options.
//!
//! `main` is the story of a run; `node` shows how an application uses a node's handles, and `catchup`
//! how it calls and answers.

mod catchup;
mod ledger;
mod load;
mod node;
mod options;
mod report;

use std::io::{IsTerminal, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slotcast::driver::random_bytes;
use slotcast::membership::Topology;
use slotcast::node::NodeKey;
use slotcast_tokio::{NodeHandle, Setup, StartError};
use tokio::task::JoinHandle;
use tokio::time::sleep_until;

use ledger::{Book, Ledger};
use load::{LANES, Load};
use node::Node;
use options::{Options, Request, USAGE};
use report::Report;

/// Without progress for so long, what is missing stays missing.
const PATIENCE: Duration = Duration::from_secs(30);

/// When one node is stopped and started again: shares of the time for publishing.
const STOPPED_AT: f64 = 0.35;
const STARTED_AT: f64 = 0.5;

/// What keeps a run from its end.
pub(crate) type Failure = Box<dyn std::error::Error + Send + Sync>;

#[tokio::main]
async fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n\n{USAGE}");
            return ExitCode::from(2);
        }
    };
    match run(&options).await {
        Ok(report) => {
            print!("{report}");
            if options.json {
                println!("{}", report.json());
            }
            if report.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(failure) => {
            eprintln!("the subnet has failed: {failure}");
            ExitCode::FAILURE
        }
    }
}

/// Every second node runs under smol.
fn runtime(node: usize) -> &'static str {
    if node.is_multiple_of(2) { "tokio" } else { "smol" }
}

/// Starts a node: the only thing that is not the same under all runtimes.
fn bind(node: usize, setup: Setup, address: SocketAddr) -> Result<NodeHandle, StartError> {
    match runtime(node) {
        "tokio" => slotcast_tokio::bind(setup, address),
        _ => slotcast_smol::bind(setup, address),
    }
}

async fn run(options: &Options) -> Result<Report, Failure> {
    let (begun, count, load) = (Instant::now(), options.nodes, Load::new(options));
    let keys: Vec<_> = (0..count).map(|_| NodeKey::from_seed(random_bytes())).collect();
    let restarted = (options.seed % count as u64) as usize;
    // The last life is the second one of the node that restarts.
    let ledger = Arc::new(Ledger::new(keys.len() + 1));
    let setup = |node: usize, topology: &Topology| {
        Setup::new(keys[node].clone(), load.config(count), topology.clone())
    };

    // All listen, before any is told where the others do.
    let anywhere = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let handles = (0..count).map(|node| bind(node, setup(node, &Topology::default()), anywhere));
    let handles = handles.collect::<Result<Vec<_>, _>>()?;
    let addresses: Vec<_> = handles.iter().map(NodeHandle::local_address).collect();
    let members = keys.iter().zip(&addresses).map(|(key, address)| (key.id(), vec![*address]));
    let topology = Topology::new(1, members)?;
    handles.iter().try_for_each(|handle| handle.set_topology(topology.clone()))?;
    let joining = handles.into_iter().enumerate().map(|(life, handle)| {
        tokio::spawn(Node::join(life, handle, count - 1, load, ledger.clone()))
    });
    let mut nodes = Vec::new();
    for node in joining.collect::<Vec<_>>() {
        nodes.push(node.await??);
    }

    println!(
        "{count} nodes, {} under tokio and {} under smol; node {restarted} ({}) restarts; seed {}\n",
        count.div_ceil(2),
        count / 2,
        runtime(restarted),
        options.seed,
    );

    // All publish. One is stopped, loses its state, and comes back to publish the rest.
    let progress = tokio::spawn(show_progress(ledger.clone()));
    let begin = Instant::now();
    let at = |share| begin + load.spread.mul_f64(share);
    let (stop, start, end) = (at(STOPPED_AT), at(STARTED_AT), at(1.0));
    let mut publishers = Vec::new();
    for node in nodes.iter().filter(|node| node.life != restarted) {
        publishers.extend(node.publish(&[0; LANES.len()], begin, None, load, &ledger));
    }
    let cut_off = nodes[restarted].publish(&[0; LANES.len()], begin, Some(stop), load, &ledger);
    let mut numbers = Vec::new();
    for publisher in cut_off {
        numbers.push(publisher.await??);
    }
    ledger.stop(restarted);
    let first_life = nodes.remove(restarted).stop().await?;
    sleep_until(start.into()).await;
    let handle = bind(restarted, setup(restarted, &topology), addresses[restarted])?;
    let node = Node::join(count, handle, count - 1, load, ledger.clone()).await?;
    publishers.extend(node.publish(&numbers, begin, None, load, &ledger));
    let others: Vec<_> = (1..count).map(|at| keys[(restarted + at) % count].id()).collect();
    let caught_up = node.catch_up(&others).await?;
    nodes.push(node);

    // Everything arrives; then all is withdrawn, and expires.
    let planned = count * (0..LANES.len()).map(|lane| load.count(lane) as usize).sum::<usize>();
    ledger.wait(PATIENCE, end, |book| book.is_delivered(planned)).await;
    publishers.iter().for_each(JoinHandle::abort);
    for (name, id) in ledger.abort_all() {
        let node = nodes.iter().find(|node| node.life == name.life);
        node.expect("what others published has ended").abort(name.lane, &id);
    }
    ledger.wait(PATIENCE, end, Book::is_expired).await;

    let took = begun.elapsed();
    let memory_bound = (count as u64) * load.config(count).memory_bound();
    let mut report =
        Report::new(count, planned, load, &ledger.book(), caught_up, memory_bound, took);
    report.add(&first_life);
    let stopping: Vec<_> = nodes.into_iter().map(|node| tokio::spawn(node.stop())).collect();
    for stats in stopping {
        report.add(&stats.await??);
    }
    progress.abort();
    if std::io::stderr().is_terminal() {
        // The table takes the place of the progress.
        eprint!("\r\x1b[2K");
    }
    Ok(report)
}

/// Tells how far the run is: in one line of a terminal, or in a line per second.
async fn show_progress(ledger: Arc<Ledger>) {
    let is_terminal = std::io::stderr().is_terminal();
    let period = Duration::from_millis(if is_terminal { 100 } else { 1000 });
    let begin = Instant::now();
    let mut ticks = tokio::time::interval(period);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let line = {
            let book = ledger.book();
            let up = book.lives.iter().filter(|life| life.is_up).count();
            format!(
                "{:5.1} s  {up} nodes up  {} published  {} delivered  {} aborted  {} expired",
                begin.elapsed().as_secs_f64(),
                book.published,
                book.delivered,
                book.aborted,
                book.expired
            )
        };
        let mut stderr = std::io::stderr();
        // Nobody there to read it: not a reason to fail.
        let _ = if is_terminal {
            write!(stderr, "\r\x1b[2K{line}").and_then(|()| stderr.flush())
        } else {
            writeln!(stderr, "{line}")
        };
    }
}
