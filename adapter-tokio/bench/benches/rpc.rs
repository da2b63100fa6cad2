//! Calls beside plain quinn: see `slotcast_bench::calls`.
//!
//! `cargo bench -p slotcast-bench --bench rpc [-- --runtime smol --seconds S --rounds R --only NAME]`

use slotcast_bench::calls::bench;
use slotcast_bench::runtime::{Smol, Tokio};

#[tokio::main]
async fn main() {
    let runtime = std::env::args().skip_while(|argument| argument != "--runtime").nth(1);
    match runtime.as_deref() {
        // In a task: the main thread's future is polled less eagerly.
        None | Some("tokio") => tokio::spawn(bench::<Tokio>()).await.expect("it does not panic"),
        Some("smol") => smol::spawn(bench::<Smol>()).await,
        Some(other) => panic!("no runtime {other}"),
    }
}
