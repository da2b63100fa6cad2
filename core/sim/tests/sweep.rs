//! Whole subnets under drawn faults and hostile members, by seed: every invariant is checked in
//! every run, and each run is taken twice. The example `simulate` runs any number of them.

use slotcast_sim::{Crypto, Plan};

/// Runs each seed twice.
fn sweep(seeds: std::ops::RangeInclusive<u64>, crypto: Crypto) {
    for seed in seeds {
        let mut plan = Plan::draw(seed);
        plan.crypto = crypto;
        let first = plan.run();
        first.assert_good();
        let second = plan.run();
        assert_eq!(first, second, "seed {seed} takes the same course twice");
    }
}

/// In parts, which the test runner spreads over the cores.
macro_rules! parts {
    ($($name:ident: $seeds:expr, $crypto:expr;)+) => {
        $(#[test]
        fn $name() {
            sweep($seeds, $crypto);
        })+
    };
}

parts! {
    seeds_1_to_25: 1..=25, Crypto::Null;
    seeds_26_to_50: 26..=50, Crypto::Null;
    seeds_51_to_75: 51..=75, Crypto::Null;
    seeds_76_to_100: 76..=100, Crypto::Null;
    seeds_101_to_125: 101..=125, Crypto::Null;
    seeds_126_to_150: 126..=150, Crypto::Null;
    seeds_151_to_175: 151..=175, Crypto::Null;
    seeds_176_to_200: 176..=200, Crypto::Null;
    seeds_1_to_10_over_tls: 1..=10, Crypto::Tls;
    seeds_11_to_20_over_tls: 11..=20, Crypto::Tls;
    seeds_21_to_30_over_tls: 21..=30, Crypto::Tls;
    seeds_31_to_40_over_tls: 31..=40, Crypto::Tls;
}
