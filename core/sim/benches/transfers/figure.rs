//! What was measured, and what it should be.

use std::fmt;

/// One line of the report.
pub(crate) struct Figure {
    pub(crate) scenario: String,
    pub(crate) what: String,
    pub(crate) value: f64,
    pub(crate) goal: Option<Goal>,
}

/// What a value should be.
#[derive(Clone, Copy)]
pub(crate) enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

impl Goal {
    fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtMost(goal) => value <= goal,
            Self::AtLeast(goal) => value >= goal,
        }
    }
}

impl Figure {
    pub(crate) fn is_missed(&self) -> bool {
        self.goal.is_some_and(|goal| !goal.is_met(self.value))
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, what, value, goal } = self;
        write!(f, "{scenario:<28} {what:<52} {value:>9.3}  ")?;
        match goal {
            None => return Ok(()),
            Some(Goal::AtMost(goal)) => write!(f, "<= {goal:<7}")?,
            Some(Goal::AtLeast(goal)) => write!(f, ">= {goal:<7}")?,
        }
        f.write_str(if self.is_missed() { "missed" } else { "met" })
    }
}

/// Figures of one scenario, printed as they come.
pub(crate) struct Report {
    scenario: String,
    pub(crate) all: Vec<Figure>,
}

impl Report {
    pub(crate) const fn new() -> Self {
        Self { scenario: String::new(), all: Vec::new() }
    }

    pub(crate) fn scenario(&mut self, name: impl Into<String>) {
        self.scenario = name.into();
    }

    /// Something to know, without a goal.
    pub(crate) fn note(&mut self, what: impl Into<String>, value: f64) {
        self.add(what.into(), value, None);
    }

    pub(crate) fn at_most(&mut self, what: impl Into<String>, value: f64, goal: f64) {
        self.add(what.into(), value, Some(Goal::AtMost(goal)));
    }

    pub(crate) fn at_least(&mut self, what: impl Into<String>, value: f64, goal: f64) {
        self.add(what.into(), value, Some(Goal::AtLeast(goal)));
    }

    fn add(&mut self, what: String, value: f64, goal: Option<Goal>) {
        let figure = Figure { scenario: self.scenario.clone(), what, value, goal };
        println!("{figure}");
        self.all.push(figure);
    }
}
