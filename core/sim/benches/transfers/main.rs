//! How near transfers come to what the links allow: figures, goals, and whether they are met.
//!
//! `cargo bench -p slotcast-sim --bench transfers [-- NAME...] [--seed N]`
//!
//! Simulated subnets of real nodes, with null crypto, in virtual time: the figures depend on the seed and
//! the code, not on the machine. `NAME` is one of [`SCENARIOS`]; without one, all of them are run. All of
//! them take two to three minutes of CPU time. The exit code says nothing of the goals.
//!
//! S stands for the bytes of an artifact, B for the rate of a link, L for its latency in one direction.

#![allow(clippy::disallowed_methods, reason = "it says how long it takes")]

mod all_publish;
mod content;
mod corrupting;
mod crawling_relays;
mod disturbed;
mod figure;
mod one_to_all;
mod paths;
mod pull;
mod world;

use std::process::ExitCode;
use std::time::Instant;

use figure::{Figure, Report};

type Scenario = fn(&mut Report, u64);

const SCENARIOS: [(&str, Scenario); 8] = [
    ("one_to_all", one_to_all::run),
    ("crawling_relays", crawling_relays::run),
    ("all_publish", all_publish::run),
    ("pull", pull::run),
    ("small_behind_large", disturbed::small_behind_large),
    ("crawling_holder", pull::crawling_holder),
    ("vanishing_holder", disturbed::vanishing_holder),
    ("paths", paths::run),
];

fn main() -> ExitCode {
    let mut names: Vec<String> = Vec::new();
    let mut seed = 1;
    let mut arguments = std::env::args().skip(1);
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            // Cargo says so.
            "--bench" => {}
            "--seed" => match arguments.next().and_then(|text| text.parse().ok()) {
                Some(number) => seed = number,
                None => return usage(),
            },
            name if SCENARIOS.iter().any(|(known, _)| *known == name) => names.push(name.into()),
            _ => return usage(),
        }
    }
    let mut report = Report::new();
    for (name, scenario) in SCENARIOS {
        if names.is_empty() || names.iter().any(|wanted| wanted == name) {
            let begun = Instant::now();
            scenario(&mut report, seed);
            println!("({name}: {:.1} s)", begun.elapsed().as_secs_f64());
        }
    }
    let goals = report.all.iter().filter(|figure| figure.goal.is_some()).count();
    let missed: Vec<&Figure> = report.all.iter().filter(|figure| figure.is_missed()).collect();
    println!("\n{} of {goals} goals are missed", missed.len());
    missed.iter().for_each(|figure| println!("{figure}"));
    ExitCode::SUCCESS
}

fn usage() -> ExitCode {
    let names: Vec<&str> = SCENARIOS.iter().map(|(name, _)| *name).collect();
    eprintln!("usage: transfers [--seed N] [NAME...], with names of {}", names.join(", "));
    ExitCode::from(2)
}
