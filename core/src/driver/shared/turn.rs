//! What the driver and the handles exchange in a turn of the driver: it takes commands, and stages what the
//! node has to say as far as there is room. Wakers are woken when the lock is released.

use std::task::Waker;
use std::time::Instant;
use std::vec::Vec;

use super::{ChannelState, Command, Manner, Shared, State, event_bytes};
use crate::bits::ones;
use crate::driver::calls::CallTable;
use crate::driver::occurrences::Selection;
use crate::driver::questions::Answers;
use crate::driver::waiters::Source;
use crate::node::Node;
use crate::snapshot::Snapshot;
use crate::time::Time;

/// The number of commands that the driver takes in one turn: some ten microseconds of work.
const COMMANDS_PER_TURN: usize = 128;

/// What [`Shared::stage_events`] has found.
pub(in crate::driver) struct Staged {
    /// There is something new for the application: the node has to be polled again.
    pub(in crate::driver) has_staged: bool,
    /// There may be commands that were not taken, or room that was given back.
    pub(in crate::driver) may_have_commands: bool,
    /// When to do it again, for those who wait with a deadline.
    pub(in crate::driver) stage_at: Time,
    /// The last request for a snapshot, unless it has an answer.
    pub(in crate::driver) snapshot_wanted: Option<u64>,
}

impl Shared {
    /// Passes commands of the application to the node, as many as fit into a turn. True if none are
    /// left.
    pub(in crate::driver) fn take_commands(
        &self,
        now: Time,
        node: &mut Node,
        call_table: &mut CallTable,
        answers: &mut Answers,
        waker: &Waker,
    ) -> bool {
        let mut commands = std::mem::take(&mut call_table.commands);
        let waker = waker.clone();
        let (
            is_all,
            (released, given_up),
            membership,
            disconnects,
            (shutdown, drain),
            reconsider,
            old_waker,
        ) = {
            let mut state = self.lock();
            state.waits.begin(now);
            let old_waker = state.driver.replace(waker);
            let reconsider = std::mem::take(&mut state.reconsider);
            let count = state.commands.len().min(COMMANDS_PER_TURN);
            let State { commands: given, questions, .. } = &mut *state;
            commands.extend(given.drain(..count).filter(|command| match command {
                Command::Ask(number, _) => questions.is_asked(*number),
                _ => true,
            }));
            let given_up = answers.take_given_up(questions);
            let is_all = state.commands.is_empty();
            let released = state.calls.take_released();
            let stayed = state.stayed.take();
            state.peers_changed |= stayed.is_some();
            let membership = stayed.map(|stayed| (state.membership.clone(), stayed));
            let disconnects = std::mem::take(&mut state.disconnects);
            // The last command is given before the shutdown.
            let drain = if is_all { state.shutdown_within.take() } else { None };
            let shutdown = (state.shutdown && is_all, drain);
            let released = (released, given_up);
            (is_all, released, membership, disconnects, shutdown, reconsider, old_waker)
        };
        drop(old_waker);
        // Commands are dated by it.
        node.clamp(now);
        released.into_iter().for_each(|permit| node.release(permit));
        for flush in given_up {
            node.cancel_flush(flush);
        }
        for command in commands.drain(..) {
            match command {
                Command::Publish(channel, artifact, manner) => {
                    let channel = self.channels[channel];
                    let published = match manner {
                        Manner::Plain => node.publish(channel, artifact),
                        Manner::Named(name) => node.publish_keyed(channel, name, artifact),
                        Manner::Covered(threshold) => {
                            node.publish_covered(channel, artifact, threshold)
                        }
                    };
                    published.expect("the handle has checked against the same bounds");
                }
                Command::Abort(channel, id) => {
                    node.abort(self.channels[channel], &id);
                }
                // There is no room, or the artifact was withdrawn in the meantime. It is not passed
                // on.
                Command::Relay(channel, artifact) => {
                    let _ = node.relay(self.channels[channel], &artifact);
                }
                Command::Call(command) => call_table.command(now, node, command),
                Command::Ask(number, question) => {
                    answers.ask(now, node, &self.channels, (number, question));
                }
            }
        }
        call_table.commands = commands;
        for index in ones(reconsider) {
            node.reconsider(now, self.channels[index]);
        }
        if let Some((membership, stayed)) = membership {
            node.keep_peers(now, &stayed);
            node.set_membership(now, membership).expect("the handle has checked it");
        }
        for member in disconnects {
            node.disconnect(now, &member);
        }
        if let Some(timeout) = drain {
            node.shutdown_within(now, timeout);
        }
        if shutdown {
            node.shutdown(now);
        }
        is_all
    }

    /// Stages outputs of the node, as far as there is room.
    pub(in crate::driver) fn stage_events(
        &self,
        now: Time,
        start: Instant,
        node: &mut Node,
        call_table: &mut CallTable,
        answers: &mut Answers,
    ) -> Staged {
        let mut wakers = std::mem::take(&mut call_table.wakers);
        let mut has_staged = false;
        let (may_have_commands, stage_at, snapshot_wanted) = {
            let mut state = self.lock();
            state.stats = node.stats();
            // What is new, and nobody waits for alone.
            let mut unclaimed = Selection::default();
            has_staged |=
                call_table.stage(now, start, node, &mut state.calls, &mut wakers, &mut unclaimed);
            answers.stage(node, &mut state.questions, &mut wakers);
            state.full_channels = 0;
            // The commands that were taken may have left room. Who takes it wakes the next.
            wakers.extend(state.pop_waiter(Source::QuestionRoom));
            if state.commands.len() < state.commands_max {
                for index in ones(std::mem::take(&mut state.busy_channels)) {
                    wakers.extend(state.pop_waiter(Source::Room(index)));
                }
            }
            for index in node.channels_with_events() {
                let (id, bit) = (self.channels[index], 1 << index);
                let channel = &mut state.channels[index];
                let before = channel.events.len();
                let mut is_full = false;
                while node.has_events(id) {
                    if !channel.has_stage() {
                        is_full = true;
                        break;
                    }
                    let Some((arrival, event)) = node.poll_event_at(index) else { break };
                    channel.event_bytes += event_bytes(&event);
                    channel.events.push_back((arrival, event));
                    has_staged = true;
                }
                if channel.events.len() > before {
                    match channel.waiters.pop() {
                        Some(waker) => wakers.push(waker),
                        None => unclaimed.channels |= bit,
                    }
                }
                state.staged_channels |= if channel.events.is_empty() { 0 } else { bit };
                state.full_channels |= if is_full { bit } else { 0 };
            }
            state.is_full = false;
            // Not whether there are events: those that are not staged stay in the node.
            let changes = node.peers_changes();
            let is_new = std::mem::replace(&mut state.changes_seen, changes) != changes;
            let has_changed = std::mem::take(&mut state.peers_changed) || is_new;
            if has_changed {
                state.peers_up = node.peers_up().collect();
            }
            if state.waits.expire(now) || has_changed {
                wakers.extend(state.link_waiters.drain());
            }
            let before = state.node_events.len();
            while node.has_node_events() {
                if state.node_events.len() >= state.node_staged_max {
                    state.is_full = true;
                    break;
                }
                let Some(event) = node.poll_node_event_at() else { break };
                state.node_events.push_back(event);
            }
            if state.node_events.len() > before {
                match state.node_waiters.pop() {
                    Some(waker) => wakers.push(waker),
                    None => unclaimed.has_node_events = true,
                }
            }
            state.pop_takers(unclaimed, &mut wakers);
            // Who gives a command takes the driver's waker.
            let may_have_commands = state.driver.is_none() || state.calls.has_released();
            (may_have_commands, state.waits.next_deadline(), state.snapshots.pending())
        };
        call_table.garbage.clear();
        wakers.drain(..).for_each(Waker::wake);
        call_table.wakers = wakers;
        Staged { has_staged, may_have_commands, stage_at, snapshot_wanted }
    }

    /// Hands out a snapshot to all that asked for one up to the request `requested`.
    pub(in crate::driver) fn answer_snapshot(&self, requested: u64, mut snapshot: Snapshot) {
        let wakers: Vec<Waker> = {
            let mut state = self.lock();
            state.complete(&mut snapshot);
            state.snapshots.answer(requested, snapshot);
            state.snapshots.waiters.drain().collect()
        };
        wakers.into_iter().for_each(Waker::wake);
    }
}

impl State {
    /// Adds to a snapshot of the node what the handles hold.
    fn complete(&self, snapshot: &mut Snapshot) {
        if let Some(driver) = &mut snapshot.node.driver {
            driver.commands = self.commands.len() as u64;
        }
        for (channel, staged) in snapshot.channels.iter_mut().zip(&self.channels) {
            channel.inbox.staged_events = staged.events.len() as u64;
            channel.inbox.staged_bytes = staged.event_bytes as u64;
        }
    }

    /// Takes out those who take in one order and wait, one for each thing that is new and `unclaimed`,
    /// and who did not know what comes next.
    fn pop_takers(&mut self, mut unclaimed: Selection, wakers: &mut Vec<Waker>) {
        let mut next = self.takers.next_waiting(0);
        while let Some(taker) = next {
            next = self.takers.next_waiting(taker + 1);
            let selection = self.takers.selection(taker);
            let has_news = unclaimed != unclaimed.without(&selection);
            if (has_news || self.takers.lacks_some(taker))
                && self.first_staged(&selection).is_some()
            {
                wakers.extend(self.takers.waiters(taker).pop());
                unclaimed = unclaimed.without(&selection);
            }
        }
    }
}

impl ChannelState {
    fn has_stage(&self) -> bool {
        self.events.len() < self.staged_max && self.event_bytes < self.staged_bytes_max
    }
}
