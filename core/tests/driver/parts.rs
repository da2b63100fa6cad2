//! Bodies in parts at the handles: a request that is given and an answer that is read piece by piece, who
//! waits for whom, and how they end.

use slotcast::config::Config;
use slotcast::driver::{Request, Server};
use slotcast::error::{AnswerError, CallError};
use slotcast::rpc::{ANSWER_BYTES_KEPT, STREAM_BYTES_KEPT};

use crate::subnet::{Subnet, Waiting, config, ms};

const LONG: u32 = 8 << 20;

fn in_parts() -> Config {
    let mut config = config();
    config.routes[0] = config.routes[0].clone().bytes_max(LONG, LONG).reads_in_parts();
    config
}

fn pair() -> (Subnet, Server) {
    let subnet = Subnet::connected(2, &in_parts());
    let server = subnet.serve(1);
    (subnet, server)
}

fn body(length: u32) -> Vec<u8> {
    (0..length).map(|at| (at ^ at >> 8) as u8).collect()
}

async fn read_all(request: &Request) -> Result<Vec<u8>, AnswerError> {
    let (mut parts, mut all) = (request.parts(), Vec::new());
    while let Some(part) = parts.next_part().await {
        all.extend_from_slice(&part?);
    }
    Ok(all)
}

/// Gives back what is asked, backwards.
async fn serve(server: Server) {
    while let Some(request) = server.next_request().await {
        let Ok(mut all) = read_all(&request).await else { continue };
        all.reverse();
        let Ok(mut answer) = request.answer_in_parts(all.len() as u32) else { continue };
        for piece in all.chunks(300_000) {
            if answer.write(piece.to_vec()).await.is_err() {
                break;
            }
        }
    }
}

#[test]
fn long_bodies_go_both_ways_in_parts() {
    let (mut subnet, server) = pair();
    let mut serving = Waiting::new(serve(server));
    let (route, callee) = (subnet.route(0), subnet.id(1));
    for length in [0, 1, 100_000, LONG] {
        let sent = body(length);
        let pieces: Vec<_> = sent.chunks(1_000_000).map(<[u8]>::to_vec).collect();
        let mut calling = Waiting::new(async {
            let mut call = route.call_in_parts(callee, length);
            for piece in pieces {
                call.write(piece).await?;
            }
            let mut all = Vec::new();
            while let Some(part) = call.next_part().await {
                all.extend_from_slice(&part?);
            }
            Ok::<_, CallError>(all)
        });
        let got = loop {
            subnet.elapse(ms(1));
            assert_eq!(serving.poll(), None);
            if let Some(got) = calling.poll() {
                break got;
            }
        };
        assert!(got.expect("answered").iter().rev().eq(&sent));
    }
}

#[test]
fn what_is_not_read_waits_at_its_giver() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), LONG);
    let mut writing = Waiting::new(call.write(body(LONG)));
    assert_eq!(writing.poll(), None);
    let request = subnet.run(server.next_request()).expect("before it is complete");
    assert_eq!((request.length(), request.body().len()), (LONG as usize, 0));
    for _ in 0..200 {
        subnet.elapse(ms(10));
        assert_eq!(writing.poll(), None);
    }
    for at in 0..2 {
        let node = subnet.node(at).clone();
        let mut snapshot = Waiting::new(node.snapshot());
        assert!(snapshot.poll().is_none());
        subnet.elapse(ms(1));
        let Some(Some(snapshot)) = snapshot.poll() else { panic!("an answer") };
        let route = &snapshot.routes[0];
        let held = route.requests.request_bytes + route.calls.request_bytes;
        assert!(held <= STREAM_BYTES_KEPT.into(), "{held}");
        assert!(route.requests.answer_bytes <= ANSWER_BYTES_KEPT.into());
    }
    let mut parts = request.parts();
    let part = subnet.run(parts.next_part()).expect("some").expect("it waits");
    assert_eq!(part.len(), STREAM_BYTES_KEPT as usize / 2);
}

#[test]
fn a_caller_that_gives_up_is_told_to_who_reads() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), LONG);
    subnet.run(call.write(body(10))).expect("it is taken");
    let request = subnet.run(server.next_request()).expect("a request");
    let mut parts = request.parts();
    assert_eq!(subnet.run(parts.next_part()), Some(Ok(body(10).into())));
    let mut more = Waiting::new(parts.next_part());
    assert_eq!(more.poll(), None);
    drop(call);
    subnet.elapse(ms(100));
    assert_eq!(more.poll(), Some(Some(Err(AnswerError::Cancelled))));
    drop(more);
    assert_eq!(subnet.run(parts.next_part()), None);
}

#[test]
fn an_answer_that_is_dropped_in_the_middle_is_no_answer() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 0);
    let mut next = Waiting::new(call.next_part());
    assert!(next.poll().is_none());
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(read_all(&request)), Ok(Vec::new()));
    let mut answer = request.answer_in_parts(20).expect("it waits");
    assert_eq!(subnet.run(answer.write(body(21))), Err(AnswerError::TooLong));
    assert_eq!(subnet.run(answer.write(body(10))), Ok(()));
    subnet.elapse(ms(100));
    assert_eq!(next.poll(), Some(Some(Ok(body(10).into()))));
    drop((next, answer));
    let mut next = Waiting::new(call.next_part());
    assert!(next.poll().is_none());
    subnet.elapse(ms(100));
    assert_eq!(next.poll(), Some(Some(Err(CallError::Dropped))));
    drop(next);
    assert_eq!(subnet.run(call.next_part()), None);
}

#[test]
fn who_gives_an_answer_knows_when_it_has_arrived() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 0);
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.run(read_all(&request)).expect("it waits");
    let mut answer = request.answer_in_parts(10).expect("it waits");
    subnet.run(answer.write(body(10))).expect("it waits");
    assert_eq!(subnet.run(call.next_part()), Some(Ok(body(10).into())));
    assert_eq!(subnet.run(call.next_part()), None);
    assert_eq!(subnet.run(answer.arrived()), Ok(()));
}

#[test]
fn a_request_is_answered_after_it_has_been_read() {
    let (mut subnet, server) = pair();
    let call = subnet.route(0).call_in_parts(subnet.id(1), 10);
    let request = subnet.run(server.next_request()).expect("a request");
    assert!(matches!(request.answer_in_parts(1), Err(AnswerError::NotRead)));
    drop(call);
}

/// The same for who answers with all at once. What was taken part by part up to its last byte has been read.
#[test]
fn a_whole_answer_before_all_was_read_is_none_and_the_caller_is_told() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 10);
    subnet.run(call.write(body(4))).expect("it is taken");
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(request.parts().next_part()), Some(Ok(body(4).into())));
    assert_eq!(request.answer("early"), Err(AnswerError::NotRead));
    assert_eq!(subnet.run(call.next_part()), Some(Err(CallError::Dropped)));

    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 4);
    subnet.run(call.write(body(4))).expect("it is taken");
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(request.parts().next_part()), Some(Ok(body(4).into())));
    assert_eq!(request.answer("in time"), Ok(()));
    assert_eq!(subnet.run(call.next_part()), Some(Ok("in time".into())));
    assert_eq!(subnet.run(call.next_part()), None);
}

/// Who has waited for room in vain keeps none, and another member's request may have it now.
#[test]
fn the_caller_of_an_answer_in_parts_without_room_is_told_that_the_callee_is_busy() {
    let mut config = in_parts();
    let longest = LONG + ANSWER_BYTES_KEPT;
    config.routes[0] = config.routes[0].clone().bytes_max(0, longest);
    config.routes[0].body_bytes_max = longest.into();
    let mut subnet = Subnet::connected(3, &config);
    let server = subnet.serve(1);
    let [_first, mut call] = [(); 2].map(|()| subnet.route(0).call_in_parts(subnet.id(1), 0));
    let [first, second] = [(); 2].map(|()| subnet.run(server.next_request()).expect("a request"));
    assert_eq!(subnet.run(first.room(LONG)), Ok(()));
    let mut room = Waiting::new(second.room(LONG));
    assert_eq!(room.poll(), None);
    subnet.elapse(ms(10));
    assert_eq!(room.poll(), None, "it is more than the member's share");
    drop(room);
    let _other = subnet.route(2).call_in_parts(subnet.id(1), 0);
    let _third = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(read_all(&second)), Ok(Vec::new()));
    let answer = second.answer_in_parts(LONG).expect("it waits");
    assert!(matches!(subnet.run(call.next_part()), Some(Err(CallError::Busy { .. }))));
    assert_eq!(subnet.run(answer.arrived()), Err(AnswerError::NoRoom));
}

/// At its giver, a long request takes the room of two parts.
#[test]
fn calls_with_long_requests_in_parts_wait_in_order() {
    let mut config = in_parts();
    config.routes[0].body_bytes_max = u64::from(LONG);
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let route = subnet.route(0);
    let mut calls = [(); 3].map(|()| route.call_in_parts(subnet.id(1), LONG));
    for call in &mut calls {
        let mut writing = Waiting::new(call.write(body(LONG)));
        assert_eq!(writing.poll(), None);
        let request = subnet.run(server.next_request()).expect("a request");
        let mut reading = Waiting::new(read_all(&request));
        loop {
            subnet.elapse(ms(1));
            let read = reading.poll();
            assert!(!matches!(writing.poll(), Some(Err(_))));
            if let Some(read) = read {
                assert_eq!(read.map(|all| all.len()), Ok(LONG as usize));
                break;
            }
        }
        drop((reading, writing));
        request.answer("").expect("it waits");
        assert_eq!(subnet.run(call.next_part()), None);
    }
}

#[test]
fn calls_that_cannot_be_made_say_so_and_the_end_ends_all() {
    let (mut subnet, server) = pair();
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut call = route.call_in_parts(callee, LONG + 1);
    assert_eq!(subnet.run(call.write("x")), Err(CallError::TooLong));
    let mut call = route.call_in_parts(callee, 3);
    assert_eq!(subnet.run(call.write("more")), Err(CallError::TooLong), "nothing was given");
    let request = subnet.run(server.next_request()).expect("a request");
    let mut parts = request.parts();
    let (mut next, mut part) = (Waiting::new(call.next_part()), Waiting::new(parts.next_part()));
    assert!(next.poll().is_none() && part.poll().is_none());
    drop([subnet.node(0).shutdown(), subnet.node(1).shutdown()]);
    subnet.elapse(ms(5000));
    assert!(matches!(next.poll(), Some(Some(Err(_)))));
    assert!(matches!(part.poll(), Some(Some(Err(_)))));
}

#[test]
fn the_end_of_a_driver_ends_what_its_handles_give_and_read() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 0);
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.run(read_all(&request)).expect("it waits");
    let mut answer = request.answer_in_parts(LONG).expect("it waits");
    let (mut next, mut writing) =
        (Waiting::new(call.next_part()), Waiting::new(answer.write(body(LONG))));
    assert!(next.poll().is_none() && writing.poll().is_none());
    subnet.drop_driver(0);
    assert_eq!(next.poll(), Some(Some(Err(CallError::Closed))));
    subnet.drop_driver(1);
    assert_eq!(writing.poll(), Some(Err(AnswerError::Closed)));
    drop(writing);
    assert_eq!(subnet.run(answer.arrived()), Err(AnswerError::Closed));
}

/// Requests of routes that are not read in parts can be, too: all of it is one.
#[test]
fn a_whole_request_is_one_part() {
    let mut subnet = Subnet::connected(2, &config());
    let server = subnet.serve(1);
    let call = subnet.route(0).call(subnet.id(1), "request");
    let request = subnet.run(server.next_request()).expect("a request");
    let mut parts = request.parts();
    assert_eq!(subnet.run(parts.next_part()), Some(Ok("request".into())));
    assert_eq!(subnet.run(parts.next_part()), None);
    drop(parts);
    let mut answer = request.answer_in_parts(6).expect("it waits");
    subnet.run(answer.write("answer")).expect("it waits");
    drop(answer);
    assert_eq!(subnet.run(call), Ok("answer".into()));
    let _call = subnet.route(0).call(subnet.id(1), "");
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(request.parts().next_part()), None, "nothing is no part");
}

#[test]
fn parts_are_counted_against_what_was_announced() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), 20);
    assert_eq!(subnet.run(call.write(body(15))), Ok(()));
    assert_eq!(subnet.run(call.write(body(6))), Err(CallError::TooLong));
    assert_eq!(subnet.run(call.write(body(5))), Ok(()), "nothing was given");
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(read_all(&request)).map(|all| all.len()), Ok(20));
    let max = request.answer_bytes_max();
    let mut answer = request.answer_in_parts(20).expect("it waits");
    assert_eq!(subnet.run(answer.write(body(15))), Ok(()));
    assert_eq!(subnet.run(answer.write(body(6))), Err(AnswerError::TooLong));
    assert_eq!(subnet.run(answer.write(body(5))), Ok(()));
    drop(answer);
    let mut all = 0;
    while let Some(part) = subnet.run(call.next_part()) {
        all += part.expect("all was given before the answer was dropped").len();
    }
    assert_eq!(all, 20);
    let call = subnet.route(0).call_in_parts(subnet.id(1), 0);
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(read_all(&request)), Ok(Vec::new()));
    assert!(matches!(request.answer_in_parts(max + 1), Err(AnswerError::TooLong)));
    let mut call = call;
    assert_eq!(subnet.run(call.next_part()), Some(Err(CallError::Dropped)));
}

#[test]
fn who_gives_an_answer_is_told_that_the_caller_has_gone() {
    let (mut subnet, server) = pair();
    let route = subnet.route(0);
    let call = route.call_in_parts(subnet.id(1), 0);
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.run(read_all(&request)).expect("it waits");
    let mut answer = request.answer_in_parts(LONG).expect("it waits");
    let mut writing = Waiting::new(answer.write(body(LONG)));
    assert_eq!(writing.poll(), None);
    subnet.elapse(ms(1000));
    assert_eq!(writing.poll(), None, "nobody reads it");
    drop(call);
    subnet.elapse(ms(100));
    assert_eq!(writing.poll(), Some(Err(AnswerError::Cancelled)));
    drop(writing);
    assert_eq!(subnet.run(answer.arrived()), Err(AnswerError::Cancelled));
    drop(answer);
    // The same before anything was given.
    let call = route.call_in_parts(subnet.id(1), 0);
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.run(read_all(&request)).expect("it waits");
    drop(call);
    subnet.elapse(ms(100));
    assert!(matches!(request.answer_in_parts(1), Err(AnswerError::Cancelled)));
}

#[test]
fn who_gives_a_request_is_told_how_the_call_has_ended() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts(subnet.id(1), LONG);
    let mut writing = Waiting::new(call.write(body(LONG)));
    assert_eq!(writing.poll(), None);
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(writing.poll(), None, "nobody reads it");
    request.busy(ms(70)).expect("it waits");
    subnet.elapse(ms(100));
    let busy = CallError::Busy { retry_after: ms(70) };
    assert_eq!(writing.poll(), Some(Err(busy)));
    drop(writing);
    assert_eq!(subnet.run(call.next_part()), Some(Err(busy)));
    assert_eq!(subnet.run(call.next_part()), None);
}

/// A message has no answer, and whoever asks for parts that were all read is told so.
#[test]
fn a_message_is_read_in_parts_and_has_no_answer() {
    let (mut subnet, server) = pair();
    subnet.route(0).tell(subnet.id(1), body(100)).expect("there is room");
    let request = subnet.run(server.next_request()).expect("a message");
    assert_eq!(subnet.run(read_all(&request)), Ok(body(100)));
    assert!(matches!(request.answer_in_parts(1), Err(AnswerError::NotWanted)));
}

#[test]
fn a_call_in_parts_has_a_deadline_of_its_own() {
    let (mut subnet, server) = pair();
    let mut call = subnet.route(0).call_in_parts_within(subnet.id(1), LONG, ms(700));
    let mut writing = Waiting::new(call.write(body(LONG)));
    assert_eq!(writing.poll(), None);
    let request = subnet.run(server.next_request()).expect("a request");
    subnet.elapse(ms(600));
    assert_eq!((writing.poll(), request.is_cancelled()), (None, false), "nobody reads it");
    subnet.elapse(ms(200));
    assert_eq!(writing.poll(), Some(Err(CallError::DeadlinePassed)));
    assert!(request.is_cancelled());
    drop(writing);
    assert_eq!(subnet.run(call.next_part()), Some(Err(CallError::DeadlinePassed)));
}

#[test]
fn a_call_in_parts_that_is_only_tried_does_not_wait_for_credit() {
    let mut config = in_parts();
    config.routes[0].in_flight_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let (route, to) = (subnet.route(0), subnet.id(1));
    let mut call = route.try_call_in_parts(to, 3).expect("there is credit");
    assert_eq!(route.try_call_in_parts(to, 3).err(), Some(CallError::Pushback));
    subnet.run(call.write("all")).expect("it is taken");
    let request = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(read_all(&request)), Ok("all".into()));
    request.answer("done").expect("it waits");
    assert_eq!(subnet.run(call.next_part()), Some(Ok("done".into())));
    assert_eq!(subnet.run(call.next_part()), None);
    assert!(route.try_call_in_parts(to, 3).is_ok());
}
