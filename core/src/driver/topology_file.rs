//! A topology file that is polled for changes.

use std::boxed::Box;
use std::fs;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::vec::Vec;

use super::TopologySource;
use crate::membership::{FileError, Topology};

/// The default time between two polls of a topology file. Changes of members are rare and not
/// urgent. Polling an unchanged file of 40 members costs about 5 us of processor time, so nothing watches the
/// file: that would take a thread and six more crates (`notify`), and file systems on a network, which tell
/// nothing, had to be polled all the same.
pub const TOPOLOGY_POLL: Duration = Duration::from_secs(1);

/// Why there is no topology in a file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LoadError {
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// The file.
        path: Box<Path>,
        /// Why not.
        #[source]
        error: io::Error,
    },
    /// It contains no valid topology.
    #[error("{}:{error}", path.display())]
    Wrong {
        /// The file.
        path: Box<Path>,
        /// What is wrong, and where: part of the text, so that it begins like messages of compilers.
        error: FileError,
    },
}

/// The topology in a TOML file, see [`Topology::from_toml`].
///
/// # Errors
/// If there is none; the message names the file, and line and column if it could be read.
pub fn load_topology(path: &Path) -> Result<Topology, LoadError> {
    judge(path, read(path))
}

/// The content of a file, and only of one: opening a pipe would wait until somebody writes to it.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    if fs::metadata(path)?.is_file() {
        fs::read(path)
    } else {
        Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"))
    }
}

fn judge(path: &Path, read: io::Result<Vec<u8>>) -> Result<Topology, LoadError> {
    let bytes = read.map_err(|error| LoadError::Unreadable { path: path.into(), error })?;
    let topology = Topology::from_toml(&bytes);
    topology.map_err(|error| LoadError::Wrong { path: path.into(), error })
}

/// A topology file to [follow](super::NodeHandle::follow). It has to be replaced as a whole, by
/// renaming another: what is half written may be a topology, too.
///
/// The file is small and read in place, without a thread for it.
#[derive(Debug)]
pub struct TopologyFile<S> {
    path: PathBuf,
    interval: Duration,
    sleep: S,
    /// What the file was at the last poll.
    seen: Option<Result<Vec<u8>, io::ErrorKind>>,
}

impl<S> TopologyFile<S> {
    /// A source that polls the file at once, and again whenever a future of `sleep`, the runtime's
    /// timer, has completed.
    pub fn new(path: impl Into<PathBuf>, sleep: S) -> Self {
        Self { path: path.into(), interval: TOPOLOGY_POLL, sleep, seen: None }
    }

    /// The same with another time between two polls than [`TOPOLOGY_POLL`].
    #[must_use]
    pub fn every(self, interval: Duration) -> Self {
        Self { interval, ..self }
    }

    /// The present content, if it has changed since the last poll.
    fn look(&mut self) -> Option<Result<Topology, LoadError>> {
        let read = read(&self.path);
        let seen = read.as_ref().map_err(io::Error::kind);
        let is_known = match (&self.seen, seen) {
            (Some(Ok(known)), Ok(bytes)) => known == bytes,
            (Some(Err(known)), Err(kind)) => *known == kind,
            _ => false,
        };
        if is_known {
            return None;
        }
        self.seen = Some(seen.cloned());
        Some(judge(&self.path, read))
    }
}

impl<S, F> TopologySource for TopologyFile<S>
where
    S: FnMut(Duration) -> F,
    F: Future,
{
    type Error = LoadError;

    async fn next(&mut self) -> Option<Result<Topology, LoadError>> {
        loop {
            if let Some(news) = self.look() {
                return Some(news);
            }
            (self.sleep)(self.interval).await;
        }
    }
}
