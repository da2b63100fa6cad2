//! One process, one replica, on a real machine: files put into a folder are published to all
//! members of the subnet, and what the others publish is written into another folder.
//!
//! This is the example to start an application from. What is done with the handles of a node is
//! written once, in plain threads (`run`); the runtime is chosen by a flag, and nothing else knows
//! of it. The modules: `args` (command line), `key` (an operator's file), `publish` and `received`
//! (the two folders), `name` (names of strangers made harmless), `metrics` (for Prometheus) and `probe`
//! (calls that are there to be measured).
//!
//! Exit codes: 0 after a shutdown that was asked for; 2 if the replica could not start, for a
//! reason which its operator can mend; 1 if it broke while running.

#![forbid(unsafe_code)]

mod args;
mod key;
mod log;
mod metrics;
mod name;
mod probe;
mod publish;
mod received;
mod run;

use std::io::Write;
use std::process::ExitCode;

use args::Command;

/// Why the process ends other than by request.
enum Failure {
    /// The command line makes no sense.
    Usage(String),
    /// The replica could not start.
    Start(String),
    /// The replica had started, and could not go on.
    Broken(String),
}

fn main() -> ExitCode {
    let done = match Command::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => print(args::USAGE),
        Ok(Command::Keygen { file }) => {
            key::generate(&file).and_then(|id| print(&format!("{id}\n")))
        }
        Ok(Command::Run(arguments)) => run::run(&arguments),
        Err(message) => Err(Failure::Usage(message)),
    };
    let (message, code) = match done {
        Ok(()) => return ExitCode::SUCCESS,
        Err(Failure::Usage(message)) => (format!("{message}\n\n{}", args::USAGE), 2),
        Err(Failure::Start(message)) => (format!("{message}\n"), 2),
        Err(Failure::Broken(message)) => (format!("{message}\n"), 1),
    };
    // Without a standard error there is nobody to tell.
    let _ = write!(std::io::stderr(), "error: {message}");
    ExitCode::from(code)
}

fn print(text: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    written.map_err(|error| Failure::Broken(format!("standard output: {error}")))
}
