//! One call at a time: lengths, refusals, errors.

use std::time::Duration;

use slotcast::error::CallError;
use slotcast_sim::Setup;

use crate::office::{Manner, answer_to, asking_for, call, config, connected, outcome};

#[test]
fn bodies_of_all_lengths_come_as_they_were_sent() {
    let lengths = [8, 100, 16_383, 16_384, 16_385, 70_000, 1 << 20];
    for response_bytes_max in [1 << 20, 16 << 10] {
        let config = config(|route| route.response_bytes_max = response_bytes_max);
        let mut subnet = connected(Setup::new(&config, 2));
        for request in lengths {
            for answer in lengths.into_iter().chain([0, 1]) {
                if answer > response_bytes_max as usize {
                    continue;
                }
                let body = asking_for(answer, request);
                let id = call(&mut subnet, 0, 1, body.clone());
                let result = outcome(&mut subnet, 0, id);
                assert!(result == Ok(answer_to(&body)), "{request} for {answer}: {result:?}");
                let (_, received) = subnet.application.desks[1].requests.pop().expect("one");
                assert!(received.body == body);
            }
        }
        subnet.elapse(Duration::from_secs(1));
        for at in 0..2 {
            assert!(subnet.application.desks[at].faults.is_empty());
        }
    }
}

#[test]
fn the_caller_learns_why_there_is_no_answer() {
    let mut subnet = connected(Setup::new(&config(|_| {}), 2));
    let retry_after = Duration::from_millis(1234);
    for (manner, error) in [
        (Manner::Busy(retry_after), CallError::Busy { retry_after }),
        (Manner::Drop, CallError::Dropped),
        (Manner::Keep, CallError::DeadlinePassed),
    ] {
        for length in [8, 100_000] {
            subnet.application.desks[1].manner = manner;
            let id = call(&mut subnet, 0, 1, asking_for(0, length));
            assert_eq!(outcome(&mut subnet, 0, id), Err(error), "{length}");
        }
    }
}
