//! What a trace says about each member, over time.

use std::collections::BTreeSet;

use crate::Report;
use crate::{Entry, What};
use slotcast::time::Time;

/// A span of time, in seconds.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Span {
    pub(super) from: f64,
    pub(super) to: f64,
}

/// Values that hold from a time on.
pub(super) type Steps = Vec<(f64, f64)>;

/// What is counted over time.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Series {
    Published,
    Aborted,
    Delivered,
    /// Withdrawn or expired.
    Ended,
    /// Rules that the member broke.
    Breaches,
}

impl Series {
    pub(super) const COUNT: usize = 5;
}

/// One member.
#[derive(Clone, Default)]
pub(super) struct Row {
    pub(super) is_hostile: bool,
    pub(super) running: Vec<Span>,
    pub(super) crashes: Vec<f64>,
    pub(super) stalls: Vec<Span>,
    pub(super) deaf: Vec<Span>,
    pub(super) away: Vec<Span>,
    /// The clock runs by so many millionths too fast.
    pub(super) drifts: Vec<(Span, i32)>,
    /// The clock jumped by so many seconds.
    pub(super) jumps: Vec<(f64, f64)>,
    /// The share of the others that it is connected with; of the honest ones that are connected
    /// with it, if it is hostile.
    pub(super) connected: Steps,
    /// The share of the others that it is cut off from. One direction counts half.
    pub(super) severed: Steps,
    /// By series: how much came in each bin.
    pub(super) bins: [Vec<u32>; Series::COUNT],
}

impl Row {
    pub(super) fn bins(&self, series: Series) -> &[u32] {
        &self.bins[series as usize]
    }

    pub(super) fn total(&self, series: Series) -> u64 {
        self.bins(series).iter().map(|count| u64::from(*count)).sum()
    }
}

/// The course of a run.
pub(super) struct Course {
    pub(super) rows: Vec<Row>,
    /// When some links were cut.
    pub(super) cuts: Vec<Span>,
    pub(super) end: f64,
}

pub(super) fn seconds(time: Time) -> f64 {
    time.0 as f64 / 1e9
}

/// What is going on while entries are read.
struct Reader {
    course: Course,
    bin: f64,
    started: Vec<Option<f64>>,
    left: Vec<Option<f64>>,
    drifting: Vec<Option<(f64, i32)>>,
    /// By two members: whether the first has a connection with the second.
    up: Vec<Vec<bool>>,
    severed: BTreeSet<(usize, usize)>,
    cut_since: Option<f64>,
}

impl Course {
    /// The course of a run, in so many bins.
    pub(super) fn of(report: &Report, bins: usize) -> Self {
        let count = report.nodes;
        let end = report.virtual_time.as_secs_f64().max(1e-3);
        let row = |at| Row {
            is_hostile: report.hostile.contains(&at),
            bins: core::array::from_fn(|_| std::vec![0; bins]),
            ..Row::default()
        };
        let course = Self { rows: (0..count).map(row).collect(), cuts: Vec::new(), end };
        let mut reader = Reader {
            course,
            bin: end / bins as f64,
            started: std::vec![None; count],
            left: std::vec![None; count],
            drifting: std::vec![None; count],
            up: std::vec![std::vec![false; count]; count],
            severed: BTreeSet::new(),
            cut_since: None,
        };
        report.trace.iter().filter(|entry| usize::from(entry.at) < count).for_each(|entry| {
            reader.read(entry);
        });
        reader.close()
    }
}

impl Reader {
    fn read(&mut self, entry: &Entry) {
        let (at, time) = (usize::from(entry.at), seconds(entry.time));
        match entry.what {
            What::Started(_) => self.started[at] = Some(time),
            What::Crashed => self.crash(at, time),
            What::Stalled(until) => {
                let span = Span { from: time, to: seconds(until) };
                self.course.rows[at].stalls.push(span);
            }
            What::Deaf(until) => {
                let span = Span { from: time, to: seconds(until) };
                self.course.rows[at].deaf.push(span);
            }
            What::ClockJumped(by) => self.course.rows[at].jumps.push((time, by as f64 / 1e9)),
            What::ClockDrifts(by) => self.drift(at, time, by),
            What::Member(is_in) => self.member(at, time, is_in),
            What::Up(peer) => self.connect(at, usize::from(peer), time, true),
            What::Down(peer) => self.connect(at, usize::from(peer), time, false),
            What::Cut(Some((peer, both))) => self.cut(at, usize::from(peer), time, both),
            What::Cut(None) => self.mend(time),
            What::Breach(by, _) => self.count(usize::from(by), time, Series::Breaches),
            What::Published(..) => self.count(at, time, Series::Published),
            What::Aborted(..) | What::AbortedBelow(..) => self.count(at, time, Series::Aborted),
            What::Delivered(..) => self.count(at, time, Series::Delivered),
            What::Withdrawn(..) | What::Expired(..) => self.count(at, time, Series::Ended),
            What::Covered(..) => {}
        }
    }

    fn count(&mut self, at: usize, time: f64, series: Series) {
        let Some(row) = self.course.rows.get_mut(at) else { return };
        let bins = &mut row.bins[series as usize];
        let place = ((time / self.bin) as usize).min(bins.len() - 1);
        bins[place] += 1;
    }

    fn crash(&mut self, at: usize, time: f64) {
        if let Some(from) = self.started[at].take() {
            self.course.rows[at].running.push(Span { from, to: time });
        }
        let row = &mut self.course.rows[at];
        row.crashes.push(time);
        // A dead process does not stall.
        let spans = row.stalls.iter_mut().chain(&mut row.deaf);
        spans.for_each(|span| span.to = span.to.min(time.max(span.from)));
        for peer in 0..self.up.len() {
            self.connect(at, peer, time, false);
        }
    }

    fn drift(&mut self, at: usize, time: f64, by: i32) {
        if let Some((from, by)) = self.drifting[at].take() {
            self.course.rows[at].drifts.push((Span { from, to: time }, by));
        }
        self.drifting[at] = (by != 0).then_some((time, by));
    }

    fn member(&mut self, at: usize, time: f64, is_in: bool) {
        if is_in {
            let away = self.left[at].take().map(|from| Span { from, to: time });
            self.course.rows[at].away.extend(away);
        } else {
            self.left[at].get_or_insert(time);
        }
    }

    fn connect(&mut self, at: usize, peer: usize, time: f64, is_up: bool) {
        if peer >= self.up.len() || self.up[at][peer] == is_up {
            return;
        }
        self.up[at][peer] = is_up;
        let count = self.up.len();
        let others = self.up[at].iter().filter(|is_up| **is_up).count();
        let share = others as f64 / (count - 1).max(1) as f64;
        step(&mut self.course.rows[at].connected, time, share);
        if self.course.rows[peer].is_hostile {
            let honest = self.course.rows.iter().filter(|row| !row.is_hostile).count();
            let with = self.up.iter().filter(|row| row[peer]).count();
            let share = with as f64 / honest.max(1) as f64;
            step(&mut self.course.rows[peer].connected, time, share);
        }
    }

    fn cut(&mut self, from: usize, to: usize, time: f64, both: bool) {
        self.cut_since.get_or_insert(time);
        self.severed.insert((from, to));
        if both {
            self.severed.insert((to, from));
        }
        self.note_severed(from, time);
        self.note_severed(to, time);
    }

    fn mend(&mut self, time: f64) {
        self.severed.clear();
        if let Some(from) = self.cut_since.take() {
            self.course.cuts.push(Span { from, to: time });
            (0..self.course.rows.len()).for_each(|at| self.note_severed(at, time));
        }
    }

    fn note_severed(&mut self, at: usize, time: f64) {
        let Some(row) = self.course.rows.get_mut(at) else { return };
        let ways = self.severed.iter().filter(|(from, to)| *from == at || *to == at).count();
        let others = self.up.len().saturating_sub(1).max(1);
        step(&mut row.severed, time, ways as f64 / (2 * others) as f64);
    }

    /// Everything that still goes on goes on to the end.
    fn close(mut self) -> Course {
        let end = self.course.end;
        for at in 0..self.course.rows.len() {
            if let Some(from) = self.started[at] {
                self.course.rows[at].running.push(Span { from, to: end });
            }
            self.member(at, end, true);
            self.drift(at, end, 0);
            let row = &mut self.course.rows[at];
            let spans = row.stalls.iter_mut().chain(&mut row.deaf);
            spans.for_each(|span| span.to = span.to.min(end));
        }
        self.mend(end);
        self.course
    }
}

/// A value from now on. Of several at one time the last counts.
fn step(steps: &mut Steps, time: f64, value: f64) {
    match steps.last_mut() {
        Some((at, last)) if *at == time => *last = value,
        Some((_, last)) if *last == value => {}
        _ => steps.push((time, value)),
    }
}
