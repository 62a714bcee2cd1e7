//! From layered values to a plan, strictly: nothing is rounded, guessed or turned into another type.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use chrono_tz::{TZ_VARIANTS, Tz};
use config::{Map, Value, ValueKind};
use secrecy::SecretString;
use url::Url;

use super::catalogue::{self, SECRET_FORMS, either, settings_of, understood_by};
use super::environment::{from_text, relay_path};
use super::layer::{Layer, join};
use super::problem::{InvalidValue, Problem};
use super::{Boards, Health, OwnSettings, Plan, RelayPlan, SeriesBudget, secret};
use crate::relay::setting::{Absent, Setting, ValueType};
use crate::relay::{Need, Product};
use crate::relays::PRODUCTS;

const LONGEST_NAME: usize = 63;

/// What values may refer to.
pub(crate) struct Context<'a> {
    pub env: &'a BTreeMap<String, String>,
    /// Where relative paths begin.
    pub folder: &'a Path,
}

/// The plan that the values describe; where there are problems, it is to be thrown away.
pub(crate) fn plan(layer: &Layer, context: &Context<'_>, problems: &mut Vec<Problem>) -> Plan {
    let mut plan = Plan { relays: BTreeMap::new(), store: None };
    let relays = match layer.values.get("relays").map(|relays| (&relays.kind, relays.origin())) {
        Some((ValueKind::Table(relays), _)) if !relays.is_empty() => relays,
        Some((ValueKind::Table(_), _)) | None => {
            // Something that could not be understood may have been meant as one.
            if problems.is_empty() {
                let hint = "add a table [relays.<name>] as in llm-relay-exporter.example.toml";
                problems.push(InvalidValue::new("no relay is configured", hint).at("relays", None));
            }
            return plan;
        }
        Some((kind, place)) => {
            let wrong = InvalidValue::new(
                format!("expected tables [relays.<name>], found {}", a(kind)),
                "see llm-relay-exporter.example.toml",
            );
            problems.push(wrong.at("relays", place));
            return plan;
        }
    };
    for (name, value) in relays {
        let path = relay_path(name);
        let place = layer.tables.get(&path).map(String::as_str).or(value.origin());
        if let Err(wrong) = check_name(name) {
            problems.push(wrong.at(path, place));
            continue;
        }
        let ValueKind::Table(table) = &value.kind else {
            let what = format!("expected a table of settings, found {}", a(&value.kind));
            problems.push(
                InvalidValue::new(what, format!("write [relays.{name}] and the settings below it")).at(path, place),
            );
            continue;
        };
        let place = place.or_else(|| table.values().filter_map(Value::origin).min());
        let product = table.get("kind").and_then(|kind| match &kind.kind {
            ValueKind::String(text) => product(text),
            _ => None,
        });
        let mut check = Check { path, place, layer, context, product, given: BTreeMap::new(), problems: Vec::new() };
        if !table.contains_key("kind")
            && let Some(meant) = catalogue::nearest(name, others(relays, name))
        {
            let what = "a relay without `kind`, and another one has nearly the same name";
            problems
                .push(InvalidValue::new(what, format!("did you mean `relays.{meant}`?")).at(check.path, check.place));
            continue;
        }
        check.gather("", table);
        plan.relays.insert(name.clone(), check.relay(name));
        problems.extend(check.problems);
    }
    plan
}

/// The names of the relays that have a kind.
fn others<'a>(relays: &'a Map<String, Value>, name: &'a str) -> impl Iterator<Item = &'a str> {
    let has_kind = |value: &Value| matches!(&value.kind, ValueKind::Table(table) if table.contains_key("kind"));
    relays.iter().filter(move |(other, value)| *other != name && has_kind(value)).map(|(other, _)| other.as_str())
}

fn check_name(name: &str) -> Result<(), InvalidValue> {
    let hint = "1 to 63 of a-z, 0-9, _ and -";
    if name.is_empty() {
        Err(InvalidValue::new("the name of a relay is empty", hint))
    } else if name.len() > LONGEST_NAME {
        Err(InvalidValue::new("the name of the relay is too long", hint))
    } else if !name.bytes().all(|it| it.is_ascii_lowercase() || it.is_ascii_digit() || matches!(it, b'_' | b'-')) {
        Err(InvalidValue::new("the name of the relay has a character that is not allowed", hint))
    } else {
        Ok(())
    }
}

/// The check of one relay.
struct Check<'a> {
    path: String,
    place: Option<&'a str>,
    layer: &'a Layer,
    context: &'a Context<'a>,
    /// If its kind is valid.
    product: Option<&'static Product>,
    /// What was written and where, by path below the relay; only paths of settings.
    given: BTreeMap<String, (Option<&'a str>, &'a ValueKind)>,
    problems: Vec<Problem>,
}

impl<'a> Check<'a> {
    fn refuse(&mut self, path: &str, place: Option<&str>, wrong: InvalidValue) {
        self.problems.push(wrong.at(format!("{}.{path}", self.path), place));
    }

    /// Collects the values of settings and refuses the rest.
    fn gather(&mut self, group: &str, table: &'a Map<String, Value>) {
        for (key, value) in table {
            let path = join(group, key);
            let place = self.layer.tables.get(&format!("{}.{path}", self.path)).map(String::as_str).or(value.origin());
            match &value.kind {
                ValueKind::Table(inner) if catalogue::is_group(&path) => self.gather(&path, inner),
                _ if catalogue::is_group(&path) => {
                    let what = format!("expected a table of settings, found {}", a(&value.kind));
                    self.refuse(&path, place, InvalidValue::new(what, format!("write [{}.{path}]", self.path)));
                }
                _ if catalogue::find(&path).is_some() => {
                    self.given.insert(path, (place, &value.kind));
                }
                _ => {
                    let hint = catalogue::nearest_path(&path, self.product).map_or_else(
                        || "docs/configuration.md lists all settings".to_owned(),
                        |near| format!("did you mean `{near}`?"),
                    );
                    self.refuse(&path, place, InvalidValue::new("unknown setting", hint));
                }
            }
        }
    }

    fn relay(&mut self, name: &str) -> RelayPlan {
        // Where the kind is missing or unknown, that is the problem to tell; the rest may be any relay's.
        let product = self.product;
        let settings: Vec<&Setting> = match product {
            Some(product) => {
                self.refuse_others(product);
                settings_of(product).collect()
            }
            None => catalogue::settings().collect(),
        };
        let mut relay = RelayPlan::new(name, product.unwrap_or(PRODUCTS[0]));
        for setting in settings {
            if let ValueType::Secret { need, set } = setting.value_type {
                if let Some(text) = self.secret(setting, product, need) {
                    set(&mut relay, text);
                }
            } else if let Some((place, kind)) = self.given.get(setting.path) {
                let place = *place;
                if let Err(wrong) = apply(&setting.value_type, (*kind).clone(), self.context.folder, &mut relay) {
                    self.refuse(setting.path, place, wrong);
                }
            } else if setting.absent == Absent::Refused {
                let wrong = InvalidValue::new("is missing", format!("set it to {}", setting.value_type));
                self.refuse(setting.path, self.place, wrong);
            }
        }
        if self.problems.is_empty() {
            self.relations(&relay);
        }
        relay
    }

    /// Refuses what has no meaning for the product.
    fn refuse_others(&mut self, product: &Product) {
        let given: Vec<_> = self.given.iter().map(|(path, (place, _))| (path.clone(), *place)).collect();
        for (path, place) in given {
            let Some(setting) = catalogue::find(&path) else { continue };
            let kinds: Vec<_> = understood_by(setting).map(|it| it.label).collect();
            if kinds.contains(&product.label) {
                continue;
            }
            let begins_alike =
                |own: &&Setting| own.path.starts_with(setting.path) || setting.path.starts_with(own.path);
            let hint = match product.settings.iter().find(begins_alike) {
                Some(own) => format!("did you mean `{}`?", own.path),
                None => format!("remove it: it is for {}", either(&kinds)),
            };
            self.refuse(
                &path,
                place,
                InvalidValue::new(format!("a relay of kind {} has no such setting", product.label), hint),
            );
        }
    }

    /// The secret from the only form that it is given in.
    fn secret(
        &mut self,
        setting: &Setting,
        product: Option<&Product>,
        need: fn(&Product) -> Need,
    ) -> Option<SecretString> {
        let stores = product.map_or_else(|| catalogue::any_store(need), |product| need(product).stores().to_vec());
        let forms = SECRET_FORMS.map(|form| format!("{}{form}", setting.path));
        let given: Vec<_> = forms
            .iter()
            .zip(SECRET_FORMS)
            .filter_map(|(path, form)| self.given.get(path).map(|(place, kind)| (path, form, *place, *kind)))
            .collect();
        let (path, form, place, value) = match given.as_slice() {
            [one] => *one,
            [] => {
                if product.is_some_and(|product| matches!(need(product), Need::Required(_))) {
                    let variables = PRODUCTS.iter().filter_map(|product| product.variables.as_ref());
                    let own = variables.flat_map(|it| it.database).find(|name| self.context.env.contains_key(*name));
                    let example = own.map(|name| format!(", for example {}_env = \"{name}\"", setting.path));
                    let hint = format!("set one of {}{}", forms.join(", "), example.unwrap_or_default());
                    self.refuse(setting.path, self.place, InvalidValue::new("is missing", hint));
                }
                return None;
            }
            [.., (_, _, place, _)] => {
                let all = given.iter().map(|(path, ..)| format!("`{path}`")).collect::<Vec<_>>().join(" and ");
                let wrong = InvalidValue::new(format!("{all} are given at the same time"), "keep one of them");
                self.refuse(setting.path, *place, wrong);
                return None;
            }
        };
        if let (Some(product), []) = (product, stores.as_slice()) {
            let wrong = InvalidValue::new(format!("a relay of kind {} has no such store", product.label), "remove it");
            self.refuse(path, place, wrong);
            return None;
        }
        let text = match value {
            ValueKind::String(text) => match form {
                "_file" => secret::from_file(self.context.folder, text),
                "_env" => secret::from_variable(self.context.env, text),
                _ => Ok(text.clone()),
            },
            other => Err(InvalidValue::new(format!("expected text, found {}", a(other)), "write it in quotes")),
        };
        text.and_then(|text| secret::address(&stores, &text)).map_err(|wrong| self.refuse(path, place, wrong)).ok()
    }

    /// Where the first of the settings that was written stands.
    fn place_of(&self, paths: [&str; 2]) -> Option<&'a str> {
        paths.iter().find_map(|path| self.given.get(*path)?.0).or(self.place)
    }

    /// What must hold between settings.
    fn relations(&mut self, relay: &RelayPlan) {
        if relay.stale_after < 2 * relay.interval {
            let show = humantime::format_duration;
            let what = format!("{} is less than two intervals of {}", show(relay.stale_after), show(relay.interval));
            let hint = format!("numbers would come and go: make it at least {}", show(2 * relay.interval));
            let place = self.place_of(["stale_after", "interval"]);
            self.refuse("stale_after", place, InvalidValue::new(what, hint));
        }
        let is_tls = relay.health.url.as_ref().is_some_and(|url| url.scheme() == "https");
        if relay.health.ca_file.is_some() && !is_tls {
            let place = self.place_of(["health_ca_file", "health_url"]);
            let wrong =
                InvalidValue::new("is for a `health_url` with https://, and there is none", "remove it, or set that");
            self.refuse("health_ca_file", place, wrong);
        }
        if relay.series.pinned_models.len() > relay.series.max_models {
            let (pinned, most) = (relay.series.pinned_models.len(), relay.series.max_models);
            let what = format!("{pinned} models are pinned, more than the {most} of `series.max_models`");
            let place = self.place_of(["series.pinned_models", "series.max_models"]);
            self.refuse("series.pinned_models", place, InvalidValue::new(what, "pin fewer, or raise it"));
        }
    }
}

/// A relay with the defaults of its product, and without addresses.
pub(crate) fn defaults(name: String, product: &'static Product) -> RelayPlan {
    let mut relay = RelayPlan {
        name,
        product,
        database_url: "".into(),
        redis_url: None,
        interval: Duration::ZERO,
        directory_interval: Duration::ZERO,
        stale_after: Duration::ZERO,
        timeout: Duration::ZERO,
        timezone: None,
        timezone_fallback: Tz::UTC,
        audit_interval: Duration::ZERO,
        history_budget: Duration::ZERO,
        boards: Boards::default(),
        series: SeriesBudget::default(),
        health: Health::default(),
        own: OwnSettings::default(),
    };
    for setting in settings_of(product) {
        if let Absent::Means(text) = setting.absent
            && let Err(wrong) =
                apply(&setting.value_type, from_text(&setting.value_type, text), Path::new(""), &mut relay)
        {
            unreachable!("the default of {}: {}", setting.path, wrong.what);
        }
    }
    relay
}

fn product(label: &str) -> Option<&'static Product> {
    PRODUCTS.iter().copied().find(|product| product.label == label)
}

/// What to say about a text that is none of these.
fn none_of<'a>(value_type: &ValueType, text: &str, allowed: impl IntoIterator<Item = &'a str>) -> InvalidValue {
    let all = format!("allowed: {value_type}");
    let hint = match catalogue::nearest(text, allowed) {
        Some(near) => format!("did you mean \"{near}\"? {all}"),
        None => all,
    };
    InvalidValue::new("is not one of the allowed values", hint)
}

/// Writes one value into the plan.
fn apply(value_type: &ValueType, kind: ValueKind, folder: &Path, relay: &mut RelayPlan) -> Result<(), InvalidValue> {
    match (value_type, kind) {
        (ValueType::Product, ValueKind::String(text)) => match product(&text) {
            Some(product) => relay.product = product,
            None => return Err(none_of(value_type, &text, PRODUCTS.iter().map(|product| product.label))),
        },
        (ValueType::OneOf(choices), ValueKind::String(text)) => match choices.iter().find(|(name, _)| *name == text) {
            Some((_, set)) => set(relay),
            None => return Err(none_of(value_type, &text, choices.iter().map(|(name, _)| *name))),
        },
        (ValueType::Duration { least, most, set }, ValueKind::String(text)) => {
            let time =
                humantime::parse_duration(&text).map_err(|_| InvalidValue::new("is not a duration", DURATIONS))?;
            if time < *least || time > *most {
                return Err(InvalidValue::new("is out of range", format!("allowed: {value_type}")));
            }
            set(relay, time);
        }
        (ValueType::Count { least, most, set }, ValueKind::I128(number)) => {
            match usize::try_from(number).ok().filter(|number| (least..=most).contains(&number)) {
                Some(number) => set(relay, number),
                None => return Err(InvalidValue::new("is out of range", format!("allowed: {value_type}"))),
            }
        }
        (ValueType::TimeZone(set), ValueKind::String(text)) => set(relay, zone(&text)?),
        // The relay would take any text for some offset; one that is no number is a mistake.
        (ValueType::Offset(set), ValueKind::String(text)) if text.parse::<f64>().is_ok() => set(relay, text),
        (ValueType::Offset(set), ValueKind::I128(number)) => set(relay, number.to_string()),
        (ValueType::Texts(set), ValueKind::Array(items)) => {
            let text = |item: Value| match item.kind {
                ValueKind::String(text) if !text.is_empty() => Ok(text),
                ValueKind::String(_) => Err(InvalidValue::new("has an empty text in its list", "remove it")),
                kind => Err(InvalidValue::new(format!("expected texts in the list, found {}", a(&kind)), TEXTS)),
            };
            set(relay, items.into_iter().map(text).collect::<Result<_, _>>()?);
        }
        (ValueType::Page(set), ValueKind::String(text)) => set(relay, page(&text)?),
        (ValueType::Path(set), ValueKind::String(text)) if !text.is_empty() => set(relay, folder.join(text)),
        (value_type, kind) => return Err(of_another_type(value_type, &kind)),
    }
    Ok(())
}

fn of_another_type(value_type: &ValueType, kind: &ValueKind) -> InvalidValue {
    let (expected, hint) = match value_type {
        ValueType::OneOf(_) | ValueType::Product => ("text", format!("allowed: {value_type}")),
        ValueType::Duration { .. } => ("a duration", DURATIONS.to_owned()),
        ValueType::Count { .. } => {
            ("a whole number", "write it without quotes and without a point, like 20".to_owned())
        }
        ValueType::TimeZone(_) => ("a time zone", "an IANA name in quotes, like \"Asia/Shanghai\"".to_owned()),
        ValueType::Offset(_) => ("hours", "write what the relay has as TIMEZONE_OFFSET, like 8".to_owned()),
        ValueType::Texts(_) => ("a list of texts", TEXTS.to_owned()),
        ValueType::Page(_) => ("a URL", PAGE.to_owned()),
        ValueType::Path(_) => ("the path of a file", "write it in quotes".to_owned()),
        ValueType::Secret { .. } => ("text", "write it in quotes".to_owned()),
    };
    InvalidValue::new(format!("expected {expected}, found {}", a(kind)), hint)
}

fn zone(text: &str) -> Result<Tz, InvalidValue> {
    text.parse().map_err(|_| {
        let names = TZ_VARIANTS.iter().map(|zone| zone.name());
        let same = names.clone().find(|name| name.eq_ignore_ascii_case(text));
        let hint = match same.or_else(|| catalogue::nearest(text, names)) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => "an IANA name like \"Asia/Shanghai\" or \"UTC\"".to_owned(),
        };
        InvalidValue::new("is not a time zone", hint)
    })
}

/// The address of a page that anybody may read. The texts show no part of it.
pub(crate) fn page(text: &str) -> Result<Url, InvalidValue> {
    let url = Url::parse(text).map_err(|error| InvalidValue::new(format!("is not a URL ({error})"), PAGE))?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(InvalidValue::new("the scheme of the URL is wrong", PAGE));
    }
    // A password with a slash in it looks like a path.
    if !url.username().is_empty() || url.password().is_some() || url.path().contains('@') {
        return Err(InvalidValue::new("has a user or password in it", "name a page that needs none"));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(InvalidValue::new(
            "has a query or fragment, where secrets may stand",
            "leave out what begins with ? or #",
        ));
    }
    Ok(url)
}

const PAGE: &str = "write it as http://relay:3000/path, or https:// for TLS";
pub(crate) const DURATIONS: &str = "durations are written like \"5s\" or \"2m\"";
const TEXTS: &str = "a list is written like [\"one\", \"two\"]";

/// What a value is, for people.
pub(crate) fn a(kind: &ValueKind) -> &'static str {
    match kind {
        // The file's layer has no other word for it.
        ValueKind::Nil => "a date",
        ValueKind::Boolean(_) => "true or false",
        ValueKind::I64(_) | ValueKind::I128(_) | ValueKind::U64(_) | ValueKind::U128(_) => "a whole number",
        ValueKind::Float(_) => "a number with a point",
        ValueKind::String(_) => "text",
        ValueKind::Table(_) => "a table",
        ValueKind::Array(_) => "a list",
    }
}
