//! Everything at once, drawn from a seed: calls of all kinds and ends, in a subnet in which nothing
//! holds.

use std::collections::BTreeMap;
use std::time::Duration;

use slotcast::error::CallError;
use slotcast::rpc::CallId;
use slotcast_sim::{Chance, FaultKind, Link, Random, Setup};

use crate::meter::{self, METER};
use crate::office::{
    Manner, ROUTE, Subnet, answer, asking_for, assert_all_over, cancel, config, connected, limited,
    outcome, publish, try_call,
};

const NODES: usize = 4;
const MANNERS: [Manner; 6] = [
    Manner::Answer,
    Manner::Answer,
    Manner::Keep,
    Manner::Ignore,
    Manner::Drop,
    Manner::Busy(Duration::from_millis(1)),
];

struct Storm {
    subnet: Subnet,
    random: Random,
    calls: Vec<(usize, CallId)>,
    /// Bytes of the longest answer.
    longest: usize,
    /// The most that a node has held, and the bound of it.
    memory: (u64, u64),
}

impl Storm {
    fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }

    /// From nothing to a megabyte, short ones more often.
    fn length(&mut self) -> usize {
        let bits = self.below(21);
        self.below(1 << bits)
    }

    fn act(&mut self, step: u64) {
        let (a, b) = (self.below(NODES), 1 + self.below(NODES - 1));
        let b = (a + b) % NODES;
        let length = self.length();
        match self.below(100) {
            0..50 => {
                let body = asking_for(length.min(self.longest), self.length());
                let timeout = Some(Duration::from_millis(16 << self.below(10)));
                if self.subnet.node(a).is_some()
                    && let Ok(id) = try_call(&mut self.subnet, a, b, body, timeout)
                {
                    self.calls.push((a, id));
                }
            }
            50..60 if !self.calls.is_empty() => {
                let at = self.below(self.calls.len());
                let (from, id) = self.calls[at];
                if cancel(&mut self.subnet, from, id) {
                    self.calls.swap_remove(at);
                }
            }
            60..70 => {
                let manner = self.below(MANNERS.len());
                self.subnet.application.desks[a].manner = MANNERS[manner];
            }
            70..80 => {
                for request in std::mem::take(&mut self.subnet.application.desks[a].kept) {
                    if self.subnet.node(a).is_some() {
                        let _ = answer(&mut self.subnet, a, &request);
                    }
                }
            }
            80..83 => self.subnet.stall(a, Duration::from_millis(length as u64 / 200)),
            83..85 => self.subnet.deafen(a, Duration::from_millis(length as u64 / 200)),
            85..87 => {
                self.subnet.crash(a, FaultKind::CrashAndForget);
                let desk = &mut self.subnet.application.desks[a];
                desk.forget();
                self.calls.retain(|(at, _)| *at != a);
                self.subnet.start(a);
            }
            87..89 => self.subnet.cut(&[a], &[b]),
            89..91 => self.subnet.cut_one_way(a, b),
            91..95 => self.subnet.heal(),
            95..97 => {
                let without = self.subnet.topology((0..NODES).filter(|at| *at != b));
                self.subnet.follow(a, &without);
            }
            97 => self.all_members(),
            98 => {
                let is_wanted = self.below(2) == 0;
                self.subnet.command(a, |_, node| node.serve(ROUTE, is_wanted));
            }
            _ => {
                if self.subnet.node(a).is_some() {
                    publish(&mut self.subnet, a, step);
                }
            }
        }
    }

    fn all_members(&mut self) {
        let all = self.subnet.topology(0..NODES);
        (0..NODES).for_each(|at| self.subnet.follow(at, &all));
    }

    /// Nothing more goes wrong: all calls end, and new ones are answered.
    fn calm(&mut self) {
        self.subnet.heal();
        self.all_members();
        for at in 0..NODES {
            self.subnet.undeafen(at);
            self.subnet.command(at, |_, node| node.serve(ROUTE, true));
            self.subnet.application.desks[at].manner = Manner::Answer;
            for request in std::mem::take(&mut self.subnet.application.desks[at].kept) {
                let _ = answer(&mut self.subnet, at, &request);
            }
        }
        self.subnet.elapse(Duration::from_secs(25));
        for (at, id) in &self.calls {
            assert!(self.subnet.application.outcome(*at, *id).is_some(), "{id:?} of {at}");
        }
        for (a, b) in (0..NODES).flat_map(|a| (0..NODES).map(move |b| (a, b))) {
            if a != b {
                let body = asking_for(self.longest / 4, 50_000);
                let patience = Some(Duration::from_secs(60));
                let next = try_call(&mut self.subnet, a, b, body, patience).expect("credit");
                let result = outcome(&mut self.subnet, a, next);
                assert!(result.is_ok(), "{a} to {b}: {:?}", result.err());
            }
        }
        assert_all_over(&mut self.subnet);
    }
}

fn storm(seed: u64) -> Storm {
    let mut random = Random::new(seed);
    let mut config = config(|route| {
        route.in_flight_max = 1 + random.below(24) as u16;
        route.waiting_max = random.below(24) as u16;
        route.body_bytes_max = 1 << (20 + random.below(4));
        route.response_bytes_max = 16 << (10 + 6 * random.below(2));
    });
    // So that the bound is not far above what is held.
    config.peers_max = NODES as u16 - 1;
    let channel = &mut config.channels[0];
    (channel.slots_max, channel.artifact_bytes_max, channel.push_bytes_max) = (64, 1000, 1000);
    (channel.active_bytes_max, channel.inbox_bytes_max) = (64_000, 64_000);
    let transport = &mut config.transport;
    (transport.streams_max, transport.stream_window) = (16, 256 << 10);
    (transport.receive_window, transport.send_window) = (256 << 10, 256 << 10);
    let link = limited(Duration::from_millis(1 + random.below(50)), 100_000 << random.below(8));
    let link = Link {
        loss: Chance::percent(random.below(4) as u32),
        reorder: Chance::percent(random.below(4) as u32),
        reorder_by: Duration::from_millis(50),
        duplicate: Chance::percent(random.below(3) as u32),
        ..link
    };
    meter::reset();
    let mut subnet = connected(Setup::new(&config, NODES).link(link).seed(seed));
    subnet.set_scope(METER.enter);
    let longest = config.routes[0].response_bytes_max as usize;
    let mut storm = Storm { subnet, random, calls: Vec::new(), longest, memory: (0, 0) };
    let bound = config.memory_bound();
    for step in 0..400 {
        storm.act(step);
        let span = Duration::from_micros(100 << storm.below(10));
        storm.subnet.elapse(span);
        for at in 0..NODES {
            if let Some(node) = storm.subnet.node(at) {
                node.assert_calls_sound();
                assert!(node.body_bytes() <= 4 * config.routes[0].body_bytes_max);
            }
            let held = (METER.held)(at);
            storm.memory = storm.memory.max((held, bound));
            assert!(held <= bound, "{held} above {bound}");
        }
    }
    storm.calm();
    storm
}

#[test]
fn whatever_happens_each_call_ends_once_and_nothing_is_left() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |number| number.parse().expect("a number"))
    };
    let mut ends = BTreeMap::<String, usize>::new();
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 40) {
        let storm = std::panic::catch_unwind(|| storm(seed));
        let storm = storm.unwrap_or_else(|_| panic!("seed {seed}: run with FIRST={seed} SEEDS=1"));
        for (_, _, result) in storm.subnet.application.desks.iter().flat_map(|d| &d.outcomes) {
            let end = match result {
                Ok(_) => "answered".into(),
                Err(CallError::Busy { .. }) => "busy".into(),
                Err(error) => format!("{error:?}"),
            };
            *ends.entry(end).or_default() += 1;
        }
    }
    // All ends but those which only time brings.
    for end in ["answered", "busy", "Dropped", "NotServed", "Disconnected", "DeadlinePassed"] {
        assert!(ends.contains_key(end), "{ends:?}");
    }
    assert!(!ends.contains_key("Fault"), "{ends:?}");
}
