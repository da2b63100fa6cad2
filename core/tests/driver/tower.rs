//! Both ends of a route as services.

use std::cell::{Cell, RefCell};
use std::convert::Infallible;
use std::future::{Future, Ready, pending, poll_fn, ready};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use slotcast::driver::Asked;
use slotcast::error::CallError;
use tower_service::Service;

use crate::subnet::{Subnet, Waiting, config, ms};

type Answer = Pin<Box<dyn Future<Output = Result<Bytes, &'static str>>>>;

/// Says "yes" to whom it knows, fails for "fail", and never answers "wait".
#[derive(Clone, Default)]
struct Oracle {
    is_closed: Rc<Cell<bool>>,
    /// Whether it takes no request, and who waits until it does.
    is_busy: Rc<Cell<bool>>,
    waits: Rc<RefCell<Option<Waker>>>,
    /// Futures of "wait" that have not been dropped.
    open: Rc<()>,
}

impl Service<Asked> for Oracle {
    type Response = Bytes;
    type Error = &'static str;
    type Future = Answer;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), &'static str>> {
        if self.is_busy.get() {
            *self.waits.borrow_mut() = Some(cx.waker().clone());
            return Poll::Pending;
        }
        Poll::Ready(if self.is_closed.get() { Err("closed") } else { Ok(()) })
    }

    fn call(&mut self, asked: Asked) -> Answer {
        match &asked.body[..] {
            b"fail" => Box::pin(ready(Err("failed"))),
            b"wait" => {
                let open = self.open.clone();
                Box::pin(async move {
                    let _open = open;
                    pending().await
                })
            }
            _ => Box::pin(ready(Ok([&asked.body[..], b": yes"].concat().into()))),
        }
    }
}

#[test]
fn a_member_and_a_server_are_services() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, oracle) = (subnet.serve(1), Oracle::default());
    let mut serving = Waiting::new(server.answer_with(oracle.clone()));
    assert_eq!(serving.poll(), None);
    let mut member = subnet.route(0).to(subnet.id(1));
    for (asked, said) in [("a", Ok("a: yes".into())), ("fail", Err(CallError::Dropped))] {
        subnet.run(poll_fn(|cx| Service::poll_ready(&mut member, cx))).expect("there is credit");
        let mut call = Waiting::new(Service::call(&mut member, Bytes::from(asked)));
        subnet.elapse(ms(100));
        assert_eq!(serving.poll(), None);
        subnet.elapse(ms(100));
        assert_eq!(call.poll(), Some(said));
    }
    oracle.is_closed.set(true);
    let _call = Service::call(&mut member, Bytes::from("b"));
    subnet.elapse(ms(100));
    assert_eq!(serving.poll(), Some(Err("closed")));
}

#[test]
fn a_service_that_is_not_ready_is_given_no_request() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, oracle) = (subnet.serve(1), Oracle::default());
    oracle.is_busy.set(true);
    let mut serving = Waiting::new(server.answer_with(oracle.clone()));
    let mut call = Waiting::new(subnet.route(0).call(subnet.id(1), "a"));
    assert_eq!((serving.poll(), call.poll()), (None, None));
    subnet.elapse(ms(100));
    assert_eq!((serving.poll(), call.poll()), (None, None));
    let other = subnet.run(server.next_request()).expect("it was not taken");
    other.answer("another's").expect("it waits");
    subnet.elapse(ms(100));
    assert_eq!(call.poll(), Some(Ok("another's".into())));
}

#[test]
fn what_a_service_does_for_a_caller_that_has_given_up_is_dropped() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, oracle) = (subnet.serve(1), Oracle::default());
    let mut serving = Waiting::new(server.answer_with(oracle.clone()));
    assert_eq!(serving.poll(), None);
    let call = subnet.route(0).call(subnet.id(1), "wait");
    subnet.elapse(ms(100));
    assert_eq!(serving.poll(), None);
    // The service itself, the test's, and the future's.
    assert_eq!(Rc::strong_count(&oracle.open), 3);
    drop(call);
    subnet.elapse(ms(100));
    assert_eq!(serving.poll(), None);
    assert_eq!(Rc::strong_count(&oracle.open), 2);
}

/// Keeps what it was asked, and answers with so many bytes.
struct Notes(Rc<RefCell<Vec<Asked>>>, usize);

impl Service<Asked> for Notes {
    type Response = Bytes;
    type Error = Infallible;
    type Future = Ready<Result<Bytes, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, asked: Asked) -> Self::Future {
        self.0.borrow_mut().push(asked);
        ready(Ok(vec![7; self.1].into()))
    }
}

#[test]
fn a_service_knows_who_asks_and_until_when_and_ends_with_the_node() {
    let mut subnet = Subnet::connected(2, &config());
    let (server, asked) = (subnet.serve(1), Rc::default());
    let mut serving = Waiting::new(server.answer_with(Notes(Rc::clone(&asked), 1)));
    assert_eq!(serving.poll(), None);
    let start = subnet.network.now();
    let mut call = Waiting::new(subnet.route(0).call_within(subnet.id(1), "a", ms(5000)));
    subnet.elapse(ms(100));
    assert_eq!((serving.poll(), call.poll()), (None, None));
    subnet.elapse(ms(100));
    assert_eq!(call.poll(), Some(Ok(vec![7].into())));
    let asked = asked.borrow();
    assert_eq!((asked[0].from, &asked[0].body[..]), (subnet.id(0), &b"a"[..]));
    let span = asked[0].deadline.duration_since(start);
    assert!(span > ms(4500) && span < ms(5500), "{span:?}");
    drop(subnet.node(1).shutdown());
    subnet.elapse(ms(5000));
    assert_eq!(serving.poll(), Some(Ok(())));
}

/// Longer than what has room in any case; and too long.
#[test]
fn a_service_waits_for_room_for_its_answer() {
    const LONG: usize = 1 << 20;
    let mut config = config();
    config.routes[0].response_bytes_max = LONG as u32;
    for (length, said) in [(LONG, Ok(LONG)), (LONG + 1, Err(CallError::Dropped))] {
        let mut subnet = Subnet::connected(2, &config);
        let server = subnet.serve(1);
        let mut serving = Waiting::new(server.answer_with(Notes(Rc::default(), length)));
        let mut call = Waiting::new(subnet.route(0).call(subnet.id(1), "a"));
        let got = loop {
            assert_eq!((serving.poll(), subnet.elapse(ms(10))), (None, ()));
            if let Some(got) = call.poll() {
                break got;
            }
        };
        assert_eq!(got.map(|answer| answer.len()), said);
    }
}

/// Ready means credit.
#[test]
fn a_member_is_ready_when_it_has_credit() {
    let mut config = config();
    config.routes[0].in_flight_max = 1;
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let [mut first, mut second] = [(); 2].map(|()| subnet.route(0).to(subnet.id(1)));
    subnet.run(poll_fn(|cx| Service::poll_ready(&mut first, cx))).expect("there is credit");
    let call = Service::call(&mut first, Bytes::from("a"));
    let mut ready = Waiting::new(poll_fn(|cx| Service::poll_ready(&mut second, cx)));
    subnet.elapse(ms(100));
    assert_eq!(ready.poll(), None);
    subnet.run(server.next_request()).expect("a request").answer("b").expect("it waits");
    assert_eq!(subnet.run(call), Ok("b".into()));
    subnet.elapse(ms(100));
    assert_eq!(ready.poll(), Some(Ok(())));
}

/// As in `answer_room`: of two long answers, one has room at a time.
#[test]
fn a_service_whose_answer_has_no_room_is_not_busy_but_waits() {
    const LONG: u32 = 1 << 20;
    let mut config = config();
    let route = &mut config.routes[0];
    (route.request_bytes_max, route.response_bytes_max) = (100, LONG);
    route.body_bytes_max = 10 * u64::from(LONG);
    let mut subnet = Subnet::connected(2, &config);
    let server = subnet.serve(1);
    let (route, callee) = (subnet.route(0), subnet.id(1));
    let mut calls = [(); 2].map(|()| Waiting::new(route.call(callee, "a")));
    let first = subnet.run(server.next_request()).expect("a request");
    assert_eq!(subnet.run(first.room(LONG)), Ok(()));
    let mut serving = Waiting::new(server.answer_with(Notes(Rc::default(), LONG as usize)));
    for _ in 0..10 {
        assert_eq!((serving.poll(), subnet.elapse(ms(10))), (None, ()));
    }
    assert!(calls.iter_mut().all(|call| call.poll().is_none()));
    first.answer(vec![7; LONG as usize]).expect("it waits");
    let mut answered = [false; 2];
    while answered != [true; 2] {
        assert_eq!((serving.poll(), subnet.elapse(ms(10))), (None, ()));
        for (call, answered) in calls.iter_mut().zip(&mut answered) {
            let got = call.poll().map(|got| got.map(|answer| answer.len()));
            *answered |= got.inspect(|got| assert_eq!(*got, Ok(LONG as usize))).is_some();
        }
    }
}
