//! The folder to publish from: its files are artifacts as long as they lie there.
//!
//! The folder is looked at again and again; nothing is kept of a file but what it looked like. A
//! file is read once it has looked the same twice, so that one being written is left alone until
//! its writer pauses.
//!
//! Invariants:
//! 1. What is active is what was last read of a file that is still there.
//! 2. A file with the same name and bytes is the same artifact: touching it changes nothing.
//! 3. What is wrong with a file is said once, until something else is wrong with it.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::path::PathBuf;
use std::time::Instant;

use slotcast_tokio::Channel;
use slotcast_tokio::slotcast::artifact::{Artifact, METADATA_BYTES_MAX};
use slotcast_tokio::slotcast::config::ChannelConfig;
use slotcast_tokio::slotcast::error::PublishError;
use slotcast_tokio::slotcast::id::ArtifactId;

use crate::log::{Log, shown};

/// The files of a folder, and what is published of them.
pub(crate) struct Publisher {
    folder: PathBuf,
    channel: Channel,
    config: ChannelConfig,
    log: Log,
    entries: BTreeMap<OsString, Entry>,
    /// How many artifacts were aborted so far: each may have made room for another.
    aborts: u64,
    /// Why the folder could not be listed the last time.
    unlisted: Option<String>,
}

/// One file.
#[derive(Default)]
struct Entry {
    /// What it looked like at the last scan.
    look: Option<Look>,
    /// What it looked like when it was last dealt with.
    done: Option<Look>,
    /// What of it is published.
    active: Option<ArtifactId>,
    /// Why it is not.
    problem: Option<String>,
    /// It waits for room, and there was none after so many aborts.
    waits_since: Option<u64>,
}

/// What a file looks like without reading it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Look {
    File { bytes: u64, changed: [i64; 6] },
    Other(&'static str),
}

impl Look {
    fn new(metadata: &Metadata) -> Self {
        match metadata.file_type() {
            kind if kind.is_file() => {
                Self::File { bytes: metadata.len(), changed: changed(metadata) }
            }
            kind if kind.is_dir() => Self::Other("a folder"),
            kind if kind.is_symlink() => Self::Other("a symbolic link"),
            _ => Self::Other("no ordinary file"),
        }
    }
}

/// Numbers that differ when a file was written to, or another one has taken its place.
#[cfg(unix)]
fn changed(metadata: &Metadata) -> [i64; 6] {
    use std::os::unix::fs::MetadataExt;
    let file = [metadata.dev() as i64, metadata.ino() as i64];
    let [written, changed] = [metadata.mtime(), metadata.ctime()];
    [file[0], file[1], written, metadata.mtime_nsec(), changed, metadata.ctime_nsec()]
}

/// Numbers that differ when a file was written to.
#[cfg(not(unix))]
fn changed(metadata: &Metadata) -> [i64; 6] {
    let written = metadata.modified().ok();
    let since = written.and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    let since = since.unwrap_or_default();
    [0, 0, since.as_secs() as i64, i64::from(since.subsec_nanos()), 0, 0]
}

/// Why a file is not published.
enum Refusal {
    /// It has changed meanwhile: not even a problem.
    Unsettled,
    /// It is as it should not be.
    Problem(String),
    /// There is no room for it.
    NoRoom(PublishError),
}

impl Publisher {
    /// Publishes the files of a folder on a channel with these bounds.
    pub(crate) fn new(folder: PathBuf, channel: Channel, config: ChannelConfig, log: Log) -> Self {
        let entries = BTreeMap::new();
        Self { folder, channel, config, log, entries, aborts: 0, unlisted: None }
    }

    /// Looks at the folder, and publishes and aborts what that takes.
    pub(crate) fn scan(&mut self) {
        let looks = match self.list() {
            Ok(looks) => looks,
            // Gone with all its files.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                self.tell_unlisted(&error);
                BTreeMap::new()
            }
            // Who knows what is in it: all stays as it is.
            Err(error) => return self.tell_unlisted(&error),
        };
        let mut entries = std::mem::take(&mut self.entries);
        entries.retain(|name, entry| {
            let is_there = looks.contains_key(name);
            if !is_there {
                self.abort(name, entry);
            }
            is_there
        });
        let mut is_full = false;
        for (name, look) in looks {
            let entry = entries.entry(name.clone()).or_default();
            self.update(&name, entry, look, &mut is_full);
        }
        self.entries = entries;
    }

    /// Whether there are files that the next scan may read.
    pub(crate) fn is_unsettled(&self) -> bool {
        self.entries.values().any(|entry| entry.done != entry.look)
    }

    /// What lies in the folder, hidden files aside.
    fn list(&mut self) -> io::Result<BTreeMap<OsString, Look>> {
        let mut looks = BTreeMap::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let name = entry.file_name();
            if name.as_encoded_bytes().starts_with(b".") {
                continue;
            }
            match entry.metadata() {
                Ok(metadata) => drop(looks.insert(name, Look::new(&metadata))),
                // Deleted since it was listed.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        self.unlisted = None;
        Ok(looks)
    }

    fn tell_unlisted(&mut self, error: &io::Error) {
        let error = error.to_string();
        if self.unlisted.as_ref() != Some(&error) {
            self.log.line(format_args!("cannot list {}: {error}", self.folder.display()));
            self.unlisted = Some(error);
        }
    }

    /// Does for one file what its look asks for. `is_full` goes from file to file: when there is no
    /// slot for one, there is none for the next.
    fn update(&mut self, name: &OsStr, entry: &mut Entry, look: Look, is_full: &mut bool) {
        let has_room = entry.waits_since.is_some_and(|aborts| aborts < self.aborts);
        if entry.look.replace(look) != Some(look) || (entry.done == Some(look) && !has_room) {
            return;
        }
        let result = if *is_full && entry.active.is_none() {
            Err(Refusal::NoRoom(PublishError::OutboxFull))
        } else {
            self.publish(name, entry, look)
        };
        entry.done = Some(look);
        entry.waits_since = None;
        let name = shown(name.as_encoded_bytes());
        let problem = match result {
            Ok(()) => None,
            Err(Refusal::Unsettled) => {
                entry.look = None;
                return;
            }
            Err(Refusal::Problem(problem)) => Some(problem),
            Err(Refusal::NoRoom(error)) => {
                *is_full |= error == PublishError::OutboxFull;
                // A node that is busy will not be for long.
                let aborts = if error == PublishError::Busy { None } else { Some(self.aborts) };
                entry.waits_since = aborts;
                if aborts.is_none() {
                    entry.done = None;
                }
                Some(error.to_string())
            }
        };
        if let Some(problem) = problem.as_ref().filter(|told| entry.problem.as_ref() != Some(told))
        {
            self.log.line(format_args!("not published: {name:?}: {problem}"));
        }
        entry.problem = problem;
    }

    /// Publishes a file in place of what was active of it.
    fn publish(&mut self, name: &OsStr, entry: &mut Entry, look: Look) -> Result<(), Refusal> {
        let artifact = match self.read(name, look) {
            Ok(artifact) => artifact,
            Err(Refusal::Unsettled) => return Err(Refusal::Unsettled),
            Err(refusal) => {
                self.abort(name, entry);
                return Err(refusal);
            }
        };
        if entry.active == Some(artifact.id()) {
            return Ok(());
        }
        // First, so that there is room for what takes its place.
        self.abort(name, entry);
        let name = name.as_encoded_bytes();
        let published_at = Instant::now();
        match self.channel.publish(artifact.to_bytes(), name) {
            Ok(id) => {
                entry.active = Some(id);
                let (name, bytes) = (shown(name), artifact.bytes().len());
                let text = format_args!("published {name:?} ({bytes} bytes)");
                self.log.line_of(published_at, text);
                Ok(())
            }
            Err(
                error @ (PublishError::OutboxFull
                | PublishError::ActiveBytesExceeded
                | PublishError::Busy),
            ) => Err(Refusal::NoRoom(error)),
            Err(error) => Err(Refusal::Problem(error.to_string())),
        }
    }

    fn abort(&mut self, name: &OsStr, entry: &mut Entry) {
        if let Some(id) = entry.active.take() {
            self.channel.abort(&id);
            self.aborts += 1;
            self.log.line(format_args!("aborted {:?}", shown(name.as_encoded_bytes())));
        }
    }

    /// A file's artifact, if the file stays as it looks while it is read.
    fn read(&self, name: &OsStr, look: Look) -> Result<Artifact, Refusal> {
        let problem = |text: String| Err(Refusal::Problem(text));
        let bytes_max = self.config.artifact_bytes_max;
        let bytes = match look {
            Look::Other(kind) => return problem(format!("it is {kind}")),
            Look::File { bytes, .. } => bytes,
        };
        let name_bytes = name.as_encoded_bytes();
        if name_bytes.len() > METADATA_BYTES_MAX {
            return problem(format!("its name is longer than {METADATA_BYTES_MAX} bytes"));
        }
        if bytes > bytes_max {
            return problem(format!("its {bytes} bytes are more than {bytes_max}"));
        }
        let read = || {
            let file = File::open(self.folder.join(name))?;
            let mut content = Vec::with_capacity(bytes as usize);
            let before = Look::new(&file.metadata()?);
            (&file).take(bytes + 1).read_to_end(&mut content)?;
            io::Result::Ok((before, Look::new(&file.metadata()?), content))
        };
        match read() {
            Ok((before, after, content)) if (before, after) == (look, look) => {
                Artifact::new(content.into(), name_bytes)
                    .or_else(|error| problem(error.to_string()))
            }
            Ok(_) => Err(Refusal::Unsettled),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Err(Refusal::Unsettled),
            Err(error) => problem(error.to_string()),
        }
    }
}
