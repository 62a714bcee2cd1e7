//! The languages that people are spoken to in.

/// A language of the dashboards and of the landing page.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lang {
    /// English.
    #[default]
    En,
    /// Simplified Chinese.
    Zh,
}

impl Lang {
    /// In the order of [`Lang`]'s numbers.
    pub const ALL: [Self; 2] = [Self::En, Self::Zh];

    /// As `--lang` and HTML have it.
    pub const fn label(self) -> &'static str {
        match self {
            Self::En => "en",
            Self::Zh => "zh",
        }
    }

    /// What the uids of a language's dashboards end with, so that both can be installed side by side.
    pub const fn suffix(self) -> &'static str {
        match self {
            Self::En => "",
            Self::Zh => "-zh",
        }
    }

    /// The text of this language.
    pub(crate) const fn of(self, english: &'static str, chinese: &'static str) -> &'static str {
        match self {
            Self::En => english,
            Self::Zh => chinese,
        }
    }
}
