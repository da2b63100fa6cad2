//! One process, one replica, on a real machine: files put into a folder are published to all
//! members of the subnet, and what the others publish is written into another folder.
//!
//! An application can start from this code. What is done with the handles of a node is written once, in
//! plain threads (`run`); the runtime is chosen by a flag, and only `runtime` knows of it. The other
//! modules: `args` (command line), `settings` (those and the configuration file), `init` (a folder to
//! begin with), `key` (an operator's file), `topology` (another one), `publish` and `received` (the two
//! folders), `name` (names of strangers made harmless), `log` and `report` (what people read), `http`
//! (metrics and the status page), `qlog` (records of connections), `trace` (events in a file), `picture` (of them),
//! `spool` (files that nobody waits for) and `probe` (calls that are there to be measured).
//!
//! A file system or a standard error that does not answer stops the thread that waits for it, and not the
//! node.
//!
//! Exit codes: 0 after a shutdown that was asked for; 2 if the replica could not start, for a
//! reason which its operator can mend; 1 if it broke while running.

#![forbid(unsafe_code)]

mod args;
mod http;
mod init;
mod key;
mod log;
mod name;
mod picture;
mod probe;
mod publish;
mod qlog;
mod received;
mod report;
mod run;
mod runtime;
mod settings;
mod spool;
mod topology;
mod trace;

use std::io::Write;
use std::process::ExitCode;

use args::{Arguments, Command};
use clap::Parser;
use settings::Settings;

/// Why the process ends other than by request.
enum Failure {
    /// The replica could not start.
    Start(String),
    /// The replica had started, and could not go on.
    Broken(String),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().command {
        Command::Keygen { file } => key::generate(&file).and_then(|id| print(&format!("{id}\n"))),
        Command::Init { folder, address } => {
            init::init(&folder, address).and_then(|id| print(&format!("{id}\n")))
        }
        Command::Trace { files, artifact, svg } => picture::draw(&files, &artifact, &svg),
        Command::Run(arguments) => Settings::new(&arguments).and_then(run::run),
    };
    let (message, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Start(message)) => (message, 2),
        Err(Failure::Broken(message)) => (message, 1),
    };
    log::last_words(format!("error: {message}\n"));
    ExitCode::from(code)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Broken(format!("standard output: {error}")))
}
