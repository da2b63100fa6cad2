//! The command line.

use std::fmt::{self, Write};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use slotcast_sim::{Crypto, Plan, byzantine_max};

/// Printed by `--help`.
pub(crate) const USAGE: &str = "\
Runs whole subnets in virtual time: links that lose, reorder and change datagrams, partitions,
crashes, clocks that jump, hostile members. What happens follows from the seed, and is checked
against the invariants that core/DESIGN.md lists. Exits with 0 if they held in every run; with 1
if not, having said what happened and how to see it again; with 2 if the options are wrong.

usage: cargo run --release -p slotcast-sim --example simulate -- [OPTIONS]

  --seed X                  what everything is drawn from (default 1)
  --seeds A..B              one run for each seed from A to B, on all cores
  --nodes N                 members, 2 to 64 (default: drawn, 4 to 13)
  --byzantine B             hostile ones among them, at most (N - 1) / 3 (default: drawn);
                            without --nodes there are at least 3 B + 1 members
  --virtual-seconds S       how long applications work and things go wrong, 1 to 86400 (default:
                            drawn, 8 to 15), and a little longer if a kind of fault has not
                            acted by then; after that faults end, and all has to arrive
  --artifacts-per-second R  published by all together, 1 to 10000 (default: drawn, 5 to 40)
  --calm                    no faults, no hostile members, roomy tables; by default with 13
                            members, 100 artifacts per second, for 10 seconds
  --tls                     real TLS instead of an exchange without secrets: slower, and contents
                            cannot be watched on the wire
  --twice                   each run twice, which has to take the same course
  --spread                  nothing of the above but --seed and --nodes: member 0 spreads one
                            artifact; prints who was sent which part, and bytes by pair
  --svg FILE                draw the run over time; for one seed
  --trace TEXT              print every event whose line contains TEXT, such as the beginning of
                            an id or \"node 3 \"; for one seed
  --json                    the last line on stdout is the result as a JSON object
  --help                    this text";

/// The members of a calm run, and how much they publish, unless told otherwise.
const CALM_NODES: usize = 13;
const CALM_ARTIFACTS_PER_SECOND: u32 = 100;

/// The most members.
const NODES_MAX: usize = 64;

/// What is to be run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Options {
    pub(crate) seeds: RangeInclusive<u64>,
    pub(crate) nodes: Option<usize>,
    pub(crate) byzantine: Option<usize>,
    pub(crate) seconds: Option<u64>,
    pub(crate) artifacts_per_second: Option<u32>,
    pub(crate) calm: bool,
    pub(crate) tls: bool,
    pub(crate) twice: bool,
    pub(crate) spread: bool,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) trace: Option<String>,
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
        let (mut seed, mut seeds) = (None, None);
        let mut options = Self {
            seeds: 1..=1,
            nodes: None,
            byzantine: None,
            seconds: None,
            artifacts_per_second: None,
            calm: false,
            tls: false,
            twice: false,
            spread: false,
            svg: None,
            trace: None,
            json: false,
        };
        while let Some(argument) = arguments.next() {
            let (name, mut inline) = match argument.split_once('=') {
                Some((name, value)) => (name.to_string(), Some(value.to_string())),
                None => (argument, None),
            };
            let mut value = || {
                let value = inline.take().or_else(|| arguments.next());
                value.ok_or(format!("{name} needs a value"))
            };
            match name.as_str() {
                "--seed" => seed = Some(number(&name, &value()?, 0, u64::MAX)?),
                "--seeds" => seeds = Some(range(&value()?)?),
                "--nodes" => {
                    options.nodes = Some(number(&name, &value()?, 2, NODES_MAX as u64)? as usize);
                }
                "--byzantine" => {
                    let most = byzantine_max(NODES_MAX) as u64;
                    options.byzantine = Some(number(&name, &value()?, 0, most)? as usize);
                }
                "--virtual-seconds" => {
                    options.seconds = Some(number(&name, &value()?, 1, 86_400)?);
                }
                "--artifacts-per-second" => {
                    let rate = number(&name, &value()?, 1, 10_000)? as u32;
                    options.artifacts_per_second = Some(rate);
                }
                "--svg" => options.svg = Some(value()?.into()),
                "--trace" => options.trace = Some(value()?),
                "--calm" => options.calm = true,
                "--tls" => options.tls = true,
                "--twice" => options.twice = true,
                "--spread" => options.spread = true,
                "--json" => options.json = true,
                "--help" | "-h" => return Ok(Request::Help),
                _ => return Err(format!("there is no option {name}")),
            }
            if let Some(value) = inline {
                return Err(format!("{name} takes no value, not even {value}"));
            }
        }
        options.seeds = match (seed, seeds) {
            (Some(_), Some(_)) => return Err("give --seed or --seeds, not both".to_string()),
            (Some(seed), None) => seed..=seed,
            (None, Some(seeds)) => seeds,
            (None, None) => 1..=1,
        };
        options.check()?;
        Ok(Request::Run(options))
    }

    /// What options have to do with each other.
    fn check(&self) -> Result<(), String> {
        let byzantine = self.byzantine.unwrap_or(0);
        if self.calm && byzantine > 0 {
            return Err("--calm is without hostile members: leave out --byzantine".to_string());
        }
        if let Some(nodes) = self.nodes
            && byzantine > byzantine_max(nodes)
        {
            let most = byzantine_max(nodes);
            return Err(format!(
                "{nodes} members bear at most {most} hostile ones: --byzantine {byzantine} needs \
                 --nodes {} or more",
                3 * byzantine + 1
            ));
        }
        let others = self.calm || self.tls || self.twice || self.json || self.byzantine.is_some();
        let others = others || self.seconds.is_some() || self.artifacts_per_second.is_some();
        if self.spread && (others || self.trace.is_some() || self.svg.is_some()) {
            return Err("--spread goes with --seed and --nodes only".to_string());
        }
        let single = [
            ("--spread", self.spread),
            ("--svg", self.svg.is_some()),
            ("--trace", self.trace.is_some()),
        ];
        match single.iter().find(|(_, is_given)| *is_given) {
            Some((name, _)) if !self.is_one_run() => {
                Err(format!("{name} is for a single run: give --seed instead of --seeds"))
            }
            _ => Ok(()),
        }
    }

    /// The members of the run in which one artifact is spread.
    pub(crate) fn spread_nodes(&self) -> usize {
        self.nodes.unwrap_or(CALM_NODES)
    }

    pub(crate) fn is_one_run(&self) -> bool {
        self.seeds.start() == self.seeds.end()
    }

    /// What is to happen with a seed.
    pub(crate) fn plan(&self, seed: u64) -> Plan {
        let mut plan = if self.calm {
            let mut plan = Plan::calm(seed, self.nodes.unwrap_or(CALM_NODES));
            plan.workload.artifacts_per_second = CALM_ARTIFACTS_PER_SECOND;
            plan
        } else {
            Plan::draw(seed)
        };
        let needed = self.byzantine.map_or(0, |byzantine| 3 * byzantine + 1);
        plan = match self.nodes {
            Some(nodes) => plan.with_nodes(nodes),
            None if needed > plan.nodes => plan.with_nodes(needed),
            None => plan,
        };
        if let Some(byzantine) = self.byzantine {
            plan = plan.with_byzantine(byzantine);
        }
        if let Some(seconds) = self.seconds {
            plan.faulty_for = Duration::from_secs(seconds);
        }
        if let Some(rate) = self.artifacts_per_second {
            plan.workload.artifacts_per_second = rate;
        }
        if self.tls {
            plan.crypto = Crypto::Tls;
        }
        plan.keep_trace = self.svg.is_some() || self.trace.is_some();
        plan
    }

    /// The command for one of the runs by itself.
    pub(crate) fn replay(&self, seed: u64) -> String {
        let mut command =
            format!("cargo run --release -p slotcast-sim --example simulate -- --seed {seed}");
        let mut option = |name: &str, value: Option<&dyn fmt::Display>| {
            if let Some(value) = value {
                write!(command, " --{name} {value}").expect("a string takes all");
            }
        };
        fn shown<T: fmt::Display>(value: &Option<T>) -> Option<&dyn fmt::Display> {
            value.as_ref().map(|value| value as &dyn fmt::Display)
        }
        option("nodes", shown(&self.nodes));
        option("byzantine", shown(&self.byzantine));
        option("virtual-seconds", shown(&self.seconds));
        option("artifacts-per-second", shown(&self.artifacts_per_second));
        for (name, is_set) in [("calm", self.calm), ("tls", self.tls), ("twice", self.twice)] {
            if is_set {
                write!(command, " --{name}").expect("a string takes all");
            }
        }
        command
    }
}

impl fmt::Display for Options {
    /// The seeds: a number, or the first and the last.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_one_run() {
            true => write!(f, "{}", self.seeds.start()),
            false => write!(f, "{}..{}", self.seeds.start(), self.seeds.end()),
        }
    }
}

fn number(name: &str, text: &str, min: u64, max: u64) -> Result<u64, String> {
    let number = text.parse().ok().filter(|number| (min..=max).contains(number));
    number.ok_or_else(|| match max {
        u64::MAX => format!("{name} is a whole number, not {text}"),
        _ => format!("{name} is a whole number from {min} to {max}, not {text}"),
    })
}

/// The first and the last seed.
fn range(text: &str) -> Result<RangeInclusive<u64>, String> {
    let ends = text.split_once("..").and_then(|(first, last)| {
        let last = last.strip_prefix('=').unwrap_or(last);
        Some((first.parse().ok()?, last.parse().ok()?))
    });
    match ends {
        Some((first, last)) if first <= last => Ok(first..=last),
        Some((first, last)) => Err(format!("--seeds {first}..{last} ends before it begins")),
        None => Err(format!("--seeds is a range such as 1..2000, not {text}")),
    }
}
