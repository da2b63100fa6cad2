//! A topology file, looked at by this runtime's timer.

use std::path::PathBuf;
use std::time::Duration;

use slotcast::driver::TopologyFile;
use tokio::time::{Sleep, sleep};

/// The topology in a TOML file, for
/// [`NodeHandle::follow`](slotcast::driver::NodeHandle::follow). The future of that must run under
/// tokio, with its time driver enabled.
pub fn topology_file(path: impl Into<PathBuf>) -> TopologyFile<fn(Duration) -> Sleep> {
    TopologyFile::new(path, sleep)
}
