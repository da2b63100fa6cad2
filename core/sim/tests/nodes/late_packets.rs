//! Packets that arrive after their connection was forgotten.

use slotcast_sim::{self, Application, Context, Sent, Setup, Subnet};

use slotcast_testkit::machines::{config, ms};

/// Long packets of the member that listens, as they were sent.
struct Overheard(Vec<Vec<u8>>);

impl Application for Overheard {
    fn handle_event(
        &mut self,
        _: &mut Context<'_>,
        _: slotcast::id::ChannelId,
        _: slotcast::broadcast::Event,
    ) {
    }

    fn handle_sent(&mut self, sent: &Sent<'_>) {
        if sent.from == 1 && sent.bytes[0] & 0x80 != 0 {
            self.0.push(sent.bytes.to_vec());
        }
    }
}

/// They go to a connection id of the dialler's making, by which it knows them after a restart, too.
#[test]
fn late_packets_of_a_handshake_begin_no_other() {
    let mut subnet = Subnet::new(Setup::new(&config(|_| {}), 2), Overheard(Vec::new()));
    subnet.run_until("connected", ms(2000), |subnet| subnet.is_up(0, 1));
    let late = std::mem::take(&mut subnet.application.0);
    assert!(!late.is_empty());
    (0..2).for_each(|at| subnet.crash(at, slotcast_sim::FaultKind::CrashAndForget));
    subnet.start(0);
    for datagram in &late {
        subnet.inject(1, 0, datagram);
    }
    // A handshake that nobody goes on with would have been given up by then, and counted.
    subnet.elapse(2 * config(|_| {}).transport.hello_timeout);
    let stats = subnet.node(0).expect("it runs").stats();
    assert_eq!((stats.refused, stats.strangers), (0, 0), "{stats:?}");
}
