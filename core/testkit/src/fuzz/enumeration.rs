//! Every sequence of a few inputs from a tiny space, against the model: what random inputs may miss.

use super::model::PEERS;
use super::run::{CHANNELS, Run};
use slotcast::config::{Order, Relay};

/// Artifacts that are pushed, and wanted in every view used here.
const X: usize = 1;
const Y: usize = 2;

#[derive(Clone, Copy, Debug)]
enum Op {
    Clear { peer: usize, slot: u32, version: u64 },
    Push { peer: usize, slot: u32, version: u64, art: usize },
    Snapshot { peer: usize, live: u8 },
    Epoch { peer: usize },
    Leave { peer: usize },
    Events,
    Own,
}

fn apply(run: &mut Run, op: Op) {
    match op {
        Op::Clear { peer, slot, version } => run.clear(peer, 0, slot, version),
        Op::Push { peer, slot, version, art } => run.push((peer, 0, slot), version, art, 0),
        Op::Snapshot { peer, live } => run.snapshot(peer, 0, &[live]),
        Op::Epoch { peer } => run.peer_up(peer, [true; CHANNELS]),
        Op::Leave { peer } => {
            run.add_or_remove(peer);
            run.add_or_remove(peer);
            run.peer_up(peer, [true; CHANNELS]);
        }
        Op::Events => run.take_events(0, usize::MAX, None),
        Op::Own => {
            run.publish(0, None, X);
            run.abort(0, X);
        }
    }
}

fn updates(peers: usize, slots: u32, versions: u64) -> Vec<Op> {
    let mut ops = Vec::new();
    for peer in 0..peers {
        for slot in 0..slots {
            for version in 1..=versions {
                ops.push(Op::Clear { peer, slot, version });
                ops.extend([X, Y].map(|art| Op::Push { peer, slot, version, art }));
            }
        }
        ops.extend((0..1 << slots).map(|live| Op::Snapshot { peer, live }));
        ops.push(Op::Epoch { peer });
    }
    ops
}

/// All sequences of `depth` of `ops`; how many there were.
fn all(ops: &[Op], depth: u32) -> usize {
    let sequences = ops.len().pow(depth);
    for sequence in 0..sequences {
        let mut run = Run::quick(Relay::Automatic, [Order::Age; CHANNELS]);
        let mut rest = sequence;
        for _ in 0..depth {
            apply(&mut run, ops[rest % ops.len()]);
            rest /= ops.len();
        }
        run.compare();
        for peer in 0..PEERS {
            run.drain(peer);
        }
        run.take_events(0, usize::MAX, None);
        run.compare();
    }
    sequences
}

/// Two peers, two slots, versions 1 to 3, contents {none, X, Y}, snapshots and new epochs.
#[test]
fn every_three_inputs_of_two_peers() {
    let ops = updates(PEERS, 2, 3);
    assert_eq!(all(&ops, 3), 46_usize.pow(3));
}

/// One peer, one slot, versions 1 and 2, but the application takes its events and publishes X
/// itself, and the peer leaves and joins again.
#[test]
fn every_five_inputs_of_one_peer() {
    let mut ops = updates(1, 1, 2);
    ops.extend([Op::Leave { peer: 0 }, Op::Events, Op::Own]);
    assert_eq!(all(&ops, 5), 12_usize.pow(5));
}
