//! A folder to begin with: key, topology and configuration.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;

use slotcast_tokio::slotcast::id::NodeId;

use crate::{Failure, key};

/// Makes the folder, and says whose it is.
pub(crate) fn init(folder: &Path, address: SocketAddr) -> Result<NodeId, Failure> {
    let shown = folder.display();
    fs::create_dir_all(folder.join("publish"))
        .map_err(|error| Failure::Start(format!("cannot use {shown}: {error}")))?;
    // First, since it refuses a folder that was made before.
    let id = key::generate(&folder.join("key"))?;
    let topology = format!(
        "# All members of the subnet. To change them, rename a file with a higher version to this one.\n\
         version = 1\n\n[[member]]\nid = \"{id}\"\naddress = \"{address}\"\n"
    );
    write_new(&folder.join("topology.toml"), &topology)?;
    let everywhere: SocketAddr = match address {
        _ if address.ip().is_loopback() => address,
        SocketAddr::V4(_) => ([0; 4], address.port()).into(),
        SocketAddr::V6(_) => ([0u16; 8], address.port()).into(),
    };
    let config = include_str!("../replica.toml").replace("127.0.0.1:7001", &everywhere.to_string());
    write_new(&folder.join("replica.toml"), &config)?;
    Ok(id)
}

fn write_new(path: &Path, text: &str) -> Result<(), Failure> {
    let file = OpenOptions::new().write(true).create_new(true).open(path);
    let written = file.and_then(|mut file| file.write_all(text.as_bytes()));
    written.map_err(|error| Failure::Start(format!("cannot write {}: {error}", path.display())))
}
