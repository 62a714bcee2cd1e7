//! `benches/measure` fills every place for a table in docs/performance.md, and every bench has its places.

use std::collections::BTreeMap;
use std::fs;

use crate::generated::path;

#[test]
fn every_table_of_a_bench_has_its_place_in_the_document() {
    let files = fs::read_dir(path("benches")).unwrap().map(|entry| entry.unwrap().path());
    let benches = files.filter(|file| file.extension().is_some_and(|it| it == "rs"));
    let tables = |text: String| text.matches("table::print(").count();
    let printed: BTreeMap<String, usize> = benches
        .map(|file| (file.file_stem().unwrap().to_str().unwrap().to_owned(), tables(fs::read_to_string(file).unwrap())))
        .collect();

    let document = fs::read_to_string(path("docs/performance.md")).unwrap();
    let mut places = BTreeMap::new();
    for place in document.split("<!-- bench: ").skip(1) {
        let bench = place.split([' ', '\n']).next().unwrap();
        *places.entry(bench.to_owned()).or_insert(0) += 1;
        let (filled, _) = place.split_once("<!-- /bench -->\n").unwrap_or_else(|| panic!("{bench}: it has no end"));
        assert!(filled.contains("\n| ") && filled.contains("\n|---|"), "{bench}: there is no table in its place");
    }
    assert_eq!(places, printed);
}
