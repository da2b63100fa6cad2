//! A picture of a run: what each member did and suffered, over time.

mod course;
mod svg;

use core::time::Duration;
use std::fmt::Write;

use super::report::{Failure, Report};
use course::{Course, Row, Series, Span, Steps, seconds};
use svg::Svg;

/// Left of the plot are names, right of it numbers.
const LEFT: f64 = 84.0;
const PLOT: f64 = 1280.0;
const RIGHT: f64 = 226.0;
const WIDTH: f64 = LEFT + PLOT + RIGHT;

/// The first row begins here.
const TOP: f64 = 118.0;

/// Width of a bar.
const BAR: f64 = 4.0;

/// Seconds without anything to do that are worth a word.
const QUIET: f64 = 3.0;

/// Of a hundred bars, so many are not cut off at the top: a burst does not flatten all others.
const WHOLE_BARS: usize = 98;

/// Where the numbers right of the plot end.
const COLUMNS: [f64; 3] = [68.0, 136.0, 214.0];

/// Letters on a line below the plot.
const LETTERS: usize = 215;

const DEFINITIONS: &str = r##"<style>
text{font:12px Helvetica,Arial,"DejaVu Sans",sans-serif;fill:#222}
text.title{font-size:18px;font-weight:bold}
text.right,text.count,text.heads,text.bad.right{text-anchor:end}
text.middle{text-anchor:middle}
text.heads,text.note,text.axis{fill:#666}
text.axis{text-anchor:middle}
text.hostile,text.bad,text.breaches{fill:#b3122a}
text.breaches{text-anchor:end}
text.healed{fill:#1d7a3e;text-anchor:end}
text.converged{fill:#1d7a3e}
text.bad{font-weight:bold}
text.tiny{font-size:10px}
.on{fill:#f3f5f7}.enemy{fill:#fdf1f1}
.grid{stroke:#dde1e5;stroke-width:1}
.edge{stroke:#c3c9cf;stroke-width:1}
.dead{stroke:#b9bec4;stroke-width:1;stroke-dasharray:2 3}
.peers{fill:#a9bdd2}.foes{fill:#efb9b9}
.published{stroke:#1f9a4d;stroke-width:4}
.aborted{stroke:#e2821c;stroke-width:4}
.delivered{stroke:#2767b5;stroke-width:4}
.ended{stroke:#9567b8;stroke-width:4}
.breach{stroke:#c8102e;stroke-width:4}
.stall{fill:url(#stalled)}.deaf{fill:url(#deaf)}.away{fill:url(#away)}
.cut{fill:#e04a3f}
.cuts{fill:#e04a3f;opacity:.75}
.cutting{stroke:#e04a3f;stroke-width:1;stroke-dasharray:1 3}
.crash{stroke:#111;stroke-width:2;fill:none}
.clock{fill:#0b7f86}
.drift{fill:#0b7f86;opacity:.6}
.heal{stroke:#1d7a3e;stroke-width:1.5}
.done{stroke:#1d7a3e;stroke-width:1.5;stroke-dasharray:5 3}
.fail{stroke:#c8102e;stroke-width:2}
</style>
<defs>
<pattern id="stalled" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)">
<rect width="5" height="5" fill="#777" opacity=".25"/><rect width="2" height="5" fill="#444" opacity=".7"/></pattern>
<pattern id="deaf" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(-45)">
<rect width="5" height="5" fill="#e6b800" opacity=".2"/><rect width="2" height="5" fill="#c79a00" opacity=".8"/></pattern>
<pattern id="away" width="4" height="4" patternUnits="userSpaceOnUse">
<rect width="4" height="4" fill="#fff"/><circle cx="2" cy="2" r="1" fill="#7a52a0"/></pattern>
</defs>"##;

impl Report {
    /// A picture of the run, in SVG: a row for each member, from left to right the time of the
    /// simulation. The plan has to keep the trace ([`Plan::keep_trace`](super::Plan)): without it
    /// the rows are empty.
    pub fn svg(&self) -> String {
        let course = Course::of(self, (PLOT / BAR) as usize);
        Picture::new(self, course).draw()
    }
}

/// Heights within a row: connections, what the application did, what it was told.
struct Lanes {
    row: f64,
    peers: f64,
    half: f64,
}

impl Lanes {
    /// For so many rows.
    fn new(count: usize) -> Self {
        let row = match count {
            0..=8 => 62.0,
            9..=16 => 48.0,
            17..=28 => 38.0,
            _ => 30.0,
        };
        // Three pixels between rows, two between lanes.
        let peers = (row - 9.0) * 0.24;
        Self { row, peers, half: (row - 9.0 - peers) / 4.0 }
    }
}

struct Picture<'a> {
    report: &'a Report,
    course: Course,
    lanes: Lanes,
    /// By series: the count of the highest bars.
    most: [u32; Series::COUNT],
    svg: Svg,
}

impl<'a> Picture<'a> {
    fn new(report: &'a Report, course: Course) -> Self {
        let lanes = Lanes::new(report.nodes);
        // In the end all is aborted at once: bars are measured by what comes before, if it came.
        let healed = report.healed_at.map_or(course.end, seconds);
        let bins_max = (PLOT / BAR * healed / course.end) as usize;
        let highest = |series: usize, bins_max: usize| {
            let bins = course.rows.iter().flat_map(|row| row.bins[series].iter().take(bins_max));
            let mut counts: Vec<u32> = bins.copied().filter(|count| *count > 0).collect();
            counts.sort_unstable();
            counts.get(counts.len() * WHOLE_BARS / 100).copied()
        };
        let most =
            |series| highest(series, bins_max).or_else(|| highest(series, usize::MAX)).unwrap_or(0);
        let most = core::array::from_fn(most);
        let bottom = TOP + lanes.row * course.rows.len() as f64;
        let notes = notes(report);
        let height = bottom + 96.0 + 16.0 * notes.len() as f64;
        let svg = Svg::new(WIDTH, height, DEFINITIONS);
        Self { report, course, lanes, most, svg }
    }

    fn x(&self, time: f64) -> f64 {
        LEFT + PLOT * (time / self.course.end).clamp(0.0, 1.0)
    }

    fn top(&self, at: usize) -> f64 {
        TOP + self.lanes.row * at as f64
    }

    fn bottom(&self) -> f64 {
        self.top(self.course.rows.len())
    }

    fn draw(mut self) -> String {
        self.title();
        let rows = core::mem::take(&mut self.course.rows);
        for (at, row) in rows.iter().enumerate() {
            self.ground(at, row);
        }
        self.course.rows = rows;
        self.axis();
        self.cuts();
        let rows = core::mem::take(&mut self.course.rows);
        for (at, row) in rows.iter().enumerate() {
            self.row(at, row);
            self.numbers(at, row);
        }
        self.course.rows = rows;
        self.turns();
        self.legend();
        self.svg.end()
    }

    fn title(&mut self) {
        let report = self.report;
        let hostile = match report.hostile.len() {
            0 => String::new(),
            hostile => format!(", {hostile} of them hostile"),
        };
        let title = format!("Seed {}: {} members{hostile}", report.seed, report.nodes);
        self.svg.text("title", (LEFT, 30.0), &title);
        let line = format!(
            "{} published, {} aborted, {} delivered, half of them within {} and 99 of 100 within \
             {}; {} missing, {} duplicates",
            grouped(report.published),
            grouped(report.aborted),
            grouped(report.delivered),
            readable(report.latencies.p50),
            readable(report.latencies.p99),
            report.missing,
            report.duplicates,
        );
        self.svg.text("", (LEFT, 52.0), &line);
        let (class, verdict) = match &report.failure {
            Some(failure) => ("bad", verdict(failure)),
            None => ("", format!("{} checks held", grouped(report.checks_total()))),
        };
        self.svg.text(class, (LEFT, 70.0), &verdict);
        if report.trace.is_empty() {
            self.svg.text("note", (LEFT, 92.0), "The trace of this run was not kept.");
        }
    }

    /// What is behind everything: whether the member runs, and how far it is cut off.
    fn ground(&mut self, at: usize, row: &Row) {
        let (y, height) = (self.top(at) + 1.0, self.lanes.row - 2.0);
        let middle = y + height / 2.0;
        if row.is_hostile {
            self.svg.rect("enemy", (LEFT, y), (PLOT, height), "");
        } else {
            self.svg.line("dead", (LEFT, middle), (LEFT + PLOT, middle));
            for span in &row.running {
                let (x, width) = self.place(span);
                self.svg.rect("on", (x, y), (width, height), "");
            }
        }
        for (span, share) in spans(&row.severed, self.course.end) {
            if share > 0.0 {
                let (x, width) = self.place(&span);
                self.svg.veil("cut", (x, y), (width, height), 0.08 + 0.42 * share);
            }
        }
    }

    /// Where a span begins, and how wide it is; wide enough to be seen.
    fn place(&self, span: &Span) -> (f64, f64) {
        let x = self.x(span.from);
        (x, (self.x(span.to) - x).max(1.0))
    }

    fn axis(&mut self) {
        let end = self.course.end;
        let step = [0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 30.0, 60.0, 120.0, 300.0, 600.0];
        let step = step.into_iter().find(|step| end / step <= 16.0).unwrap_or(3_600.0);
        let bottom = self.bottom();
        for tick in 0..=(end / step) as u32 {
            let time = f64::from(tick) * step;
            let x = self.x(time);
            self.svg.line("grid", (x, TOP), (x, bottom + 4.0));
            let digits = usize::from(step < 1.0);
            self.svg.text("axis", (x, bottom + 17.0), &format!("{time:.digits$} s"));
        }
        for at in 0..=self.course.rows.len() {
            let y = self.top(at);
            self.svg.line("edge", (10.0, y), (WIDTH - 10.0, y));
        }
        let heads = ["published", "aborted", "delivered"];
        for (head, column) in heads.iter().zip(COLUMNS) {
            self.svg.text("heads", (LEFT + PLOT + column, TOP - 7.0), head);
        }
    }

    fn cuts(&mut self) {
        if self.course.cuts.is_empty() {
            return;
        }
        self.svg.text("heads", (LEFT - 8.0, TOP - 6.0), "cuts");
        for span in core::mem::take(&mut self.course.cuts) {
            let (x, width) = self.place(&span);
            let title = format!("links cut, {:.3} s to {:.3} s", span.from, span.to);
            self.svg.rect("cuts", (x, TOP - 11.0), (width, 7.0), &title);
            for x in [x, x + width] {
                self.svg.line("cutting", (x, TOP - 4.0), (x, self.bottom()));
            }
        }
    }

    fn row(&mut self, at: usize, row: &Row) {
        let Lanes { peers, half, .. } = self.lanes;
        let y = self.top(at) + 3.0;
        let class = if row.is_hostile { "foes" } else { "peers" };
        let area = self.area(&row.connected, y + peers, peers);
        self.svg.path(class, &area, "");
        let (done, told) = (y + peers + 2.0 + half, y + peers + 3.0 + 3.0 * half);
        if row.is_hostile {
            self.bars("breach", row, Series::Breaches, told + half, -4.0 * half);
        }
        self.bars("published", row, Series::Published, done, -half);
        self.bars("aborted", row, Series::Aborted, done, half);
        self.bars("delivered", row, Series::Delivered, told, -half);
        self.bars("ended", row, Series::Ended, told, half);
        self.faults(at, row);
    }

    /// Stairs from `base` upwards.
    fn area(&self, steps: &Steps, base: f64, height: f64) -> String {
        let mut path = String::new();
        let mut last = f64::NEG_INFINITY;
        for (time, share) in steps {
            let x = self.x(*time);
            let y = base - height * share;
            let head = if path.is_empty() { format!("M{x:.1} {base:.1}") } else { String::new() };
            // What is too close to be told apart is left out.
            if x - last < 0.25 && !path.is_empty() {
                write!(path, "V{y:.1}").expect("a string takes all");
                continue;
            }
            last = x;
            write!(path, "{head}H{x:.1}V{y:.1}").expect("a string takes all");
        }
        if path.is_empty() {
            return path;
        }
        write!(path, "H{:.1}V{base:.1}Z", LEFT + PLOT).expect("a string takes all");
        path
    }

    /// Bars from `base`, upwards if `height` is negative.
    fn bars(&mut self, class: &str, row: &Row, series: Series, base: f64, height: f64) {
        let most = f64::from(self.most[series as usize].max(1));
        let mut path = String::new();
        for (bin, count) in row.bins(series).iter().enumerate() {
            if *count > 0 {
                let share = (f64::from(*count) / most).min(1.0);
                let tall = height.signum() * (height.abs() * share).max(1.5);
                let x = LEFT + BAR * (bin as f64 + 0.5);
                write!(path, "M{x:.0} {base:.1}v{tall:.1}").expect("a string takes all");
            }
        }
        self.svg.path(class, &path, "");
    }

    fn faults(&mut self, at: usize, row: &Row) {
        let (y, height) = (self.top(at) + 1.0, self.lanes.row - 2.0);
        let kinds = [("stall", "stalled", &row.stalls), ("deaf", "took no events", &row.deaf)];
        let away = [("away", "was no member", &row.away)];
        for (class, what, spans) in kinds.into_iter().chain(away) {
            for span in spans {
                let (x, width) = self.place(span);
                let title = format!("{at} {what}, {:.3} s to {:.3} s", span.from, span.to);
                self.svg.rect(class, (x, y), (width.max(2.0), height), &title);
            }
        }
        for (span, by) in &row.drifts {
            let (x, width) = self.place(span);
            let title = format!("the clock of {at} runs {by:+} ppm, from {:.3} s", span.from);
            self.svg.rect("drift", (x, y + height - 3.0), (width, 3.0), &title);
        }
        for (time, by) in &row.jumps {
            let (x, y) = (self.x(*time), y + height - 6.0);
            let way = by.signum() * 8.0;
            let path = format!("M{:.1} {:.1}l{way:.0} 5l{:.0} 5Z", x, y - 5.0, -way);
            let title = format!("the clock of {at} jumps {by:+.3} s at {time:.3} s");
            self.svg.path("clock", &path, &title);
        }
        for time in &row.crashes {
            let (x, y) = (self.x(*time), y + height / 2.0);
            let path = format!("M{:.1} {:.1}l7 7m0 -7l-7 7", x - 3.5, y - 3.5);
            self.svg.path("crash", &path, &format!("{at} crashed at {time:.3} s"));
        }
    }

    fn numbers(&mut self, at: usize, row: &Row) {
        let y = self.top(at) + self.lanes.row / 2.0 + 4.0;
        let name = (LEFT - 8.0, y);
        if row.is_hostile {
            self.svg.text("hostile right", name, &format!("hostile {at}"));
            let breaches = grouped(row.total(Series::Breaches));
            let x = LEFT + PLOT + COLUMNS[2];
            self.svg.text("breaches", (x, y), &format!("{breaches} breaches seen"));
            return;
        }
        self.svg.text("right", name, &format!("node {at}"));
        let series = [Series::Published, Series::Aborted, Series::Delivered];
        for (series, column) in series.into_iter().zip(COLUMNS) {
            let count = grouped(row.total(series));
            self.svg.text("count", (LEFT + PLOT + column, y), &count);
        }
        let breaches = row.total(Series::Breaches);
        if breaches > 0 {
            let text = format!("{breaches} breaches!");
            self.svg.text("bad right", (LEFT - 8.0, y + 13.0), &text);
        }
    }

    /// The instants at which the run enters its next phase.
    fn turns(&mut self) {
        let bottom = self.bottom();
        if let Some(healed) = self.report.healed_at.map(seconds) {
            let x = self.x(healed);
            self.svg.line("heal", (x, 82.0), (x, bottom));
            let text = format!("faults end at {healed:.1} s");
            self.svg.text("healed", (x - 5.0, 92.0), &text);
            if let Some(took) = self.report.converged_in {
                let took = took.as_secs_f64();
                let x = self.x(healed + took);
                self.svg.line("done", (x, 82.0), (x, bottom));
                let mut text = format!("converged {took:.1} s later");
                if x + 380.0 < WIDTH && self.course.end - healed - took > QUIET {
                    text.push_str(", then quiet, until all is aborted");
                }
                self.svg.text("converged", (x + 5.0, 92.0), &text);
            }
        }
        if let Some(failure) = &self.report.failure {
            let x = self.x(seconds(failure.time));
            self.svg.line("fail", (x, TOP), (x, bottom));
        }
    }

    fn legend(&mut self) {
        let y = self.bottom() + 42.0;
        let bars = [
            ("published", "published", Series::Published),
            ("aborted", "aborted", Series::Aborted),
            ("delivered", "delivered", Series::Delivered),
            ("ended", "withdrawn, expired", Series::Ended),
            ("breach", "breaches by it", Series::Breaches),
        ];
        let mut x = LEFT;
        for (class, name, series) in bars {
            let most = self.most[series as usize];
            if most == 0 {
                continue;
            }
            let text = format!("{name} ({})", grouped(most.into()));
            self.svg.path(class, &format!("M{:.1} {y:.1}v-5m4 5v-10m4 10v-7", x + 2.0), "");
            self.svg.text("", (x + 18.0, y), &text);
            x += 36.0 + 6.4 * text.len() as f64;
        }
        let bin = readable(Duration::from_secs_f64(self.course.end * BAR / PLOT));
        let text = format!("in brackets: how many within {bin} make the highest bar");
        self.svg.text("note", (x, y), &text);
        self.keys(y + 20.0);
        for (at, note) in notes(self.report).iter().enumerate() {
            self.svg.text("note", (LEFT, y + 46.0 + 16.0 * at as f64), note);
        }
    }

    /// What there is beside bars.
    fn keys(&mut self, y: f64) {
        let rows = &self.course.rows;
        let any = |is_so: fn(&Row) -> bool| rows.iter().any(is_so);
        let keys = [
            ("peers", "connected with (share of the others)", true),
            ("foes", "connected with it (share of the honest)", any(|row| row.is_hostile)),
            ("cut", "cut off (the more the darker)", any(|row| !row.severed.is_empty())),
            ("stall", "stalled", any(|row| !row.stalls.is_empty())),
            ("deaf", "takes no events", any(|row| !row.deaf.is_empty())),
            ("away", "not a member", any(|row| !row.away.is_empty())),
            ("drift", "clock drifts", any(|row| !row.drifts.is_empty())),
            ("clock", "clock jumps", any(|row| !row.jumps.is_empty())),
            ("crash", "crashes", any(|row| !row.crashes.is_empty())),
        ];
        let mut x = LEFT;
        for (class, text, _) in keys.into_iter().filter(|(_, _, is_there)| *is_there) {
            match class {
                "clock" => self.svg.path(class, &format!("M{x:.1} {:.1}l8 5l-8 5Z", y - 10.0), ""),
                "crash" => {
                    self.svg.path(class, &format!("M{x:.1} {:.1}l7 7m0 -7l-7 7", y - 8.0), "");
                }
                "cut" => self.svg.veil(class, (x, y - 10.0), (12.0, 10.0), 0.4),
                "drift" => self.svg.rect(class, (x, y - 6.0), (12.0, 3.0), ""),
                _ => self.svg.rect(class, (x, y - 10.0), (12.0, 10.0), ""),
            }
            self.svg.text("", (x + 18.0, y), text);
            x += 40.0 + 6.2 * text.len() as f64;
        }
    }
}

/// What went wrong, in a line.
fn verdict(failure: &Failure) -> String {
    let what = failure.what.lines().next().unwrap_or_default();
    let what: String = what.chars().take(150).collect();
    match failure.invariant {
        0 => format!("Failed: {what}"),
        invariant => format!("Failed, invariant {invariant}: {what}"),
    }
}

fn readable(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 1.0 { format!("{:.0} ms", 1e3 * seconds) } else { format!("{seconds:.2} s") }
}

/// The values of steps, with the time that they hold for.
fn spans(steps: &Steps, end: f64) -> impl Iterator<Item = (Span, f64)> {
    let ends = steps.iter().skip(1).map(|(time, _)| *time).chain([end]);
    steps.iter().zip(ends).map(|((from, value), to)| (Span { from: *from, to }, *value))
}

/// What acted how often, in lines.
fn notes(report: &Report) -> Vec<String> {
    let faults = report.faults.iter().map(|(fault, count)| (fault.name(), count));
    let tricks = report.tricks.iter().map(|(trick, count)| (trick.name(), *count));
    let mut lines = wrapped("Faults: ", faults);
    lines.extend(wrapped("Tricks: ", tricks));
    lines.push(format!("Course {:016x}", report.trace_hash));
    lines
}

fn wrapped(word: &str, counts: impl Iterator<Item = (&'static str, u64)>) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for (name, count) in counts.filter(|(_, count)| *count > 0) {
        let item = format!("{name} {}", grouped(count));
        match lines.last_mut() {
            Some(line) if line.len() + item.len() < LETTERS => {
                line.push_str(", ");
                line.push_str(&item);
            }
            Some(_) => lines.push(item),
            None => lines.push(format!("{word}{item}")),
        }
    }
    lines
}

/// A number with its thousands apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::super::plan::Plan;
    use super::*;

    fn drawn(seed: u64) -> (Report, String) {
        let mut plan = Plan::draw(seed).with_nodes(7).with_byzantine(2);
        plan.keep_trace = true;
        let report = plan.run();
        let svg = report.svg();
        (report, svg)
    }

    #[test]
    fn every_event_is_counted_in_its_row() {
        let (report, _) = drawn(1);
        let course = Course::of(&report, 100);
        let total = |series| course.rows.iter().map(|row| row.total(series)).sum::<u64>();
        assert_eq!(total(Series::Delivered), report.delivered);
        assert_eq!(total(Series::Aborted), report.aborted);
        assert!(course.rows.iter().all(|row| row.is_hostile == row.running.is_empty()));
        assert!(course.cuts.iter().all(|span| span.from < span.to && span.to <= course.end));
    }

    #[test]
    fn the_picture_is_closed_and_has_a_name_for_each_row() {
        let (report, svg) = drawn(1);
        assert!(svg.starts_with("<svg ") && svg.ends_with("</svg>\n"));
        assert!(svg.contains("Seed 1: 7 members, 2 of them hostile"));
        for at in 0..report.nodes {
            let kind = if report.hostile.contains(&at) { "hostile" } else { "node" };
            assert!(svg.contains(&format!(">{kind} {at}</text>")), "{kind} {at}");
        }
        assert_eq!(svg.matches("<text").count(), svg.matches("</text>").count());
    }

    #[test]
    fn a_failure_is_told_without_breaking_the_picture() {
        let (mut report, _) = drawn(1);
        let (what, time) = ("a < b & \"c\"\nmore".to_string(), slotcast::time::Time(1));
        report.failure = Some(Failure { invariant: 3, what, time, last: Vec::new() });
        let svg = report.svg();
        assert!(svg.contains("Failed, invariant 3: a &lt; b &amp; \"c\"</text>"));
        assert!(svg.contains("class=\"fail\""));
    }
}
