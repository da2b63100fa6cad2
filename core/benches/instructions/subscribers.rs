//! Who takes what is traced.

use std::fmt::{Debug, Write};
use std::hint::black_box;
use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Dispatch, Event, Metadata, Subscriber, dispatcher};

const FILTERED: &str = "filtered.";
const ALL: &str = "all.";

/// Nobody; one that wants no event; one that writes all of them as text.
pub(crate) const NAMES: [&str; 3] = ["none.", FILTERED, ALL];

/// Events go there for the rest of the process.
pub(crate) fn begin(name: &str) {
    let dispatch = match name {
        FILTERED => Dispatch::new(Text { level: LevelFilter::OFF, line: Mutex::default() }),
        ALL => Dispatch::new(Text { level: LevelFilter::TRACE, line: Mutex::default() }),
        _ => return,
    };
    dispatcher::set_global_default(dispatch).expect("the first");
}

struct Text {
    level: LevelFilter,
    /// The last event. Kept for its memory.
    line: Mutex<String>,
}

struct Line<'a>(&'a mut String);

impl Visit for Line<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        write!(self.0, " {field}={value:?}").expect("a string takes everything");
    }
}

impl Subscriber for Text {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= self.level
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(self.level)
    }

    fn event(&self, event: &Event<'_>) {
        let mut line = self.line.lock().expect("no panics");
        line.clear();
        event.record(&mut Line(&mut line));
        black_box(&*line);
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
