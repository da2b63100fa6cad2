//! Runs simulated subnets.
use slotcast::sim::Plan;
fn main() {
    let args: Vec<u64> = std::env::args().skip(1).map(|a| a.parse().unwrap()).collect();
    let mut failed = 0;
    let t = std::time::Instant::now();
    let mut virt = 0.0;
    for seed in args[0]..=args[1] {
        let t = std::time::Instant::now();
        let mut plan = Plan::draw(seed);
        let filter = std::env::var("F").unwrap_or_default();
        plan.keep_trace = !filter.is_empty();
        let report = plan.run();
        for e in &report.trace {
            let l = format!("{e}");
            if l.contains(&filter) {
                println!("{l}");
            }
        }
        virt += report.virtual_time.as_secs_f64();
        let ok = report.failure.is_none();
        failed += u64::from(!ok);
        println!(
            "seed {seed} n {} byz {:?} {} delivered {} conv {:?} p50 {:?} {:?} virt {:?} wall {:?} hash {:x}",
            report.nodes,
            report.hostile,
            if ok { "ok" } else { "FAILED" },
            report.delivered,
            report.converged_in,
            report.latencies.p50,
            report.bytes,
            report.virtual_time,
            t.elapsed(),
            report.trace_hash
        );
        if let Some(f) = report.failure {
            println!("{f}");
        }
    }
    println!("{failed} failed, {:.1} virtual / {:.1} wall", virt, t.elapsed().as_secs_f64());
}
