//! What handles ask the node, and the driver answers in a later turn: how far something has come.

use std::future::{Future, poll_fn};
use std::task::Waker;
use std::time::Duration;
use std::vec::Vec;

use foldhash::quality::FixedState;
use hashbrown::HashMap;

use super::shared::{Command, Shared, State};
use super::waiters::{Source, Waiters, Waiting};
use crate::broadcast::Coverage;
use crate::error::FlushError;
use crate::id::{ArtifactId, ChannelId};
use crate::node::{FlushId, Node};
use crate::time::Time;

/// Questions that may be unanswered, or whose answers are not taken, at a time. More of them wait for the
/// room.
const QUESTIONS_MAX: usize = 1024;

#[derive(Clone, Copy)]
pub(super) enum Question {
    /// Of an artifact, in a channel with this index.
    Coverage(usize, ArtifactId),
    Flush(Duration),
}

#[derive(Clone, Copy)]
pub(super) enum Answer {
    Coverage(Option<Coverage>),
    Flush(Result<(), FlushError>),
}

/// What handles and driver share.
#[derive(Default)]
pub(super) struct Questions {
    /// By number, which are consecutive. `None`: not answered yet.
    asked: HashMap<u64, Option<Answer>, FixedState>,
    last: u64,
    pub(super) waiters: Waiters,
    /// Somebody has found no room to ask.
    is_full: bool,
}

/// What the driver has still to answer, or to hand over.
#[derive(Default)]
pub(super) struct Answers {
    flushes: Vec<(FlushId, u64)>,
    ready: Vec<(u64, Answer)>,
}

impl Answers {
    /// Asks the node.
    pub(super) fn ask(
        &mut self,
        now: Time,
        node: &mut Node,
        channels: &[ChannelId],
        (number, question): (u64, Question),
    ) {
        let answer = match question {
            Question::Coverage(index, id) => Answer::Coverage(node.coverage(channels[index], &id)),
            Question::Flush(timeout) => match node.flush(now, timeout) {
                Ok(flush) => return self.flushes.push((flush, number)),
                Err(error) => Answer::Flush(Err(error)),
            },
        };
        self.ready.push((number, answer));
    }

    /// Hands over what there is to the handles.
    pub(super) fn stage(
        &mut self,
        node: &mut Node,
        questions: &mut Questions,
        wakers: &mut Vec<Waker>,
    ) {
        while let Some((flush, result)) = node.poll_flushed() {
            let asked = self.flushes.iter().position(|(known, _)| *known == flush);
            let (_, number) = self.flushes.swap_remove(asked.expect("begun by a handle"));
            self.ready.push((number, Answer::Flush(result)));
        }
        if self.ready.is_empty() && !questions.is_full {
            return;
        }
        questions.is_full = false;
        for (number, answer) in self.ready.drain(..) {
            // Unless nobody waits for it any more.
            if let Some(place) = questions.asked.get_mut(&number) {
                *place = Some(answer);
            }
        }
        wakers.extend(questions.waiters.drain());
    }
}

/// A question whose answer somebody waits for.
struct Asked<'a> {
    shared: &'a Shared,
    number: Option<u64>,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.shared.lock().questions.asked.remove(&number);
        }
    }
}

/// Asks the driver. `None` if the node ends before it answers.
pub(super) fn ask(shared: &Shared, question: Question) -> impl Future<Output = Option<Answer>> {
    let mut asked = Asked { shared, number: None };
    let mut waiting = Waiting::new(shared, Source::Answers);
    poll_fn(move |cx| {
        let mut is_new = false;
        let answer = waiting.poll(cx, |state| {
            if state.is_closed() {
                return Some((None, false));
            }
            let Some(number) = asked.number else {
                asked.number = state.ask(question);
                is_new = true;
                return None;
            };
            let answer = state.questions.asked.get(&number).copied()??;
            Some((Some(answer), false))
        });
        if std::mem::take(&mut is_new) {
            shared.command(|_| ());
        }
        answer
    })
}

impl State {
    /// Passes a question on, if there is room for it.
    fn ask(&mut self, question: Question) -> Option<u64> {
        let has_room = self.commands.len() < self.commands_max;
        if !has_room || self.questions.asked.len() >= QUESTIONS_MAX {
            self.questions.is_full = true;
            return None;
        }
        self.questions.last += 1;
        let number = self.questions.last;
        self.questions.asked.insert(number, None);
        self.commands.push_back(Command::Ask(number, question));
        Some(number)
    }
}
