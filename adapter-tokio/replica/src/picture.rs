//! A picture of the ways of artifacts, from the traces of several nodes: time from left to right, nodes from top
//! to bottom, and for each node a lane per artifact.

use std::collections::BTreeMap;
use std::fmt::Write;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::Failure;

/// Artifacts in a picture: more lanes are not readable. The first ones are shown.
const ARTIFACTS_MAX: usize = 16;

/// Distinct beside each other.
const COLOURS: [&str; 8] =
    ["#1f77b4", "#d95f02", "#2ca02c", "#9467bd", "#c51b7d", "#8c564b", "#0e9aa7", "#a08a00"];

const LANE: f64 = 18.0;
const LEFT: f64 = 110.0;
const WIDTH: f64 = 1000.0;
const TOP: f64 = 70.0;
const GAP: f64 = 14.0;

/// A line of a trace, as `run --trace` writes it; other fields and events are left alone.
#[derive(Clone, Deserialize)]
struct Line {
    micros: u64,
    node: String,
    event: String,
    artifact: Option<String>,
    peer: Option<String>,
    decision: Option<String>,
    #[serde(default)]
    is_relay: bool,
}

/// Draws the files' artifacts whose ids begin so.
pub(crate) fn draw(files: &[PathBuf], artifact: &str, svg: &Path) -> Result<(), Failure> {
    let failed = |path: &Path, error| Failure::Start(format!("{}: {error}", path.display()));
    let mut lines = Vec::new();
    for path in files {
        let text = fs::read(path).map_err(|error| failed(path, error))?;
        // A line that was cut off, as by a crash, is none.
        let read =
            text.split(|&byte| byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
        lines.extend(read);
    }
    let picture = picture(lines, artifact)
        .ok_or_else(|| Failure::Start(format!("no artifact {artifact}... in these traces")))?;
    fs::write(svg, picture).map_err(|error| failed(svg, error))
}

/// `None` if there is nothing to draw.
fn picture(mut lines: Vec<Line>, prefix: &str) -> Option<String> {
    lines.retain(|line| line.artifact.as_ref().is_some_and(|id| id.starts_with(prefix)));
    lines.sort_by_key(|line| line.micros);
    let (mut artifacts, mut nodes) = (Vec::new(), Vec::new());
    for line in &lines {
        let id = line.artifact.as_deref().expect("retained");
        if !artifacts.contains(&id) && artifacts.len() < ARTIFACTS_MAX {
            artifacts.push(id);
        }
        // The member whose artifact it is may have no trace here.
        for node in [Some(&line.node), line.peer.as_ref()].into_iter().flatten() {
            if artifacts.contains(&id) && !nodes.contains(&node.as_str()) {
                nodes.push(node);
            }
        }
    }
    let drawn: Vec<_> = lines
        .iter()
        .filter(|line| artifacts.contains(&line.artifact.as_deref().expect("retained")))
        .collect();
    let (first, last) = (drawn.first()?.micros, drawn.last()?.micros);
    let page = Page { first, span: (last - first).max(1), artifacts, nodes };
    Some(page.draw(&drawn))
}

struct Page<'a> {
    first: u64,
    span: u64,
    artifacts: Vec<&'a str>,
    nodes: Vec<&'a str>,
}

impl Page<'_> {
    fn x(&self, micros: u64) -> f64 {
        LEFT + WIDTH * (micros - self.first) as f64 / self.span as f64
    }

    fn row(&self, node: usize) -> f64 {
        TOP + node as f64 * (self.artifacts.len() as f64 * LANE + GAP)
    }

    fn y(&self, node: &str, artifact: usize) -> f64 {
        let node = self.nodes.iter().position(|other| *other == node).expect("all are listed");
        self.row(node) + (artifact as f64 + 0.5) * LANE
    }

    fn draw(&self, lines: &[&Line]) -> String {
        let bottom = self.row(self.nodes.len());
        let legend = bottom + 30.0;
        let height = legend + 16.0 * self.artifacts.len() as f64 + 10.0;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {0:.0} {height:.0}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
            LEFT + WIDTH + 40.0
        );
        self.draw_key(&mut svg);
        self.draw_axes(&mut svg, bottom);
        for (at, id) in self.artifacts.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let of_it = lines.iter().filter(|line| line.artifact.as_deref() == Some(id));
            let _ = writeln!(svg, "<g stroke=\"{colour}\" fill=\"{colour}\">");
            self.draw_way(&mut svg, at, &of_it.copied().collect::<Vec<_>>());
            let y = legend + 16.0 * at as f64;
            let _ = writeln!(
                svg,
                "<text stroke=\"none\" x=\"{LEFT}\" y=\"{y:.1}\">{}</text>\n</g>",
                safe(id)
            );
        }
        svg.push_str("</svg>\n");
        svg
    }

    /// What the marks mean.
    fn draw_key(&self, svg: &mut String) {
        let marks = ["published", "first told", "overdue", "delivered", "aborted", "expired"];
        svg.push_str("<g stroke=\"#444\" fill=\"#444\">\n");
        for (at, event) in marks.into_iter().enumerate() {
            let x = LEFT + 95.0 * at as f64;
            mark(svg, event, (x, 20.0), "");
            let _ = writeln!(
                svg,
                "<text stroke=\"none\" x=\"{:.1}\" y=\"24\">{event}</text>",
                x + 10.0
            );
        }
        let x = LEFT + 95.0 * marks.len() as f64;
        let _ = writeln!(
            svg,
            "<path stroke-width=\"1.5\" d=\"M{x:.1} 26L{:.1} 14\"/>\
             <text stroke=\"none\" x=\"{:.1}\" y=\"24\">from whom the bytes came, from the question to the last byte</text>\n</g>",
            x + 20.0,
            x + 28.0
        );
    }

    fn draw_axes(&self, svg: &mut String, bottom: f64) {
        for (at, node) in self.nodes.iter().enumerate() {
            let (y, height) = (self.row(at), self.artifacts.len() as f64 * LANE);
            let short: String = node.chars().take(8).collect();
            let _ = writeln!(
                svg,
                "<rect x=\"{LEFT}\" y=\"{y:.1}\" width=\"{WIDTH}\" height=\"{height:.1}\" fill=\"#f2f2f2\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 12.0,
                y + height / 2.0 + 4.0,
                safe(&short)
            );
        }
        let step = step(self.span);
        for tick in 0..=self.span / step {
            let x = self.x(self.first + tick * step);
            let _ = writeln!(
                svg,
                "<path stroke=\"#ccc\" d=\"M{x:.1} {:.1}V{bottom:.1}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"#666\">{}</text>",
                TOP - 8.0,
                TOP - 14.0,
                time(tick * step)
            );
        }
    }

    /// The way of one artifact over all nodes.
    fn draw_way(&self, svg: &mut String, artifact: usize, lines: &[&Line]) {
        // When each node had it, and asked for it; which node knows it since when.
        let (mut had, mut asked, mut known) = (BTreeMap::new(), BTreeMap::new(), BTreeMap::new());
        for line in lines {
            let (node, x) = (line.node.as_str(), self.x(line.micros));
            let y = self.y(node, artifact);
            let peer = line.peer.as_deref();
            match line.event.as_str() {
                "published" => {
                    had.insert(node, x);
                }
                "first told" => {
                    known.insert(node, x);
                }
                "asked" => {
                    asked.entry((node, peer)).or_insert(x);
                }
                "complete" => {
                    if let Some(from) = peer {
                        let begun = asked.get(&(node, peer)).or_else(|| had.get(from));
                        let begun = begun.or_else(|| known.get(node)).copied().unwrap_or(x);
                        let from = self.y(from, artifact);
                        let _ = writeln!(
                            svg,
                            "<path stroke-width=\"1.5\" d=\"M{begun:.1} {from:.1}L{x:.1} {y:.1}\"/>"
                        );
                    }
                    if let Some(begun) = known.get(node) {
                        bar(svg, (*begun, x), y, 1.5);
                    }
                    had.insert(node, x);
                }
                "aborted" | "expired" | "withdrawn" => {
                    // A node that never had it knew of it until then.
                    let (had, known) = (had.remove(node), known.remove(node));
                    if let Some(begun) = had.or(known) {
                        bar(svg, (begun, x), y, if had.is_some() { 6.0 } else { 1.5 });
                    }
                }
                _ => {}
            }
            // A relay that ends is no abort: the artifact expires there.
            if !line.is_relay {
                let peer = peer.map(|peer| format!(" from {}", safe(peer))).unwrap_or_default();
                let decision = line.decision.as_deref().map(safe).unwrap_or_default();
                let at = time(line.micros - self.first);
                let title = format!("{} at {at}{peer} {decision}", safe(&line.event));
                mark(svg, &line.event, (x, y), title.trim_end());
            }
        }
        for (node, begun) in had {
            bar(svg, (begun, LEFT + WIDTH), self.y(node, artifact), 6.0);
        }
    }
}

/// For so long a node has the artifact, or knows of it.
fn bar(svg: &mut String, (from, to): (f64, f64), y: f64, height: f64) {
    let _ = writeln!(
        svg,
        "<rect stroke=\"none\" opacity=\"0.25\" x=\"{from:.1}\" y=\"{:.1}\" width=\"{:.1}\" height=\"{height}\"/>",
        y - height / 2.0,
        to - from
    );
}

/// What happens at a point; nothing for events without a mark.
fn mark(svg: &mut String, event: &str, (x, y): (f64, f64), title: &str) {
    let cross = format!("M{:.1} {:.1}l8 8m0 -8l-8 8", x - 4.0, y - 4.0);
    let (tag, rest) = match event {
        "published" => ("circle", format!("cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"5\"")),
        "first told" => ("circle", format!("cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3.5\" fill=\"#fff\"")),
        "delivered" => {
            ("rect", format!("x=\"{:.1}\" y=\"{:.1}\" width=\"8\" height=\"8\"", x - 4.0, y - 4.0))
        }
        "overdue" => {
            ("path", format!("fill=\"#fff\" d=\"M{:.1} {:.1}l8 0l-4 -8z\"", x - 4.0, y + 4.0))
        }
        "aborted" => ("path", format!("stroke-width=\"2.5\" d=\"{cross}\"")),
        "expired" | "withdrawn" => ("path", format!("stroke-width=\"1\" d=\"{cross}\"")),
        _ => return,
    };
    let _ = writeln!(svg, "<{tag} {rest}><title>{title}</title></{tag}>");
}

/// Between two ticks: a round number, so that there are five to twelve.
fn step(span: u64) -> u64 {
    let mut step = 1;
    loop {
        for factor in [1, 2, 5] {
            if span / (step * factor) <= 12 {
                return step * factor;
            }
        }
        step *= 10;
    }
}

fn time(micros: u64) -> String {
    match micros {
        0 => "0".into(),
        1..1_000 => format!("{micros} µs"),
        1_000..1_000_000 => format!("{} ms", micros as f64 / 1e3),
        _ => format!("{} s", micros as f64 / 1e6),
    }
}

/// What is in files of others: nothing that means something in SVG.
fn safe(text: &str) -> String {
    text.chars().filter(|c| c.is_ascii_alphanumeric() || " ()".contains(*c)).collect()
}
