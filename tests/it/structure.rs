//! The shape of the code: who imports whom, how long files and functions are. Read from the code itself.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};

use syn::spanned::Spanned;
use syn::visit::{self, Visit};
use syn::{Attribute, UseTree};

use crate::generated;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// Files of one module that import each other in a loop, with the reason. No more may come; one that is mended must go.
const LOOPS: [(&str, &[&str], &str); 2] = [
    ("demo", &["outcome", "traffic"], "an outcome is drawn from the traffic that it then changes"),
    (
        "settings",
        &["check", "environment", "store"],
        "variables name settings of the store as of relays, and both are checked alike",
    ),
];

/// Longer files, with the reason.
const LONG_FILES: [(&str, &str); 9] = [
    ("src/dashboards/zh.rs", "one table of words"),
    (
        "tests/it/claude_relay_service.rs",
        "one Redis and what each of its keys means, beside what the relay shows of it",
    ),
    ("tests/it/claude_relay_service/counters.rs", "each way in which a counter falls, with the same books and checks"),
    ("tests/it/cpa_manager.rs", "one file of the relay and what each of its columns means"),
    ("tests/it/differential.rs", "a second, naive implementation of every number, to be read from top to bottom"),
    ("tests/it/gemini_balance.rs", "one relay's database and what each of its columns means, in two dialects"),
    ("tests/it/histories.rs", "a language of histories, and what must hold after each word of it"),
    ("tests/it/settings.rs", "every mistake that can be made in a configuration, beside what is said about it"),
    ("tests/it/tally.rs", "a second, naive tally, to be read from top to bottom"),
];
const LONGEST_FILE: usize = 500;

/// Longer functions of the product, with the reason. A test tells one story, however long.
const LONG_FUNCTIONS: [(&str, &str); 1] =
    [("src/relays/claude_relay_service/demo.rs: book", "every key that the relay writes for a request, in its order")];
const LONGEST_FUNCTION: usize = 60;

/// Every Rust file below a folder of the project.
pub fn files(folder: &str) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![Path::new(ROOT).join(folder)];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|it| it == "rs") {
                found.push(path);
            }
        }
    }
    found.sort();
    found
}

fn shown(path: &Path) -> String {
    path.strip_prefix(ROOT).unwrap().display().to_string()
}

fn parsed(path: &Path) -> syn::File {
    syn::parse_file(&fs::read_to_string(path).unwrap()).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// `["store", "sqlite"]` for `src/store/sqlite.rs`.
fn module(path: &Path) -> Vec<String> {
    let path = path.strip_prefix(Path::new(ROOT).join("src")).unwrap().with_extension("");
    let mut words: Vec<_> = path.iter().map(|it| it.to_str().unwrap().to_owned()).collect();
    words.pop_if(|last| last == "mod");
    words
}

fn is_test(attributes: &[Attribute]) -> bool {
    attributes
        .iter()
        .any(|it| it.path().is_ident("cfg") && it.meta.require_list().unwrap().tokens.to_string() == "test")
}

/// The paths that a file names, from the crate's root.
struct Paths<'a> {
    module: &'a [String],
    found: Vec<Vec<String>>,
    /// Modules that are built for tests alone.
    test_only: Vec<String>,
}

impl Paths<'_> {
    fn note(&mut self, words: &[String]) {
        let above = words.iter().take_while(|it| *it == "super").count();
        self.found.push(match words.first().map(String::as_str) {
            Some("crate") => words[1..].to_vec(),
            Some("self") => [self.module, &words[1..]].concat(),
            Some("super") => {
                [&self.module[..self.module.len() - above.min(self.module.len())], &words[above..]].concat()
            }
            // A module beside or below, or another crate: the former is found by name later.
            _ => [self.module, words].concat(),
        });
    }

    fn note_tree(&mut self, before: &[String], tree: &UseTree) {
        let with = |name: &syn::Ident| [before, &[name.to_string()]].concat();
        match tree {
            UseTree::Path(path) => self.note_tree(&with(&path.ident), &path.tree),
            UseTree::Name(name) if name.ident == "self" => self.note(before),
            UseTree::Name(name) => self.note(&with(&name.ident)),
            UseTree::Rename(name) => self.note(&with(&name.ident)),
            UseTree::Glob(_) => self.note(before),
            UseTree::Group(group) => group.items.iter().for_each(|tree| self.note_tree(before, tree)),
        }
    }
}

impl<'ast> Visit<'ast> for Paths<'_> {
    fn visit_item_mod(&mut self, item: &'ast syn::ItemMod) {
        if is_test(&item.attrs) {
            self.test_only.push(item.ident.to_string());
        } else {
            visit::visit_item_mod(self, item);
        }
    }

    fn visit_item_use(&mut self, item: &'ast syn::ItemUse) {
        self.note_tree(&[], &item.tree);
    }

    fn visit_path(&mut self, path: &'ast syn::Path) {
        if path.segments.len() > 1 {
            self.note(&path.segments.iter().map(|it| it.ident.to_string()).collect::<Vec<_>>());
        }
        visit::visit_path(self, path);
    }
}

/// Every file's module and the modules that it imports.
fn imports() -> BTreeMap<Vec<String>, BTreeSet<Vec<String>>> {
    let files: Vec<_> = files("src").into_iter().map(|path| (module(&path), path)).collect();
    let known: BTreeSet<_> = files.iter().map(|(module, _)| module.clone()).collect();
    let mut test_only = Vec::new();
    let mut imports = BTreeMap::new();
    for (module, path) in &files {
        let mut paths = Paths { module, found: Vec::new(), test_only: Vec::new() };
        paths.visit_file(&parsed(path));
        test_only.extend(paths.test_only.iter().map(|it| [&module[..], std::slice::from_ref(it)].concat()));
        let owner =
            |path: &Vec<String>| (1..=path.len()).rev().map(|end| path[..end].to_vec()).find(|it| known.contains(it));
        let found: BTreeSet<_> = paths.found.iter().filter_map(owner).filter(|it| it != module).collect();
        imports.insert(module.clone(), found);
    }
    let is_test_only = |module: &Vec<String>| test_only.iter().any(|it| module.starts_with(it));
    imports.retain(|module, _| !is_test_only(module));
    imports.values_mut().for_each(|found| found.retain(|it| !is_test_only(it)));
    imports
}

/// The unit of the drawing: a module of the crate, or a relay's folder.
fn room(module: &[String]) -> String {
    let depth = if module[0] == "relays" { 2 } else { 1 };
    module[..depth.min(module.len())].join("/")
}

/// A loop through one of these, in order, if there is one.
fn find_loop<T: Ord + Clone>(imports: &BTreeMap<T, BTreeSet<T>>) -> Option<Vec<T>> {
    fn follow<T: Ord + Clone>(
        at: &T,
        imports: &BTreeMap<T, BTreeSet<T>>,
        way: &mut Vec<T>,
        done: &mut BTreeSet<T>,
    ) -> Option<Vec<T>> {
        if let Some(start) = way.iter().position(|it| it == at) {
            return Some(way[start..].to_vec());
        }
        if done.contains(at) {
            return None;
        }
        way.push(at.clone());
        let found = imports.get(at).into_iter().flatten().find_map(|next| follow(next, imports, way, done));
        way.pop();
        done.insert(at.clone());
        found
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|start| follow(start, imports, &mut Vec::new(), &mut done))
}

#[test]
fn the_drawing_is_the_graph_of_the_modules_and_has_no_circle() {
    let mut rooms: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (module, found) in imports() {
        let (room_of_it, entry) = (room(&module), ["lib", "main"].contains(&module[0].as_str()));
        if !entry {
            let others = found.iter().map(|it| room(it)).filter(|it| *it != room_of_it && *it != "lib");
            rooms.entry(room_of_it.clone()).or_default().extend(others);
        }
    }
    assert_eq!(find_loop(&rooms), None, "these import each other; what several need belongs below them");
    // A room stands above all that it imports.
    let mut floors: BTreeMap<&str, usize> = BTreeMap::new();
    // No way through rooms without a circle is longer than their number.
    for _ in &rooms {
        for (room, below) in &rooms {
            let highest = below.iter().filter_map(|it| floors.get(it.as_str())).max();
            floors.insert(room, highest.map_or(1, |it| it + 1));
        }
    }
    let mut drawing = String::new();
    for floor in (1..=floors.values().copied().max().unwrap()).rev() {
        let on_it: Vec<_> = floors.iter().filter(|it| *it.1 == floor).map(|it| *it.0).collect();
        writeln!(drawing, "//! {floor:2}  {}", on_it.join("  ")).unwrap();
    }
    let lib = "src/lib.rs";
    let text = fs::read_to_string(generated::path(lib)).unwrap();
    let (before, rest) = text.split_once("//! ```text floors\n").expect("lib.rs draws the floors");
    let (_, after) = rest.split_once("//! ```\n").unwrap();
    generated::file(lib, &format!("{before}//! ```text floors\n{drawing}//! ```\n{after}"));
}

#[test]
fn files_of_one_module_import_each_other_in_one_direction() {
    let mut inside: BTreeMap<String, BTreeMap<String, BTreeSet<String>>> = BTreeMap::new();
    for (module, found) in imports() {
        let (folder, Some(name)) = (&module[..module.len() - 1], module.last()) else { continue };
        let beside = found.iter().filter(|it| it.len() > folder.len() && it.starts_with(folder));
        let beside = beside.map(|it| it[folder.len()].clone()).filter(|it| it != name);
        if !folder.is_empty() && folder != ["relays"] {
            inside.entry(folder.join("/")).or_default().entry(name.clone()).or_default().extend(beside);
        }
    }
    let mut loops = Vec::new();
    for (folder, imports) in &mut inside {
        while let Some(mut found) = find_loop(imports) {
            imports.retain(|name, _| !found.contains(name));
            found.sort();
            loops.push((folder.clone(), found));
        }
    }
    let allowed =
        LOOPS.map(|(folder, names, _)| (folder.to_owned(), names.iter().map(|it| (*it).to_owned()).collect()));
    assert_eq!(loops, allowed.to_vec(), "left: what is there; right: what is allowed");
}

/// Functions and their lines.
struct Functions {
    lines: Vec<(String, usize)>,
}

impl Functions {
    fn note(&mut self, name: &syn::Ident, body: &syn::Block) {
        let span: proc_macro2::Span = body.span();
        self.lines.push((name.to_string(), span.end().line - span.start().line + 1));
    }
}

impl<'ast> Visit<'ast> for Functions {
    fn visit_item_fn(&mut self, function: &'ast syn::ItemFn) {
        self.note(&function.sig.ident, &function.block);
        visit::visit_item_fn(self, function);
    }

    fn visit_impl_item_fn(&mut self, function: &'ast syn::ImplItemFn) {
        self.note(&function.sig.ident, &function.block);
        visit::visit_impl_item_fn(self, function);
    }
}

#[test]
fn files_and_functions_are_short_enough_to_read() {
    let mut long = (Vec::new(), Vec::new());
    for path in ["src", "tests", "benches"].into_iter().flat_map(files) {
        let name = shown(&path);
        let lines = fs::read_to_string(&path).unwrap().lines().count();
        if lines > LONGEST_FILE {
            long.0.push((name.clone(), lines));
        }
        if !name.starts_with("src") {
            continue;
        }
        let mut functions = Functions { lines: Vec::new() };
        functions.visit_file(&parsed(&path));
        let longer = functions.lines.into_iter().filter(|(_, lines)| *lines > LONGEST_FUNCTION);
        long.1.extend(longer.map(|(function, lines)| (format!("{name}: {function}"), lines)));
    }
    let surplus = |found: &[(String, usize)], allowed: &[(&str, &str)]| {
        let known = |name: &str| allowed.iter().any(|it| it.0 == name);
        let new = found.iter().filter(|it| !known(&it.0)).map(|(name, lines)| format!("{name} has {lines} lines"));
        let gone = allowed.iter().filter(|it| !found.iter().any(|(name, _)| name == it.0));
        new.chain(gone.map(|it| format!("{} is short now: remove it from the list", it.0))).collect::<Vec<_>>()
    };
    let problems = [surplus(&long.0, &LONG_FILES), surplus(&long.1, &LONG_FUNCTIONS)].concat();
    assert!(problems.is_empty(), "split it, or give the reason in the list:\n{}", problems.join("\n"));
}
