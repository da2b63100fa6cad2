//! Once they have seen their load, the pure machines allocate nothing, but for artifacts above 1 KiB
//! (DESIGN, section 11).

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroU64;

use slotcast::artifact::Artifact;
use slotcast::broadcast::{
    Broadcast, Candidate, Decision, Event, OutStream, Output, Send, SendBuffer, Taken,
};
use slotcast::config::{ChannelConfig, Config};
use slotcast::id::{ArtifactId, ChannelId, NodeId, PeerIndex};
use slotcast::time::Time;
use slotcast::wire::{Item, StreamDecoder, StreamHead, Update};

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// Counts what each thread allocates, so that neither the harness nor another test is seen.
struct Counting;

// SAFETY: everything is left to `System`; counting touches a plain thread-local number only.
// (There is no safe way to see allocations; the crate itself forbids unsafe code.)
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, place: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        unsafe { System.realloc(place, layout, size) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

const CHANNEL: ChannelId = ChannelId(1);
const PEER: PeerIndex = PeerIndex(0);

/// Beyond version 2^14, where the version's encoding and so the longest frame has grown once more.
const WARM_UP: usize = 9_000;
const ROUNDS: usize = 10_000;

/// Artifacts that are active at once.
const ACTIVE: usize = 20;

fn machine(node: u8) -> Broadcast {
    let config = Config::new([ChannelConfig::new(CHANNEL)]);
    let mut machine = Broadcast::new(&config, NodeId([node; 32]), node.into()).unwrap();
    machine.add_peer(PEER, NodeId([node; 32]));
    machine.peer_up(Time::ZERO, PEER, |_| true);
    machine
}

/// A sender, a receiver, and what a caller keeps for them.
struct Pair {
    sender: Broadcast,
    receiver: Broadcast,
    out: SendBuffer,
    stream: Vec<u8>,
    decoder: Option<StreamDecoder>,
    active: VecDeque<ArtifactId>,
    now: Time,
    delivered: usize,
    expired: usize,
}

impl Pair {
    fn new() -> Self {
        Self {
            sender: machine(1),
            receiver: machine(2),
            out: SendBuffer::new(),
            stream: Vec::new(),
            decoder: Some(StreamDecoder::new(1 << 16)),
            active: VecDeque::with_capacity(ACTIVE + 1),
            now: Time::ZERO,
            delivered: 0,
            expired: 0,
        }
    }

    fn idle(&mut self) {
        for machine in [&mut self.sender, &mut self.receiver] {
            while !matches!(machine.poll(self.now), Output::Idle { .. }) {}
        }
    }

    /// All that the sender has to say travels to the receiver and is acknowledged.
    fn carry(&mut self) {
        self.idle();
        while let Some(Send { stream, .. }) =
            self.sender.poll_send(self.now, PEER, 1 << 16, &mut self.out)
        {
            self.stream.clear();
            self.out.for_each_piece(|piece| self.stream.extend_from_slice(piece));
            self.apply();
            self.acknowledge(stream.expect("updates"));
        }
    }

    /// The stream comes in two pieces, so that a frame has to be held.
    fn apply(&mut self) {
        let mut decoder = StreamDecoder::reusing(self.decoder.take().unwrap(), 1 << 16);
        let (start, end) = self.stream.split_at(self.stream.len() / 2);
        for mut piece in [start, end] {
            while let Some(item) = decoder.next(&mut piece).unwrap() {
                match item {
                    Item::Head(head) => assert_eq!(head, StreamHead::Updates(CHANNEL)),
                    Item::Frame { kind, body } => {
                        let update = Update::decode(kind, body).unwrap().unwrap();
                        let taken = self.receiver.handle_update(self.now, PEER, CHANNEL, &update);
                        assert_eq!(taken, Ok(Taken::Done));
                    }
                }
            }
        }
        assert_eq!(decoder.finish(), Ok(()));
        self.decoder = Some(decoder);
        self.idle();
    }

    fn acknowledge(&mut self, stream: OutStream) {
        self.sender.handle_acked(PEER, stream);
        self.idle();
    }

    fn take_events(&mut self) {
        while let Some(event) = self.receiver.poll_event(CHANNEL) {
            match event {
                Event::Delivered { .. } => self.delivered += 1,
                Event::Expired { .. } => self.expired += 1,
                _ => unreachable!("there is one holder"),
            }
            self.idle();
        }
    }

    /// One artifact comes, and the oldest goes.
    fn round(&mut self, artifact: Artifact) {
        self.now.0 += 1_000_000;
        self.active.push_back(artifact.id());
        self.sender.publish(CHANNEL, artifact).unwrap();
        self.carry();
        self.take_events();
        if self.active.len() > ACTIVE {
            let oldest = self.active.pop_front().unwrap();
            assert!(self.sender.abort(CHANNEL, &oldest));
            self.carry();
            self.take_events();
        }
    }
}

/// Allocations in [`ROUNDS`] rounds after [`WARM_UP`], with artifacts of so many bytes. The
/// publisher's payloads are made before.
fn allocations(pair: &mut Pair, length: usize) -> u64 {
    let artifact = |number: usize| {
        let mut bytes = vec![0; length];
        bytes[..8].copy_from_slice(&number.to_be_bytes());
        Artifact::new(bytes.into(), b"metadata").unwrap()
    };
    for number in 0..WARM_UP {
        pair.round(artifact(number));
    }
    (pair.delivered, pair.expired) = (0, 0);
    let artifacts: Vec<Artifact> = (0..ROUNDS).map(|number| artifact(WARM_UP + number)).collect();
    let before = ALLOCATIONS.get();
    for artifact in artifacts {
        pair.round(artifact);
    }
    let counted = ALLOCATIONS.get() - before;
    pair.sender.assert_invariants();
    pair.receiver.assert_invariants();
    counted
}

#[test]
fn short_pushes_cost_none() {
    let mut pair = Pair::new();
    assert_eq!(allocations(&mut pair, 200), 0);
    assert_eq!((pair.delivered, pair.expired), (ROUNDS, ROUNDS));
}

/// Above 1 KiB payloads are not copied next to their headers, but referred to.
#[test]
fn longer_pushes_cost_the_sender_one_allocation_and_the_receiver_two() {
    let mut pair = Pair::new();
    // Making a `Bytes` shared for the first time allocates its count: once per artifact, however
    // many peers it is sent to. The receiver keeps the bytes, and what is known of them.
    assert_eq!(allocations(&mut pair, 2_000), 3 * ROUNDS as u64);
    assert_eq!((pair.delivered, pair.expired), (ROUNDS, ROUNDS));
}

#[test]
fn adverts_that_are_not_fetched_cost_none() {
    let mut pair = Pair::new();
    let filter = |_: &Candidate<'_>| Decision::Drop;
    assert!(pair.receiver.set_filter(CHANNEL, Box::new(filter)));
    assert_eq!(allocations(&mut pair, 20_000), 0);
    assert_eq!((pair.delivered, pair.expired), (0, 0));
    assert_eq!(pair.receiver.known_count(), ACTIVE);
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.get();
    drop(Box::new(NonZeroU64::MIN));
    drop(vec![0_u8; 100]);
    let mut grown = Vec::with_capacity(1);
    grown.extend_from_slice(&[1_u8; 100]);
    drop(grown);
    assert_eq!(ALLOCATIONS.get() - before, 4);
}
