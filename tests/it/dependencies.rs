//! A dependency that nothing uses still costs time to build, and trust.

use std::fs;
use std::path::{Path, PathBuf};

use regex::Regex;
use toml::de::DeTable;

use crate::generated::path;

/// All lines of code below a folder; a comment uses nothing.
fn code(folder: &Path) -> String {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let of = |path: PathBuf| match path.extension() {
        _ if path.is_dir() => code(&path),
        Some(extension) if extension == "rs" => fs::read_to_string(&path).unwrap(),
        _ => String::new(),
    };
    let text: String = entries.map(of).collect();
    text.lines().filter(|line| !line.trim_start().starts_with("//")).map(|line| format!("{line}\n")).collect()
}

#[test]
fn every_dependency_is_named_in_the_code() {
    let manifest = fs::read_to_string(path("Cargo.toml")).unwrap();
    let manifest = DeTable::parse(&manifest).unwrap();
    let mut unused = Vec::new();
    for (section, folders) in [("dependencies", &["src"][..]), ("dev-dependencies", &["src", "tests", "benches"])] {
        let code: String = folders.iter().map(|folder| code(&path(folder))).collect();
        for name in manifest.get_ref()[section].get_ref().as_table().unwrap().keys() {
            let name = name.get_ref();
            let first_in_a_path = format!(r"(?m)(^|[^\w:]){}::", name.replace('-', "_"));
            if !Regex::new(&first_in_a_path).unwrap().is_match(&code) {
                unused.push(format!("{section}: {name}"));
            }
        }
    }
    assert!(unused.is_empty(), "{unused:?}");
}
