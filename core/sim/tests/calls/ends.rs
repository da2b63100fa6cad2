//! Ends that come from elsewhere: deadlines, restarts, members that leave, links that are cut.

use std::time::Duration;

use slotcast::error::{AnswerError, CallError};
use slotcast::node::Request;
use slotcast::rpc::CallId;
use slotcast_sim::{FaultKind, Setup};

use crate::office::{
    Manner, ROUTE, Subnet, answer, asking_for, assert_all_over, call, config, connected, outcome,
    publish, try_call,
};

const LATENCY: Duration = Duration::from_millis(20);

fn ms(count: u64) -> Duration {
    Duration::from_millis(count)
}

fn subnet_of(count: usize) -> Subnet {
    connected(Setup::new(&config(|_| {}), count))
}

#[test]
fn around_the_deadline_a_call_is_answered_or_too_late_and_never_both() {
    for (request, reply) in [(10, 10), (10, 100_000), (100_000, 100_000)] {
        let mut subnet = subnet_of(2);
        let begun = subnet.now();
        let id = call(&mut subnet, 0, 1, asking_for(reply, request));
        assert!(outcome(&mut subnet, 0, id).is_ok());
        let undisturbed = subnet.now().since(begun);
        let mut answered = 0;
        for offset in 0..40 {
            let deadline = undisturbed + ms(offset) - ms(20);
            let mut subnet = subnet_of(2);
            let begun = subnet.now();
            let body = asking_for(reply, request);
            let id = try_call(&mut subnet, 0, 1, body, Some(deadline)).expect("credit");
            let result = outcome(&mut subnet, 0, id);
            let took = subnet.now().since(begun);
            match result {
                Ok(_) => {
                    answered += 1;
                    assert!(took <= deadline);
                }
                Err(error) => assert_eq!((error, took), (CallError::DeadlinePassed, deadline)),
            }
            // Exactly one outcome: a second one would be without a call.
            subnet.elapse(ms(300));
            assert_eq!(subnet.application.desks[0].outcomes.len(), 1);
            let next = call(&mut subnet, 0, 1, asking_for(10, 10));
            assert!(outcome(&mut subnet, 0, next).is_ok());
            assert_all_over(&mut subnet);
        }
        assert_eq!(answered, 20, "from the time on that it takes, {request} for {reply}");
    }
}

#[test]
fn a_deadline_is_kept_while_requests_and_answers_are_kept() {
    let mut subnet = subnet_of(2);
    subnet.application.desks[1].manner = Manner::Keep;
    for deadline in [ms(100), ms(1000)] {
        let begun = subnet.now();
        let body = asking_for(10, 50_000);
        let id = try_call(&mut subnet, 0, 1, body, Some(deadline)).expect("credit");
        assert_eq!(outcome(&mut subnet, 0, id), Err(CallError::DeadlinePassed));
        assert_eq!(subnet.now().since(begun), deadline);
        // The callee learns of it as soon as the caller can tell, or by its own clock.
        subnet.elapse(ms(25));
        let (_, request) = subnet.application.desks[1].requests.pop().expect("handed over");
        let (told, id) = subnet.application.desks[1].cancelled.pop().expect("told");
        assert!(id == request.id && told.since(begun + deadline) <= LATENCY + ms(1));
    }
    assert_all_over(&mut subnet);
}

/// Calls in both directions between two nodes, at different points of their lives.
fn calls_between(subnet: &mut Subnet, a: usize, b: usize) -> Vec<(usize, CallId)> {
    subnet.application.desks[a].manner = Manner::KeepSmall;
    subnet.application.desks[b].manner = Manner::KeepSmall;
    let mut calls = Vec::new();
    for (from, to) in [(a, b), (b, a)] {
        for (request, reply) in [(10, 10), (1 << 20, 10), (100_000, 10)] {
            calls.push((from, call(subnet, from, to, asking_for(reply, request))));
            subnet.elapse(ms(30));
        }
    }
    // An answer on its way, and requests of which nothing has left.
    calls.push((a, call(subnet, a, b, asking_for(1 << 20, 10))));
    subnet.elapse(ms(50));
    for (from, to) in [(a, b), (b, a)] {
        calls.push((from, call(subnet, from, to, asking_for(10, 1 << 20))));
    }
    calls
}

/// All calls of a node have ended with this error, by now.
fn assert_ended(subnet: &Subnet, at: usize, calls: &[(usize, CallId)], error: CallError) {
    for (_, id) in calls.iter().filter(|(from, _)| *from == at) {
        let (_, result) = subnet.application.outcome(at, *id).expect("it has ended");
        assert_eq!(*result, Err(error));
    }
}

#[test]
fn a_restart_ends_calls_at_once_and_the_next_one_reaches_the_new_process() {
    for from in [0, 1] {
        let to = 1 - from;
        let mut subnet = subnet_of(2);
        subnet.application.desks[to].manner = Manner::Keep;
        let calls: Vec<_> = (0..3)
            .map(|n| (from, call(&mut subnet, from, to, asking_for(10, 10 + 100_000 * n))))
            .collect();
        subnet.elapse(ms(100));
        subnet.crash(to, FaultKind::CrashAndForget);
        subnet.application.desks[to].manner = Manner::Answer;
        subnet.start(to);
        let begun = subnet.now();
        subnet.run_until("the first call has ended", ms(4_000), |subnet| {
            !subnet.application.desks[from].outcomes.is_empty()
        });
        assert_ended(&subnet, from, &calls, CallError::Disconnected);
        // The one that restarted dials at once; the other notices when it next sends something.
        let took = subnet.now().since(begun);
        assert!(took < if to == 0 { ms(200) } else { ms(3_200) }, "{took:?}");
        let is_up = |subnet: &mut Subnet| subnet.is_up(0, 1);
        subnet.run_until("the new process is up", ms(1_000), is_up);
        let next = call(&mut subnet, from, to, asking_for(100_000, 100_000));
        assert!(outcome(&mut subnet, from, next).is_ok());
        assert_all_over(&mut subnet);
    }
}

#[test]
fn a_node_that_shuts_down_says_so_however_much_it_was_sending() {
    for at in [0, 1] {
        let mut subnet = subnet_of(2);
        let calls = calls_between(&mut subnet, 0, 1);
        subnet.elapse(ms(20));
        subnet.command(at, |_, node| {
            let now = node.now();
            node.node_mut().shutdown(now);
        });
        subnet.elapse(ms(1));
        assert_ended(&subnet, at, &calls, CallError::Disconnected);
        let last = try_call(&mut subnet, at, 1 - at, asking_for(10, 10), None);
        assert_eq!(last, Err(CallError::Closed));
        subnet.elapse(ms(20));
        assert_ended(&subnet, 1 - at, &calls, CallError::Disconnected);
        assert_all_over(&mut subnet);
    }
}

#[test]
fn who_leaves_the_topology_takes_its_calls_along() {
    // The one at place 1 is removed at the other, at itself, or at both.
    for (at_other, at_itself) in [(true, false), (false, true), (true, true)] {
        let mut subnet = subnet_of(3);
        let calls = calls_between(&mut subnet, 0, 1);
        let others = [call(&mut subnet, 2, 0, asking_for(10, 1 << 20))];
        let without = subnet.topology([0, 2]);
        if at_other {
            subnet.follow(0, &without);
            subnet.follow(2, &without);
        }
        if at_itself {
            subnet.follow(1, &without);
        }
        subnet.elapse(ms(50));
        for at in 0..2 {
            assert_ended(&subnet, at, &calls, CallError::Disconnected);
            let desk = &subnet.application.desks[at];
            let of_pair = |request: &&Request| request.from == subnet.id(1 - at);
            let kept: Vec<_> = desk.kept.iter().filter(of_pair).map(|kept| kept.id).collect();
            let cancelled: Vec<_> = desk.cancelled.iter().map(|(_, id)| *id).collect();
            assert!(kept == cancelled && !kept.is_empty(), "{kept:?} {cancelled:?}");
        }
        let gone = try_call(&mut subnet, 0, 1, asking_for(10, 10), None).expect_err("not there");
        assert!(matches!(gone, CallError::NotMember | CallError::NotConnected));
        subnet.elapse(ms(1_000));
        let request = subnet.application.desks[0].kept.pop().expect("of the third");
        answer(&mut subnet, 0, &request).expect("it is waited for");
        assert!(outcome(&mut subnet, 2, others[0]).is_ok());
        // Back again.
        let all = subnet.topology(0..3);
        (0..3).for_each(|at| subnet.follow(at, &all));
        subnet.run_until("it is back", ms(10_000), |subnet| subnet.is_up(0, 1));
        subnet.application.desks.iter_mut().for_each(|desk| desk.manner = Manner::Answer);
        for (from, to) in [(0, 1), (1, 0), (2, 1), (1, 2)] {
            let next = call(&mut subnet, from, to, asking_for(50_000, 50_000));
            assert!(outcome(&mut subnet, from, next).is_ok());
        }
        assert_all_over(&mut subnet);
    }
}

#[test]
fn a_short_cut_delays_calls_and_a_long_one_ends_them() {
    for (span, error) in [(2_000, None), (30_000, Some(CallError::Disconnected))] {
        let mut subnet = connected(Setup::new(&config(|r| r.deadline = ms(60_000)), 3));
        let calls = calls_between(&mut subnet, 0, 1);
        subnet.cut(&[0], &[1]);
        subnet.elapse(ms(span));
        subnet.heal();
        // What is not cut goes on meanwhile.
        for at in 0..2 {
            publish(&mut subnet, at, 1);
            let next = call(&mut subnet, 2, at, asking_for(10, 1 << 20));
            subnet.elapse(ms(400));
            let kept = &subnet.application.desks[at].kept;
            let request = kept.iter().rfind(|kept| kept.from == subnet.id(2)).cloned();
            let request = request.expect("handed over");
            answer(&mut subnet, at, &request).expect("it is waited for");
            assert!(outcome(&mut subnet, 2, next).is_ok());
        }
        subnet.run_until("connected", ms(20_000), |subnet| subnet.is_up(0, 1));
        subnet.elapse(ms(5_000));
        for at in 0..2 {
            match error {
                Some(error) => assert_ended(&subnet, at, &calls, error),
                None => {
                    // The third one's were answered before.
                    for request in std::mem::take(&mut subnet.application.desks[at].kept) {
                        let answered = answer(&mut subnet, at, &request);
                        assert_eq!(answered.is_ok(), request.from != subnet.id(2));
                    }
                }
            }
        }
        subnet.application.desks.iter_mut().for_each(|desk| desk.manner = Manner::Answer);
        for (at, id) in calls {
            assert_eq!(outcome(&mut subnet, at, id).err(), error);
        }
        for (from, to) in [(0, 1), (1, 0)] {
            let next = call(&mut subnet, from, to, asking_for(50_000, 50_000));
            assert!(outcome(&mut subnet, from, next).is_ok());
        }
        assert_all_over(&mut subnet);
    }
}

#[test]
fn whatever_clocks_do_each_call_comes_to_its_end() {
    let span = 8_000_000_000;
    for (at, jump) in [(0, span), (1, span), (0, -span), (1, -span)] {
        for pause in [0, 30, 100] {
            let mut subnet = subnet_of(2);
            let calls = calls_between(&mut subnet, 0, 1);
            subnet.elapse(ms(pause));
            subnet.jump_clock(at, jump);
            subnet.elapse(ms(60_000));
            for (from, id) in calls {
                let (_, result) = subnet.application.outcome(from, id).expect("it has ended");
                let error = result.as_ref().err();
                let is_known = |error: &CallError| {
                    matches!(error, CallError::DeadlinePassed | CallError::Disconnected)
                        // To the callee, the deadline has passed: it closes the stream.
                        || *error == CallError::Dropped
                        || *error == CallError::TooSlow
                };
                assert!(error.is_none_or(is_known), "{error:?}");
            }
            subnet.application.desks.iter_mut().for_each(|desk| desk.manner = Manner::Answer);
            subnet.run_until("connected", ms(20_000), |subnet| subnet.is_up(0, 1));
            for (from, to) in [(0, 1), (1, 0)] {
                let next = call(&mut subnet, from, to, asking_for(50_000, 50_000));
                assert!(outcome(&mut subnet, from, next).is_ok());
            }
            assert_all_over(&mut subnet);
        }
    }
}

#[test]
fn a_pause_of_either_side_delays_calls_and_ends_none() {
    for at in [0, 1] {
        for pause in [0, 30, 100] {
            let mut subnet = subnet_of(2);
            let calls: Vec<_> = [(0, 1), (1, 0)]
                .into_iter()
                .map(|(from, to)| (from, call(&mut subnet, from, to, asking_for(1 << 20, 1 << 20))))
                .collect();
            subnet.elapse(ms(pause));
            subnet.stall(at, ms(6_000));
            for (from, id) in calls {
                let result = outcome(&mut subnet, from, id);
                assert!(result.is_ok(), "{at} {pause} {:?}", result.err());
            }
            assert_all_over(&mut subnet);
        }
    }
}

#[test]
fn what_a_former_member_asked_stands_in_the_way_of_nobody() {
    let mut subnet = subnet_of(4);
    let some = subnet.topology([0, 1, 2]);
    (0..4).for_each(|at| subnet.follow(at, &some));
    subnet.elapse(ms(100));
    subnet.application.desks[0].manner = Manner::Keep;
    subnet.application.desks[0].is_stubborn = true;
    for _ in 0..16 {
        call(&mut subnet, 1, 0, asking_for(10, 100));
    }
    subnet.elapse(ms(100));
    assert_eq!(subnet.application.desks[0].kept.len(), 16);
    // 3 comes in the place of 1, whose requests the application has still.
    let others = subnet.topology([0, 2, 3]);
    (0..4).for_each(|at| subnet.follow(at, &others));
    subnet.run_until("connected", ms(10_000), |subnet| subnet.is_up(0, 3));
    assert_eq!(subnet.application.desks[0].cancelled.len(), 16);
    subnet.application.desks[0].manner = Manner::Answer;
    for from in [2, 3] {
        let begun = subnet.now();
        let next = call(&mut subnet, from, 0, asking_for(100, 100));
        assert!(outcome(&mut subnet, from, next).is_ok());
        assert!(subnet.now().since(begun) <= 2 * LATENCY + ms(1));
    }
    for request in std::mem::take(&mut subnet.application.desks[0].kept) {
        assert_eq!(answer(&mut subnet, 0, &request), Err(AnswerError::Cancelled));
    }
    let next = call(&mut subnet, 3, 0, asking_for(100, 100));
    assert!(outcome(&mut subnet, 3, next).is_ok());
    assert_all_over(&mut subnet);
}

#[test]
fn who_stops_serving_says_so_to_all_but_those_that_it_has_begun_with() {
    let mut subnet = subnet_of(2);
    subnet.application.desks[1].manner = Manner::Keep;
    let taken = call(&mut subnet, 0, 1, asking_for(10, 100));
    subnet.elapse(ms(30));
    subnet.application.desks[1].manner = Manner::Ignore;
    let mut others = vec![call(&mut subnet, 0, 1, asking_for(10, 100))];
    subnet.elapse(ms(100));
    // Of these some are being read, and the others wait.
    let large = || asking_for(10, 1 << 20);
    others.extend((0..15).map(|_| call(&mut subnet, 0, 1, large())));
    subnet.elapse(ms(100));
    assert!(subnet.command(1, |_, node| node.serve(ROUTE, false)).expect("it runs"));
    subnet.elapse(ms(200));
    for id in others {
        let (_, result) = subnet.application.outcome(0, id).expect("told at once");
        assert_eq!(*result, Err(CallError::NotServed));
    }
    let next = call(&mut subnet, 0, 1, large());
    subnet.elapse(ms(100));
    assert_eq!(outcome(&mut subnet, 0, next), Err(CallError::NotServed));
    let request = subnet.application.desks[1].kept.pop().expect("it was taken");
    answer(&mut subnet, 1, &request).expect("it is waited for");
    assert!(outcome(&mut subnet, 0, taken).is_ok());
    assert_all_over(&mut subnet);
}
