//! The specification (`WIRE.md`) and the golden vectors agree: a decoder in Python that follows it, and shares no
//! code with the crate, reads every one of them. Where there is no Python, the tests say so and show nothing.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// What the decoder has to say of the vectors in a folder; `None` without Python.
fn decode(vectors: &Path) -> Option<Output> {
    let decoder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/wire_decoder.py");
    match Command::new("python3").arg(decoder).arg(vectors).output() {
        Ok(output) => Some(output),
        Err(error) => {
            println!("not tested: python3 does not run here ({error})");
            None
        }
    }
}

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

/// A copy of the vectors, in a folder of this name.
fn copy(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    for entry in fs::read_dir(golden()).unwrap() {
        let path = entry.unwrap().path();
        fs::copy(&path, folder.join(path.file_name().unwrap())).unwrap();
    }
    folder
}

#[test]
fn a_second_decoder_reads_every_vector() {
    let Some(output) = decode(&golden()) else { return };
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
}

/// Otherwise it might look at nothing.
#[test]
fn it_notices_one_that_has_changed_one_that_is_new_and_one_that_is_gone() {
    for (name, hex) in [
        ("update_push", "010e05404600016d077061796c6f6165"),
        ("update_clear", "00058000ffff00"),
        ("id_keyed_small", "05"),
        ("call_head_tell", "30 06 07 43e8 00 05 00"),
        ("a_new_one", "00"),
    ] {
        let vectors = copy("changed");
        fs::write(vectors.join(name).with_extension("hex"), hex).unwrap();
        let Some(output) = decode(&vectors) else { return };
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(!output.status.success() && said.starts_with(name), "{name}: {said}");
        assert!(!said.contains("\nupdate") && !said.contains("\nid"), "no other one: {said}");
    }
    let vectors = copy("changed");
    fs::remove_file(vectors.join("chunk.hex")).unwrap();
    let Some(output) = decode(&vectors) else { return };
    assert!(!output.status.success() && output.stdout.starts_with(b"chunk:"));
}
