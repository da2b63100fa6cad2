//! Bytes drive a [`Run`]: each operation is a byte and its arguments.

use core::time::Duration;

use super::feed::Feed;
use super::model::PEERS;
use super::pool::ARTS;
use super::run::{CHANNELS, Fate, Run};
use slotcast::config::Relay;

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
}

pub(super) fn updates(data: &[u8]) {
    let mut feed = Feed(data);
    let relay = [Relay::Confirmed, Relay::Automatic, Relay::Off][feed.below(3)];
    let mut run = Run::new(relay);
    while !feed.0.is_empty() {
        step(&mut run, &mut feed);
    }
    for peer in 0..PEERS {
        run.drain(peer);
    }
    run.heal();
}

fn step(run: &mut Run, feed: &mut Feed<'_>) {
    match feed.below(21) {
        0 => {
            let ((peer, channel, slot), version) = (feed.place(), feed.version());
            run.clear(peer, channel, slot, version);
        }
        1 => {
            let ((peer, channel, slot), version) = (feed.place(), feed.version());
            run.push(peer, channel, slot, version, feed.below(ARTS));
        }
        2 => {
            let (place, version, art) = (feed.place(), feed.version(), feed.below(ARTS));
            let how = feed.byte();
            run.advert(place, version, art, how & 3, how & 4 != 0);
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
        7 => run.publish(feed.below(CHANNELS), feed.below(ARTS)),
        8 => run.abort(feed.below(CHANNELS), feed.below(ARTS)),
        9 => run.relay(feed.below(CHANNELS), feed.below(ARTS)),
        10 => run.reconsider(feed.below(CHANNELS), feed.byte()),
        11 => run.chunk(feed.below(PEERS), feed.byte().into(), 0),
        12 => run.chunk(feed.below(PEERS), feed.byte().into(), 1 + feed.byte() % 3),
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
            run.fetch(peer, channel, art, u32::from(range & 3), 1 + u32::from(range >> 2 & 3));
        }
        19 => run.cancel(feed.below(PEERS), feed.byte().into()),
        _ => run.drain(feed.below(PEERS)),
    }
}
