//! The environment as a layer: overrides of single settings, and a relay's own variables where nothing else is given.

use std::collections::BTreeMap;

use chrono_tz::{TZ_VARIANTS, Tz};
use config::{Value, ValueKind};

use super::catalogue;
use super::layer::{Layer, join};
use super::problem::{InvalidValue, Problem};
use super::store;
use crate::relay::Variables;
use crate::relay::setting::ValueType;
use crate::relays::PRODUCTS;

/// What the name of an override begins with; `__` separates its words.
pub(crate) const PREFIX: &str = "LLM_RELAY_EXPORTER__";

/// The name of the only relay when it comes from the relay's own variables.
const ONLY_RELAY: &str = "default";

/// Whether any variable is meant as an override, but for the store's, which say nothing about relays.
pub(crate) fn configures_a_relay(env: &BTreeMap<String, String>) -> bool {
    env.keys().any(|name| is_meant(name) && !is_of_store(name))
}

fn is_of_store(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with("LLM_RELAY_EXPORTER__STORE_") || upper.starts_with("LLM_RELAY_EXPORTER_STORE_")
}

/// The variable that overrides a setting, given the path below `relays.<relay>`.
pub fn variable(relay: &str, path: &str) -> String {
    format!("{PREFIX}RELAYS__{}__{}", relay, path.replace('.', "__")).to_ascii_uppercase()
}

/// All overrides, and what is wrong with the names of some.
pub(crate) fn overrides(env: &BTreeMap<String, String>) -> (Layer, Vec<Problem>) {
    let mut layer = Layer::default();
    let mut problems = Vec::new();
    for (name, text) in env.iter().filter(|(name, _)| is_meant(name)) {
        match target(name, text) {
            Ok((path, value)) => {
                let keys: Vec<_> = path.iter().map(String::as_str).collect();
                layer.set(&keys, value);
            }
            Err(wrong) => problems.push(wrong.at(name, Some("environment"))),
        }
    }
    (layer, problems)
}

fn is_meant(name: &str) -> bool {
    let upper = name.to_ascii_uppercase();
    upper.starts_with(PREFIX) || upper.starts_with("LLM_RELAY_EXPORTER_RELAYS_") || is_of_store(name)
}

/// The path and the value that a variable stands for.
fn target(name: &str, text: &str) -> Result<(Vec<String>, Value), InvalidValue> {
    let example = || {
        let example = if is_of_store(name) { store::variable("url") } else { variable("main", "interval") };
        format!("names are written like {example}")
    };
    let Some(rest) = name.strip_prefix(PREFIX).filter(|rest| !rest.bytes().any(|it| it.is_ascii_lowercase())) else {
        return Err(InvalidValue::new(
            "not the name of a setting",
            format!("{}: upper case, words separated by two underscores", example()),
        ));
    };
    let lower = rest.to_ascii_lowercase();
    let words: Vec<_> = lower.split("__").collect();
    if let [store::TABLE, path @ ..] = words.as_slice() {
        let path = path.join(".");
        if !store::paths().any(|known| known == path) {
            return Err(store::unknown(&path, store::variable));
        }
        let value = not_empty(text)?;
        return Ok((vec![store::TABLE.to_owned(), path], Value::new(Some(&place(name)), value)));
    }
    let [first, relay, path @ ..] = words.as_slice() else {
        return Err(InvalidValue::new("not the name of a setting", example()));
    };
    let path = path.join(".");
    if *first != "relays" {
        let meant = catalogue::find(&path).map(|_| format!("did you mean {}?", variable(relay, &path)));
        return Err(InvalidValue::new("not the name of a setting", meant.unwrap_or_else(example)));
    }
    let Some(setting) = catalogue::find(&path) else {
        let hint = match catalogue::nearest_path(&path, None) {
            Some(near) => format!("did you mean {}?", variable(relay, &near)),
            None => "docs/configuration.md lists all settings".to_owned(),
        };
        return Err(InvalidValue::new("unknown setting", hint));
    };
    let text = not_empty(text)?;
    let is_secret = matches!(setting.value_type, ValueType::Secret { .. });
    let kind = if is_secret { ValueKind::String(text.to_owned()) } else { from_text(&setting.value_type, text) };
    let keys = ["relays", relay].into_iter().chain(path.split('.')).map(str::to_owned).collect();
    Ok((keys, Value::new(Some(&place(name)), kind)))
}

fn not_empty(text: &str) -> Result<&str, InvalidValue> {
    if text.is_empty() {
        return Err(InvalidValue::new("is empty", "give the variable a value, or remove it"));
    }
    Ok(text)
}

/// The value that a text stands for; text that does not fit stays text and is refused with the rest.
pub(crate) fn from_text(value_type: &ValueType, text: &str) -> ValueKind {
    match value_type {
        ValueType::Count { .. } => text.parse().map_or_else(|_| ValueKind::String(text.to_owned()), ValueKind::I128),
        ValueType::Texts(_) => ValueKind::Array(text.split(',').map(|item| Value::new(None, item.trim())).collect()),
        _ => ValueKind::String(text.to_owned()),
    }
}

/// The relay's own variables as the configuration of one relay.
pub(crate) fn relay_of_variables(env: &BTreeMap<String, String>, warnings: &mut Vec<String>) -> Result<Layer, Problem> {
    let own = PRODUCTS.iter().find_map(|product| Some((product, product.variables.as_ref()?)));
    let given = |name: &'static str| env.get(name).filter(|text| !text.is_empty()).map(|text| (name, text));
    let Some((product, Variables { name: relay, database, redis, zone })) = own else { return Err(nothing(None)) };
    let (name, url) = match database.map(given) {
        [Some((one, a)), Some((other, b))] if a != b => {
            let hint = "remove one of them, or name the relay's database in a configuration file";
            return Err(InvalidValue::new(format!("{one} and {other} are both set and differ"), hint)
                .at("database_url", Some("environment")));
        }
        [None, None] => return Err(nothing(own.map(|(_, variables)| variables))),
        [Some(database), _] | [None, Some(database)] => database,
    };
    let mut layer = Layer::default();
    let mut set = |path: &str, name: &str, text: &str| {
        layer.set(&["relays", ONLY_RELAY, path], Value::new(Some(&place(name)), text));
    };
    set("kind", name, product.label);
    set("database_url", name, url);
    if let Some((name, url)) = given(redis) {
        set("redis_url", name, url);
    }
    if let Some(text) = env.get(*zone) {
        // The relay's check does not mind upper and lower case.
        let known = TZ_VARIANTS.iter().find(|known| known.name().eq_ignore_ascii_case(text));
        if known.is_none() {
            warnings.push(format!(
                "the environment variable {zone} is not an IANA time zone: days are counted in UTC, as {relay} does; \
                 set {zone} to a name like Asia/Shanghai"
            ));
        }
        set("timezone_fallback", zone, known.unwrap_or(&Tz::UTC).name());
    }
    Ok(layer)
}

/// The problem of having no configuration at all.
fn nothing(own: Option<&Variables>) -> Problem {
    let mut ways = format!(
        "(1) write a file like llm-relay-exporter.example.toml and pass it with --config.file; (2) set {} and {}",
        variable("main", "kind"),
        variable("main", "database_url"),
    );
    if let Some(Variables { database, redis, zone, .. }) = own {
        ways += &format!("; (3) set {}, and {redis} and {zone}, as the relay has them", catalogue::either(database));
    }
    Problem {
        path: "relays".to_owned(),
        place: None,
        what: "nothing is configured".to_owned(),
        hint: Some(format!("do one of these: {ways}")),
    }
}

fn place(variable: &str) -> String {
    format!("environment variable {variable}")
}

/// The path of a relay.
pub(crate) fn relay_path(relay: &str) -> String {
    join("relays", relay)
}
