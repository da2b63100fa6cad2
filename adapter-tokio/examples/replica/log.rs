//! Lines for a human on standard error, with the seconds since the start.

use std::borrow::Cow;
use std::fmt;
use std::io::Write;
use std::time::Instant;

/// Where log lines go: any thread may have a copy.
#[derive(Clone, Copy)]
pub(crate) struct Log {
    start: Instant,
}

impl Log {
    pub(crate) fn new() -> Self {
        Self { start: Instant::now() }
    }

    /// One line, in one piece whatever other threads write.
    pub(crate) fn line(&self, text: fmt::Arguments<'_>) {
        let line = format!("[{:9.3}] {text}\n", self.start.elapsed().as_secs_f64());
        // A replica goes on without its log.
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
    }
}

/// A name as others chose it: to be shown with `{:?}`, which leaves no control character as it is.
pub(crate) fn shown(name: &[u8]) -> Cow<'_, str> {
    String::from_utf8_lossy(name)
}
