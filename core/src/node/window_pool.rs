//! Memory for the windows and streams of links, beyond the least that each link has for itself. It is
//! shared by all links of a node.
//!
//! A link may hold no more than half of what is still free (the dynamic threshold of Choudhury and Hahne,
//! "Dynamic queue length thresholds for shared-memory packet switches", 1998). So a few links that are
//! busy have much, many have little each, and some of the pool is always left for a link that becomes
//! busy. A link that holds more than that, because others have become busy since, gives back as it is
//! used. Invariant 8.

use crate::config::{Config, Windows};

#[derive(Debug)]
pub(super) struct WindowPool {
    bytes: u64,
    held: u64,
    least: Windows,
    most: Windows,
    /// Bytes that a stream counts for.
    stream_bytes: u64,
}

impl WindowPool {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            bytes: config.transport.window_pool,
            held: 0,
            least: config.least_windows(),
            most: config.most_windows(),
            stream_bytes: config.stream_bytes(),
        }
    }

    /// What each link has for itself.
    pub(super) fn least(&self) -> Windows {
        self.least
    }

    /// Bytes of it that links hold.
    pub(super) fn held(&self) -> u64 {
        self.held
    }

    fn free(&self) -> u64 {
        self.bytes - self.held
    }

    /// Whether a link that holds so many bytes has clearly more than it would be given now.
    pub(super) fn is_over(&self, held: u64) -> bool {
        2 * held > self.free() + self.free() / 4
    }

    /// How many bytes a link may take that holds so many already.
    fn allowance(&self, held: u64) -> u64 {
        // What it holds then is half of what is free then.
        self.free().saturating_sub(2 * held) / 3
    }

    /// The windows of a link that holds `held` bytes and has `windows`, and wants `wanted`, as far as there
    /// is room for them, and the bytes that it holds then.
    pub(super) fn grow(&mut self, held: &mut u64, windows: Windows, wanted: Windows) -> Windows {
        let mut grown = windows;
        let mut take = |pool: &mut Self, now: u64, wanted: u64, bytes_each: &dyn Fn(u64) -> u64| {
            let more = wanted.saturating_sub(now);
            let allowance = pool.allowance(*held);
            let more = if bytes_each(more) <= allowance {
                more
            } else {
                // Little steps would cost a frame each.
                let fitting = (u128::from(more) * u128::from(allowance)
                    / u128::from(bytes_each(more))) as u64;
                if fitting < now / 8 { 0 } else { fitting }
            };
            pool.held += bytes_each(more);
            *held += bytes_each(more);
            now + more
        };
        let stream_bytes = self.stream_bytes;
        let receive = wanted.receive.min(self.most.receive);
        grown.receive = take(self, windows.receive, receive, &Windows::receive_bytes);
        let streams = wanted.streams.min(self.most.streams);
        grown.streams = take(self, windows.streams, streams, &|streams| streams * stream_bytes);
        let send = wanted.send.min(self.most.send);
        grown.send = take(self, windows.send, send, &Windows::send_bytes);
        grown
    }

    /// A link gives back some of what it holds.
    pub(super) fn give_back(&mut self, bytes: u64) {
        self.held -= bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::ChannelConfig;
    use crate::id::ChannelId;

    const MIB: u64 = 1 << 20;

    fn config() -> Config {
        Config::new([ChannelConfig::new(ChannelId(1))])
    }

    /// A link that wants ever more, and what it holds.
    struct Greedy {
        windows: Windows,
        held: u64,
    }

    impl Greedy {
        fn new(pool: &WindowPool) -> Self {
            Self { windows: pool.least(), held: 0 }
        }

        fn grow(&mut self, pool: &mut WindowPool) {
            for _ in 0..20 {
                let Windows { receive, send, streams } = self.windows;
                let wanted = Windows { receive: 2 * receive, send: 2 * send, streams: 2 * streams };
                self.windows = pool.grow(&mut self.held, self.windows, wanted);
            }
        }
    }

    fn memory(config: &Config, windows: Windows) -> u64 {
        Windows::receive_bytes(windows.receive)
            + Windows::send_bytes(windows.send)
            + windows.streams * config.stream_bytes()
    }

    #[test]
    fn a_link_alone_gets_megabytes_and_no_more_than_a_third_of_the_pool() {
        let config = config();
        let mut pool = WindowPool::new(&config);
        let mut link = Greedy::new(&pool);
        link.grow(&mut pool);
        assert!(
            link.windows.receive >= 2 * MIB && link.windows.streams >= 16,
            "{:?}",
            link.windows
        );
        assert!(link.held <= config.transport.window_pool / 3 && link.held == pool.held);
        let more = memory(&config, link.windows) - memory(&config, pool.least());
        assert!(more.abs_diff(link.held) < 100, "{more} and {}", link.held);
    }

    #[test]
    fn with_room_for_all_of_it_a_link_gets_what_is_configured() {
        let mut config = config();
        config.transport.window_pool = 1 << 40;
        let mut pool = WindowPool::new(&config);
        let mut link = Greedy::new(&pool);
        link.grow(&mut pool);
        assert_eq!(link.windows, config.most_windows());
        pool.give_back(link.held);
        assert_eq!(pool.held, 0);
    }

    #[test]
    fn links_that_take_all_they_can_leave_something_and_no_pool_is_overdrawn() {
        let config = config();
        let mut pool = WindowPool::new(&config);
        let mut before = u64::MAX;
        for _ in 0..64 {
            let mut link = Greedy::new(&pool);
            link.grow(&mut pool);
            assert!(link.held <= before, "who comes later gets no more");
            before = link.held;
            assert!(pool.free() > 0 && pool.held <= config.transport.window_pool);
        }
        assert!(pool.is_over(config.transport.window_pool / 3), "the first has too much by now");
        assert!(!pool.is_over(0));
    }
}
