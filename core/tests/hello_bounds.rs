//! Bounds of channels in hellos: who takes all that another may send.

use slotcast::id::ChannelId;
use slotcast::wire::ChannelHello;

#[test]
fn a_receiver_takes_all_of_a_sender_with_equal_or_narrower_bounds() {
    let bounds = ChannelHello {
        id: ChannelId(1),
        slots_max: 10,
        artifact_bytes_max: 1000,
        push_bytes_max: 100,
        relay_hops_max: 4,
        sender_matters: false,
    };
    assert!(bounds.takes_all_of(&bounds));
    let wider = [
        ChannelHello { slots_max: 11, ..bounds },
        ChannelHello { artifact_bytes_max: 1001, ..bounds },
        ChannelHello { push_bytes_max: 101, ..bounds },
        ChannelHello { relay_hops_max: 5, ..bounds },
    ];
    for wider in wider {
        assert!(wider.takes_all_of(&bounds), "{wider:?}");
        assert!(!bounds.takes_all_of(&wider), "{wider:?}");
    }
    let other = ChannelHello { sender_matters: true, ..bounds };
    assert!(!bounds.takes_all_of(&other) && !other.takes_all_of(&bounds));
    let other = ChannelHello { id: ChannelId(2), ..bounds };
    assert!(!bounds.takes_all_of(&other) && !other.takes_all_of(&bounds));
}
