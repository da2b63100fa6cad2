//! A subscriber that writes down what nodes trace, each line with the place of the node.

use std::cell::Cell;
use std::fmt::{Debug, Write};
use std::sync::{Arc, Mutex};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::subscriber::{DefaultGuard, set_default};
use tracing::{Event, Metadata, Subscriber};

thread_local! {
    /// Whose code runs.
    static PLACE: Cell<Option<usize>> = const { Cell::new(None) };
}

/// Says whose code runs: for [`slotcast_sim::Subnet::set_scope`].
pub(crate) fn enter(place: Option<usize>) {
    PLACE.set(place);
}

/// Has a node do something that it is not told by the simulator.
pub(crate) fn by<T>(place: usize, act: impl FnOnce() -> T) -> T {
    enter(Some(place));
    let done = act();
    enter(None);
    done
}

/// Lines such as `up peer=... address=...`, with the place of the node.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<Line>>>);

/// What was traced, and by which node.
type Line = (Option<usize>, String);

impl Lines {
    /// Begins to write down what is traced in this thread.
    pub(crate) fn begin() -> (Self, DefaultGuard) {
        let lines = Self::default();
        let guard = set_default(lines.clone());
        (lines, guard)
    }

    /// What the node at this place has traced with all of these parts.
    pub(crate) fn of(&self, place: usize, parts: &[&str]) -> Vec<String> {
        let lines = self.0.lock().unwrap();
        let is_it = |line: &&(Option<usize>, String)| {
            line.0 == Some(place) && parts.iter().all(|part| line.1.contains(part))
        };
        lines.iter().filter(is_it).map(|line| line.1.clone()).collect()
    }

    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().iter().map(|line| format!("{:?} {}", line.0, line.1)).collect()
    }
}

#[derive(Default)]
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        }
        .expect("a string takes everything");
    }
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "slotcast"
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        self.0.lock().unwrap().push((PLACE.get(), text.message + &text.fields));
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}
