//! What goes to files that nobody waits for: traces, and records of connections.
//!
//! Invariants:
//! 1. No caller waits for a file: a thread writes. What finds no room is lost, and the log tells how much.
//! 2. At most [`WAITING_MAX`] items wait.
//! 3. What cannot be written is told in the log once, and each later item is tried.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

use crate::log::Log;

/// Items that wait for the disk. They are records of a few hundred bytes: about 1 MiB.
const WAITING_MAX: usize = 4096;

/// How long a process that ends waits until its last items are written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Where items go that are to be written.
pub(crate) struct Spool<T> {
    waiting: SyncSender<Message<T>>,
    lost: Arc<AtomicU64>,
}

enum Message<T> {
    Item(T),
    /// To be answered when all items before it are written.
    Flush(SyncSender<()>),
}

impl<T: Send + 'static> Spool<T> {
    /// Begins a thread that writes items of a kind, until the spool is gone.
    pub(crate) fn begin(
        kind: &'static str,
        log: Log,
        write: impl FnMut(T) -> io::Result<()> + Send + 'static,
    ) -> Self {
        let (waiting, items) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        thread::spawn({
            let lost = lost.clone();
            move || write_all(kind, &log, &items, &lost, write)
        });
        Self { waiting, lost }
    }

    pub(crate) fn push(&self, item: T) {
        if self.waiting.try_send(Message::Item(item)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all items are written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        if self.waiting.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_MAX);
        }
    }
}

/// The thread that writes.
fn write_all<T>(
    kind: &str,
    log: &Log,
    items: &Receiver<Message<T>>,
    lost: &AtomicU64,
    mut write: impl FnMut(T) -> io::Result<()>,
) {
    let mut has_failed = false;
    for message in items {
        match message {
            Message::Item(item) => {
                if let Err(error) = write(item)
                    && !std::mem::replace(&mut has_failed, true)
                {
                    log.line(format_args!("warning: cannot write the {kind}: {error}"));
                }
            }
            Message::Flush(done) => drop(done.try_send(())),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            log.line(format_args!("warning: the {kind} lacks {lost} records: the disk was busy"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::LogTimes;

    #[test]
    fn a_disk_that_does_not_answer_stops_nobody_and_takes_the_rest_later() {
        let (answers, disk) = sync_channel(0);
        let (written, seen) = sync_channel(2 * WAITING_MAX);
        let spool = Spool::begin("test", Log::new(LogTimes::Start), move |item| {
            let _: Result<(), _> = disk.recv();
            written.send(item).map_err(io::Error::other)
        });
        spool.push(0);
        // Ends once the first is out of the queue and blocks the thread.
        while spool.lost.load(Ordering::Relaxed) == 0 {
            spool.push(1);
        }
        drop((answers, spool));
        let written = seen.iter().count();
        assert!((WAITING_MAX..=WAITING_MAX + 1).contains(&written), "{written}");
    }
}
