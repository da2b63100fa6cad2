//! Bytes drive a [`Run`]: each operation is a byte and its arguments.

use core::time::Duration;

use super::feed::Feed;
use super::model::PEERS;
use super::pool::{ARTS, LONG, artifact};
use super::run::{CHANNELS, Fate, Run, Told};
use slotcast::config::{Order, Relay};
use slotcast::wire::{ChunkRange, RANGES_MAX, Ranges};

impl Feed<'_> {
    /// A peer, a channel and a slot in one byte: bits 0, 1, and 2 to 4.
    fn place(&mut self) -> (usize, usize, u32) {
        let byte = self.byte();
        (
            usize::from(byte & 1) % PEERS,
            usize::from(byte >> 1 & 1) % CHANNELS,
            (byte >> 2 & 7).into(),
        )
    }

    /// Mostly small, so that versions meet; sometimes as large as they can be.
    fn version(&mut self) -> u64 {
        match self.byte() {
            255 => (1 << 62) - 1,
            byte => (byte & 31).into(),
        }
    }

    /// Half of the time the artifact of several chunks.
    fn art(&mut self) -> usize {
        match self.byte() {
            128.. => LONG,
            byte => usize::from(byte) % ARTS,
        }
    }

    /// Ranges that may overlap, be repeated, or reach beyond the end.
    fn ranges(&mut self) -> Ranges {
        let count = 1 + self.below(RANGES_MAX);
        let range = |byte: u8| ChunkRange {
            first: u32::from(byte & 7) % 6,
            count: 1 + u32::from(byte >> 3 & 3) * u32::from(byte >> 5 & 1),
        };
        (0..count).map(|_| range(self.byte())).collect()
    }
}

pub(super) fn updates(data: &[u8]) {
    let mut feed = Feed(data);
    let how = usize::from(feed.byte());
    let relay = [Relay::Confirmed, Relay::Automatic, Relay::Off][how % 3];
    let order =
        |bit: usize| [Order::Age, Order::HighestKeyFirst][usize::from((how / 3) & (1 << bit) != 0)];
    let mut run = Run::new(relay, [order(0), order(1)]);
    while !feed.0.is_empty() {
        step(&mut run, &mut feed);
    }
    for peer in 0..PEERS {
        run.drain(peer);
    }
    run.heal();
}

fn step(run: &mut Run, feed: &mut Feed<'_>) {
    match feed.below(30) {
        0 => {
            let ((peer, channel, slot), version) = (feed.place(), feed.version());
            run.clear(peer, channel, slot, version);
        }
        1 => {
            let ((peer, channel, slot), version) = (feed.place(), feed.version());
            run.push((peer, channel, slot), version, feed.below(ARTS), 0);
        }
        2 => {
            let (place, version, art) = (feed.place(), feed.version(), feed.below(ARTS));
            let how = feed.byte();
            let (hops, streamed) = (how & 3, how & 4 != 0);
            let _ =
                run.told(place, version, Told { art, hops, streamed, spread: false, have: None });
        }
        3 => {
            let ((peer, channel, _), bits) = (feed.place(), [feed.byte(), 0]);
            run.snapshot(peer, channel, &bits);
        }
        4 => {
            let how = feed.byte();
            run.peer_up((how & 1).into(), [how & 2 == 0, how & 4 == 0]);
        }
        5 => run.peer_down(feed.below(PEERS)),
        6 => run.add_or_remove(feed.below(PEERS)),
        // Under a name, or without one.
        7 => {
            let (how, art) = (feed.byte(), feed.below(ARTS));
            let name = (how >> 1 & 3).checked_sub(1).map(u32::from);
            run.publish(usize::from(how) % CHANNELS, name, art);
        }
        8 => match feed.byte() {
            how @ 192.. => run.abort_below(usize::from(how) % CHANNELS, feed.below(6) as u64),
            how => run.abort(usize::from(how) % CHANNELS, feed.below(ARTS)),
        },
        9 => run.relay(feed.below(CHANNELS), feed.below(ARTS)),
        10 => run.reconsider(feed.below(CHANNELS), feed.byte()),
        11 => run.chunk(feed.below(PEERS), feed.byte().into(), None, 0),
        12 => run.chunk(feed.below(PEERS), feed.byte().into(), None, 1 + feed.byte() % 3),
        13 => run.fail(feed.below(PEERS), feed.byte().into(), feed.byte() & 1 == 0),
        14 => run.advance(Duration::from_millis(u64::from(feed.byte()) * 20)),
        15 => run.take_events(feed.below(CHANNELS), feed.below(4), None),
        16 => {
            let (peer, room) = (feed.below(PEERS), usize::from(feed.byte()));
            run.send(peer, room * room);
        }
        17 => {
            let fate = [Fate::Read, Fate::Acked, Fate::Stopped][feed.below(3)];
            run.arrive(feed.below(PEERS), feed.byte().into(), fate);
        }
        18 => {
            let (peer, channel, _) = feed.place();
            let (art, range) = (feed.below(ARTS), feed.byte());
            let (first, count) = (u32::from(range & 3), 1 + u32::from(range >> 2 & 3));
            run.fetch(peer, channel, art, Ranges::from_iter([ChunkRange { first, count }]));
        }
        19 => run.cancel(feed.below(PEERS), feed.byte().into()),
        20 => run.drain(feed.below(PEERS)),
        // Advert or partial, with any flags: mostly of what the others can use.
        21 | 22 => {
            let (place, version, art) = (feed.place(), feed.version(), feed.art());
            let (how, bits) = (feed.byte(), feed.byte());
            let (hops, streamed, spread) = (how & 3, how & 4 != 0, how & 8 != 0);
            let chunks = artifact(art).advert().chunks();
            // At times with a chunk that there is not, or an empty byte at the end, which is malformed.
            let bits = [if how >> 4 == 6 { bits } else { bits & ((1 << chunks) - 1) as u8 }];
            let have = match how >> 4 {
                0..=5 => None,
                6 => Some(&bits[..]),
                _ => Some(&bits[..usize::from(bits[0] != 0)]),
            };
            let _ = run.told(place, version, Told { art, hops, streamed, spread, have });
        }
        23 => {
            let (peer, nth, chunk) = (feed.below(PEERS), feed.byte().into(), feed.byte());
            let lie = if chunk >= 240 { chunk & 3 } else { 0 };
            run.chunk(peer, nth, Some((chunk % 8).into()), lie);
        }
        // Some chunks of a stream, one after the other: a stripe.
        24 => {
            let (peer, nth, stripe) = (feed.below(PEERS), feed.byte().into(), feed.byte());
            let (first, count) = (u32::from(stripe & 7), u32::from(stripe >> 3 & 3));
            (first..=first + count).for_each(|chunk| run.chunk(peer, nth, Some(chunk), 0));
        }
        // A publisher spreads, or a member passes on its stripe, or all that it has.
        26 | 27 => {
            let (place, how, stripe) = (feed.place(), feed.byte(), feed.byte());
            let (first, count) = (u32::from(stripe & 7) % 5, u32::from(stripe >> 3 & 3));
            let (chunks, is_ended) = (first..5.min(first + count), stripe & 32 == 0);
            let have = [how & 31];
            let have = (how & 96 != 0).then_some(&have[..usize::from(how & 31 != 0)]);
            let spread = how & 128 != 0;
            let (hops, have) = if spread { (0, None) } else { (1, have) };
            let told = Told { art: LONG, hops, streamed: true, spread, have };
            run.stream(place, told, chunks, is_ended);
        }
        28 => {
            let (peer, channel, _) = feed.place();
            let range = |byte: u8| ChunkRange { first: u32::from(byte) % 5, count: 1 };
            let ranges = (0..=feed.below(3)).map(|_| range(feed.byte())).collect();
            run.fetch(peer, channel, LONG, ranges);
        }
        29 => {
            let (place, version, art) = (feed.place(), feed.version(), feed.below(ARTS));
            run.push(place, version, art, feed.byte() & 3);
        }
        _ => {
            let ((peer, channel, _), art) = (feed.place(), feed.art());
            run.fetch(peer, channel, art, feed.ranges());
        }
    }
}
