//! What the node traces, as lines of JSON in a file: for `slotcast-replica trace`, and for people with `grep`.
//!
//! The file and the one before it, with `.1` at its end, have at most [`FILE_BYTES_MAX`] each.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use serde_json::{Map, Value};
use slotcast_tokio::slotcast::id::NodeId;
use tracing::field::{Field, Visit};
use tracing::level_filters::LevelFilter;
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use crate::log::Log;
use crate::spool::Spool;

/// Of a file, in bytes: some 250,000 lines.
const FILE_BYTES_MAX: u64 = 64 << 20;

/// Begins to write down what is traced in this process: one node.
pub(crate) fn begin(path: PathBuf, node: NodeId, log: Log) -> Arc<Spool<String>> {
    let mut output = Output { path, file: None, bytes: 0 };
    let lines = Arc::new(Spool::begin("trace", log, move |line: String| output.write(&line)));
    let recorder = Recorder { node: node.to_string(), lines: lines.clone() };
    // Nothing else sets one here.
    let _ = tracing::subscriber::set_global_default(recorder);
    lines
}

struct Output {
    path: PathBuf,
    file: Option<File>,
    bytes: u64,
}

impl Output {
    fn write(&mut self, line: &str) -> io::Result<()> {
        if self.bytes + line.len() as u64 > FILE_BYTES_MAX {
            self.file = None;
            let mut old = self.path.clone().into_os_string();
            old.push(".1");
            fs::rename(&self.path, old)?;
        }
        let mut file = match self.file.take() {
            Some(file) => file,
            None => {
                let file = OpenOptions::new().append(true).create(true).open(&self.path)?;
                self.bytes = file.metadata()?.len();
                file
            }
        };
        // After an error it is opened anew.
        file.write_all(line.as_bytes())?;
        self.bytes += line.len() as u64;
        self.file = Some(file);
        Ok(())
    }
}

/// Where the events of the process go.
struct Recorder {
    node: String,
    lines: Arc<Spool<String>>,
}

impl Subscriber for Recorder {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        metadata.target() == "slotcast" && *metadata.level() <= Level::DEBUG
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Some(LevelFilter::DEBUG)
    }

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        let time = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        fields.0.insert("micros".into(), (time.as_micros() as u64).into());
        fields.0.insert("node".into(), self.node.as_str().into());
        event.record(&mut fields);
        self.lines.push(format!("{}\n", Value::Object(fields.0)));
    }

    // One process is one node: its span says nothing new.
    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(1)
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}
    fn record_follows_from(&self, _: &Id, _: &Id) {}
    fn enter(&self, _: &Id) {}
    fn exit(&self, _: &Id) {}
}

/// The fields of an event.
#[derive(Default)]
struct Fields(Map<String, Value>);

impl Visit for Fields {
    fn record_u64(&mut self, field: &Field, value: u64) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.0.insert(field.name().into(), value.into());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let name = if field.name() == "message" { "event" } else { field.name() };
        self.0.insert(name.into(), format!("{value:?}").into());
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name().into(), value.into());
    }
}
