//! The topology file, looked at by a thread of its own: a file system that does not answer stops that
//! thread, and neither the node nor its start.

use std::future::ready;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use slotcast_tokio::slotcast::driver::{LoadError, TopologyFile, TopologySource};
use slotcast_tokio::slotcast::membership::Topology;
use smol::channel::{Receiver, bounded};
use smol::{Timer, block_on, future};

use crate::Failure;
use crate::report::with_causes;

/// How long the start waits for the file. Disks that have to spin up take some seconds.
const FIRST_MAX: Duration = Duration::from_secs(15);

/// What the thread finds in the file.
pub(crate) struct Watched(Receiver<Result<Topology, LoadError>>);

/// The topology in the file, and what it will be.
pub(crate) fn watch(path: PathBuf) -> Result<(Topology, Watched), Failure> {
    let shown = path.display().to_string();
    // One that is read while another one waits to be followed comes next.
    let (found, news) = bounded(1);
    thread::spawn(move || {
        let sleep = |pause| {
            thread::sleep(pause);
            ready(())
        };
        let mut file = TopologyFile::new(path, sleep);
        while let Some(topology) = block_on(file.next()) {
            if found.send_blocking(topology).is_err() {
                return;
            }
        }
    });
    let mut news = Watched(news);
    let first = block_on(future::or(news.next(), async {
        Timer::after(FIRST_MAX).await;
        None
    }));
    match first {
        Some(Ok(topology)) => Ok((topology, news)),
        Some(Err(error)) => Err(Failure::Start(with_causes(&error))),
        None => Err(Failure::Start(format!("cannot read {shown} within {FIRST_MAX:?}"))),
    }
}

impl TopologySource for Watched {
    type Error = LoadError;

    async fn next(&mut self) -> Option<Result<Topology, LoadError>> {
        self.0.recv().await.ok()
    }
}
