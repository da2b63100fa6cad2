//! What handles ask the node, and the driver answers in a later turn: how far something has come.

use std::future::poll_fn;
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
    /// Those who wait for room to ask.
    pub(super) room_waiters: Waiters,
    /// Somebody has given up a question that may be with the node.
    has_given_up: bool,
}

impl Questions {
    /// Whether somebody still waits for an answer.
    pub(super) fn is_asked(&self, number: u64) -> bool {
        self.asked.contains_key(&number)
    }
}

/// What the driver has still to answer, or to hand over.
#[derive(Default)]
pub(super) struct Answers {
    flushes: Vec<(FlushId, u64)>,
    ready: Vec<(u64, Answer)>,
}

impl Answers {
    /// The flushes for whose ends nobody waits any more: they are to be cancelled.
    pub(super) fn take_given_up(&mut self, questions: &mut Questions) -> Vec<FlushId> {
        let mut given_up = Vec::new();
        if std::mem::take(&mut questions.has_given_up) {
            let gone = self.flushes.extract_if(.., |(_, number)| !questions.is_asked(*number));
            given_up.extend(gone.map(|(flush, _)| flush));
        }
        given_up
    }

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
        if self.ready.is_empty() {
            return;
        }
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
    number: u64,
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        let next = {
            let mut state = self.shared.lock();
            let answer = state.questions.asked.remove(&self.number);
            state.questions.has_given_up |= matches!(answer, Some(None));
            state.pop_waiter(Source::QuestionRoom)
        };
        next.into_iter().for_each(Waker::wake);
    }
}

/// Asks the driver. `None` if the node ends before it answers.
pub(super) async fn ask(shared: &Shared, question: Question) -> Option<Answer> {
    let mut room = Waiting::new(shared, Source::QuestionRoom);
    let number = poll_fn(|cx| room.poll_next(cx, |state| Some((state.ask(question)?, true))));
    let asked = Asked { shared, number: number.await? };
    let mut waiting = Waiting::new(shared, Source::Answers);
    let answer = |state: &mut State| state.questions.asked.get(&asked.number).copied().flatten();
    poll_fn(|cx| waiting.poll_next(cx, |state| Some((answer(state)?, false)))).await
}

impl State {
    /// Whether one more question can be passed on.
    pub(super) fn has_question_room(&self) -> bool {
        let has_room = self.commands.len() < self.commands_max;
        has_room && self.questions.asked.len() < QUESTIONS_MAX
    }

    /// Passes a question on, if there is room for it.
    fn ask(&mut self, question: Question) -> Option<u64> {
        if self.is_closed() || !self.has_question_room() {
            return None;
        }
        self.questions.last += 1;
        let number = self.questions.last;
        self.questions.asked.insert(number, None);
        self.commands.push_back(Command::Ask(number, question));
        Some(number)
    }
}
