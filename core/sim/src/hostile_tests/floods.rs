//! A member that floods, each way, and what others notice of it where work takes time.

use std::time::Duration;

use quinn_proto::{StreamId, TransportConfig as QuicTransport};

use super::arena::{Arena, DIALLER, HONEST, VICTIM};
use super::{ROUTE, asking_for, config, cut, head, ms, push, question, updates};
use crate::hostile::frames::clear;
use slotcast::artifact::Artifact;
use slotcast::error::Fault;
use slotcast::id::NodeId;
use slotcast::node::NodeEvent;
use slotcast::time::Time;
use slotcast::wire::StreamHead;

/// How often the flood goes on, and honest members publish and call.
const STEP: Duration = Duration::from_micros(100);
const STEPS_PER_SAMPLE: u32 = 20;
const SAMPLES: usize = 300;

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    Nothing,
    Updates,
    /// Of slots that hold nothing.
    Clears,
    /// Of versions that have passed.
    Stale,
    /// An artifact in the slot that it is in.
    Repeats,
    /// Answers to requests that were never made.
    Chunks,
    Resets,
    Calls,
    /// Calls that are reset when they have begun.
    CutCalls,
    Pings,
}

/// A flood under way.
struct Flood {
    way: Way,
    version: u64,
    /// Calls that are to be answered.
    calls: Vec<StreamId>,
}

impl Flood {
    fn new(way: Way) -> Self {
        Self { way, version: 0, calls: Vec::new() }
    }

    /// As much as the victim gives credit for.
    fn go_on(&mut self, arena: &mut Arena) {
        match self.way {
            Way::Nothing => {}
            Way::Updates | Way::Clears | Way::Stale | Way::Repeats => {
                while let Some(stream) = arena.open() {
                    let bytes = self.updates();
                    arena.write_to(stream, &bytes, true);
                }
            }
            Way::Resets => {
                while let Some(stream) = arena.open() {
                    arena.write_to(stream, &cut(head(StreamHead::Requests)), false);
                    arena.reset(stream);
                }
            }
            Way::Chunks => {
                while let Some(stream) = arena.open() {
                    arena.write_to(stream, &head(StreamHead::Chunks(1 << 40)), true);
                }
            }
            Way::CutCalls => {
                for _ in 0..20 {
                    let Some(stream) = arena.open_call() else { break };
                    arena.write_to(stream, &asking_for(100, 1000, ms(10_000))[..20], false);
                    arena.reset(stream);
                    arena.stop(stream);
                }
            }
            Way::Calls => {
                for _ in 0..20 {
                    let Some(stream) = arena.open_call() else { break };
                    arena.write_to(stream, &asking_for(100, 1000, ms(10_000)), true);
                    self.calls.push(stream);
                }
            }
            Way::Pings => {
                for _ in 0..20 {
                    let hostile = &mut *arena.hostile_mut();
                    hostile.bare.ping(hostile.line());
                }
            }
        }
    }

    /// A stream of changes of all slots, over and over.
    fn updates(&mut self) -> Vec<u8> {
        let mut frames = Vec::new();
        for _ in 0..60 {
            self.version += 16;
            for slot in 0..16 {
                frames.push(match self.way {
                    Way::Clears => clear(slot, self.version),
                    Way::Stale => clear(slot, 1),
                    Way::Repeats => push(slot, self.version, &slot.to_be_bytes()),
                    _ => {
                        let content = [self.version, slot.into()].map(u64::to_be_bytes).concat();
                        push(slot, self.version, &content)
                    }
                });
            }
        }
        let frames: Vec<&[u8]> = frames.iter().map(Vec::as_slice).collect();
        updates(&frames)
    }
}

struct Samples {
    broadcasts: Vec<Duration>,
    calls: Vec<Duration>,
}

impl Samples {
    fn p99(mut latencies: Vec<Duration>) -> Duration {
        latencies.sort();
        latencies[latencies.len() * 99 / 100]
    }
}

/// An artifact of the honest member every two milliseconds, and a call of the victim's to it.
fn measure(way: Way) -> [Duration; 2] {
    let mut config = config();
    config.channels[0].slots_max = 64;
    // Whoever is cut off for it costs nothing any more.
    config.work.fruitless_max = u32::MAX;
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.network.each_link(|_, _, link| {
        *link = crate::Link::new(ms(1));
        link.bytes_per_second = 125_000_000;
    });
    arena.dial();
    arena.greet();
    arena.set_processor(VICTIM, Duration::from_micros(100));
    let mut flood = Flood::new(way);
    // The flood gets going.
    for _ in 0..2000 {
        flood.go_on(&mut arena);
        arena.elapse(STEP);
    }
    let mut samples = Samples { broadcasts: Vec::new(), calls: Vec::new() };
    let honest: NodeId = arena.id(HONEST);
    let work = arena.stats().work;
    let begun = arena.now();
    for number in 0..SAMPLES {
        let bytes = [&(number as u64).to_be_bytes()[..], &[7; 200]].concat();
        let block = Artifact::new(bytes.into(), &[]).expect("within the limits");
        let published = arena.now();
        arena.publish(HONEST, &block);
        let body = question(100, 100).into();
        let called = arena.command(VICTIM, |_, node| {
            let to = node.node().peers_up().position(|peer| peer == honest);
            let to = to.map(|_| HONEST).expect("it is up");
            node.call(to, ROUTE, body, None)
        });
        let call = called.expect("it runs").expect("there is credit");
        let (mut delivered, mut answered): (Option<Time>, Option<Time>) = (None, None);
        let mut steps = 0;
        while steps < STEPS_PER_SAMPLE || delivered.is_none() || answered.is_none() {
            flood.go_on(&mut arena);
            arena.run(arena.now() + STEP, |_| false);
            steps += 1;
            assert!(steps < 10_000, "{way:?}: never");
            if delivered.is_none() && arena.bringer(&block).is_some() {
                delivered = Some(arena.now());
            }
            let outcome = arena.application.outcomes.iter().find(|(of, ..)| *of == call);
            answered = outcome.map(|(_, at, _)| *at);
        }
        samples.broadcasts.push(delivered.expect("it was").since(published));
        samples.calls.push(answered.expect("it was").since(published));
        arena.abort(HONEST, &block);
    }
    let busy = (arena.stats().work - work) as f64 / 1e7 / arena.now().since(begun).as_secs_f64();
    let p99 = [Samples::p99(samples.broadcasts), Samples::p99(samples.calls)];
    println!(
        "{way:?}: p99 {p99:?}, processor busy for {:.0} %, faults {}",
        100.0 * busy,
        arena.stats().faults
    );
    p99
}

#[test]
fn a_flood_costs_others_little_where_work_takes_time() {
    let undisturbed = measure(Way::Nothing);
    for way in [Way::Updates, Way::Clears, Way::Resets, Way::Calls, Way::Pings] {
        for (p99, undisturbed) in measure(way).into_iter().zip(undisturbed) {
            assert!(p99 <= undisturbed.mul_f64(1.2), "{way:?}: {p99:?} and {undisturbed:?}");
        }
    }
}

/// How long a flood takes until it is a fault, of which a hundred pieces in a second may be without progress, and
/// so many at a time. At most two seconds.
fn faulted_after(way: Way, fruitless_max: u32) -> Option<Duration> {
    let mut config = config();
    (config.work.fruitless_per_second, config.work.fruitless_max) = (100, fruitless_max);
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    arena.dial();
    arena.greet();
    let mut flood = Flood::new(way);
    let begun = arena.now();
    let is_fault = |event: &NodeEvent| {
        matches!(event, NodeEvent::Fault { fault: Fault::WorkWithoutProgress, .. })
    };
    let is_told = (0..2000).any(|_| {
        flood.go_on(&mut arena);
        arena.elapse(ms(1));
        arena.take_told().iter().any(is_fault)
    });
    is_told.then(|| arena.now().since(begun))
}

#[test]
fn work_without_progress_is_a_fault() {
    let ways = [Way::Clears, Way::Stale, Way::Repeats, Way::Chunks, Way::Resets, Way::CutCalls];
    for way in ways.into_iter().chain([Way::Pings]) {
        let after = faulted_after(way, 1000);
        println!("{way:?}: a fault after {after:?}");
        assert!(after.is_some(), "{way:?}");
        assert_eq!(faulted_after(way, u32::MAX), None, "{way:?}");
    }
    // Updates overtake each other, as they are in many streams at once; then few of them bring anything.
    for way in [Way::Calls, Way::Nothing] {
        assert_eq!(faulted_after(way, 1000), None, "{way:?}");
    }
}

/// So little over each connection that it is not looked at before the connection ends.
#[test]
fn work_without_progress_adds_up_over_connections() {
    let mut config = config();
    (config.work.fruitless_per_second, config.work.fruitless_max) = (1, 1000);
    let mut arena = Arena::of(&config, DIALLER, QuicTransport::default());
    let mut is_told = false;
    // The connections alone are no fault: each counts as 100 pieces.
    for _ in 0..9 {
        arena.dial();
        arena.greet();
        for _ in 0..50 {
            let line = arena.hostile().line();
            arena.hostile_mut().bare.ping(line);
            arena.elapse(ms(1));
        }
        is_told = arena.take_told().contains(&arena.fault(Fault::WorkWithoutProgress));
        if is_told {
            break;
        }
    }
    assert!(is_told);
    arena.assert_unharmed();
}
