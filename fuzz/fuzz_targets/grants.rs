#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| slotcast_testkit::fuzz::grants(data));
