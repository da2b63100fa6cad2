//! How long a replica that was killed takes, from its new process on, until it is connected to all
//! others: four processes of `slotcast-replica` on loopback.
//!
//! `cargo build --release -p slotcast-replica`
//! `cargo bench -p slotcast-bench --bench reconnect [-- --runtime R --rounds N]`
//!
//! Once it is the member that dials all others, which is the one with the lowest id, and once the
//! one that all others dial. What is waited for is read off the logs.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};
use std::{slice, thread};

use clap::Parser;
use slotcast_bench::free_addresses;
use slotcast_bench::options::{Choice, Options};

const REPLICAS: usize = 4;

/// Between two looks at a log.
const LOOK: Duration = Duration::from_millis(1);

/// Nothing here takes so long, unless it is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// Connections must have been up so long before the kill: a replica that is killed at once is
/// another matter.
const SETTLE: Duration = Duration::from_millis(500);

/// The program, beside this one.
fn replica() -> Command {
    let deps = std::env::current_exe().expect("this bench is a file");
    let profile = deps.ancestors().nth(2).expect("it is in target/<profile>/deps");
    let path = profile.join("slotcast-replica");
    if !path.exists() {
        eprintln!("there is no {}: cargo build --release -p slotcast-replica", path.display());
        std::process::exit(2);
    }
    let mut command = Command::new(path);
    command.stdin(Stdio::null());
    command
}

struct Replica {
    home: PathBuf,
    id: String,
    address: SocketAddr,
    runtime: &'static str,
    process: Option<Child>,
    runs: usize,
}

impl Replica {
    fn new(home: PathBuf, address: SocketAddr, runtime: &'static str) -> Self {
        fs::create_dir_all(home.join("publish")).expect("a folder");
        let made = replica().arg("keygen").arg(home.join("key")).output().expect("it starts");
        assert!(made.status.success(), "{made:?}");
        let id = String::from_utf8(made.stdout).expect("hex digits").trim().to_string();
        Self { home, id, address, runtime, process: None, runs: 0 }
    }

    fn log_file(&self) -> PathBuf {
        self.home.join(format!("log{}", self.runs))
    }

    fn start(&mut self) {
        self.runs += 1;
        let log = File::create(self.log_file()).expect("a file");
        let path = |name: &str| self.home.join(name);
        let process = replica()
            .args(["run", "--listen", &self.address.to_string(), "--runtime", self.runtime])
            .args([Path::new("--key"), &path("key"), Path::new("--topology")])
            .args([&path("../topology.toml"), Path::new("--publish"), &path("publish")])
            .args([Path::new("--received"), &path("received")])
            .stderr(log)
            .spawn();
        self.process = Some(process.expect("it starts"));
    }

    /// Kills the process as a crash would.
    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().expect("it runs");
            process.wait().expect("it has ended");
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.log_file()).unwrap_or_default()
    }

    /// The others that are connected, as the log says.
    fn peers_up(&self) -> usize {
        let count = |end: &str| self.log().lines().filter(|line| line.contains(end)).count();
        count(" is up") - count(" is down").min(count(" is up"))
    }

    /// Waits until all others are connected.
    fn wait_until_complete(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.peers_up() < REPLICAS - 1 {
            assert!(Instant::now() < deadline, "not within {PATIENCE:?}:\n{}", self.log());
            thread::sleep(LOOK);
        }
    }
}

impl Drop for Replica {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The replicas in the order of their ids, and their folder.
struct Subnet {
    folder: PathBuf,
    replicas: Vec<Replica>,
}

impl Subnet {
    fn start(runtime: &'static str) -> Self {
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let folder = folder.join(format!("reconnect-{}", std::process::id()));
        let addresses = free_addresses(REPLICAS);
        let new = |(at, address): (usize, &SocketAddr)| {
            Replica::new(folder.join(at.to_string()), *address, runtime)
        };
        let mut replicas: Vec<Replica> = addresses.iter().enumerate().map(new).collect();
        replicas.sort_by(|one, other| one.id.cmp(&other.id));
        let member = |replica: &Replica| {
            format!("\n[[member]]\nid = \"{}\"\naddress = \"{}\"\n", replica.id, replica.address)
        };
        let members: String = replicas.iter().map(member).collect();
        let topology = format!("version = 1\n{members}");
        fs::write(folder.join("topology.toml"), topology).expect("a file");
        replicas.iter_mut().for_each(Replica::start);
        let subnet = Self { folder, replicas };
        subnet.replicas.iter().for_each(Replica::wait_until_complete);
        subnet
    }

    /// How long one takes to come back.
    fn restart(&mut self, at: usize) -> Duration {
        self.replicas.iter().for_each(Replica::wait_until_complete);
        thread::sleep(SETTLE);
        let replica = &mut self.replicas[at];
        replica.kill();
        let begun = Instant::now();
        replica.start();
        replica.wait_until_complete();
        begun.elapsed()
    }
}

impl Drop for Subnet {
    fn drop(&mut self) {
        self.replicas.clear();
        if !thread::panicking() {
            let _ = fs::remove_dir_all(&self.folder);
        }
    }
}

fn main() {
    let options = Options::parse();
    let runs = options.rounds.unwrap_or(10);
    let runtimes: &[Choice] = match &options.runtime {
        Choice::Both => &[Choice::Tokio, Choice::Smol],
        one => slice::from_ref(one),
    };
    for runtime in runtimes {
        bench(runtime.name(), runs);
    }
}

fn bench(runtime: &'static str, runs: usize) {
    println!("under {runtime}");
    let mut subnet = Subnet::start(runtime);
    println!("from the start of a killed replica's process until all {} are up", REPLICAS - 1);
    for (role, at) in [("dials all others", 0), ("is dialled by all", REPLICAS - 1)] {
        let mut times = Vec::new();
        for _ in 0..runs {
            times.push(subnet.restart(at));
        }
        let line: Vec<_> = times.iter().map(|time| format!("{:.0}", ms(*time))).collect();
        times.sort_unstable();
        let median = times.get(times.len() / 2).map_or(f64::NAN, |time| ms(*time));
        println!("{role:<18} {} ms; median {median:.0} ms", line.join(" "));
    }
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
