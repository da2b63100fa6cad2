//! Lines for a human on standard error, each with its time.
//!
//! Invariants:
//! 1. No line waits for standard error: a thread of its own writes them. A full pipe stops nobody else.
//! 2. At most [`WAITING_MAX`] lines wait; of further ones it is told how many were lost.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

/// Lines that wait for standard error: some seconds' worth of those of a busy replica, in about 100 KB.
const WAITING_MAX: usize = 1024;

/// How long a process that ends waits until its last lines are written.
const FLUSH_MAX: Duration = Duration::from_secs(1);

/// Where log lines go: any thread may have a copy.
#[derive(Clone)]
pub(crate) struct Log {
    start: Instant,
    /// From 1970 to the start, if lines count from there. Steps of the system's clock after the
    /// start do not show.
    origin: Option<Duration>,
    lines: SyncSender<Message>,
    lost: Arc<AtomicU64>,
}

/// What the times of lines count from.
#[derive(Clone, Copy, Debug, Default, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum LogTimes {
    #[default]
    Start,
    Unix,
}

enum Message {
    Line(String),
    /// To be answered when all lines before it are written.
    Flush(SyncSender<()>),
}

impl Log {
    pub(crate) fn new(times: LogTimes) -> Self {
        let origin = match times {
            LogTimes::Start => None,
            LogTimes::Unix => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok(),
        };
        let (lines, waiting) = sync_channel(WAITING_MAX);
        let lost = Arc::new(AtomicU64::new(0));
        thread::spawn({
            let lost = lost.clone();
            move || write(&waiting, &lost)
        });
        Self { start: Instant::now(), origin, lines, lost }
    }

    /// One line, in one piece whatever other threads write.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        self.line_of(Instant::now(), text);
    }

    /// The same about something that happened at `time`.
    pub(crate) fn line_of(&self, time: Instant, text: fmt::Arguments<'_>) {
        let since_start = time.saturating_duration_since(self.start);
        let line = match self.origin {
            None => format!("[{:9.3}] {text}\n", since_start.as_secs_f64()),
            Some(origin) => {
                let time = origin + since_start;
                format!("[{}.{:06}] {text}\n", time.as_secs(), time.subsec_micros())
            }
        };
        if self.lines.try_send(Message::Line(line)).is_err() {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Waits until all lines are written, but not for long.
    pub(crate) fn flush(&self) {
        let (done, is_done) = sync_channel(1);
        // If there is no room, nobody reads.
        if self.lines.try_send(Message::Flush(done)).is_ok() {
            let _ = is_done.recv_timeout(FLUSH_MAX);
        }
    }
}

/// The thread that writes, until the last copy of the log is gone. A replica goes on without its log.
fn write(waiting: &Receiver<Message>, lost: &AtomicU64) {
    let mut out = std::io::stderr();
    for message in waiting {
        match message {
            Message::Line(line) => drop(out.write_all(line.as_bytes())),
            Message::Flush(done) => drop(done.try_send(())),
        }
        let lost = lost.swap(0, Ordering::Relaxed);
        if lost > 0 {
            let _ = writeln!(out, "({lost} lines were lost, as standard error took no more)");
        }
    }
}

/// The last words of the process, without waiting for a standard error that nobody reads.
pub(crate) fn last_words(message: String) {
    let (done, is_done) = sync_channel(1);
    thread::spawn(move || {
        let _ = std::io::stderr().write_all(message.as_bytes());
        let _ = done.try_send(());
    });
    let _ = is_done.recv_timeout(FLUSH_MAX);
}

/// A name as others chose it: to be shown with `{:?}`, which leaves no control character as it is.
pub(crate) fn shown(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}
