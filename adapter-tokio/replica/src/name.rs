//! Names of artifacts, which any member chooses, as names of files, which are ours.
//!
//! Invariants:
//! 1. A file name is one component inside its folder, on any system: no separator, no `.` or `..`,
//!    not empty, not hidden, at most [`FILE_NAME_BYTES_MAX`] bytes.
//! 2. Different names have different file names, since the bytes can be read back: what is not
//!    harmless is written as `%` and two hexadecimal digits per byte, and so is `%` itself.
//! 3. An ordinary name is its own file name.

use std::fmt::Write;

/// Longest file name, in bytes: what common file systems take.
const FILE_NAME_BYTES_MAX: usize = 255;

/// The file name for an artifact's name; `None` if it would be too long.
pub(crate) fn file_name(name: &[u8]) -> Option<String> {
    if name.is_empty() {
        // The encoding of no other name: there, two digits follow.
        return Some("%".into());
    }
    // A leading dot hides a file, and a trailing dot or space is dropped by some systems.
    let last = name.len() - 1;
    let mut encoded = String::new();
    let mut at = 0;
    for part in name.utf8_chunks() {
        for char in part.valid().chars() {
            let is_first_dot = at == 0 && char == '.';
            let is_last_blank = at == last && matches!(char, '.' | ' ');
            if is_harmless(char) && !is_first_dot && !is_last_blank {
                encoded.push(char);
            } else {
                escape(&mut encoded, char.encode_utf8(&mut [0; 4]).as_bytes());
            }
            at += char.len_utf8();
        }
        escape(&mut encoded, part.invalid());
        at += part.invalid().len();
    }
    (encoded.len() <= FILE_NAME_BYTES_MAX).then_some(encoded)
}

fn escape(encoded: &mut String, bytes: &[u8]) {
    for byte in bytes {
        write!(encoded, "%{byte:02X}").expect("a string takes all");
    }
}

/// Whether a character may stand in a file name anywhere, and shows as what it is.
fn is_harmless(char: char) -> bool {
    match char {
        '/' | '\\' | ':' | '*' | '?' | '"' | '<' | '>' | '|' | '%' => false,
        ' '..='~' => true,
        // Neither controls, nor what turns the writing direction, nor accents that combine with
        // the letter before: some file systems take them for the letter that has the accent.
        _ => !char.is_ascii() && char.escape_debug().count() == 1,
    }
}
