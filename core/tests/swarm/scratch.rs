use slotcast::broadcast::Event;
use slotcast::config::{ChannelConfig, Class, Config};
use slotcast::id::ChannelId;
use slotcast::sim::{Application, Context, Sent, Setup, Subnet};
use crate::common::{CHANNEL, OTHER, artifact, ms, small};
use crate::subnet::limit;

struct A;
impl Application for A {
    fn handle_event(&mut self, node: &mut Context<'_>, channel: ChannelId, _: Event) {
        println!("{} {} delivered {}", node.time().0/1000000, node.at(), channel.0);
    }
    fn watches_written(&self) -> bool { true }
    fn handle_written(&mut self, w: &Sent<'_>) {
        println!("{} {}->{} written {}", w.time.0/1000000, w.from, w.to, w.bytes.len());
    }
}

#[test]
fn scratch() {
    let urgent = ChannelConfig::new(CHANNEL).class(Class::Urgent);
    let bulk = ChannelConfig::new(OTHER).class(Class::Bulk);
    let mut subnet = Subnet::new(Setup::new(&Config::new([urgent, bulk]), 2), A);
    subnet.elapse(ms(500));
    subnet.network.each_link(|_, _, link| {
        limit(link, 2_000_000);
        link.queue_bytes_max = 80_000;
    });
    let block = artifact(1000, 5 << 20);
    subnet.command(0, |_, node| node.publish(OTHER, block)).expect("room").unwrap();
    for step in 0..20 {
        subnet.elapse(ms(50));
        println!("{} publish", subnet.now().0/1000000);
        subnet.command(0, |_, node| node.publish(CHANNEL, small(step))).expect("room").unwrap();
    }
    subnet.elapse(ms(4000));
}
