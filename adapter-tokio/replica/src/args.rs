//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Parser, Subcommand};

use crate::log::LogTimes;
use crate::settings::Runtime;

/// A replica: files of a folder are broadcast to the members of a subnet, and theirs written into another
#[derive(Parser)]
#[command(name = "slotcast-replica", version)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Subcommand)]
pub(crate) enum Command {
    /// Writes a new secret key to a file, and the id of its node to standard output
    Keygen {
        /// The new file; one that exists is not overwritten
        file: PathBuf,
    },
    /// Makes a folder with a key, a topology of this member alone and a configuration to edit
    Init {
        /// The folder
        folder: PathBuf,
        /// The IP address and UDP port at which other members reach this one
        #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:7001")]
        address: SocketAddr,
    },
    /// Draws the ways of artifacts over several nodes, whose clocks should agree
    Trace {
        /// What `run --trace` has written at each of them
        #[arg(required = true)]
        files: Vec<PathBuf>,
        /// How the ids of the artifacts begin (default: the first 16 artifacts)
        #[arg(long, value_name = "ID", default_value = "", hide_default_value = true)]
        artifact: String,
        /// The picture
        #[arg(long, value_name = "FILE")]
        svg: PathBuf,
    },
    /// Is one member of a subnet until Ctrl-C (or SIGTERM)
    Run(Box<Run>),
}

/// The arguments of `run`: each but `--config` and `--relay` stands in place of the value of that name
/// in the configuration.
#[derive(clap::Args)]
pub(crate) struct Run {
    /// Configuration in TOML, such as `init` makes. Paths in it are relative to its folder
    #[arg(long, value_name = "FILE")]
    pub(crate) config: Option<PathBuf>,
    /// The secret key
    #[arg(long, value_name = "FILE")]
    pub(crate) key: Option<PathBuf>,
    /// The IP address and UDP port to listen on, such as 0.0.0.0:7001
    #[arg(long, value_name = "ADDR")]
    pub(crate) listen: Option<SocketAddr>,
    /// The members, in TOML. They change when another file is renamed to this one, with a higher version
    #[arg(long, value_name = "FILE")]
    pub(crate) topology: Option<PathBuf>,
    /// Files in here are published: a new one when it is complete, a changed one in place of the old;
    /// deleting one aborts it
    #[arg(long, value_name = "DIR")]
    pub(crate) publish: Option<PathBuf>,
    /// Files of other members, as DIR/MEMBER/NAME (MEMBER: 16 digits of its id), until they expire; belongs to
    /// the replica, which empties it when it starts
    #[arg(long, value_name = "DIR")]
    pub(crate) received: Option<PathBuf>,
    /// What the node runs on (default: tokio)
    #[arg(long, value_name = "NAME")]
    pub(crate) runtime: Option<Runtime>,
    /// Whether files of others are passed on: spread brings long ones to all in the time of one copy; at
    /// all members the same. A file then lies in the folder of the member that brought the last of it
    #[arg(long, value_name = "NAME", default_value = "off")]
    pub(crate) relay: RelayFiles,
    /// What the log counts seconds from: the start of the process (default) or 1970, with microseconds, to
    /// compare the logs of replicas
    #[arg(long, value_name = "NAME")]
    pub(crate) log_times: Option<LogTimes>,
    /// The IP address and TCP port of /metrics for Prometheus, /healthz and a status page, over HTTP; others
    /// than operators should not reach it. Each second, all members that are connected are called then, to measure how
    /// long they take to answer
    #[arg(long, value_name = "ADDR")]
    pub(crate) metrics: Option<SocketAddr>,
    /// Connections are recorded in here in qlog, the last 64 of them with 16 MiB each at most, for tools such as
    /// qvis
    #[arg(long, value_name = "DIR")]
    pub(crate) qlog: Option<PathBuf>,
    /// What becomes of members and artifacts is written to this file, a line of JSON for each event. At 64 MiB
    /// it is renamed to FILE.1, and begun anew
    #[arg(long, value_name = "FILE")]
    pub(crate) trace: Option<PathBuf>,
}

/// Whether files of others are passed on, in all channels.
#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum RelayFiles {
    /// As the channels are configured: not, if they are not.
    Off,
    /// As soon as they come, long ones while they come.
    Spread,
}
