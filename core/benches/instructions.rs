//! Instructions that the pure machines take for one artifact of 200 bytes, from publisher to one receiver,
//! stage by stage: what a change costs, on any machine and beside any other load.
//!
//! `cargo bench -p slotcast --bench instructions [--features tracing] [-- --write]`
//!
//! With the feature `tracing` each stage is counted without a subscriber, with one that wants nothing, and with
//! one that writes all events as text, and compared with the stage without the feature.
//!
//! Counted by valgrind, which this starts on itself. Each stage is run with all before it, for two numbers
//! of artifacts, so that what is the same in two runs falls out. The counts are compared with those in
//! `instructions.txt` beside this file, which `--write` replaces: a stage that takes a tenth more is an
//! error. Without valgrind nothing is counted, and counts of another compiler are not compared.
//!
//! Hashing is done without the processor's instructions for it, which valgrind does not know and not every
//! machine has, and so counts for several times as much as it takes. It is a stage by itself. In `apply` the
//! receiver hashes the same, which is left out there.

#[cfg(feature = "tracing")]
#[path = "instructions/subscribers.rs"]
mod subscribers;

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::process::{Command, ExitCode};
use std::{env, fs};

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Broadcast, Event, Output, Send, SendBuffer};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
use slotcast::time::Time;
use slotcast::wire::{Item, StreamDecoder, Update};

const APPLY: &str = "apply";

/// Each with what it is.
const STAGES: [(&str, &str); 5] = [
    ("make", "hashes of an artifact"),
    ("publish", "and abort"),
    ("encode", "push and clear, and what an acknowledgement ends"),
    (APPLY, "push and clear, decoded; without the hashes, which are those of `make`"),
    ("tell", "delivered and expired"),
];

/// Artifacts in two runs of a stage.
const COUNTS: [usize; 2] = [1_000, 3_000];

/// Artifacts that are published, and travel, together.
const BATCH: usize = 50;

const ARTIFACT_BYTES: usize = 200;

/// How much more than before is an error, in percent.
const MORE_MAX: u64 = 10;

/// What the stages take without the feature `tracing`.
const BASE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions.txt");

#[cfg(not(feature = "tracing"))]
const SNAPSHOT: &str = BASE;
#[cfg(feature = "tracing")]
const SNAPSHOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/benches/instructions_tracing.txt");

/// Who takes the events, as a prefix of the names of the stages.
#[cfg(not(feature = "tracing"))]
const SUBSCRIBERS: [&str; 1] = [""];
#[cfg(feature = "tracing")]
const SUBSCRIBERS: [&str; 3] = subscribers::NAMES;

#[cfg(not(feature = "tracing"))]
mod subscribers {
    pub(crate) fn begin(_name: &str) {}
}

const CHANNEL: ChannelId = ChannelId(1);
const PEER: PeerIndex = PeerIndex(0);
const NOW: Time = Time(1);

struct Pair {
    sender: Broadcast,
    receiver: Broadcast,
    out: SendBuffer,
    stream: Vec<u8>,
}

fn machine(node: u8) -> Broadcast {
    let config = Config::new([ChannelConfig::new(CHANNEL)]);
    let mut machine = Broadcast::new(&config, NodeId([node; 32]), node.into()).expect("valid");
    machine.add_peer(PEER, NodeId([node; 32]));
    machine.peer_up(Time::ZERO, PEER, |_| true);
    machine
}

fn settle(machine: &mut Broadcast) {
    while !matches!(machine.poll(NOW), Output::Idle { .. }) {}
}

impl Pair {
    /// What the sender has to say goes through the stages up to `stage`.
    fn carry(&mut self, stage: usize) {
        settle(&mut self.sender);
        if stage < 2 {
            return;
        }
        while let Some(Send { stream, .. }) =
            self.sender.poll_send(NOW, PEER, 1 << 16, &mut self.out)
        {
            self.stream.clear();
            self.out.for_each_piece(|piece| self.stream.extend_from_slice(piece));
            self.sender.handle_acked(PEER, stream.expect("updates"));
            settle(&mut self.sender);
            if stage >= 3 {
                self.apply();
            }
        }
        if stage >= 4 {
            while let Some(event) = self.receiver.poll_event(CHANNEL) {
                assert!(matches!(event, Event::Delivered { .. } | Event::Expired { .. }));
            }
        }
    }

    fn apply(&mut self) {
        let mut decoder = StreamDecoder::new(1 << 16);
        let mut input = &self.stream[..];
        while let Some(item) = decoder.next(&mut input).expect("well-formed") {
            if let Item::Frame { kind, body } = item {
                let update = Update::decode(kind, body).expect("well-formed").expect("known");
                let taken = self.receiver.handle_update(NOW, PEER, CHANNEL, &update);
                taken.expect("within bounds");
            }
        }
        settle(&mut self.receiver);
    }
}

/// Does for so many artifacts what the stages up to `stage` are.
fn run(stage: usize, count: usize) {
    let (sender, receiver) = (machine(1), machine(2));
    let mut pair = Pair { sender, receiver, out: SendBuffer::new(), stream: Vec::new() };
    let mut active: Vec<ArtifactId> = Vec::new();
    for number in 0..count {
        let mut bytes = vec![0; ARTIFACT_BYTES];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        let artifact = Artifact::new(bytes.into(), b"metadata").expect("short");
        active.push(artifact.id());
        if stage >= 1 {
            pair.sender.publish(CHANNEL, artifact).expect("there is room");
        }
        if active.len() == BATCH {
            pair.carry(stage);
            for id in active.drain(..) {
                assert_eq!(pair.sender.abort(CHANNEL, &id), stage >= 1);
            }
            pair.carry(stage);
        }
    }
}

/// Instructions of a run. `None` without valgrind.
fn counted(subscriber: &str, stage: usize, count: usize) -> Option<u64> {
    let this = env::current_exe().expect("this bench is a file");
    let mut command = Command::new("valgrind");
    command.args(["--tool=callgrind", "--callgrind-out-file=/dev/null"]).arg(this);
    // For aws-lc: no instructions but those that each x86-64 has.
    command.env("OPENSSL_ia32cap", "0x0:0x0");
    command.args(["--run", subscriber, &stage.to_string(), &count.to_string()]);
    let output = match command.output() {
        Err(error) if error.kind() == ErrorKind::NotFound => return None,
        output => output.expect("valgrind starts"),
    };
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "valgrind has failed: {told}");
    let total = told.lines().find_map(|line| line.split_once("Collected :"));
    Some(total.expect("it says how many").1.trim().parse().expect("a number"))
}

/// Name and version of the compiler.
fn compiler() -> String {
    let rustc = env::var_os("RUSTC").unwrap_or("rustc".into());
    let output = Command::new(rustc).arg("--version").output().expect("the compiler is here");
    String::from_utf8_lossy(&output.stdout).trim().to_string()
}

/// Instructions of each stage, for one artifact.
fn count_all(subscriber: &str) -> Option<Vec<u64>> {
    let mut before = 0;
    let mut counts = Vec::new();
    for (stage, (name, _)) in STAGES.into_iter().enumerate() {
        let few = counted(subscriber, stage, COUNTS[0])?;
        let many = counted(subscriber, stage, COUNTS[1])?;
        let each = (many - few) / (COUNTS[1] - COUNTS[0]) as u64;
        let hashes = if name == APPLY { counts[0] } else { 0 };
        counts.push(each.saturating_sub(before + hashes));
        before = each;
    }
    Some(counts)
}

/// Counts that were written to a file, by stage; and the compiler.
fn read_counts(path: &str) -> (String, BTreeMap<String, u64>) {
    let written = fs::read_to_string(path).unwrap_or_default();
    let lines = written.lines().filter_map(|line| line.split_once(' '));
    let counts =
        lines.filter_map(|(name, count)| Some((name.to_owned(), count.trim().parse().ok()?)));
    (written.lines().next().unwrap_or_default().to_owned(), counts.collect())
}

fn main() -> ExitCode {
    let options: Vec<String> = env::args().skip(1).collect();
    if let [run_option, subscriber, stage, count] = &options[..]
        && run_option == "--run"
    {
        subscribers::begin(subscriber);
        run(stage.parse().expect("a stage"), count.parse().expect("a number"));
        return ExitCode::SUCCESS;
    }
    let compiler = compiler();
    let (compiler_before, before) = read_counts(SNAPSHOT);
    let (base_compiler, base) = read_counts(BASE);
    println!("{:<18}{:>12}{:>10}", "stage", "instructions", "before");
    let mut lines = format!("{compiler}\n");
    let mut has_more = false;
    for subscriber in SUBSCRIBERS {
        let Some(counts) = count_all(subscriber) else {
            println!("valgrind is not installed: nothing is counted");
            return ExitCode::SUCCESS;
        };
        let total: u64 = counts[1..].iter().sum();
        for ((name, what), count) in STAGES.into_iter().zip(counts) {
            let name = format!("{subscriber}{name}");
            let known = before.get(&name).copied();
            has_more |= known.is_some_and(|known| count * 100 > known * (100 + MORE_MAX));
            let known = known.map_or("-".into(), |known| known.to_string());
            println!("{name:<18}{count:>12}{known:>10}  {what}");
            lines.push_str(&format!("{name} {count}\n"));
        }
        if SNAPSHOT != BASE && base_compiler == compiler {
            let known: u64 = STAGES[1..].iter().map(|(name, _)| base[*name]).sum();
            let more = 100.0 * (total as f64 / known as f64 - 1.0);
            let what = format!("all but the hashes: {more:+.1} % for `tracing`");
            println!("{subscriber:<18}{total:>12}{:>10}  {what}", "");
        }
    }
    if options.iter().any(|option| option == "--write") {
        fs::write(SNAPSHOT, lines).expect("the file can be written");
    } else if compiler_before != compiler {
        println!("counted before with another compiler: not compared");
    } else if has_more {
        eprintln!(
            "A stage takes {MORE_MAX} % more than before. If that is as it should be, write the new \
             counts with\n    cargo bench -p slotcast --bench instructions -- --write"
        );
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
