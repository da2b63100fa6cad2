//! The command line.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::log::LogTimes;

pub(crate) const USAGE: &str = "\
usage: replica keygen FILE
       replica run --key FILE --listen ADDR --topology FILE --publish DIR --received DIR
                   [--runtime tokio|smol] [--relay off|spread] [--log-times start|unix]
                   [--metrics ADDR]

keygen writes a new secret key to FILE, and the id of its node to standard output.

run is one member of a subnet until Ctrl-C (or SIGTERM):
  --key FILE       the secret key
  --listen ADDR    the IP address and UDP port to listen on, such as 0.0.0.0:7001
  --topology FILE  the members, in TOML:
                       version = 1
                       [[member]]
                       id = \"64 hex digits\"
                       address = \"192.0.2.1:7001\"  # or: addresses = [\"...\", \"...\"]
                       keys = [\"...\"]  # if it has others than its id: one, or two to change over
                   members change when another file is renamed to FILE, with a higher version
  --publish DIR    files in here are published: a new one when it is complete, a changed one
                   in place of the old; deleting one aborts it
  --received DIR   files of other members, as DIR/<16 digits of the member's id>/<name>, until
                   they expire; belongs to the replica, which empties it when it starts
  --runtime NAME   what the node runs on: tokio (default) or smol
  --relay NAME     whether files of others are passed on: off (default) or spread, which brings
                   long ones to all in the time of one copy; at all members the same. A file
                   then lies in the folder of the member that brought the last of it
  --log-times NAME what the log counts seconds from: the start of the process (start, default)
                   or 1970 (unix), with microseconds, to compare the logs of replicas
  --metrics ADDR   the IP address and TCP port at which Prometheus finds /metrics over HTTP; others
                   than operators should not reach it. Each second, all members that are
                   connected are called then, to measure how long they take to answer
";

/// What is asked for.
pub(crate) enum Command {
    Help,
    Keygen { file: PathBuf },
    Run(Run),
}

/// The arguments of `run`.
pub(crate) struct Run {
    pub(crate) key: PathBuf,
    pub(crate) listen: SocketAddr,
    pub(crate) topology: PathBuf,
    pub(crate) publish: PathBuf,
    pub(crate) received: PathBuf,
    pub(crate) runtime: Runtime,
    /// Files of others are passed on, long ones while they come.
    pub(crate) spreads: bool,
    pub(crate) log_times: LogTimes,
    pub(crate) metrics: Option<SocketAddr>,
}

/// Which adapter runs the node.
#[derive(Clone, Copy)]
pub(crate) enum Runtime {
    Tokio,
    Smol,
}

impl Runtime {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Tokio => "tokio",
            Self::Smol => "smol",
        }
    }
}

impl Command {
    /// The command that these arguments say (without the name of the program), or what is wrong.
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Self, String> {
        let arguments: Vec<OsString> = arguments.collect();
        if arguments.iter().any(|argument| argument == "--help" || argument == "-h") {
            return Ok(Self::Help);
        }
        let mut arguments = arguments.into_iter();
        let Some(command) = arguments.next() else { return Err("no command given".into()) };
        match command.to_str() {
            Some("help") => Ok(Self::Help),
            Some("keygen") => keygen(arguments),
            Some("run") => run(arguments),
            _ => Err(format!("no such command: {command:?}")),
        }
    }
}

fn keygen(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    match (arguments.next(), arguments.next()) {
        (Some(file), None) if !file.as_encoded_bytes().starts_with(b"-") => {
            Ok(Command::Keygen { file: file.into() })
        }
        _ => Err("keygen takes one file".into()),
    }
}

fn run(mut arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
    const NAMES: [&str; 9] = [
        "--key",
        "--listen",
        "--topology",
        "--publish",
        "--received",
        "--runtime",
        "--relay",
        "--log-times",
        "--metrics",
    ];
    let mut values: [Option<OsString>; 9] = Default::default();
    while let Some(argument) = arguments.next() {
        // Both `--key FILE` and `--key=FILE`.
        let (name, value) = match argument.to_str().and_then(|text| text.split_once('=')) {
            Some((name, value)) => (name.into(), Some(value.into())),
            None => (argument, None),
        };
        let Some(at) = NAMES.iter().position(|known| name == **known) else {
            return Err(format!("no such argument: {name:?}"));
        };
        let is_value = |value: &OsString| !value.as_encoded_bytes().starts_with(b"--");
        let value = value.or_else(|| arguments.next().filter(is_value));
        let value = value.ok_or_else(|| format!("{} needs a value", NAMES[at]))?;
        if values[at].replace(value).is_some() {
            return Err(format!("{} is given twice", NAMES[at]));
        }
    }
    let [key, listen, topology, publish, received, runtime, relay, log_times, metrics] = values;
    let need = |value: Option<OsString>, at: usize| {
        value.filter(|value| !value.is_empty()).ok_or_else(|| format!("{} is missing", NAMES[at]))
    };
    let address = |value: OsString, at: usize| {
        value.to_str().and_then(|text| text.parse().ok()).ok_or_else(|| {
            let name = NAMES[at];
            format!("{name} {value:?}: not an IP address and port, such as 0.0.0.0:7001")
        })
    };
    Ok(Command::Run(Run {
        key: need(key, 0)?.into(),
        listen: address(need(listen, 1)?, 1)?,
        topology: need(topology, 2)?.into(),
        publish: need(publish, 3)?.into(),
        received: need(received, 4)?.into(),
        runtime: match runtime.as_ref().map(|name| name.to_str()) {
            None | Some(Some("tokio")) => Runtime::Tokio,
            Some(Some("smol")) => Runtime::Smol,
            Some(_) => return Err("--runtime is tokio or smol".into()),
        },
        spreads: match relay.as_ref().map(|name| name.to_str()) {
            None | Some(Some("off")) => false,
            Some(Some("spread")) => true,
            Some(_) => return Err("--relay is off or spread".into()),
        },
        log_times: match log_times.as_ref().map(|name| name.to_str()) {
            None | Some(Some("start")) => LogTimes::SinceStart,
            Some(Some("unix")) => LogTimes::Unix,
            Some(_) => return Err("--log-times is start or unix".into()),
        },
        metrics: metrics.map(|value| address(value, 8)).transpose()?,
    }))
}
