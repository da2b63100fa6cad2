//! Less urgent classes yield while a node takes in less than it wants of what is more urgent. The machine by itself,
//! with holders that answer when the test says so.

use slotcast::artifact::Artifact;
use slotcast::broadcast::RequestId;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::ChannelId;
use slotcast_testkit::machines::{CHANNEL, Frame, OTHER, Solo, advert, artifact, ms, peer};

/// Two of them are more than may be hostile.
const HOLDERS: usize = 4;

const URGENT: ChannelId = ChannelId(3);

/// Chunks that are asked for at a time while a class yields: 64 KiB.
const YIELDING: usize = 4;

struct Holders {
    solo: Solo,
    next_slot: u32,
    /// What is advertised.
    active: Vec<Artifact>,
}

impl Holders {
    fn new() -> Self {
        let bulk = ChannelConfig::new(OTHER).class(Class::Bulk);
        let urgent = ChannelConfig::new(URGENT).class(Class::Urgent);
        let config = Config::new([ChannelConfig::new(CHANNEL), bulk, urgent]);
        Self { solo: Solo::new(&config, HOLDERS), next_slot: 0, active: Vec::new() }
    }

    fn advertise(&mut self, at: usize, channel: ChannelId, length: usize) -> Artifact {
        let (slot, artifact) = (self.next_slot, artifact(self.next_slot.into(), length));
        self.next_slot += 1;
        let told = advert(slot, u64::from(slot) + 1, 0, false, &artifact);
        let (machine, now) = (&mut self.solo.machine, self.solo.now);
        machine.handle_update(now, peer(at), channel, &told).expect("no fault");
        self.solo.settle();
        self.active.push(artifact.clone());
        artifact
    }

    /// More is wanted of a holder than it may be asked for at a time, and has waited too long.
    fn make_late(&mut self, at: usize, channel: ChannelId) {
        for _ in 0..20 {
            self.advertise(at, channel, 20_000);
        }
        self.solo.elapse(ms(300));
        // It is looked at when there is something to do about the holder.
        self.advertise(at, channel, 20_000);
    }

    /// What a holder is asked for of an artifact: requests, and the chunks of each.
    fn asked(&mut self, at: usize, artifact: &Artifact) -> Vec<(RequestId, Vec<u32>)> {
        let frames = self.solo.sent(at).into_iter();
        let asked = frames.filter_map(|frame| match frame {
            Frame::Fetch { request, id, chunks } if id == artifact.id() => {
                Some((RequestId(request), chunks))
            }
            _ => None,
        });
        asked.collect()
    }

    fn answer(
        &mut self,
        at: usize,
        artifact: &Artifact,
        (request, chunks): &(RequestId, Vec<u32>),
    ) {
        for chunk in chunks {
            self.solo.chunk(at, *request, artifact, *chunk).expect("it is right");
        }
        self.solo.settle();
    }
}

/// Two are late, and two others have a block each.
fn yielding() -> (Holders, [(usize, Artifact); 2]) {
    let mut holders = Holders::new();
    (0..2).for_each(|at| holders.make_late(at, CHANNEL));
    let blocks = [2, 3].map(|at| (at, holders.advertise(at, OTHER, 1 << 20)));
    (holders, blocks)
}

/// It may be the holder that is slow.
#[test]
fn a_class_does_not_yield_to_a_few_holders() {
    let mut holders = Holders::new();
    holders.make_late(0, CHANNEL);
    let block = holders.advertise(3, OTHER, 1 << 20);
    let chunks: usize = holders.asked(3, &block).iter().map(|(_, chunks)| chunks.len()).sum();
    assert!(chunks > YIELDING, "{chunks}");
}

#[test]
fn a_class_that_yields_is_asked_for_bit_by_bit_of_one_holder_after_the_other() {
    let (mut holders, blocks) = yielding();
    // The one that is asked answers, and then it is the other's turn.
    for turn in 0..6 {
        let [asked, other] = [turn % 2, 1 - turn % 2].map(|which| {
            let (at, block) = &blocks[which];
            holders.asked(*at, block)
        });
        let [(_, chunks)] = &asked[..] else { panic!("{turn}: one request: {asked:?}") };
        assert_eq!((chunks.len(), other), (YIELDING, Vec::new()), "{turn}");
        let (at, block) = &blocks[turn % 2];
        holders.answer(*at, block, &asked[0]);
    }
}

/// Or one silent holder would keep all others from being asked.
#[test]
fn what_is_not_answered_keeps_others_waiting_for_a_while_only() {
    let (mut holders, blocks) = yielding();
    assert_eq!(holders.asked(2, &blocks[0].1).len(), 1);
    let asked_at = holders.solo.now;
    // Nothing else wakes the machine.
    let mut asked = Vec::new();
    while asked.is_empty() {
        holders.solo.wake();
        asked = holders.asked(3, &blocks[1].1);
    }
    assert_eq!(asked.first().map(|(_, chunks)| chunks.len()), Some(YIELDING), "{asked:?}");
    assert_eq!(holders.solo.now.since(asked_at), ms(250));
}

#[test]
fn when_nothing_is_late_any_more_all_is_asked_for_again() {
    let (mut holders, blocks) = yielding();
    assert_eq!(holders.asked(2, &blocks[0].1).len(), 1);
    assert_eq!(holders.asked(3, &blocks[1].1), []);
    holders.solo.down(0);
    holders.solo.wake();
    let asked = holders.asked(3, &blocks[1].1);
    let chunks: usize = asked.iter().map(|(_, chunks)| chunks.len()).sum();
    assert!(chunks > YIELDING, "{chunks}");
}

/// Each holder has more of the class between than is asked for.
#[test]
fn the_last_class_has_its_share_of_what_yields() {
    let mut holders = Holders::new();
    (0..HOLDERS).for_each(|at| holders.make_late(at, URGENT));
    for at in 0..HOLDERS {
        holders.advertise(at, CHANNEL, 16 << 20);
        holders.advertise(at, CHANNEL, 16 << 20);
    }
    let last: Vec<Artifact> =
        (0..HOLDERS).map(|at| holders.advertise(at, OTHER, 1 << 20)).collect();
    let mut turns = [[0; 2]; HOLDERS];
    for _ in 0..32 {
        for (at, turns) in turns.iter_mut().enumerate() {
            for frame in holders.solo.sent(at) {
                let Frame::Fetch { request, id, chunks } = frame else { continue };
                let artifact = holders.active.iter().find(|artifact| artifact.id() == id);
                let artifact = artifact.expect("advertised").clone();
                if artifact.bytes().len() > 20_000 {
                    turns[usize::from(artifact.id() == last[at].id())] += 1;
                    holders.answer(at, &artifact, &(RequestId(request), chunks));
                }
            }
        }
    }
    for [others, last] in turns {
        assert!(others + last == 32 && (1..=2).contains(&last), "{turns:?}");
    }
}
