//! What is written from the code or by the tests: whole files, and parts of documents between two marks. Each is held
//! against its file in every run; `tests/regenerate` writes them.

use std::path::{Path, PathBuf};

/// Whether generated files are to be written.
pub fn is_wanted() -> bool {
    std::env::var_os("REGENERATE").is_some()
}

/// A path below the root of the project.
pub fn path(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(file)
}

/// Holds a file against its text, or writes it.
pub fn file(file: &str, text: &str) {
    if is_wanted() {
        std::fs::write(path(file), text).unwrap();
    }
    let written = std::fs::read_to_string(path(file)).unwrap();
    let differ = written.lines().zip(text.lines()).find(|(was, is)| was != is);
    assert!(written == text, "{file} is stale: run tests/regenerate; first, was and is: {differ:#?}");
}

/// The part of a document between the marks of this name.
pub struct Part {
    file: &'static str,
    head: String,
    pub written: String,
    tail: String,
}

impl Part {
    pub fn of(file: &'static str, name: &str) -> Self {
        let document = std::fs::read_to_string(path(file)).unwrap();
        let (begin, end) = (format!("<!-- {name}: generated -->\n"), format!("<!-- end of {name} -->\n"));
        let (before, rest) = document.split_once(&begin).unwrap();
        let (written, after) = rest.split_once(&end).unwrap();
        Self { file, head: before.to_owned() + &begin, written: written.to_owned(), tail: end + after }
    }

    /// Holds the part against its text, or writes it.
    pub fn hold(&self, text: &str) {
        file(self.file, &format!("{}{text}{}", self.head, self.tail));
    }
}
