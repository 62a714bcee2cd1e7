//! Who may read, over which transport: the web configuration file that Prometheus exporters share.
//!
//! The file and those that it names are looked at every second, away from requests. A new version takes effect at
//! once and as a whole; with a broken one everything stays as it was.

mod clients;
mod credentials;
mod file;
mod limit;
mod password;
mod sources;
mod tls;
mod yaml;

use std::fmt::{self, Display, Formatter};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use base64::Engine;
use base64::prelude::BASE64_STANDARD;

pub(crate) use file::Rules;
pub use password::bcrypt_hash;
pub(crate) use password::hash_password;
pub(crate) use yaml::Problem;

use crate::reload::Reload;
use credentials::{Busy, PasswordChecks};
use sources::{Sources, Stamp};

/// Pause between two looks at the files.
const LOOK: Duration = Duration::from_secs(1);

/// What protects the server, at this moment and after changes of the file.
pub struct Protection {
    file: Option<PathBuf>,
    rules: ArcSwap<Rules>,
    passwords: PasswordChecks,
    last_reload: ArcSwap<Reload>,
    watch: Mutex<Watch>,
}

struct Watch {
    sources: Sources,
    /// The files at the last look, which may have fallen into the middle of their writing.
    seen: Vec<Option<Stamp>>,
    broken: Option<String>,
}

/// What a request may do.
pub(crate) enum Admission {
    Granted,
    /// The client has to show (other) credentials.
    Refused,
    /// Too many requests; the next has a place after that time.
    Limited(Duration),
    /// Too many passwords wait to be checked.
    Busy,
}

/// A web configuration file that cannot be used, with everything that is wrong with it. Shows no value of the file.
#[derive(Clone, Debug, thiserror::Error)]
pub struct WebConfigError {
    /// As it was given on the command line.
    pub file: PathBuf,
    /// In the order of its lines.
    pub problems: Vec<Problem>,
}

impl Display for WebConfigError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "the web configuration file {} cannot be used:", self.file.display())?;
        for Problem { line, text } in &self.problems {
            match line {
                Some(line) => write!(f, "\n  line {line}: {text}")?,
                None => write!(f, "\n  {text}")?,
            }
        }
        Ok(())
    }
}

impl Protection {
    /// Without a file everybody may read, over plain HTTP.
    ///
    /// # Errors
    /// When the file or one that it names cannot be used.
    pub fn load(file: Option<&Path>) -> Result<Arc<Self>, WebConfigError> {
        let mut sources = Sources::beside(file.unwrap_or(Path::new("")));
        let rules = file.map(|path| read(path, &mut sources)).transpose()?.unwrap_or_default();
        let watch = Watch { seen: sources.as_read(), sources, broken: None };
        Ok(Arc::new(Self {
            file: file.map(Path::to_owned),
            rules: ArcSwap::from_pointee(rules),
            passwords: PasswordChecks::new(),
            last_reload: ArcSwap::from_pointee(Reload::now()),
            watch: Mutex::new(watch),
        }))
    }

    /// What holds at this moment.
    pub(crate) fn rules(&self) -> Arc<Rules> {
        self.rules.load_full()
    }

    /// None without a file.
    pub fn last_reload(&self) -> Option<Reload> {
        self.file.is_some().then(|| **self.last_reload.load())
    }

    /// Follows changes of the files; never ends.
    pub(crate) async fn keep_current(self: Arc<Self>) {
        let Some(file) = &self.file else { return std::future::pending().await };
        loop {
            tokio::time::sleep(LOOK).await;
            let this = self.clone();
            // Files may lie on a network.
            match tokio::task::spawn_blocking(move || this.inspect()).await {
                Ok(Some(Ok(()))) => tracing::info!("the web configuration file {} was read again", file.display()),
                Ok(Some(Err(problem))) => {
                    tracing::error!("{problem}\nthe last good web configuration stays in force");
                }
                Ok(None) | Err(_) => (),
            }
        }
    }

    /// Reads again what has changed; none when there is nothing new to say.
    fn inspect(&self) -> Option<Result<(), String>> {
        let file = self.file.as_deref()?;
        let mut watch = self.watch.lock().unwrap_or_else(PoisonError::into_inner);
        let now = watch.sources.as_now();
        if watch.broken.is_none() && now == watch.sources.as_read() {
            return None;
        }
        if now != watch.seen {
            watch.seen = now;
            return None;
        }
        let mut sources = Sources::beside(file);
        match read(file, &mut sources).and_then(|rules| self.replaces(file, rules)) {
            Ok(rules) => {
                self.rules.store(Arc::new(rules));
                self.last_reload.store(Arc::new(Reload::now()));
                *watch = Watch { seen: sources.as_read(), sources, broken: None };
                Some(Ok(()))
            }
            Err(error) => {
                self.last_reload.store(Arc::new(self.last_reload.load().failed()));
                let problem = error.to_string();
                let known = watch.broken.as_ref() == Some(&problem);
                watch.broken = Some(problem.clone());
                (!known).then_some(Err(problem))
            }
        }
    }

    /// A file that is cut short, or gone, must not open the server.
    fn replaces(&self, file: &Path, rules: Rules) -> Result<Rules, WebConfigError> {
        let old = self.rules.load();
        let text = if old.authenticate() && !rules.authenticate() {
            "authentication is switched off; that takes effect only with a restart"
        } else if old.tls.is_some() != rules.tls.is_some() {
            "a change between HTTP and HTTPS takes effect only with a restart"
        } else {
            return Ok(rules);
        };
        Err(WebConfigError { file: file.to_owned(), problems: vec![Problem { line: None, text: text.into() }] })
    }

    /// The answer for a request with these headers.
    pub(crate) async fn admit(&self, rules: &Rules, headers: &HeaderMap) -> Admission {
        if let Some(Err(wait)) = rules.limit.as_ref().map(limit::Limit::take) {
            return Admission::Limited(wait);
        }
        let credentials = &rules.credentials;
        if !credentials.users() && !credentials.tokens() {
            return Admission::Granted;
        }
        let mut shown = headers.get_all(AUTHORIZATION).into_iter();
        let (Some(shown), None) = (shown.next(), shown.next()) else { return Admission::Refused };
        let Some((scheme, value)) = shown.to_str().ok().and_then(|shown| shown.split_once(' ')) else {
            return Admission::Refused;
        };
        let value = value.trim();
        let fits = if scheme.eq_ignore_ascii_case("bearer") {
            Ok(credentials.token_fits(value.as_bytes()))
        } else if scheme.eq_ignore_ascii_case("basic") && credentials.users() {
            match basic(value) {
                Some((user, password)) => self.passwords.fits(credentials, &user, &password).await,
                None => Ok(false),
            }
        } else {
            Ok(false)
        };
        match fits {
            Ok(true) => Admission::Granted,
            Ok(false) => Admission::Refused,
            Err(Busy) => Admission::Busy,
        }
    }
}

fn read(file: &Path, sources: &mut Sources) -> Result<Rules, WebConfigError> {
    file::read(file, sources).map_err(|problems| WebConfigError { file: file.to_owned(), problems })
}

fn basic(value: &str) -> Option<(String, Vec<u8>)> {
    let mut user = BASE64_STANDARD.decode(value).ok()?;
    let colon = user.iter().position(|byte| *byte == b':')?;
    let password = user.split_off(colon + 1);
    user.pop();
    Some((String::from_utf8(user).ok()?, password))
}
