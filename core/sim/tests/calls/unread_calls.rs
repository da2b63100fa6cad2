//! Requests that nobody reads, at the most that a caller may have under way (invariant 16).

use std::time::Duration;

use slotcast_sim::Setup;

use crate::office::{Manner, asking_for, config, connected, publish, try_call};

const CALLER: usize = 1;
const CALLEE: usize = 0;

/// Four times as many bytes of requests as the window for everything else has.
#[test]
fn updates_pass_by_as_many_unread_requests_as_there_can_be() {
    const EAGER: usize = 16 << 10;
    let mut config = config(|route| {
        (route.in_flight_max, route.deadline) = (512, Duration::from_secs(100));
    });
    config.transport.receive_window = 2 << 20;
    let mut subnet = connected(Setup::new(&config, 2));
    subnet.application.desks[CALLEE].manner = Manner::Ignore;
    let mut call =
        |_: &i32| try_call(&mut subnet, CALLER, CALLEE, asking_for(100, EAGER), None).is_ok();
    let calls = (0..2000).take_while(&mut call).count();
    assert!(calls >= 512 && calls * EAGER > 8 << 20, "{calls}");
    subnet.elapse(Duration::from_secs(2));
    publish(&mut subnet, CALLER, 0);
    subnet.run_until("the update has passed by", Duration::from_secs(1), |subnet| {
        subnet.application.desks[CALLEE].delivered.len() == 1
    });
}
