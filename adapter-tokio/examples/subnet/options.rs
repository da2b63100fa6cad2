//! The command line.

use std::time::Duration;

/// Printed by `--help`, and after a mistake.
pub(crate) const USAGE: &str = "\
Runs a subnet in one process, over UDP on loopback: half of the nodes under tokio, half under smol.
Each node publishes on three channels and aborts a share of what it published; one is stopped and
started again on the way, and then calls others for what it has missed. Exits with 0 if everything
arrived once, unharmed, and every abort was seen everywhere; with 1 if not; with 2 if the options are
wrong.

usage: cargo run --release --example subnet -- [OPTIONS]

  --nodes N      nodes in the subnet, 2 to 64 (default 4)
  --artifacts K  artifacts of each node: K shares of 200 B, K/4 ingress messages of 64 KiB and K/50
                 blocks of 4 MiB, at least one of each (default 200, at most 50000)
  --size BYTES   all artifacts have this size, at most 67108864
  --seconds S    publishing is spread over so many seconds, 0 to 3600 (default 4)
  --seed X       chooses contents, what is aborted, and who is restarted (default 1)
  --json         the last line on stdout is the result as a JSON object
  --help         this text";

/// What the run is to be like.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) nodes: usize,
    pub(crate) artifacts: u32,
    pub(crate) size: Option<usize>,
    pub(crate) spread: Duration,
    pub(crate) seed: u64,
    pub(crate) json: bool,
}

/// What the command line asks for.
pub(crate) enum Request {
    Run(Options),
    Help,
}

impl Options {
    /// Parses the arguments behind the program's name.
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Request, String> {
        let mut options = Self {
            nodes: 4,
            artifacts: 200,
            size: None,
            spread: Duration::from_secs(4),
            seed: 1,
            json: false,
        };
        while let Some(name) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{name} needs a value"));
            match name.as_str() {
                "--nodes" => options.nodes = number(&name, &value()?, 2, 64)? as usize,
                "--artifacts" => options.artifacts = number(&name, &value()?, 1, 50_000)? as u32,
                "--size" => options.size = Some(number(&name, &value()?, 0, 64 << 20)? as usize),
                "--seconds" => options.spread = seconds(&name, &value()?)?,
                "--seed" => options.seed = number(&name, &value()?, 0, u64::MAX)?,
                "--json" => options.json = true,
                "--help" | "-h" => return Ok(Request::Help),
                _ => return Err(format!("there is no option {name}")),
            }
        }
        Ok(Request::Run(options))
    }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or(format!("{name} is a number from {min} to {max}, not {text}"))
}

fn seconds(name: &str, text: &str) -> Result<Duration, String> {
    let number = text.parse().ok().filter(|number| (0.0..=3600.0).contains(number));
    number
        .map(Duration::from_secs_f64)
        .ok_or(format!("{name} is a number of seconds from 0 to 3600, not {text}"))
}
