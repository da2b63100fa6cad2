//! Records of connections in qlog, each in a file of its own.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use slotcast_tokio::slotcast::node::{QlogWriter, RecordedConnection};

use crate::log::Log;
use crate::spool::Spool;

/// Files in the folder: the next connection takes the place of the oldest one. Strangers begin connections, too.
const FILES_MAX: usize = 64;

/// A part of a connection's record.
pub(crate) struct Record {
    connection: u64,
    bytes: Vec<u8>,
}

/// Where the records of a node's connections go.
pub(crate) fn begin(folder: PathBuf, log: Log) -> Arc<Spool<Record>> {
    let mut files = Files { folder, files: [const { None }; FILES_MAX] };
    Arc::new(Spool::begin("qlog", log, move |record| files.write(&record)))
}

/// What gives each connection the writer of its record.
pub(crate) fn writers(
    spool: Arc<Spool<Record>>,
) -> impl FnMut(&RecordedConnection) -> Option<QlogWriter> + Send + 'static {
    move |connection| Some(Box::new(Writer { connection: connection.number, spool: spool.clone() }))
}

struct Writer {
    connection: u64,
    spool: Arc<Spool<Record>>,
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.spool.push(Record { connection: self.connection, bytes: bytes.to_vec() });
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The files of the last connections, with the connections' numbers.
struct Files {
    folder: PathBuf,
    files: [Option<(u64, File)>; FILES_MAX],
}

impl Files {
    fn write(&mut self, record: &Record) -> io::Result<()> {
        let place = record.connection as usize % FILES_MAX;
        let file = match &mut self.files[place] {
            // Its file is another one's now.
            Some((newer, _)) if *newer > record.connection => return Ok(()),
            Some((same, file)) if *same == record.connection => file,
            other => {
                let file = create(&self.folder.join(format!("connection-{place:02}.sqlog")))?;
                &mut other.insert((record.connection, file)).1
            }
        };
        file.write_all(&record.bytes)
    }
}

/// A file that a person or another process still has open under this name stays as it is.
fn create(path: &Path) -> io::Result<File> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => File::create_new(path),
    }
}
