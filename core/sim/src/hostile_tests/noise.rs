//! A member that does anything at all with the streams of calls, drawn from a seed.

use quinn_proto::{StreamId, TransportConfig as QuicTransport};

use super::arena::{Arena, DIALLER, HONEST, VICTIM};
use super::{ROUTE, asking_for, asks, config, hello, ms, question, reply};
use crate::hostile::frames::frame;
use slotcast::internals::Random;
use slotcast::rpc::CallId;
use slotcast::wire::{CallRefusal, Reply};

struct Noise {
    arena: Arena,
    random: Random,
    /// Streams that the hostile member has opened and knows of.
    streams: Vec<StreamId>,
    /// Calls of the victim to it.
    calls: Vec<CallId>,
    /// How many of them it has answered.
    answered: usize,
}

impl Noise {
    fn below(&mut self, end: usize) -> usize {
        self.random.below(end as u64) as usize
    }

    /// Something to write: right, wrong, or cut off.
    fn bytes(&mut self) -> Vec<u8> {
        let timeout = ms(1 << self.below(14));
        let bits = 1 + self.below(17);
        let length = self.below(1 << bits);
        let mut bytes = match self.below(10) {
            0..3 => asking_for(self.below(40_000), 8 + length, timeout),
            3 => asks(length as u32, timeout),
            4 => reply(Reply::Continue),
            5 => [reply(Reply::Answer { length: length as u32 }), vec![3; length]].concat(),
            6 => reply(Reply::Busy { retry_after_ms: length as u32 }),
            7 => reply(Reply::Refused(CallRefusal::Other(length as u64))),
            8 => frame(self.random.below(70), &vec![1; length % 70]),
            _ => (0..length % 100).map(|_| self.random.bits() as u8).collect(),
        };
        if self.below(3) == 0 {
            let rest = self.below(bytes.len() + 1);
            bytes.truncate(rest);
        }
        bytes
    }

    /// A stream of either side.
    fn stream(&mut self) -> Option<StreamId> {
        let calls = self.arena.calls();
        let known = self.streams.len() + calls.len();
        let at = self.below(known.max(1));
        self.streams.iter().chain(&calls).nth(at).copied()
    }

    fn act(&mut self) {
        let is_up = self.arena.is_taken_on();
        match self.below(100) {
            0..30 => {
                let (bytes, finish) = (self.bytes(), self.below(2) == 0);
                if let Some(stream) = self.arena.open_call() {
                    self.arena.write_to(stream, &bytes, finish);
                    self.streams.push(stream);
                }
            }
            30..60 => {
                let (bytes, finish) = (self.bytes(), self.below(3) == 0);
                if let Some(stream) = self.stream() {
                    self.arena.write_to(stream, &bytes, finish);
                }
            }
            60..68 => drop(self.stream().map(|stream| self.arena.reset(stream))),
            68..76 => drop(self.stream().map(|stream| self.arena.stop(stream))),
            76..90 if is_up => {
                let body = question(10, 8 + self.below(100_000)).into();
                let called =
                    self.arena.command(VICTIM, |_, node| node.call(DIALLER, ROUTE, body, None));
                self.calls.extend(called.expect("it runs"));
            }
            90..94 => {
                if let Some(call) = self.calls.pop() {
                    self.arena.command(VICTIM, |_, node| node.node_mut().cancel(call));
                }
            }
            94..96 => self.arena.application.keeps ^= true,
            96..98 => self.arena.hostile_mut().reads ^= true,
            98 => {
                self.streams.clear();
                match self.below(2) {
                    0 => self.arena.dial(),
                    _ => self.arena.dial_again(),
                }
                // Some streams come before hello.
                (0..self.below(4)).for_each(|_| self.act());
                self.arena.write(&hello());
            }
            _ => {}
        }
    }
}

/// What a hostile member has made of a seed, now that it is over.
fn make(seed: u64) -> Noise {
    let mut config = config();
    config.transport.faults_max = u32::MAX;
    config.routes[0].in_flight_max = 32;
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.dial();
    arena.greet();
    let random = Random::new(seed);
    let (streams, calls) = (Vec::new(), Vec::new());
    let mut noise = Noise { arena, random, streams, calls, answered: 0 };
    for step in 0..600 {
        noise.act();
        let span = 1 << noise.below(8);
        noise.arena.elapse(ms(span));
        noise.arena.victim().assert_calls_sound();
        if step % 100 == 99 {
            let outcomes = noise.arena.application.outcomes.iter();
            noise.answered += outcomes.filter(|(_, _, result)| result.is_ok()).count();
            noise.arena.assert_unharmed();
        }
    }
    noise.arena.hostile_mut().reads = true;
    noise.arena.elapse(ms(25_000));
    let victim = noise.arena.victim();
    assert_eq!((victim.calls(), victim.body_bytes()), (0, 0));
    let of_honest = noise.arena.node(HONEST).expect("it runs");
    assert_eq!((of_honest.calls(), of_honest.body_bytes()), (0, 0));
    noise
}

#[test]
fn whatever_a_member_does_with_streams_calls_of_others_go_on_and_all_comes_to_an_end() {
    let number = |name, default| {
        std::env::var(name).map_or(default, |number| number.parse().expect("a number"))
    };
    let (mut faults, mut answered) = (0, 0);
    let first = number("FIRST", 0);
    for seed in first..first + number("SEEDS", 12) {
        let noise = std::panic::catch_unwind(|| make(seed));
        let noise = noise.unwrap_or_else(|_| panic!("seed {seed}: run with FIRST={seed} SEEDS=1"));
        answered += noise.answered;
        faults += noise.arena.stats().faults;
    }
    assert!(faults > 100 && answered > 10, "{faults} faults, {answered} answers");
}
