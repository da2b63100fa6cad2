//! How a driver moves commands, events and datagrams.

use core::time::Duration;

use super::ConfigError;
use super::error::within;

/// What a driver does at a time, and what waits between it and the application: used by drivers
/// (feature `driver`) only.
///
/// Other bounds of the driver follow from these, or are constants: see the [module](super).
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
#[cfg_attr(feature = "serde", serde(default, deny_unknown_fields))]
#[non_exhaustive]
pub struct DriverConfig {
    /// Commands of the application that may wait for the driver; further ones are refused as busy.
    /// Default 65,536, and no more: the driver takes them in each turn, so that the queue is only full if
    /// the driver is not polled. Lower it where such an application is to be told sooner. At least 1.
    pub commands_max: u32,
    /// Events of a channel, and again events about peers, that are handed to the application ahead of
    /// its taking them. Default 256, so that the driver and the application change places once in many
    /// events. What is staged is delivered even if it was aborted since: lower it where only the newest
    /// counts. Between 1 and 4,096.
    pub staged_events_max: u32,
    /// Bytes of those events of a channel, after which no more are staged. Default 1 MiB, and no more,
    /// since that is what [`Config::memory_bound`](super::Config::memory_bound) counts. At least 1: then
    /// it is a single event.
    pub staged_bytes_max: u32,
    /// How long one poll of the driver goes on before it lets other tasks of the runtime run. Up to half
    /// of it is for receiving. Default 200 us: short enough that others need not notice, and long enough
    /// that a runtime's way around its tasks, about a microsecond, costs nothing. Longer is of use for a
    /// driver with a thread to itself. A quarter of it while a few members are beyond their [share of
    /// work](super::WorkConfig::turn_max) and others send something. Between 10 us and 10 ms.
    #[cfg_attr(feature = "serde", serde(with = "super::span"))]
    pub poll_max: Duration,
    /// Bytes that the kernel is asked to hold for the socket, each way, unless it does already. Default 4 MiB: default sizes,
    /// about 200 KiB, overflow within two milliseconds of a gigabit. The kernel grants what its limits
    /// allow. Between 64 KiB, one datagram of the longest, and 64 MiB, half a second of a gigabit: what
    /// waits longer is late.
    pub socket_buffer_bytes: u32,
}

impl Default for DriverConfig {
    fn default() -> Self {
        Self {
            commands_max: 1 << 16,
            staged_events_max: 256,
            staged_bytes_max: 1 << 20,
            poll_max: Duration::from_micros(200),
            socket_buffer_bytes: 4 << 20,
        }
    }
}

impl DriverConfig {
    pub(super) fn check(&self) -> Result<(), ConfigError> {
        let poll = Duration::from_micros(10)..=Duration::from_millis(10);
        within("driver.commands_max", self.commands_max, 1..=1 << 16, "")?;
        within("driver.staged_events_max", self.staged_events_max, 1..=4096, "")?;
        within("driver.staged_bytes_max", self.staged_bytes_max, 1..=1 << 20, "")?;
        within("driver.poll_max", self.poll_max, poll, "")?;
        let buffer = (64 << 10)..=(64 << 20);
        within("driver.socket_buffer_bytes", self.socket_buffer_bytes, buffer, "")
    }
}
