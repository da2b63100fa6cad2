//! Records of connections in qlog (<https://datatracker.ietf.org/doc/draft-ietf-quic-qlog-main-schema/>), as
//! quinn-proto makes them, for tools such as qvis.
//!
//! Without the feature `qlog`, this is empty.

#[cfg(feature = "qlog")]
use std::boxed::Box;
#[cfg(feature = "qlog")]
use std::format;
#[cfg(feature = "qlog")]
use std::io::{self, Write};
use std::net::SocketAddr;
use std::time::Instant;
#[cfg(feature = "qlog")]
use std::vec::Vec;

use quinn_proto::TransportConfig;

/// What is recorded of one connection at most, in bytes; its record ends there. Some 100,000 packets, which is
/// more than the tools show well.
#[cfg(feature = "qlog")]
pub const QLOG_BYTES_MAX: usize = 16 << 20;

/// A connection that may be recorded.
#[cfg(feature = "qlog")]
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[non_exhaustive]
pub struct RecordedConnection {
    /// The peer's address. Who it is shows in the handshake.
    pub address: SocketAddr,
    /// Whether this node dials.
    pub is_dialled: bool,
    /// Its number among the connections of this node, from 0.
    pub number: u64,
}

/// Where the record of a connection goes. It is written to as things happen, in the turn of the node: a writer
/// that blocks stops the node. It gets whole records of JSON text sequences (RFC 7464), each at once. The record
/// ends at its first error, and after [`QLOG_BYTES_MAX`].
#[cfg(feature = "qlog")]
pub type QlogWriter = Box<dyn Write + Send + Sync>;

#[cfg(feature = "qlog")]
type Open = Box<dyn FnMut(&RecordedConnection) -> Option<QlogWriter> + Send>;

/// What decides which connections are recorded, and where.
#[derive(Default)]
pub(super) struct Qlog {
    #[cfg(feature = "qlog")]
    open: Option<Open>,
    #[cfg(feature = "qlog")]
    count: u64,
}

impl Qlog {
    /// Has a new connection recorded, if it is to be.
    pub(super) fn begin(
        &mut self,
        start: Instant,
        address: SocketAddr,
        is_dialled: bool,
        config: TransportConfig,
    ) -> TransportConfig {
        #[cfg(feature = "qlog")]
        {
            let mut config = config;
            let connection = RecordedConnection { address, is_dialled, number: self.count };
            self.count += 1;
            if let Some(writer) = self.open.as_mut().and_then(|open| open(&connection)) {
                let mut qlog = quinn_proto::QlogConfig::default();
                let side = if is_dialled { "dialled" } else { "accepted" };
                qlog.writer(Box::new(Bounded::new(writer)));
                qlog.start_time(start).title(Some(format!("{address}, {side}")));
                config.qlog_stream(qlog.into_stream());
            }
            config
        }
        #[cfg(not(feature = "qlog"))]
        {
            let _ = (self, start, address, is_dialled);
            config
        }
    }
}

#[cfg(feature = "qlog")]
impl super::Node {
    /// Has connections recorded from now on: `open` is called for each that begins, and gives the writer that
    /// its record goes to, if it is to be recorded. Strangers can begin connections, too, as many as
    /// `handshakes_max` at a time: bound what `open` does for them. Times count from the node's start.
    pub fn set_qlog(
        &mut self,
        open: impl FnMut(&RecordedConnection) -> Option<QlogWriter> + Send + 'static,
    ) {
        self.qlog.open = Some(Box::new(open));
    }
}

/// Passes whole records on until one is too much or fails, and takes all others for nothing: an error would be
/// told by quinn-proto for each event.
#[cfg(feature = "qlog")]
struct Bounded {
    /// Not after its end.
    writer: Option<QlogWriter>,
    /// What there is of a record that is not complete.
    record: Vec<u8>,
    /// Bytes that may still be written.
    left: usize,
}

#[cfg(feature = "qlog")]
impl Bounded {
    fn new(writer: QlogWriter) -> Self {
        Self { writer: Some(writer), record: Vec::new(), left: QLOG_BYTES_MAX }
    }

    /// Passes the record on. False if that is the end.
    fn pass_on(&mut self) -> bool {
        let Some(left) = self.left.checked_sub(self.record.len()) else { return false };
        self.left = left;
        let writer = self.writer.as_mut().expect("it has not ended");
        let is_written = writer.write_all(&self.record).is_ok();
        self.record.clear();
        is_written
    }
}

#[cfg(feature = "qlog")]
impl Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.writer.is_some() {
            self.record.extend_from_slice(bytes);
            if self.record.ends_with(b"\n") && !self.pass_on() {
                (self.writer, self.record) = (None, Vec::new());
            }
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(all(test, feature = "qlog"))]
mod tests {
    use std::sync::{Arc, Mutex};
    use std::vec;

    use super::*;

    /// Takes so many writes, and fails then.
    struct Failing(usize, Arc<Mutex<Vec<Vec<u8>>>>);

    impl Write for Failing {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 = self.0.checked_sub(1).ok_or(io::ErrorKind::StorageFull)?;
            self.1.lock().unwrap().push(bytes.to_vec());
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_ends_at_the_first_error_of_its_writer_and_nobody_is_told() {
        let written = Arc::default();
        let mut records = Bounded::new(Box::new(Failing(1, Arc::clone(&written))));
        for part in [&b"\x1e{"[..], b"}", b"\n", b"\x1e{}\n", b"\x1e{}\n"] {
            records.write_all(part).unwrap();
        }
        assert_eq!(*written.lock().unwrap(), [b"\x1e{}\n"]);
        assert!(records.writer.is_none());
    }

    #[test]
    fn a_record_that_does_not_fit_any_more_is_the_end() {
        let written = Arc::default();
        let mut records = Bounded::new(Box::new(Failing(3, Arc::clone(&written))));
        let mut long = vec![b' '; QLOG_BYTES_MAX - 1];
        long.push(b'\n');
        records.write_all(&long).unwrap();
        records.write_all(b"\n").unwrap();
        assert_eq!(written.lock().unwrap().len(), 1);
        assert!(records.writer.is_none());
    }
}
