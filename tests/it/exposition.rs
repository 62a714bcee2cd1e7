//! A strict reader of both exposition formats: whatever the specification does not allow fails the test.

use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    OpenMetrics,
    Text,
}

/// A family as written; `name` is the one in its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Family {
    pub name: String,
    pub kind: String,
    pub help: String,
    pub samples: Vec<Sample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub name: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

impl Sample {
    pub fn label(&self, name: &str) -> &str {
        self.labels.get(name).unwrap_or_else(|| panic!("{self:?} has no label {name}"))
    }
}

pub fn parse(page: &[u8], dialect: Dialect) -> Vec<Family> {
    let page = std::str::from_utf8(page).expect("a page is UTF-8");
    let body = match dialect {
        Dialect::OpenMetrics => page.strip_suffix("# EOF\n").expect("the page ends with # EOF"),
        Dialect::Text => page,
    };
    assert!(body.is_empty() || body.ends_with('\n'), "the last line has no end");
    let mut families: Vec<Family> = Vec::new();
    let mut lines = body.split_terminator('\n');
    while let Some(line) = lines.next() {
        let Some(header) = line.strip_prefix("# HELP ") else {
            let family = families.last_mut().unwrap_or_else(|| panic!("sample before any header: {line}"));
            family.samples.push(sample(line));
            continue;
        };
        let (name, help) = header.split_once(' ').unwrap_or_else(|| panic!("no help text: {line}"));
        let types = lines.next().and_then(|line| line.strip_prefix("# TYPE ")).expect("# TYPE follows # HELP");
        let kind = types.strip_prefix(name).and_then(|rest| rest.strip_prefix(' ')).expect("# TYPE of the same family");
        let help = unescape(help, dialect == Dialect::OpenMetrics);
        families.push(Family { name: name.into(), kind: kind.into(), help, samples: Vec::new() });
    }
    check(&families, dialect);
    families
}

/// Every sample, by its name and labels.
pub fn series(families: &[Family]) -> BTreeMap<(String, BTreeMap<String, String>), f64> {
    let samples = families.iter().flat_map(|family| &family.samples);
    samples.map(|sample| ((sample.name.clone(), sample.labels.clone()), sample.value)).collect()
}

fn sample(line: &str) -> Sample {
    let end = line.find(['{', ' ']).unwrap_or_else(|| panic!("no value: {line}"));
    let (name, mut rest) = line.split_at(end);
    assert!(is_name(name, true), "name of {line}");
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        loop {
            let (label, after) = rest.split_once("=\"").unwrap_or_else(|| panic!("label of {line}"));
            assert!(is_name(label, false), "label name {label:?} of {line}");
            let end = closing_quote(after).unwrap_or_else(|| panic!("open quote in {line}"));
            let value = unescape(&after[..end], true);
            assert!(labels.insert(label.to_owned(), value).is_none(), "label {label} twice in {line}");
            rest = &after[end + 1..];
            match rest.strip_prefix(',') {
                Some(more) => rest = more,
                None => break,
            }
        }
        rest = rest.strip_prefix('}').unwrap_or_else(|| panic!("labels not closed in {line}"));
    }
    let value = rest.strip_prefix(' ').unwrap_or_else(|| panic!("no blank before the value of {line}"));
    assert!(value.starts_with(|c: char| c.is_ascii_digit() || c == '-'), "value of {line}");
    Sample { name: name.into(), labels, value: value.parse().unwrap_or_else(|_| panic!("value of {line}")) }
}

fn is_name(name: &str, colon: bool) -> bool {
    let letter = |c: char| c.is_ascii_alphabetic() || c == '_' || (colon && c == ':');
    name.starts_with(letter) && name.chars().all(|c| letter(c) || c.is_ascii_digit())
}

fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let closes = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        closes
    })
}

fn unescape(text: &str, quotes: bool) -> String {
    let mut plain = String::new();
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some('\\') => plain.push('\\'),
                Some('n') => plain.push('\n'),
                Some('"') if quotes => plain.push('"'),
                other => panic!("unknown escape {other:?} in {text:?}"),
            },
            '"' if quotes => panic!("bare quote in {text:?}"),
            _ => plain.push(c),
        }
    }
    plain
}

fn check(families: &[Family], dialect: Dialect) {
    let mut names = BTreeSet::new();
    let mut seen = BTreeSet::new();
    for family in families {
        let name = &family.name;
        assert!(!family.samples.is_empty(), "{name} has no samples");
        let allowed: Vec<String> = match (&*family.kind, dialect) {
            ("gauge", _) => vec![name.clone()],
            ("counter", Dialect::Text) => vec![name.clone()],
            ("counter", Dialect::OpenMetrics) => vec![format!("{name}_total")],
            ("histogram", _) => ["bucket", "sum", "count"].map(|suffix| format!("{name}_{suffix}")).into(),
            (kind, _) => panic!("{name} has the type {kind}"),
        };
        // No sample name of one family may be read as one of another.
        for taken in allowed.iter().chain([name]).collect::<BTreeSet<_>>() {
            assert!(names.insert(taken.clone()), "{taken} belongs to two families");
        }
        for sample in &family.samples {
            assert!(allowed.contains(&sample.name), "{} stands in the family {name}", sample.name);
            assert!(sample.value.is_finite(), "{sample:?}");
            assert!(family.kind == "gauge" || sample.value >= 0.0 || sample.name.ends_with("_sum"), "{sample:?}");
            assert!(seen.insert((sample.name.clone(), sample.labels.clone())), "{sample:?} stands twice");
        }
        if family.kind == "histogram" {
            check_histogram(family);
        }
    }
}

fn check_histogram(family: &Family) {
    let mut groups: BTreeMap<BTreeMap<String, String>, Vec<&Sample>> = BTreeMap::new();
    for sample in &family.samples {
        let mut labels = sample.labels.clone();
        labels.remove("le");
        groups.entry(labels).or_default().push(sample);
    }
    for (labels, samples) in groups {
        let value = |suffix: &str| {
            let name = format!("{}_{suffix}", family.name);
            samples
                .iter()
                .find(|sample| sample.name == name)
                .unwrap_or_else(|| panic!("no {name} for {labels:?}"))
                .value
        };
        value("sum");
        let buckets: Vec<(f64, f64)> = samples
            .iter()
            .filter(|sample| sample.name.ends_with("_bucket"))
            .map(|sample| (sample.label("le").replace("+Inf", "inf").parse().unwrap(), sample.value))
            .collect();
        assert!(buckets.windows(2).all(|pair| pair[0].0 < pair[1].0 && pair[0].1 <= pair[1].1), "{buckets:?}");
        assert_eq!(buckets.last(), Some(&(f64::INFINITY, value("count"))), "{} {labels:?}", family.name);
    }
}
