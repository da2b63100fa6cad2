//! A call in each of its phases, to be ended there in each way: what it took is given back, whoever
//! ends it, and the next call goes through.

use std::time::Duration;

use bytes::Bytes;
use slotcast::config::Config;
use slotcast::error::{AnswerError, CallError};
use slotcast::rpc::{CallId, Permit, Refusal, RequestId};
use slotcast::time::Time;

use crate::web::{Web, body, config, ms, peer};

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Phase {
    /// It waits for the peer's credit.
    Credit,
    /// The transport opens no stream.
    NoStream,
    /// The head is under way.
    Sent,
    /// The callee has no room: all but the head is unread.
    Unread,
    /// Half of the request has been read.
    Request,
    /// The callee's application has not taken it.
    Ready,
    /// It has.
    Taken,
    /// It has been answered; nothing of that has come.
    Answered,
    /// The caller has no room for the answer.
    NoRoom,
    /// The caller has room; the callee has not heard of it.
    Granted,
    /// Half of the answer has come.
    Answer,
}

const PHASES: [Phase; 11] = [
    Phase::Credit,
    Phase::NoStream,
    Phase::Sent,
    Phase::Unread,
    Phase::Request,
    Phase::Ready,
    Phase::Taken,
    Phase::Answered,
    Phase::NoRoom,
    Phase::Granted,
    Phase::Answer,
];

/// Node 0 calls node 1; node 2 takes up room.
struct Scene {
    web: Web,
    call: CallId,
    /// What node 1's application has of it.
    taken: Option<RequestId>,
    /// The caller is no member of node 1's any more.
    is_former: bool,
    /// Room that an application keeps.
    permits: Vec<(usize, Permit)>,
    /// A call that uses up the credit, and what node 1's application has of it.
    blocker: Option<(CallId, RequestId)>,
}

const DEADLINE: Duration = ms(4000);

fn narrow() -> Config {
    config(|route| {
        (route.request_bytes_max, route.response_bytes_max) = (200_000, 200_000);
        // Room for one of the longest, in all.
        route.body_bytes_max = 200_000;
        route.in_flight_max = 1;
        // Shorter than the grace after which a rate counts.
        route.deadline = DEADLINE;
    })
}

/// A call of `from` whose answer takes up all of its room.
fn fill(web: &mut Web, from: usize, to: usize) -> Permit {
    let call = web.call(from, to, Bytes::new());
    web.run();
    let asked = web.request(to).expect("it has come");
    web.answer(to, asked.id, body(200_000));
    web.run();
    let (outcome, permit) = web.nodes[from].poll_outcome().expect("it has been answered");
    assert_eq!(outcome.call, call);
    permit
}

/// A request of `from` that takes up all room at `to`.
fn occupy(web: &mut Web, from: usize, to: usize) -> Permit {
    let call = web.call(from, to, body(200_000));
    web.run();
    let (asked, permit) = web.nodes[to].poll_request(crate::web::ROUTE, |_| true).expect("come");
    assert!(web.refuse(to, asked.id, Refusal::Dropped));
    web.run();
    assert_eq!(web.result(from, call), Err(CallError::Dropped));
    permit
}

fn reach(phase: Phase) -> Scene {
    let mut web = Web::new(&[narrow(), narrow(), narrow()]);
    let (mut permits, mut blocker, mut taken) = (Vec::new(), None, None);
    match phase {
        Phase::Credit => {
            let call = web.call(0, 1, Bytes::new());
            web.run();
            blocker = Some((call, web.request(1).expect("it has come").id));
        }
        Phase::NoStream => web.streams_left = 0,
        Phase::Sent => drop(web.held.insert((0, 1))),
        Phase::Unread => permits.push((1, occupy(&mut web, 2, 1))),
        Phase::NoRoom => permits.push((0, fill(&mut web, 0, 2))),
        _ => {}
    }
    let call = web.call(0, 1, body(100_000));
    match phase {
        Phase::Request => {
            assert!(web.send(0) && web.deliver(1) && web.send(1) && web.deliver(0));
            assert!(web.send_one(0, 1, 0) && web.deliver(1));
            assert_eq!(web.request(1), None, "not all of it has come");
        }
        Phase::Taken | Phase::Answered | Phase::NoRoom | Phase::Granted | Phase::Answer => {
            web.run();
            taken = Some(web.request(1).expect("it has come").id);
        }
        _ => web.run(),
    }
    if let Some(request) = taken
        && phase != Phase::Taken
    {
        taken = None;
        match phase {
            Phase::Answered => drop(web.held.insert((1, 0))),
            Phase::Granted => drop(web.held.insert((0, 1))),
            _ => {}
        }
        web.answer(1, request, body(150_000));
        if phase == Phase::Answer {
            assert!(web.send(1) && web.deliver(0) && web.send(0) && web.deliver(1));
            assert!(web.send_one(1, 0, 0) && web.deliver(0));
        } else {
            web.run();
        }
    }
    assert!(!web.nodes[0].is_empty());
    assert_eq!(web.outcome(0), None, "it is under way: {phase:?}");
    Scene { web, call, taken, is_former: false, permits, blocker }
}

impl Scene {
    /// Nothing is in the way any more, and nothing is left.
    fn clear(&mut self) {
        let web = &mut self.web;
        web.held.clear();
        web.streams_left = usize::MAX;
        web.run();
        let cancelled = web.nodes[1].poll_cancelled().map(|cancelled| cancelled.request);
        if let Some((call, request)) = self.blocker.take() {
            web.cancel(0, call);
            web.refuse(1, request, Refusal::Dropped);
            while web.nodes[1].poll_cancelled().is_some() {}
            while let Some(outcome) = web.outcome(0) {
                assert_eq!(outcome.call, call);
            }
        } else {
            assert_eq!(cancelled, self.taken);
        }
        if let Some(request) = self.taken {
            let kept = usize::from(!self.is_former);
            assert_eq!(web.nodes[1].len(), kept, "a member's is in flight until it is let go of");
            let late = web.nodes[1].answer(web.now, request, body(1));
            assert_eq!(late, Err(AnswerError::Cancelled));
            web.settle(1);
        }
        for (at, permit) in self.permits.drain(..) {
            web.nodes[at].release(permit);
            web.settle(at);
        }
        web.assert_quiet();
    }

    /// The next call goes through.
    fn again(&mut self) {
        let web = &mut self.web;
        let call = web.call(0, 1, body(200_000));
        web.run();
        let asked = web.request(1).expect("it has come");
        web.answer(1, asked.id, body(200_000));
        web.run();
        assert!(web.result(0, call) == Ok(body(200_000)));
        web.assert_quiet();
    }
}

#[test]
fn whatever_a_call_has_come_to_it_goes_through_once_it_can() {
    for phase in PHASES {
        let Scene { mut web, call, taken, permits, blocker, .. } = reach(phase);
        web.held.clear();
        web.streams_left = usize::MAX;
        for (at, permit) in permits {
            web.nodes[at].release(permit);
        }
        if let Some((call, request)) = blocker {
            web.answer(1, request, body(3));
            web.run();
            assert_eq!(web.result(0, call), Ok(body(3)));
        }
        web.run();
        if let Some(request) = taken.or_else(|| web.request(1).map(|asked| asked.id)) {
            web.answer(1, request, body(150_000));
            web.run();
        }
        assert!(web.result(0, call) == Ok(body(150_000)), "{phase:?}");
        web.assert_quiet();
    }
}

#[test]
fn a_call_can_be_cancelled_in_each_phase() {
    for phase in PHASES {
        let mut scene = reach(phase);
        assert!(scene.web.cancel(0, scene.call));
        assert!(!scene.web.cancel(0, scene.call));
        assert_eq!(scene.web.nodes[0].len(), usize::from(scene.blocker.is_some()));
        scene.clear();
        scene.again();
    }
}

#[test]
fn the_deadline_ends_a_call_in_each_phase() {
    for phase in PHASES {
        let mut scene = reach(phase);
        let web = &mut scene.web;
        // Nothing moves any more; all began when time did.
        web.held.extend([(0, 1), (1, 0)]);
        let end = Time(1) + DEADLINE;
        web.elapse((end - ms(1)).since(web.now));
        assert_eq!(web.outcome(0), None, "{phase:?}");
        web.elapse(ms(1));
        let outcomes: Vec<_> = std::iter::from_fn(|| web.outcome(0)).collect();
        let [.., outcome] = &outcomes[..] else { panic!("none in {phase:?}") };
        assert_eq!((outcome.call, &outcome.result), (scene.call, &Err(CallError::DeadlinePassed)));
        assert_eq!(outcomes.len(), 1 + usize::from(scene.blocker.is_some()));
        scene.clear();
        scene.again();
    }
}

/// The callee does not wait for the caller to say so.
#[test]
fn the_deadline_ends_a_request_at_the_callee_as_well() {
    for phase in PHASES {
        let mut scene = reach(phase);
        let web = &mut scene.web;
        web.held.extend([(0, 1), (1, 0)]);
        web.elapse(DEADLINE);
        let kept = usize::from(scene.taken.is_some()) + usize::from(scene.blocker.is_some());
        assert_eq!(web.nodes[1].len(), kept, "{phase:?}");
        while web.outcome(0).is_some() {}
        scene.clear();
    }
}

#[test]
fn a_lost_connection_ends_a_call_in_each_phase() {
    for phase in PHASES {
        for comes_back in [false, true] {
            let mut scene = reach(phase);
            let web = &mut scene.web;
            match comes_back {
                // Superseded by another one: nobody says that the first is gone.
                true => web.up(0, 1),
                false => web.down(0, 1),
            }
            let outcomes: Vec<_> = std::iter::from_fn(|| web.outcome(0)).collect();
            assert_eq!(outcomes.len(), 1 + usize::from(scene.blocker.is_some()));
            for outcome in outcomes {
                assert_eq!(outcome.result, Err(CallError::Disconnected), "{phase:?}");
            }
            if !comes_back {
                let again = web.try_call(0, 1, Bytes::new(), None, true);
                assert_eq!(again, Err(CallError::NotConnected));
            }
            scene.clear();
            if !comes_back {
                scene.web.up(0, 1);
            }
            scene.again();
        }
    }
}

#[test]
fn a_member_that_is_removed_takes_its_calls_with_it_in_each_phase() {
    for phase in PHASES {
        for by in [0, 1] {
            let mut scene = reach(phase);
            let web = &mut scene.web;
            web.down(by, 1 - by);
            web.nodes[by].remove_peer(peer(1 - by));
            scene.is_former = by == 1;
            let web = &mut scene.web;
            web.settle(by);
            while let Some(outcome) = web.outcome(0) {
                assert_eq!(outcome.result, Err(CallError::Disconnected), "{phase:?}");
            }
            let again = web.try_call(0, 1, Bytes::new(), None, true);
            assert_eq!(again, Err(CallError::NotConnected));
            scene.clear();
            // Another member takes its place.
            scene.web.nodes[by].add_peer(peer(1 - by));
            scene.web.up(0, 1);
            scene.again();
        }
    }
}

/// The same, while a new member is in the place already.
#[test]
fn what_was_kept_of_a_former_member_does_not_disturb_the_next_in_its_place() {
    for phase in PHASES {
        let mut scene = reach(phase);
        let web = &mut scene.web;
        web.down(0, 1);
        web.nodes[1].remove_peer(peer(0));
        scene.is_former = true;
        let web = &mut scene.web;
        web.nodes[1].add_peer(peer(0));
        web.up(0, 1);
        while let Some(outcome) = web.outcome(0) {
            assert_eq!(outcome.result, Err(CallError::Disconnected), "{phase:?}");
        }
        scene.clear();
        scene.again();
    }
}
