//! Whole subnets in virtual time, under faults, with hostile members, against all invariants.
//!
//! `cargo run --release -p slotcast-sim --example simulate -- --seeds 1..100`;
//! `--help` lists the options.

#![allow(clippy::disallowed_methods, reason = "the clock is read to tell how long runs take")]

mod json;
mod meter;
mod options;
mod report;
mod runs;
mod spread;
mod totals;

use std::process::ExitCode;
use std::time::Instant;

use slotcast_sim::Report;

use options::{Options, Request, USAGE};
use totals::Totals;

fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(Request::Run(options)) => options,
        Ok(Request::Help) => {
            println!("{USAGE}");
            return ExitCode::SUCCESS;
        }
        Err(mistake) => {
            eprintln!("{mistake}\n--help lists the options");
            return ExitCode::from(2);
        }
    };
    if options.spread {
        return show_spread(&options);
    }
    let begun = Instant::now();
    let mut totals = Totals::default();
    let mut drawn = Ok(());
    runs::run_all(&options, |report| {
        totals.wall_time = begun.elapsed();
        totals.add(&report);
        show_trace(&options, &report);
        show_failure(&options, &report);
        drawn = draw(&options, &report);
    });
    println!("{}\n\n{totals}", head(&options, &totals));
    if options.json {
        println!("{}", json::json(&options, &totals));
    }
    if let Err(mistake) = drawn {
        eprintln!("{mistake}");
        return ExitCode::from(2);
    }
    if totals.is_good() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Spreads one artifact, and prints who sent what to whom.
fn show_spread(options: &Options) -> ExitCode {
    match spread::table(options.spread_nodes(), *options.seeds.start()) {
        Some(table) => println!("{table}"),
        None => {
            println!("the artifact has not reached everybody");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Draws the run, if it is to be drawn.
fn draw(options: &Options, report: &Report) -> Result<(), String> {
    let Some(file) = &options.svg else { return Ok(()) };
    let written = std::fs::write(file, report.svg());
    written.map_err(|error| format!("the picture cannot be written to {}: {error}", file.display()))
}

/// Prints the events that were asked for.
fn show_trace(options: &Options, report: &Report) {
    let Some(text) = &options.trace else { return };
    let lines = report.trace.iter().map(ToString::to_string);
    lines.filter(|line| line.contains(text)).for_each(|line| println!("{line}"));
    println!();
}

/// What went wrong, what had happened before, and how to see it again.
fn show_failure(options: &Options, report: &Report) {
    let Some(failure) = &report.failure else { return };
    println!("seed {} has failed: {failure}", report.seed);
    println!("\nto see it again, with --svg FILE as a picture, with --trace TEXT in words:");
    println!("  {}\n", options.replay(report.seed));
}

/// Which runs these were.
fn head(options: &Options, totals: &Totals) -> String {
    let range = |range: Option<(usize, usize)>| match range.unwrap_or_default() {
        (low, high) if low == high => low.to_string(),
        (low, high) => format!("{low} to {high}"),
    };
    let (nodes, hostile) = (range(totals.nodes), range(totals.hostile));
    let hostile = match hostile.as_str() {
        "0" => "none of them hostile".to_string(),
        _ => format!("{hostile} of them hostile"),
    };
    match options.is_one_run() {
        true => format!("seed {options}: {nodes} members, {hostile}"),
        false => format!("seeds {options}: {} runs, {nodes} members, {hostile}", totals.runs()),
    }
}
