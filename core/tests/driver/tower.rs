//! Both ends of a route as services.

use std::cell::{Cell, RefCell};
use std::future::{Future, pending, poll_fn, ready};
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
