//! Who is behind in a channel, told when it has come to be and not later. Pure machines, no sockets. F11.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use slotcast::artifact::Artifact;
use slotcast::broadcast::{Lag, Output, Wake};
use slotcast::config::{ChannelConfig, Order, Relay};
use slotcast::time::Time;
use slotcast_testkit::machines::{CHANNEL, Frame, Solo, Tap, config, ms, peer, small};

/// What waits for longer is late: by default, since clears may be held back for less.
const LIMIT: Duration = ms(250);

/// Behind after so long without a break.
const BEHIND_AFTER: Duration = seconds(3);

const fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

const fn lag(at: usize, is_behind: bool) -> Option<Lag> {
    Some(Lag { peer: peer(at), channel: 0, is_behind })
}

fn solo_with(peers: usize, edit: impl FnOnce(&mut ChannelConfig)) -> Solo {
    let config = config(|channel: &mut ChannelConfig| {
        channel.freshness.behind_after = BEHIND_AFTER;
        edit(channel);
    });
    Solo::new(&config, peers)
}

fn solo() -> Solo {
    solo_with(2, |_| {})
}

/// Nothing is sent for so long. A node is polled at least once in a second.
fn wait(solo: &mut Solo, count: u64) {
    (0..count).for_each(|_| solo.elapse(seconds(1)));
}

/// Time goes on to the moment at which the member is behind: the machine wakes up by itself, and tells it then and not
/// before.
fn expect_behind_at(solo: &mut Solo, at: Time) {
    solo.settle();
    while solo.wake_at < at {
        solo.wake();
        assert_eq!(solo.machine.poll_lag(), None, "too early");
    }
    assert_eq!(solo.wake_at, at);
    solo.now = at - Duration::from_nanos(1);
    solo.settle();
    assert_eq!(solo.machine.poll_lag(), None, "too early");
    solo.wake();
    assert_eq!(solo.machine.poll_lag(), lag(0, true));
    assert_eq!(solo.machine.poll_lag(), None, "told once");
}

#[test]
fn it_is_told_at_its_time_and_a_deadline_wakes_the_machine() {
    let mut solo = solo_with(1, |_| {});
    solo.elapse(ms(777));
    solo.publish(&small(1));
    let published_at = solo.now;
    let why = Wake::Lag;
    let wake_at = published_at + LIMIT + BEHIND_AFTER;
    assert_eq!(solo.machine.poll(solo.now), Output::Idle { wake_at, why });
    expect_behind_at(&mut solo, wake_at);
    assert_eq!(solo.wake_at, Time::NEVER, "there is nothing more to be told");
    solo.sent(0);
    assert_eq!(solo.machine.poll_lag(), lag(0, false));
}

/// Whoever is sent all in time wakes nobody.
#[test]
fn who_is_up_to_date_is_not_waited_for() {
    let mut solo = solo_with(1, |_| {});
    for number in 0..10 {
        solo.publish(&small(number));
        solo.sent(0);
        assert_eq!(solo.wake_at, Time::NEVER);
    }
}

/// The only change that the member needs lies behind 65,534 that it does not, and as many come behind it.
#[test]
fn a_full_table_does_not_delay_it() {
    for order in [Order::Age, Order::HighestKeyFirst] {
        let mut solo = solo_with(1, |channel| {
            (channel.slots_max, channel.order) = (1 << 16, order);
        });
        let published: Vec<Artifact> = (0..65_535)
            .map(|number: u32| Artifact::new(number.to_be_bytes().to_vec().into(), b"").unwrap())
            .collect();
        for artifact in &published {
            solo.machine.publish(CHANNEL, artifact.clone()).expect("there is room");
        }
        let (_, others) = published.split_last().unwrap();
        others.iter().for_each(|other| assert!(solo.machine.abort(CHANNEL, &other.id())));
        let at = solo.now + LIMIT + BEHIND_AFTER;
        solo.settle();
        let mut told_at = None;
        while told_at.is_none() {
            // A node is polled in each second in any case.
            solo.now = solo.wake_at.max(solo.now + ms(1)).min(solo.now + seconds(1));
            solo.settle();
            told_at = solo.machine.poll_lag().map(|_| solo.now);
            assert!(solo.now < at + seconds(60), "never");
        }
        let late = told_at.unwrap().since(at);
        assert_eq!((told_at, late), (Some(at), Duration::ZERO), "{order:?}: {late:?} late");
        // In the order of keys, it takes several turns to come to it.
        while solo.machine.has_backlog(peer(0)) {
            solo.send(0, 4_000);
        }
        assert_eq!(solo.machine.poll_lag(), lag(0, false));
    }
}

/// What is left has not waited for too long when the others have been served. It has when there is room the next time.
#[test]
fn it_begins_anew_when_what_was_late_has_been_served() {
    let mut solo = solo_with(1, |_| {});
    solo.publish(&small(1));
    solo.elapse(ms(2000));
    let changed_at = solo.now;
    solo.publish(&small(2));
    solo.publish(&small(3));
    solo.elapse(ms(200));
    // The newest goes first, and then the oldest, for which there is no more room than for one.
    for _ in 0..2 {
        solo.send(0, 250).expect("one of them");
    }
    assert_eq!(solo.machine.backlog(solo.now, peer(0)).updates, 1);
    assert_eq!(solo.machine.backlog(solo.now, peer(0)).age, ms(200));
    expect_behind_at(&mut solo, changed_at + LIMIT + BEHIND_AFTER);
}

#[test]
fn it_goes_on_when_what_comes_next_is_late_too() {
    let mut solo = solo_with(1, |_| {});
    (1..5).for_each(|number| {
        solo.publish(&small(number));
        solo.elapse(ms(100));
    });
    let first_at = Time(1);
    solo.elapse(ms(1000));
    for number in 1..4 {
        assert!(solo.machine.abort(CHANNEL, &small(number).id()));
        solo.elapse(ms(100));
    }
    expect_behind_at(&mut solo, first_at + LIMIT + BEHIND_AFTER);
}

#[test]
fn who_is_behind_has_caught_up_when_all_of_it_is_aborted() {
    let mut solo = solo_with(1, |_| {});
    solo.publish(&small(1));
    solo.publish(&small(2));
    expect_behind_at(&mut solo, Time(1) + LIMIT + BEHIND_AFTER);
    solo.abort(&small(1));
    assert_eq!(solo.machine.poll_lag(), None, "the other one is as old");
    solo.abort(&small(2));
    assert_eq!(solo.machine.poll_lag(), lag(0, false), "without a look at what is to be sent");
    // And from the beginning.
    solo.publish(&small(3));
    let at = solo.now + LIMIT + BEHIND_AFTER;
    expect_behind_at(&mut solo, at);
}

/// In commands that the machine is not told the time between.
#[test]
fn what_takes_the_place_of_all_that_was_late_is_a_break() {
    let mut solo = solo_with(1, |_| {});
    solo.publish(&small(1));
    expect_behind_at(&mut solo, Time(1) + LIMIT + BEHIND_AFTER);
    assert!(solo.machine.abort(CHANNEL, &small(1).id()));
    solo.machine.publish(CHANNEL, small(2)).expect("there is room");
    solo.elapse(ms(10));
    let changed_at = solo.now;
    assert_eq!(solo.machine.poll_lag(), lag(0, false));
    expect_behind_at(&mut solo, changed_at + LIMIT + BEHIND_AFTER);
}

/// It need not hear of a relay, as long as it has all of the artifact.
#[test]
fn who_has_a_relayed_artifact_itself_does_not_wait_for_it() {
    let mut solo =
        solo_with(2, |channel| *channel = channel.clone().relaying(Relay::Automatic, 200));
    let waits = |solo: &Solo| [0, 1].map(|at| solo.machine.backlog(solo.now, peer(at)).updates);
    let artifact = small(1);
    solo.push(0, 0, 1, &artifact);
    solo.expect_delivered([&artifact]);
    assert_eq!(waits(&solo), [0, 1], "the publisher has it");
    solo.elapse(ms(1000));
    solo.push(1, 0, 1, &artifact);
    assert_eq!(waits(&solo), [0, 0], "so has the other one, from somebody else");
    solo.elapse(seconds(10));
    assert_eq!(solo.machine.poll_lag(), None);
    solo.clear(1, 0, 2);
    assert_eq!(waits(&solo), [0, 1], "it does not have it any more");
    let at = solo.now + LIMIT + BEHIND_AFTER;
    solo.elapse(LIMIT + BEHIND_AFTER - Duration::from_nanos(1));
    assert_eq!(solo.machine.poll_lag(), None);
    solo.now = at;
    solo.settle();
    assert_eq!(solo.machine.poll_lag(), lag(1, true));
}

/// What a member has to be told, as it follows from what it was sent.
#[derive(Default)]
struct Model {
    active: BTreeMap<u32, Artifact>,
    /// Slots of which the member knows an artifact.
    heard: BTreeSet<u32>,
    /// Slots of which it has to be told, and since when.
    waiting: BTreeMap<u32, Time>,
    late_since: Option<Time>,
    is_behind: bool,
}

impl Model {
    fn publish(&mut self, now: Time, artifact: &Artifact) {
        let slot = (0..).find(|slot| !self.active.contains_key(slot)).expect("one is free");
        self.active.insert(slot, artifact.clone());
        self.waiting.insert(slot, now);
    }

    /// Aborts the `nth` artifact.
    fn abort(&mut self, now: Time, nth: usize) -> Artifact {
        let slot = *self.active.keys().nth(nth).expect("so many are active");
        self.waiting.remove(&slot);
        if self.heard.contains(&slot) {
            self.waiting.insert(slot, now);
        }
        self.active.remove(&slot).expect("active")
    }

    fn sent(&mut self, frame: &Frame) {
        match frame {
            Frame::Push { slot, .. } => {
                assert!(self.waiting.remove(slot).is_some(), "it was to be told");
                self.heard.insert(*slot);
            }
            Frame::Clear { slot, .. } => {
                assert!(self.waiting.remove(slot).is_some(), "it was to be told");
                self.heard.remove(slot);
            }
            other => panic!("{other:?}"),
        }
    }

    fn oldest(&self) -> Option<Time> {
        self.waiting.values().min().copied()
    }

    /// To be called at each time, after all that happened before.
    fn look(&mut self, now: Time) {
        let late_from = self.oldest().map(|since| since + LIMIT).filter(|from| *from < now);
        self.late_since = late_from.map(|from| self.late_since.unwrap_or(from));
        self.is_behind = self.late_since.is_some_and(|since| since + BEHIND_AFTER <= now);
    }

    /// When it is behind, if nothing happens until then.
    fn behind_at(&self) -> Time {
        let late_from = self.late_since.or(self.oldest().map(|since| since + LIMIT));
        late_from.filter(|_| !self.is_behind).map_or(Time::NEVER, |from| from + BEHIND_AFTER)
    }
}

/// A history with little room, against a model that looks at all that waits each time. How often something was told.
fn check_history(seed: u64) -> u32 {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut below = move |end: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 33) % end
    };
    let mut solo = solo_with(1, |channel| {
        channel.clear_delay = ms(0);
        channel.order = [Order::Age, Order::HighestKeyFirst][(seed % 2) as usize];
    });
    let (mut model, mut was_behind, mut told) = (Model::default(), false, 0);
    let active_max = [2, 40][(seed / 2 % 2) as usize];
    for number in 0..400 {
        match below(10) {
            0..4 if model.active.len() < active_max => {
                let bytes = small(seed << 32 | number).to_bytes();
                let artifact = Artifact::keyed(below(50), bytes, b"").expect("short");
                solo.publish(&artifact);
                model.publish(solo.now, &artifact);
            }
            4..6 if !model.active.is_empty() => {
                let nth = below(model.active.len() as u64) as usize;
                let artifact = model.abort(solo.now, nth);
                solo.abort(&artifact);
            }
            6..8 => {
                if let Some((_, bytes)) = solo.send(0, 100 + below(1000) as usize) {
                    Tap::default().read(&bytes).iter().for_each(|frame| model.sent(frame));
                }
            }
            _ => {
                let until = solo.now + ms([1, 30, 300, 2000][below(4) as usize]);
                solo.now = solo.wake_at.min(until);
                solo.settle();
            }
        }
        model.look(solo.now);
        if was_behind != model.is_behind {
            (was_behind, told) = (model.is_behind, told + 1);
            assert_eq!(solo.machine.poll_lag(), lag(0, was_behind), "seed {seed}, {number}");
        }
        assert_eq!(solo.machine.poll_lag(), None, "seed {seed}, {number}");
        let backlog = solo.machine.backlog(solo.now, peer(0));
        assert_eq!(backlog.updates, model.waiting.len() as u64, "seed {seed}, {number}");
        let age = model.oldest().map_or(Duration::ZERO, |since| solo.now.since(since));
        assert_eq!(backlog.age, age, "seed {seed}, {number}");
        assert!(solo.wake_at <= model.behind_at(), "seed {seed}, {number}");
    }
    told
}

/// A failure names its seed.
#[test]
fn it_is_told_as_a_plain_model_has_it() {
    let told: u32 = (0..60).map(check_history).sum();
    assert!(told > 100, "{told}");
}

/// The transport has no room for one of two members.
#[test]
fn a_member_that_is_sent_nothing_is_behind_until_it_was_sent_all() {
    let mut solo = solo();
    for number in 0..40 {
        solo.publish(&small(number));
        solo.sent(1);
        solo.elapse(Duration::from_millis(100));
        // From 250 ms and three seconds on.
        let expected = if number == 32 { lag(0, true) } else { None };
        assert_eq!(solo.machine.poll_lag(), expected);
    }
    assert_eq!(solo.machine.poll_lag(), None, "told once");
    solo.elapse(seconds(5));
    assert_eq!(solo.machine.poll_lag(), None);
    solo.sent(0);
    assert_eq!(solo.machine.poll_lag(), lag(0, false));
    assert_eq!(solo.machine.poll_lag(), None);
}

#[test]
fn what_passes_before_it_was_told_is_not_told() {
    let mut solo = solo();
    solo.publish(&small(1));
    wait(&mut solo, 6);
    solo.sent(0);
    solo.sent(1);
    assert_eq!(solo.machine.poll_lag(), None);
}

#[test]
fn who_is_down_is_not_behind_and_begins_anew() {
    let mut solo = solo();
    solo.publish(&small(1));
    wait(&mut solo, 6);
    solo.sent(1);
    solo.down(0);
    assert_eq!(solo.machine.poll_lag(), None);
    solo.up(0);
    wait(&mut solo, 2);
    assert_eq!(solo.machine.poll_lag(), None, "it has not been up for so long");
    wait(&mut solo, 4);
    assert_eq!(solo.machine.poll_lag(), lag(0, true));
}
