//! The folder of what was received: one file per artifact, `<member>/<name>`, until it expires.
//!
//! Members choose names, and may give one name to several artifacts: after a change, or by malice.
//! The file is then what came last, and the others lie beside it, hidden, until they expire or it
//! does.
//!
//! Invariants:
//! 1. Nothing is written outside of the folder, nor anything in it that is not the replica's.
//! 2. A file appears and changes as a whole: it is written under a hidden name, then renamed.
//! 3. A file is there as long as an artifact of its member and name is.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Instant;

use slotcast_tokio::slotcast::artifact::Artifact;
use slotcast_tokio::slotcast::broadcast::Event;
use slotcast_tokio::slotcast::id::{ArtifactId, NodeId};

use crate::Failure;
use crate::log::{Log, shown};
use crate::name::file_name;

/// Marks a folder as one of a replica, and is locked by the replica that uses it.
const MARK: &str = ".replica";

/// Digits of a member's id in the name of its folder.
const MEMBER_DIGITS: usize = 16;

/// What was delivered and has not expired.
pub(crate) struct Received {
    folder: PathBuf,
    log: Log,
    artifacts: HashMap<ArtifactId, Delivered>,
    /// The artifacts of each file, the one which it holds last. Never empty.
    files: BTreeMap<PathBuf, Vec<ArtifactId>>,
    _mark: File,
}

struct Delivered {
    name: Vec<u8>,
    /// Where it was written, if it could be.
    path: Option<PathBuf>,
}

impl Received {
    /// An empty folder, cleared of what an earlier run left, since nobody would tell when that
    /// expires. What is active will be received again.
    pub(crate) fn open(folder: PathBuf, log: Log) -> Result<Self, Failure> {
        let shown = folder.display();
        let fail = |error: io::Error| Failure::Start(format!("cannot use {shown}: {error}"));
        let mark = folder.join(MARK);
        let is_ours = mark.exists() || fs::read_dir(&folder).map_err(fail)?.next().is_none();
        if !is_ours {
            return Err(Failure::Start(format!(
                "{shown} is neither empty nor from an earlier run: give another --received folder"
            )));
        }
        let open = OpenOptions::new().write(true).create(true).truncate(false).open(mark);
        let mark = open.map_err(fail)?;
        match mark.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(Failure::Start(format!("{shown} is in use by another replica")));
            }
            Err(TryLockError::Error(error)) => return Err(fail(error)),
        }
        clear(&folder).map_err(fail)?;
        let (artifacts, files) = (HashMap::new(), BTreeMap::new());
        Ok(Self { folder, log, artifacts, files, _mark: mark })
    }

    /// Does what the channel tells.
    pub(crate) fn handle(&mut self, event: Event) {
        match event {
            Event::Delivered { artifact, from } => self.deliver(&artifact, from),
            Event::Withdrawn { id, by } => {
                let name = self.name(&id);
                self.log.line(format_args!("withdrawn {name:?} by {by:#}"));
            }
            Event::Expired { id } => self.expire(id),
            _ => {}
        }
    }

    fn name(&self, id: &ArtifactId) -> String {
        self.artifacts.get(id).map_or(String::new(), |known| shown(&known.name).into_owned())
    }

    fn deliver(&mut self, artifact: &Artifact, from: NodeId) {
        // Writing the file takes a while.
        let received_at = Instant::now();
        let (name, bytes) = (shown(artifact.metadata()), artifact.bytes().len());
        let path = match file_name(artifact.metadata()) {
            Some(file_name) => self.write(artifact, &member_folder(from), &file_name),
            None => Err(io::ErrorKind::InvalidFilename.into()),
        };
        match &path {
            Ok(_) => {
                let text = format_args!("received {name:?} ({bytes} bytes) from {from:#}");
                self.log.line_of(received_at, text);
            }
            Err(error) => self.log.line(format_args!(
                "received {name:?} ({bytes} bytes) from {from:#}, but cannot write it: {error}"
            )),
        }
        let delivered = Delivered { name: artifact.metadata().to_vec(), path: path.ok() };
        self.artifacts.insert(artifact.id(), delivered);
    }

    fn write(&mut self, artifact: &Artifact, member: &str, name: &str) -> io::Result<PathBuf> {
        let folder = self.folder.join(member);
        let path = folder.join(name);
        fs::create_dir_all(&folder)?;
        let hidden = hidden(&path, &artifact.id());
        let earlier = self.files.get(&path).and_then(|ids| ids.last());
        let mut written = fs::write(&hidden, artifact.bytes());
        if let Some(earlier) = earlier.filter(|_| written.is_ok()) {
            written = match fs::copy(&path, self::hidden(&path, earlier)) {
                // Somebody else has removed it.
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
                copied => copied.map(drop),
            };
        }
        if let Err(error) = written.and_then(|()| fs::rename(&hidden, &path)) {
            let _ = fs::remove_file(&hidden);
            return Err(error);
        }
        self.files.entry(path.clone()).or_default().push(artifact.id());
        Ok(path)
    }

    fn expire(&mut self, id: ArtifactId) {
        let name = self.name(&id);
        let path = self.artifacts.remove(&id).and_then(|delivered| delivered.path);
        let removed = path.map_or(Ok(()), |path| self.remove(&path, id));
        match removed {
            Ok(()) => self.log.line(format_args!("expired {name:?}")),
            Err(error) => {
                self.log.line(format_args!("expired {name:?}, but cannot remove it: {error}"));
            }
        }
    }

    fn remove(&mut self, path: &Path, id: ArtifactId) -> io::Result<()> {
        let ids = self.files.get_mut(path).expect("a written artifact is one of its file");
        let was_shown = ids.last() == Some(&id);
        ids.retain(|other| *other != id);
        let left = ids.last().copied();
        let removed = match left {
            Some(_) if !was_shown => fs::remove_file(hidden(path, &id)),
            Some(left) => fs::rename(hidden(path, &left), path),
            None => {
                self.files.remove(path);
                fs::remove_file(path)
            }
        };
        if left.is_none() {
            // Only if it is empty; the next delivery makes it again.
            let _ = fs::remove_dir(path.parent().expect("a file is in a folder"));
        }
        match removed {
            // Somebody else has removed it.
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            removed => removed,
        }
    }
}

/// Removes the folders of members.
fn clear(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let is_digits = name.as_encoded_bytes().iter().all(u8::is_ascii_hexdigit);
        if entry.file_type()?.is_dir() && name.len() == MEMBER_DIGITS && is_digits {
            fs::remove_dir_all(entry.path())?;
        }
    }
    Ok(())
}

fn member_folder(member: NodeId) -> String {
    let mut name = member.to_string();
    name.truncate(MEMBER_DIGITS);
    name
}

/// Where an artifact of a file lies that is not, or not yet, what the file holds. No name of an
/// artifact is hidden, so that these do not meet.
fn hidden(path: &Path, id: &ArtifactId) -> PathBuf {
    path.with_file_name(format!(".{id}"))
}
