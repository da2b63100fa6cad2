//! Lines for a human on standard error, each with its time.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::{Duration, Instant, SystemTime};

/// Where log lines go: any thread may have a copy.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    start: Instant,
    /// From 1970 to the start, if lines count from there. Steps of the system's clock after the
    /// start do not show.
    origin: Option<Duration>,
}

/// What the times of lines count from.
#[derive(Clone, Copy)]
pub(crate) enum LogTimes {
    SinceStart,
    Unix,
}

impl Log {
    pub(crate) fn new(times: LogTimes) -> Self {
        let origin = match times {
            LogTimes::SinceStart => None,
            LogTimes::Unix => SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).ok(),
        };
        Self { start: Instant::now(), origin }
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
        // A replica goes on without its log.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A name as others chose it: to be shown with `{:?}`, which leaves no control character as it is.
pub(crate) fn shown(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}
