//! What the user wrote, checked as a whole. The rest of the program takes only a [`Plan`].
//!
//! File and environment become layers of values that know their place; layered by `config`, they are walked once
//! against [`catalogue::SETTINGS`], which collects every problem instead of stopping at the first.

pub mod catalogue;
mod check;
mod environment;
mod file;
mod layer;
mod problem;
mod secret;
pub mod store;

use std::collections::BTreeMap;
use std::path::Path;

use crate::relay::Product;
pub use crate::relay::plan::{Health, OwnSettings, OwnValue, RelayPlan};
pub use crate::store::StorePlan;
pub use crate::view::{Boards, NameMode, SeriesBudget};
pub(crate) use check::page;
pub use environment::variable;
pub use problem::{Problem, Problems};

/// A checked configuration and what its writer may want to know.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What is to be done.
    pub plan: Plan,
    /// What may not be meant as it was written; for the log.
    pub warnings: Vec<String>,
}

/// Reads the file, if any, and the environment. Where neither configures a relay, the relay's own variables do:
/// `DATABASE_URL` or `DSN`, `REDIS_URL`, `TZ`.
///
/// # Errors
/// Every problem at once; none shows a value.
pub fn load(file: Option<&Path>, env: &BTreeMap<String, String>) -> Result<Loaded, Problems> {
    let mut warnings = Vec::new();
    let (overrides, mut problems) = environment::overrides(env);
    let ground = match file {
        Some(path) => file::read(path).map(|mut layer| {
            problems.extend(file::unknown_tables(&mut layer));
            layer
        }),
        None if environment::configures_a_relay(env) => Ok(layer::Layer::default()),
        None => environment::relay_of_variables(env, &mut warnings).map_err(|problem| vec![problem]),
    };
    let folder = file.and_then(Path::parent).unwrap_or(Path::new(""));
    let plan = match ground {
        Ok(ground) => {
            let (layer, context) = (ground.under(overrides), check::Context { env, folder });
            let plan = check::plan(&layer, &context, &mut problems);
            Plan { store: store::plan(&layer, &context, &mut problems), ..plan }
        }
        Err(unreadable) => {
            problems.extend(unreadable);
            Plan { relays: BTreeMap::new(), store: None }
        }
    };
    if problems.is_empty() {
        Ok(Loaded { plan, warnings })
    } else {
        // Stable: the parser's problems with one file stay in the order of its lines.
        problems.sort_by(|a, b| a.path.cmp(&b.path));
        Err(Problems(problems))
    }
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Plan {
    /// By their names.
    pub relays: BTreeMap<String, RelayPlan>,
    /// Without one, every start reads the whole ledger.
    pub store: Option<StorePlan>,
}

impl RelayPlan {
    /// A relay with the defaults of its product, and without addresses.
    pub fn new(name: impl Into<String>, product: &'static Product) -> Self {
        check::defaults(name.into(), product)
    }
}
