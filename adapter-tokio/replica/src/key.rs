//! The key file: the node's 32 secret bytes as 64 hexadecimal digits and a newline, for nobody's
//! eyes but the operator's.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use slotcast_tokio::slotcast::driver::random_bytes;
use slotcast_tokio::slotcast::id::NodeId;
use slotcast_tokio::slotcast::node::NodeKey;

use crate::Failure;

/// Writes a new key to a new file, and says whose it is.
pub(crate) fn generate(path: &Path) -> Result<NodeId, Failure> {
    let shown = path.display();
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let mut file = options.open(path).map_err(|error| {
        Failure::Start(match error.kind() {
            io::ErrorKind::AlreadyExists => format!("{shown} exists, and keys are not overwritten"),
            _ => format!("cannot create {shown}: {error}"),
        })
    })?;
    let key = NodeKey::from_seed(random_bytes());
    let mut text: String =
        key.seed().expect("made of one").iter().map(|byte| format!("{byte:02x}")).collect();
    text.push('\n');
    // A key which others know the node by is not to be lost in a power failure.
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        let _ = std::fs::remove_file(path);
        return Err(Failure::Start(format!("cannot write {shown}: {error}")));
    }
    Ok(key.id())
}

/// The key in a file that only its owner may read.
pub(crate) fn load(path: &Path) -> Result<NodeKey, Failure> {
    let shown = path.display();
    let fail = |what: String| Err(Failure::Start(what));
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return fail(format!(
                "there is no {shown}: make a key with `slotcast-replica keygen {shown}`"
            ));
        }
        Err(error) => return fail(format!("cannot read {shown}: {error}")),
    };
    #[cfg(unix)]
    match file.metadata().map(|metadata| std::os::unix::fs::MetadataExt::mode(&metadata)) {
        _ if !path.is_file() => return fail(format!("{shown} is not a file")),
        Ok(mode) if mode & 0o077 != 0 => {
            return fail(format!(
                "{shown} is a secret, and others may read or write it (mode {:03o}): \
                 `chmod 600 {shown}`",
                mode & 0o777
            ));
        }
        Ok(_) => {}
        Err(error) => return fail(format!("cannot read {shown}: {error}")),
    }
    let mut text = Vec::new();
    // One byte more than any key file has.
    if let Err(error) = file.take(64 + 2 + 1).read_to_end(&mut text) {
        return fail(format!("cannot read {shown}: {error}"));
    }
    match seed(&text) {
        Some(seed) => Ok(NodeKey::from_seed(seed)),
        None => fail(format!(
            "{shown} is no key: 64 hexadecimal digits were expected, as `slotcast-replica keygen` writes them"
        )),
    }
}

fn seed(text: &[u8]) -> Option<[u8; 32]> {
    let text = text.strip_suffix(b"\n").unwrap_or(text);
    let text = text.strip_suffix(b"\r").unwrap_or(text);
    let mut seed = [0; 32];
    if text.len() != 2 * seed.len() {
        return None;
    }
    for (byte, digits) in seed.iter_mut().zip(text.chunks(2)) {
        let digit = |at: usize| (digits[at] as char).to_digit(16);
        *byte = (digit(0)? * 16 + digit(1)?) as u8;
    }
    Some(seed)
}
