//! Addresses with passwords in them: where they come from, and whether they are addresses at all.
//!
//! Nothing here puts a part of an address, of a file or of a variable into a text.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::path::Path;

use secrecy::SecretString;

use super::problem::InvalidValue;
use crate::connect::address::{Address, Flaw};
use crate::connect::redis::Target;
use crate::connect::{mysql, postgres, sqlite};
use crate::relay::Store;

/// Longer than any address; keeps a wrong path from being read for ever.
const LONGEST: u64 = 64 * 1024;

/// The secret in a file, without the line ends after it.
pub(crate) fn from_file(folder: &Path, path: &str) -> Result<String, InvalidValue> {
    if path.contains("://") {
        return Err(InvalidValue::new("is an address where the path of a file belongs", "write it without `_file`"));
    }
    let path = folder.join(path);
    let shown = path.display();
    let mut text = String::new();
    let read = File::open(&path).and_then(|file| file.take(LONGEST + 1).read_to_string(&mut text));
    match read {
        Err(error) => Err(InvalidValue::new(
            format!("{shown} cannot be read: {error}"),
            "check the path, and that the exporter's user may read the file",
        )),
        Ok(length) if length as u64 > LONGEST => Err(InvalidValue::new(
            format!("{shown} is longer than {LONGEST} bytes"),
            "the file holds nothing but the address",
        )),
        Ok(_) => match text.trim_end_matches(['\r', '\n']) {
            "" => Err(InvalidValue::new(format!("{shown} is empty"), "the file holds nothing but the address")),
            text => Ok(text.to_owned()),
        },
    }
}

/// The secret in an environment variable.
pub(crate) fn from_variable(env: &BTreeMap<String, String>, name: &str) -> Result<String, InvalidValue> {
    let is_name = !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric() || it == b'_');
    if !is_name {
        return Err(InvalidValue::new("is not the name of an environment variable", "a name like CCH_DATABASE_URL"));
    }
    match env.get(name).map(String::as_str) {
        None => Err(InvalidValue::new("names an environment variable that is not set", "set it, or correct the name")),
        Some("") => Err(InvalidValue::new("names an environment variable that is empty", "set it to the address")),
        Some(text) => Ok(text.to_owned()),
    }
}

/// Checks that a text is an address of one of the stores; says at most which part of it is wrong.
pub(crate) fn address(stores: &[Store], text: &str) -> Result<SecretString, InvalidValue> {
    let examples = stores.iter().map(|store| store.example()).collect::<Vec<_>>().join(", or ");
    let hint = format!("write it as {examples}");
    if text.trim() != text {
        return Err(InvalidValue::new("has a space or line end around it", hint));
    }
    let refuse = |Flaw { what, hint }| InvalidValue::new(what, hint);
    let is_file = |store: &&Store| **store == Store::Sqlite && text.starts_with("sqlite:");
    let store = match stores.iter().find(is_file) {
        Some(file) => file,
        None => {
            let url =
                Address::parse(text).map_err(|flaw| InvalidValue::new(flaw.what, format!("{hint}; {}", flaw.hint)))?;
            let Some(store) = stores.iter().find(|store| store.schemes().contains(&&*url.scheme)) else {
                if url.scheme == "clickhouse" {
                    let hint = format!("let the relay write to a database that is, and {hint}");
                    return Err(InvalidValue::new("is the address of ClickHouse, which is not supported", hint));
                }
                let schemes = stores.iter().flat_map(|store| store.schemes());
                let schemes = schemes.map(|it| format!("{it}://")).collect::<Vec<_>>().join(", ");
                let hint = format!("it begins with one of {schemes}; {hint}");
                return Err(InvalidValue::new("the scheme of the URL is wrong", hint));
            };
            store
        }
    };
    // The verdict of the part that connects; it opens nothing.
    match store {
        Store::Postgres => postgres::servers(text).map(drop),
        Store::MySql => mysql::server(text).map(drop),
        Store::Sqlite => sqlite::path(text).map(drop),
        Store::Redis => Target::parse(text).map(drop),
    }
    .map_err(refuse)?;
    Ok(SecretString::from(text))
}
