//! Slow and silent holders: what they were asked for arrives, however slow they are, and nothing
//! that was verified is lost to them. The machine by itself, with holders that the test plays.

use std::collections::VecDeque;

use slotcast::artifact::{Artifact, SINGLE_CHUNK_BYTES_MAX};
use slotcast::broadcast::{ChunkTaken, RequestId};
use slotcast::config::{ChannelConfig, Config};
use slotcast_testkit::machines::{
    CHANNEL, Frame, LARGE_CHUNKS, Solo, artifact, config, large, ms, peer,
};

/// What a holder that is played by [`Play`] does when it is asked.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Manner {
    /// Sends so many bytes per second.
    Rate(u64),
    /// Sends nothing for so long, in seconds, and then everything.
    Late(u64),
    Silent,
}

/// A request that a holder answers.
struct Answer {
    request: RequestId,
    /// The chunks still to be sent.
    chunks: VecDeque<u32>,
    /// Seconds since it was asked.
    waited: u64,
}

/// Holders that answer requests for one artifact, second by second.
struct Play {
    solo: Solo,
    block: Artifact,
    manners: Vec<Manner>,
    /// By holder: what it answers, in the order in which it was asked.
    answers: Vec<VecDeque<Answer>>,
    /// By holder: bytes of its next chunk that are on their way.
    sent: Vec<u64>,
    /// Requests sent.
    asked: Vec<usize>,
    /// Bytes that came, and were right.
    bytes: u64,
}

impl Play {
    fn new(length: usize, manners: &[Manner]) -> Self {
        let mut solo = Solo::new(&config(|_| {}), manners.len());
        let block = artifact(1, length);
        (0..manners.len()).for_each(|at| solo.advert(at, 0, 1, &block));
        Self {
            solo,
            block,
            manners: manners.to_vec(),
            answers: manners.iter().map(|_| VecDeque::new()).collect(),
            sent: vec![0; manners.len()],
            asked: Vec::new(),
            bytes: 0,
        }
    }

    fn hear(&mut self) {
        for at in 0..self.manners.len() {
            for frame in self.solo.sent(at) {
                match frame {
                    Frame::Fetch { request, chunks, .. } => {
                        let (request, chunks) = (RequestId(request), chunks.into());
                        self.answers[at].push_back(Answer { request, chunks, waited: 0 });
                        self.asked.push(at);
                    }
                    Frame::Cancel(cancelled) => {
                        self.answers[at].retain(|answer| answer.request != RequestId(cancelled));
                        self.sent[at] = 0;
                    }
                    _ => {}
                }
            }
        }
    }

    fn answer(&mut self, at: usize) {
        self.answers[at].iter_mut().for_each(|answer| answer.waited += 1);
        let mut sent = self.sent[at];
        while let Some(answer) = self.answers[at].front_mut() {
            let may_send = match self.manners[at] {
                Manner::Rate(rate) if sent == self.sent[at] => rate,
                Manner::Late(wait) if answer.waited >= wait => self.block.advert().length,
                Manner::Rate(_) | Manner::Late(_) | Manner::Silent => 0,
            };
            sent += may_send;
            let request = answer.request;
            while let Some(next) = self.answers[at].front().and_then(|a| a.chunks.front().copied())
                && sent >= self.block.advert().chunk_bytes(next) as u64
            {
                let taken = self.solo.chunk(at, request, &self.block, next).expect("it is right");
                sent -= self.block.advert().chunk_bytes(next) as u64;
                self.bytes += self.block.advert().chunk_bytes(next) as u64;
                self.answers[at][0].chunks.pop_front();
                if taken == ChunkTaken::Done {
                    self.answers[at][0].chunks.clear();
                }
            }
            if !self.answers[at][0].chunks.is_empty() || self.solo.machine.has_events(CHANNEL) {
                self.solo.machine.handle_partial_chunk(
                    self.solo.now,
                    peer(at),
                    request,
                    sent as usize,
                );
                break;
            }
            self.answers[at].pop_front();
        }
        self.sent[at] = if self.answers[at].is_empty() { 0 } else { sent };
    }

    /// Seconds until the artifact is there.
    fn run(&mut self, seconds_max: u64) -> u64 {
        for second in 0..seconds_max {
            self.hear();
            if !self.solo.events().is_empty() {
                let twice = self.bytes - self.block.advert().length;
                assert!(twice <= self.bytes / 4, "{twice} of {} bytes came twice", self.bytes);
                return second;
            }
            (0..self.manners.len()).for_each(|at| self.answer(at));
            self.solo.elapse(ms(1000));
        }
        panic!("not within {seconds_max} s: asked {:?}", self.asked);
    }
}

#[test]
fn f1_the_only_holder_is_not_given_up_however_slow_it_is() {
    for rate in [1, 10, 1000, 16_000] {
        let mut play = Play::new(SINGLE_CHUNK_BYTES_MAX + 1, &[Manner::Rate(rate)]);
        let took = play.run(80_000);
        assert!(took <= SINGLE_CHUNK_BYTES_MAX as u64 / rate + 3, "{rate} B/s: {took} s");
        assert_eq!(play.asked, [0], "{rate} B/s");
    }
    let mut play = Play::new(250_000, &[Manner::Late(1000)]);
    assert_eq!(play.run(1100), 1000);
    assert_eq!(play.asked, [0]);
}

#[test]
fn f1_a_silent_holder_costs_one_timeout_and_the_slow_one_is_not_left_for_it() {
    for rate in [2_000, 16_000, 60_000] {
        let mut play = Play::new(1 << 20, &[Manner::Silent, Manner::Rate(rate)]);
        let took = play.run(2000);
        assert!(took <= 5 + (1 << 20) / rate, "{rate} B/s: {took} s");
        assert!(play.asked.starts_with(&[0, 1]) && play.asked[1..].iter().all(|at| *at == 1));
    }
}

#[test]
fn w7_a_holder_that_crawls_does_not_keep_the_artifact_from_a_better_one() {
    for crawl in [1, 500, 2_000] {
        let mut play = Play::new(1 << 20, &[Manner::Rate(crawl), Manner::Rate(16_000)]);
        let took = play.run(2000);
        assert!(took <= 5 + (1 << 20) / 16_000, "{crawl} B/s: {took} s");
        assert!(play.asked.starts_with(&[0, 1]) && play.asked[1..].iter().all(|at| *at == 1));
    }
}

#[test]
fn w7_several_slow_holders_send_at_the_same_time() {
    let slow = [16_000, 17_000, 60_000, 15_000];
    let mut play = Play::new(1 << 20, &slow.map(Manner::Rate));
    let took = play.run(200);
    assert!(took <= 2 + (1 << 20) / 60_000, "{took} s: {:?}", play.asked);
    assert!((0..4).all(|at| play.asked.contains(&at)), "{:?}", play.asked);
}

/// Below what counts as silent, too, a chunk comes in the end: rounds last ever longer.
#[test]
fn f1_among_silent_and_crawling_holders_an_honest_one_is_given_the_time_that_it_needs() {
    let honest = [Manner::Late(10), Manner::Late(100), Manner::Rate(200), Manner::Rate(20)];
    for honest in honest {
        for at in 0..4 {
            let mut manners = [Manner::Silent, Manner::Rate(1), Manner::Silent, Manner::Silent];
            manners[at] = honest;
            let mut play = Play::new(SINGLE_CHUNK_BYTES_MAX + 1, &manners);
            let needs = match honest {
                Manner::Rate(rate) => SINGLE_CHUNK_BYTES_MAX as u64 / rate,
                Manner::Late(wait) => wait,
                Manner::Silent => unreachable!("it is honest"),
            };
            play.run(40 + 40 * needs);
        }
    }
}

#[test]
fn f1_a_member_that_begins_to_hold_it_or_comes_back_is_asked_instead_of_a_silent_one() {
    for returns in [false, true] {
        let mut solo = Solo::new(&config(|_| {}), 2);
        let block = large(1);
        if returns {
            solo.advert(1, 0, 1, &block);
            let request = solo.asked(1, &block, 0..LARGE_CHUNKS);
            solo.chunks(1, request, &block, 0..2);
            solo.down(1);
        }
        let first = if returns { 2 } else { 0 };
        solo.advert(0, 0, 1, &block);
        let request = solo.asked(0, &block, first..LARGE_CHUNKS);
        solo.elapse(ms(60_000));
        assert!(solo.machine.is_awaited(peer(0), request), "nobody else is there");
        if returns {
            solo.up(1);
        } else {
            solo.advert(1, 0, 1, &block);
        }
        solo.elapse(ms(2000));
        let rest = solo.sent(1);
        let Some(Frame::Fetch { request: rest, chunks, .. }) = rest.first() else {
            panic!("{rest:?}");
        };
        assert_eq!(chunks.len() as u32, LARGE_CHUNKS - first);
        solo.chunks(1, RequestId(*rest), &block, first..LARGE_CHUNKS);
        solo.expect_delivered([&block]);
        assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
    }
}

/// With room for one artifact of the tests' length.
fn narrow() -> Config {
    config(|channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (300_000, 300_000);
    })
}

#[test]
fn what_a_silent_holder_keeps_makes_room_for_what_another_can_send() {
    let mut solo = Solo::new(&narrow(), 2);
    let (silent, other) = (large(1), large(2));
    solo.advert(0, 0, 1, &silent);
    let request = solo.asked(0, &silent, 0..LARGE_CHUNKS);
    solo.chunks(0, request, &silent, 0..2);
    solo.advert(1, 0, 1, &other);
    solo.elapse(ms(1999));
    assert_eq!((solo.sent(0), solo.sent(1)), (vec![], vec![]), "it was not silent");
    solo.elapse(ms(1));
    assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
    let request = solo.asked(1, &other, 0..LARGE_CHUNKS);
    solo.chunks(1, request, &other, 0..LARGE_CHUNKS);
    solo.expect_delivered([&other]);
    // There is room for the other one again.
    let request = solo.asked(0, &silent, 0..LARGE_CHUNKS);
    solo.chunks(0, request, &silent, 0..LARGE_CHUNKS);
    solo.expect_delivered([&silent]);
}

#[test]
fn what_comes_slowly_keeps_its_room() {
    let mut solo = Solo::new(&narrow(), 2);
    let (slow, other) = (large(1), large(2));
    solo.advert(0, 0, 1, &slow);
    let request = solo.asked(0, &slow, 0..LARGE_CHUNKS);
    solo.advert(1, 0, 1, &other);
    let last = LARGE_CHUNKS - 1;
    for chunk in 0..last {
        for kilobytes in (4..16).step_by(4) {
            solo.machine.handle_partial_chunk(solo.now, peer(0), request, kilobytes << 10);
            solo.elapse(ms(1900));
            assert!(solo.machine.is_awaited(peer(0), request));
            assert_eq!(solo.sent(1), []);
        }
        solo.chunks(0, request, &slow, chunk..chunk + 1);
    }
    solo.chunks(0, request, &slow, last..LARGE_CHUNKS);
    solo.expect_delivered([&slow]);
    solo.asked(1, &other, 0..LARGE_CHUNKS);
}

#[test]
fn the_part_of_an_artifact_that_nobody_can_send_makes_room_and_is_kept_without_need_for_it() {
    for is_needed in [true, false] {
        let mut solo = Solo::new(&narrow(), 2);
        let (begun, other) = (large(1), large(2));
        solo.advert(0, 0, 1, &begun);
        let request = solo.asked(0, &begun, 0..LARGE_CHUNKS);
        solo.chunks(0, request, &begun, 0..3);
        solo.down(0);
        if is_needed {
            solo.advert(1, 0, 1, &other);
            let request = solo.asked(1, &other, 0..LARGE_CHUNKS);
            solo.chunks(1, request, &other, 0..LARGE_CHUNKS);
            solo.expect_delivered([&other]);
        }
        solo.up(0);
        let frames = solo.sent(0);
        let Some(Frame::Fetch { chunks, .. }) = frames.first() else { panic!("{frames:?}") };
        assert_eq!(chunks.contains(&0), is_needed);
    }
}

/// Of two silent holders' artifacts, each has its turn, for ever longer: one may be just late.
#[test]
fn silent_holders_take_turns_at_a_room_ever_more_slowly() {
    let mut solo = Solo::new(&narrow(), 2);
    (0..2).for_each(|at| solo.advert(at, 0, 1, &large(at as u64)));
    let mut asked = [None, None];
    let mut turns = Vec::new();
    for second in 0..1000 {
        for (at, asked) in asked.iter_mut().enumerate() {
            for frame in solo.sent(at) {
                match frame {
                    Frame::Fetch { request, .. } => {
                        *asked = Some(RequestId(request));
                        turns.push((second, at));
                    }
                    Frame::Cancel(_) => *asked = None,
                    frame => panic!("{frame:?}"),
                }
            }
        }
        solo.elapse(ms(1000));
    }
    assert!((6..24).contains(&turns.len()), "{turns:?}");
    assert!((0..2).all(|at| turns.iter().filter(|turn| turn.1 == at).count() >= 3), "{turns:?}");
    // The one that is asked now comes after all, and then the other one.
    let at = asked.iter().position(Option::is_some).expect("one of them");
    solo.chunks(at, asked[at].expect("asked"), &large(at as u64), 0..LARGE_CHUNKS);
    solo.expect_delivered([&large(at as u64)]);
    let request = solo.asked(1 - at, &large(1 - at as u64), 0..LARGE_CHUNKS);
    solo.chunks(1 - at, request, &large(1 - at as u64), 0..LARGE_CHUNKS);
    solo.expect_delivered([&large(1 - at as u64)]);
}

/// The first holder has the room, and the second one is silent as well: both are asked in the end, and
/// neither is given up.
#[test]
fn what_a_silent_holder_keeps_is_asked_of_one_that_was_silent_before() {
    let room = |channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (300_000, 1_000_000);
    };
    let mut solo = Solo::new(&config(room), 2);
    let (kept, block) = (artifact(1, 20_000), large(2));
    solo.advert(0, 0, 1, &block);
    let first = solo.asked(0, &block, 0..LARGE_CHUNKS);
    solo.advert(1, 0, 1, &kept);
    solo.asked(1, &kept, 0..1);
    solo.advert(1, 1, 2, &block);
    solo.elapse(ms(60_000));
    let second = solo.asked(1, &block, 0..LARGE_CHUNKS);
    assert!(solo.machine.is_awaited(peer(0), first) && solo.machine.is_awaited(peer(1), second));
    solo.chunks(0, first, &block, 0..LARGE_CHUNKS);
    solo.expect_delivered([&block]);
    assert_eq!(solo.sent(1), [Frame::Cancel(second.0)]);
}

#[test]
fn what_waits_for_a_silent_holder_is_asked_of_another_that_has_it() {
    let mut config = config(|_| {});
    config.fetches_per_peer_max = 1;
    let mut solo = Solo::new(&config, 2);
    let (kept, waiting) = (large(1), large(2));
    solo.advert(0, 0, 1, &kept);
    solo.asked(0, &kept, 0..LARGE_CHUNKS);
    // The other holder is busy at first, so that the second artifact waits for the first holder.
    let busy = artifact(3, 16 << 14);
    solo.advert(1, 0, 1, &busy);
    let request = solo.asked(1, &busy, 0..16);
    (0..2).for_each(|at| solo.advert(at, 1, 2, &waiting));
    solo.elapse(ms(1000));
    solo.chunks(1, request, &busy, 0..16);
    solo.expect_delivered([&busy]);
    let request = solo.asked(1, &waiting, 0..LARGE_CHUNKS);
    solo.chunks(1, request, &waiting, 0..LARGE_CHUNKS);
    solo.expect_delivered([&waiting]);
}

/// Pushes do not wait for fetches: together they may take twice a channel's room, and giving up one
/// part is not enough then.
#[test]
fn no_part_is_given_up_where_that_does_not_make_room() {
    let narrow = config(|channel: &mut ChannelConfig| {
        channel.push_bytes_max = SINGLE_CHUNK_BYTES_MAX as u32;
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (200_000, 200_000);
    });
    let mut solo = Solo::new(&narrow, 2);
    let (silent, other) = (large(1), large(2));
    solo.advert(0, 0, 1, &silent);
    let request = solo.asked(0, &silent, 0..LARGE_CHUNKS);
    let pushed: Vec<_> = (3..6).map(|number| artifact(number, SINGLE_CHUNK_BYTES_MAX)).collect();
    (1..).zip(&pushed).for_each(|(slot, block)| solo.push(1, slot, slot.into(), block));
    solo.advert(1, 0, 9, &other);
    solo.elapse(ms(60_000));
    assert_eq!((solo.sent(0), solo.sent(1)), (vec![], vec![]));
    solo.expect_delivered(&pushed);
    assert_eq!(solo.sent(0), [Frame::Cancel(request.0)]);
    solo.asked(1, &other, 0..LARGE_CHUNKS);
}

/// Invariants 12 and 17: its share is for one of them at a time, and neither loses what has come of it
/// again and again.
#[test]
fn f1_two_artifacts_of_a_holder_that_pauses_longer_than_the_timeout_both_arrive() {
    const CHUNKS: usize = 19;
    let shared = config(|channel: &mut ChannelConfig| {
        (channel.artifact_bytes_max, channel.inbox_bytes_max) = (1_000_000, 3_200_000);
    });
    let mut solo = Solo::new(&shared, 1);
    let blocks = [1, 2].map(|number| artifact(number, CHUNKS << 14));
    for (slot, block) in (0..).zip(&blocks) {
        solo.advert(0, slot, 1 + u64::from(slot), block);
    }
    let mut requests: VecDeque<(RequestId, usize, VecDeque<u32>)> = VecDeque::new();
    let (mut sent, mut arrived) = (0, 0);
    while arrived < 2 {
        solo.elapse(shared.fetch_timeout * 5 / 4);
        for frame in solo.sent(0) {
            match frame {
                Frame::Fetch { request, id, chunks } => {
                    let block = blocks.iter().position(|block| block.id() == id);
                    requests.push_back((RequestId(request), block.expect("one"), chunks.into()));
                }
                Frame::Cancel(cancelled) => {
                    requests.retain(|(request, ..)| *request != RequestId(cancelled));
                }
                _ => {}
            }
        }
        let Some((request, block, chunks)) = requests.front_mut() else { continue };
        let chunk = chunks.pop_front().expect("not at its end");
        solo.chunk(0, *request, &blocks[*block], chunk).expect("it is right");
        if chunks.is_empty() {
            requests.pop_front();
        }
        sent += 1;
        arrived += solo.events().len();
        assert!(sent <= 2 * CHUNKS + 8, "what has come is thrown away again and again");
    }
}
