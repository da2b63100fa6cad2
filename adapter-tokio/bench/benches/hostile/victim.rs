//! The member that is attacked: it publishes when it is told to, says when what was delivered to it, and answers calls.

use std::io::stdin;
use std::thread;

use slotcast_bench::options::Options;
use slotcast_bench::runtime::{Bench, Runtime, Task};
use slotcast_bench::subnet::all_up;

use crate::attack::{CHANNELS, ROUTE};
use crate::{HONEST, VICTIM, listen, process, publish, start};

/// What it says when it is connected to the others.
pub(crate) const UP: &str = "up";

pub(crate) struct Victim;

impl Bench for Victim {
    async fn run<R: Runtime>(_: Options) {
        let node = start::<R>(VICTIM, &process::addresses(), process::filters_addresses());
        let channel = node.channel(CHANNELS[0]).expect("configured");
        let listens = R::spawn(listen(channel.clone(), |at| println!("{}", at.as_nanos())));
        let server = node.route(ROUTE).expect("configured").serve().expect("served");
        let serves = R::spawn(async move {
            while let Some(request) = server.next_request().await {
                let answer = request.body().clone();
                // The attacker may have given up.
                let _ = request.answer(answer);
            }
        });
        all_up(std::slice::from_ref(&node), HONEST - 1).await;
        println!("{UP}");
        let (command, commands) = smol::channel::unbounded();
        thread::spawn(move || {
            for _ in stdin().lines().map_while(Result::ok) {
                let _ = command.try_send(());
            }
        });
        let mut last = None;
        for number in 1_u64.. {
            if commands.recv().await.is_err() {
                break;
            }
            if let Some(last) = last {
                channel.abort(&last);
            }
            // Others publish smaller numbers.
            last = Some(publish(&channel, u64::MAX - number));
        }
        listens.abort();
        serves.abort();
        node.shutdown().await.expect("sockets are sound");
    }
}
