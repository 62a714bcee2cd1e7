//! The language of a bundle: English stands in the dashboards themselves, other languages in a table.

use std::cell::RefCell;
use std::collections::BTreeSet;

use anyhow::bail;

use super::zh;
use crate::lang::Lang;
use crate::metrics::Metric;

/// The words of one bundle.
pub(crate) struct Texts {
    pub lang: Lang,
    asked: RefCell<BTreeSet<String>>,
}

impl Texts {
    pub(crate) const fn new(lang: Lang) -> Self {
        Self { lang, asked: RefCell::new(BTreeSet::new()) }
    }

    /// `english` in the bundle's language.
    pub(crate) fn get(&self, english: &str) -> String {
        self.asked.borrow_mut().insert(english.to_owned());
        let table = match self.lang {
            Lang::En => return english.to_owned(),
            Lang::Zh => zh::TEXTS,
        };
        table.iter().find(|(from, _)| *from == english).map_or(english, |(_, to)| to).to_owned()
    }

    /// What a metric means.
    pub(crate) fn help(&self, metric: &Metric) -> String {
        match self.lang {
            Lang::En => metric.help,
            Lang::Zh => metric.help_zh,
        }
        .to_owned()
    }

    /// Fails when a text has no translation, or, where `all` dashboards were built, a translation no text.
    pub(crate) fn check(&self, all: bool) -> anyhow::Result<()> {
        if self.lang == Lang::En {
            return Ok(());
        }
        let asked = self.asked.borrow();
        let known: BTreeSet<String> = zh::TEXTS.iter().map(|(from, _)| (*from).to_owned()).collect();
        let missing: Vec<_> = asked.difference(&known).collect();
        let unused: Vec<_> = known.difference(&asked).filter(|_| all).collect();
        if !missing.is_empty() || !unused.is_empty() {
            bail!("src/dashboards/zh.rs: to translate {missing:#?}, no longer used {unused:#?}");
        }
        Ok(())
    }
}
