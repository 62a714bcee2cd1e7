//! YAML as a tree that knows its lines, so that every problem of a file is found at once and no value is ever printed.

use std::fmt;

use serde::de::{Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_saphyr::{Error, Spanned};

/// What is wrong, and in which line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    pub line: Option<u64>,
    pub text: String,
}

/// Everything that is wrong with a file.
#[derive(Default)]
pub(crate) struct Problems(pub Vec<Problem>);

impl Problems {
    pub(crate) fn add(&mut self, line: u64, text: impl Into<String>) {
        self.0.push(Problem { line: Some(line), text: text.into() });
    }
}

pub(crate) struct At<T> {
    pub line: u64,
    pub value: T,
}

enum Node {
    Nothing,
    Flag(bool),
    /// Numbers too: what they mean is up to the field.
    Text(String),
    List(Vec<Spanned<Node>>),
    Map(Vec<(Spanned<String>, Spanned<Node>)>),
}

/// A mapping whose fields are taken one by one; [`Section::finish`] refuses what nobody took.
pub(crate) struct Section {
    path: String,
    line: u64,
    fields: Vec<(At<String>, At<Node>)>,
    known: Vec<&'static str>,
}

/// # Errors
/// When the text is not YAML; a problem with its contents is added to `problems`.
pub(crate) fn parse(text: &str, problems: &mut Problems) -> Result<Section, Problem> {
    // The parser's excerpts would show what must stay secret.
    let options = serde_saphyr::options! { with_snippet: false };
    let root: Option<Spanned<Node>> =
        serde_saphyr::from_str_with_options(text, options).map_err(|error| problem(&error))?;
    let root = root.map_or(At { line: 1, value: Node::Nothing }, at);
    Ok(Section::new(String::new(), root, problems))
}

fn problem(error: &Error) -> Problem {
    let text = match error {
        Error::DuplicateMappingKey { .. } => "the same field stands here twice",
        Error::MultipleDocuments { .. } => "only one YAML document is allowed",
        _ => "not valid YAML here; check the indentation, the colons and the quotes",
    };
    let line = error.location().map(|location| location.line()).filter(|line| *line > 0);
    Problem { line, text: text.into() }
}

fn at<T>(spanned: Spanned<T>) -> At<T> {
    At { line: spanned.referenced.line(), value: spanned.value }
}

impl Section {
    fn new(path: String, node: At<Node>, problems: &mut Problems) -> Self {
        let fields = match node.value {
            Node::Map(fields) => fields.into_iter().map(|(key, value)| (at(key), at(value))).collect(),
            Node::Nothing => Vec::new(),
            _ => {
                let place = if path.is_empty() { "the file" } else { &path };
                problems.add(node.line, format!("{place} must hold fields, each as name: value"));
                Vec::new()
            }
        };
        Self { path, line: node.line, fields, known: Vec::new() }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    pub(crate) fn line(&self) -> u64 {
        self.line
    }

    /// The full name of a field, for problems.
    pub(crate) fn name(&self, field: &str) -> String {
        if self.path.is_empty() { field.to_owned() } else { format!("{}.{field}", self.path) }
    }

    fn take(&mut self, field: &'static str) -> Option<At<Node>> {
        self.known.push(field);
        let index = self.fields.iter().position(|(key, _)| key.value == field)?;
        let (key, node) = self.fields.swap_remove(index);
        // What is written over several lines is found by its name.
        (!matches!(node.value, Node::Nothing)).then_some(At { line: key.line, ..node })
    }

    fn refuse<T>(&self, line: u64, field: &str, wanted: &str, problems: &mut Problems) -> Option<T> {
        problems.add(line, format!("{} must be {wanted}", self.name(field)));
        None
    }

    pub(crate) fn section(&mut self, field: &'static str, problems: &mut Problems) -> Self {
        let line = self.line;
        let node = self.take(field).unwrap_or(At { line, value: Node::Nothing });
        Self::new(self.name(field), node, problems)
    }

    /// Empty text counts as absent, as with other exporters.
    pub(crate) fn text(&mut self, field: &'static str, problems: &mut Problems) -> Option<At<String>> {
        let At { line, value } = self.take(field)?;
        match value {
            Node::Text(text) => (!text.is_empty()).then_some(At { line, value: text }),
            _ => self.refuse(line, field, "text", problems),
        }
    }

    pub(crate) fn flag(&mut self, field: &'static str, problems: &mut Problems) -> Option<bool> {
        let At { line, value } = self.take(field)?;
        match value {
            Node::Flag(flag) => Some(flag),
            _ => self.refuse(line, field, "true or false", problems),
        }
    }

    pub(crate) fn texts(&mut self, field: &'static str, problems: &mut Problems) -> Option<At<Vec<At<String>>>> {
        let At { line, value } = self.take(field)?;
        let Node::List(items) = value else { return self.refuse(line, field, "a list of texts", problems) };
        let items = items.into_iter().filter_map(|item| match item.value {
            Node::Text(text) => Some(At { line: item.referenced.line(), value: text }),
            _ => self.refuse(item.referenced.line(), field, "a list of texts", problems),
        });
        Some(At { line, value: items.collect() })
    }

    /// Everything in a mapping whose names are the user's own.
    pub(crate) fn into_texts(self, problems: &mut Problems) -> Vec<(At<String>, String)> {
        let Self { path, fields, .. } = self;
        let texts = fields.into_iter().filter_map(|(key, node)| {
            if let Node::Text(text) = node.value {
                return Some((key, text));
            }
            problems.add(key.line, format!("{path}: each value must be text"));
            None
        });
        texts.collect()
    }

    pub(crate) fn finish(self, problems: &mut Problems) {
        for (key, _) in &self.fields {
            // A name that cannot be a field may be a value that slipped: it stays unsaid.
            let plain = |c: char| c.is_ascii_alphabetic() || matches!(c, '_' | '-');
            let name = match &*key.value {
                name if name.len() <= 40 && name.chars().all(plain) => self.name(name),
                _ => self.name("(a field that has no such name)"),
            };
            problems.add(key.line, format!("{name} is unknown; known here: {}", self.known.join(", ")));
        }
    }
}

impl<'de> Deserialize<'de> for Node {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(NodeVisitor)
    }
}

struct NodeVisitor;

impl<'de> Visitor<'de> for NodeVisitor {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("YAML")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Nothing)
    }

    fn visit_bool<E>(self, flag: bool) -> Result<Node, E> {
        Ok(Node::Flag(flag))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_u64<E>(self, number: u64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Node, E> {
        Ok(Node::Text(number.to_string()))
    }

    fn visit_str<E>(self, text: &str) -> Result<Node, E> {
        Ok(Node::Text(text.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Node, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element()? {
            list.push(item);
        }
        Ok(Node::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Node, A::Error> {
        let mut map = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            map.push(entry);
        }
        Ok(Node::Map(map))
    }
}
