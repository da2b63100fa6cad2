//! A topology file, looked at by this runtime's timer.

use std::path::PathBuf;
use std::time::Duration;

use async_io::Timer;
use slotcast::driver::TopologyFile;

/// The topology in a TOML file, for
/// [`NodeHandle::follow`](slotcast::driver::NodeHandle::follow).
pub fn topology_file(path: impl Into<PathBuf>) -> TopologyFile<fn(Duration) -> Timer> {
    TopologyFile::new(path, Timer::after)
}
