//! Work without progress: packets with nothing in them, stream data that is here already, streams that are reset at
//! once, updates of versions that have passed, clears of slots that were empty, chunks that are here already. Honest
//! members cause some, when packets are repeated, overtake each other or cross; a member that causes much of it, and
//! little else, breaks a rule.
//!
//! Each STREAM or CRYPTO frame counts, since quinn-proto puts in order what is in it, new or not, and a packet has room
//! for hundreds. What is read makes up for the frame in which it came: an honest member packs many streams in a packet.
//!
//! What counts is chosen so that an honest member makes up for it: whatever is late or overtaken comes beside
//! something that was new. What is merely not wanted here, such as an artifact that the filter drops, does not count, and
//! a chunk of a request that has been given up meanwhile is made up for by its bytes. Nor do datagrams count that are
//! repeated, or cannot be decrypted: those may come from anyone on the path.

use std::time::Duration;

use quinn_proto::ConnectionStats;

use crate::config::WorkConfig;
use crate::time::Time;

const NANOS_PER_SECOND: u128 = 1_000_000_000;

/// Pieces that a link counts before they are settled with those of its peer: so many that this costs nothing, and few
/// enough that what was useful long ago makes up for little.
const UNSETTLED_MAX: u64 = 100;

/// Bytes in a datagram, at least, that make up for it if it has stream data in it.
const PACKET_BYTES: u64 = 1024;

/// What a PATH_CHALLENGE counts as: it is 9 bytes long, and answered by a datagram of 1,200 before all else (RFC 9000,
/// section 8.2.2). Members send none: they do not migrate.
const CHALLENGE_PIECES: u64 = 100;

/// Pieces that may bring nothing on a connection before its hello has been read: some hundreds are packets that a bad
/// path makes a member repeat. Whoever dials can have these put in order before it has proven its key.
const EARLY_PIECES_MAX: i64 = 2000;

/// Received on a connection since it began.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    /// Frames of all kinds, in packets that were decrypted and had not come before. Padding is none.
    frames: u64,
    /// STREAM frames.
    stream_frames: u64,
    /// CRYPTO frames.
    crypto_frames: u64,
    /// PATH_CHALLENGE frames.
    challenges: u64,
    /// Bytes of UDP payload.
    bytes: u64,
}

impl Seen {
    pub(super) fn of(stats: &ConnectionStats) -> Self {
        let frames = &stats.frame_rx;
        let all = [
            frames.acks,
            frames.ack_frequency,
            frames.crypto,
            frames.connection_close,
            frames.data_blocked,
            frames.datagram,
            frames.handshake_done.into(),
            frames.immediate_ack,
            frames.max_data,
            frames.max_stream_data,
            frames.max_streams_bidi,
            frames.max_streams_uni,
            frames.new_connection_id,
            frames.new_token,
            frames.path_challenge,
            frames.path_response,
            frames.ping,
            frames.reset_stream,
            frames.retire_connection_id,
            frames.stop_sending,
            frames.stream,
            frames.stream_data_blocked,
            frames.streams_blocked_bidi,
            frames.streams_blocked_uni,
        ];
        Self {
            frames: all.iter().sum(),
            stream_frames: frames.stream,
            crypto_frames: frames.crypto,
            challenges: frames.path_challenge,
            bytes: stats.udp_rx.bytes,
        }
    }

    /// Frames whose content is put in order.
    fn data_frames(&self) -> u64 {
        self.stream_frames + self.crypto_frames
    }
}

/// What the peer of a link has done since that was settled.
#[derive(Debug, Default)]
pub(super) struct Effort {
    /// Pieces that brought nothing, less those that did.
    excess: i64,
    datagrams: u64,
    seen: Seen,
    /// Of what was settled before the peer's hello was read.
    early: i64,
}

impl Effort {
    /// A datagram has come.
    pub(super) fn note_datagram(&mut self) {
        self.datagrams += 1;
    }

    /// So many streams were reset, or other pieces brought nothing.
    pub(super) fn note_fruitless(&mut self, pieces: i64) {
        self.excess += pieces;
    }

    /// A piece of a stream was read, as long as it came in a frame: all of it new.
    pub(super) fn note_read(&mut self, bytes: usize) {
        self.excess -= (bytes as u64).div_ceil(PACKET_BYTES) as i64;
    }

    /// The end of a stream was read, which came in a frame of its own.
    pub(super) fn note_end(&mut self) {
        self.excess -= 1;
    }

    /// Whether there is so much of it that it is to be settled. What was read does not hide what else there is in the
    /// datagrams.
    pub(super) fn is_due(&self) -> bool {
        self.datagrams >= UNSETTLED_MAX || self.excess.unsigned_abs() >= UNSETTLED_MAX
    }

    /// The pieces that brought nothing, less those that did, since the last call. Of this node's packets, `acked` were
    /// acknowledged meanwhile.
    pub(super) fn settle(&mut self, seen: Seen, acked: u64) -> i64 {
        // Stream data that is out of order or waits unread is new, even if it is never read. Of small packets it
        // cannot be told, so they count by what is read.
        let carried = (seen.bytes - self.seen.bytes) / PACKET_BYTES;
        let carried = carried.min(seen.stream_frames - self.seen.stream_frames);
        // Each packet that counts has a frame at least.
        let datagrams = std::mem::take(&mut self.datagrams).min(seen.frames - self.seen.frames);
        let pieces = datagrams.max(seen.data_frames() - self.seen.data_frames())
            + CHALLENGE_PIECES * (seen.challenges - self.seen.challenges);
        self.seen = seen;
        std::mem::take(&mut self.excess) + pieces as i64 - (carried + acked) as i64
    }

    /// Counts what was settled before the peer's hello was read. True if that is too much.
    pub(super) fn note_early(&mut self, excess: i64) -> bool {
        self.early = (self.early + excess).max(0);
        self.early > EARLY_PIECES_MAX
    }
}

/// Fruitless pieces of a peer's work (a leaky bucket): they flow off with time, and each piece that brings something
/// makes up for one.
#[derive(Clone, Copy, Debug)]
pub(super) struct FruitlessWork {
    count: u64,
    /// Since then, nothing has flowed off.
    since: Time,
    /// The most at a time.
    peak: u64,
}

impl FruitlessWork {
    pub(super) const fn new() -> Self {
        Self { count: 0, since: Time::ZERO, peak: 0 }
    }

    /// The most that there were at a time since the peer became a member.
    pub(super) const fn peak(&self) -> u64 {
        self.peak
    }

    /// Counts so many pieces more than fruitful ones, or fewer. True if there are too many now, which are
    /// forgotten then.
    pub(super) fn note(&mut self, now: Time, excess: i64, config: &WorkConfig) -> bool {
        let per_second = u128::from(config.fruitless_per_second);
        let flown = now.since(self.since).as_nanos() * per_second / NANOS_PER_SECOND;
        let flown = u64::try_from(flown).unwrap_or(u64::MAX);
        if flown < self.count {
            // What is less than one piece is left for the next time.
            let nanos = u128::from(flown) * NANOS_PER_SECOND / per_second;
            self.since = self.since + Duration::from_nanos(nanos as u64);
            self.count -= flown;
        } else {
            (self.since, self.count) = (now, 0);
        }
        self.count = self.count.saturating_add_signed(excess);
        self.peak = self.peak.max(self.count);
        let is_over = self.count > config.fruitless_max.into();
        if is_over {
            self.count = 0;
        }
        is_over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> WorkConfig {
        WorkConfig { fruitless_per_second: 100, fruitless_max: 1000, ..WorkConfig::default() }
    }

    /// Whether a peer is found at fault that causes `excess` each time, `per_second` times a second, for a minute.
    fn is_at_fault(excess: impl Fn(u64) -> i64, per_second: u64) -> bool {
        let mut work = FruitlessWork::new();
        let span = Duration::from_secs(1) / per_second as u32;
        let time = |at: u64| Time::ZERO + Duration::from_secs(9) + span * at as u32;
        (0..60 * per_second).any(|at| work.note(time(at), excess(at), &config()))
    }

    #[test]
    fn what_flows_off_is_no_fault_and_what_is_more_is_one() {
        assert!(!is_at_fault(|_| 1, 100));
        assert!(is_at_fault(|_| 1, 130));
        // However it is cut.
        assert!(!is_at_fault(|_| 100, 1));
        assert!(is_at_fault(|_| 130, 1));
    }

    #[test]
    fn a_burst_is_no_fault_and_fruitful_work_makes_up_for_fruitless() {
        assert!(!is_at_fault(|at| if at == 30 { 1000 } else { 0 }, 100));
        assert!(is_at_fault(|at| if at == 30 { 1001 } else { 0 }, 100));
        assert!(!is_at_fault(|at| if at % 2 == 0 { 900 } else { -900 }, 1000));
    }

    fn seen(frames: u64, stream_frames: u64, bytes: u64) -> Seen {
        Seen { frames, stream_frames, bytes, ..Seen::default() }
    }

    /// Datagrams with streams that nobody reads, repeated packets of them, and packets of nothing but acknowledgements.
    #[test]
    fn what_is_under_way_is_no_work_without_progress() {
        let mut effort = Effort::default();
        (0..2000).for_each(|_| effort.note_datagram());
        assert!(effort.is_due());
        assert!(effort.settle(seen(2100, 2100, 2000 * 1200), 0) <= 0);
        (0..500).for_each(|_| effort.note_datagram());
        assert_eq!(effort.settle(seen(2600, 2100, 2000 * 1200), 500), 0);
        // Small ones count as far as they are not read.
        (0..2000).for_each(|_| effort.note_datagram());
        effort.note_read(1);
        assert_eq!(effort.settle(seen(4600, 4100, 2000 * 1264), 0), 1999 - 125);
    }

    #[test]
    fn each_frame_in_a_packet_counts_and_what_is_read_of_it_makes_up_for_it() {
        // One new byte in each packet, among 200 that are here already.
        let mut effort = Effort::default();
        (0..100).for_each(|_| {
            effort.note_datagram();
            effort.note_read(1);
        });
        assert!(effort.is_due());
        // In so many bytes, 136 may be new.
        assert_eq!(effort.settle(seen(20_100, 20_100, 100 * 1400), 0), 20_100 - 100 - 136);
        // Short streams, all of them new: some whole, some ended by a frame of its own.
        (0..100).for_each(|_| effort.note_datagram());
        (0..3_000).for_each(|_| effort.note_read(20));
        (0..1_000).for_each(|_| effort.note_end());
        assert!(effort.settle(seen(24_200, 24_100, 200 * 1400), 0) <= 0);
    }

    #[test]
    fn challenges_count_as_much_as_their_answers() {
        let mut effort = Effort::default();
        (0..10).for_each(|_| effort.note_datagram());
        let seen = Seen { challenges: 10, ..seen(20, 0, 10 * 40) };
        assert_eq!(effort.settle(seen, 10), 1_000);
    }

    #[test]
    fn handshake_data_counts_too_and_before_the_hello_there_is_a_bound() {
        let mut effort = Effort::default();
        let mut seen = seen(0, 0, 0);
        let is_too_much = (0..20).position(|_| {
            effort.note_datagram();
            seen.frames += 200;
            seen.crypto_frames += 200;
            seen.bytes += 1400;
            let excess = effort.settle(seen, 0);
            effort.note_early(excess)
        });
        assert_eq!(is_too_much, Some(10));
    }

    /// Anyone on the path can repeat a datagram, or send some that cannot be decrypted.
    #[test]
    fn datagrams_of_others_do_not_count() {
        let mut effort = Effort::default();
        (0..2000).for_each(|_| effort.note_datagram());
        assert!(effort.is_due());
        assert_eq!(effort.settle(seen(200, 0, 2000 * 64), 0), 200);
        assert!(!effort.is_due());
    }
}
