//! Holders that have failed are expected to be slower, and asked after others.

use slotcast::broadcast::{Decision, Priority, RequestId};
use slotcast::wire::Refusal;
use slotcast_testkit::machines::{CHANNEL, Frame, Solo, config, large, steered};

const FETCH: Decision = Decision::Fetch(Priority::Normal);

fn fetches(frames: Vec<Frame>) -> Vec<RequestId> {
    let request = |frame| match frame {
        Frame::Fetch { request, .. } => Some(RequestId(request)),
        _ => None,
    };
    frames.into_iter().filter_map(request).collect()
}

/// Which of two holders is asked first, after the first one has refused so many times.
fn asked_first(refusals: u64) -> usize {
    let mut solo = Solo::new(&config(|_| {}), 2);
    let (decision, filter) = steered(FETCH);
    solo.machine.set_filter(CHANNEL, filter);
    for number in 1..=refusals {
        solo.advert(0, 0, 2 * number, &large(number));
        let request = fetches(solo.sent(0)).pop().expect("it is asked");
        solo.refuse(0, request, Refusal::NotHeld);
        solo.clear(0, 0, 2 * number + 1);
    }
    // Both are known when it is decided.
    *decision.lock().unwrap() = Decision::Later;
    let block = large(100);
    solo.advert(0, 1, 100, &block);
    solo.advert(1, 1, 100, &block);
    *decision.lock().unwrap() = FETCH;
    solo.reconsider();
    let asked = [0, 1].map(|at| fetches(solo.sent(at)).len());
    assert!(asked == [1, 0] || asked == [0, 1], "{asked:?}");
    asked[1]
}

#[test]
fn a_holder_that_refuses_is_asked_after_one_that_has_done_nothing_yet() {
    let first = asked_first(0);
    assert_eq!(first, 0, "they are equal, and this one was heard of first");
    for refusals in [3, 5] {
        assert_eq!(asked_first(refusals), 1);
    }
}
