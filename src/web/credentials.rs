//! `basic_auth_users` and bearer tokens, and the check of what a request brings.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bcrypt::HashParts;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use tokio::sync::Semaphore;
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::sources::Sources;
use super::yaml::{At, Problems, Section};

/// A check at this cost takes some ten seconds; a typing error beyond would block all others for hours.
pub(crate) const HIGHEST_COST: u32 = 18;
/// How long a request waits for its turn before it is sent away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Verdicts that are remembered, of each kind.
const REMEMBERED: usize = 1024;

/// Who may read. Passwords are known by their bcrypt hashes, tokens by their SHA-256.
#[derive(Default)]
pub(crate) struct Credentials {
    users: HashMap<String, Arc<str>>,
    tokens: Vec<[u8; 32]>,
    /// Checked for unknown users, so that they cost what known ones cost.
    nobody: Arc<str>,
}

impl Credentials {
    pub(crate) fn users(&self) -> bool {
        !self.users.is_empty()
    }

    pub(crate) fn tokens(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Looks at every token, whichever fits.
    pub(crate) fn token_fits(&self, token: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(token).into();
        self.tokens.iter().fold(false, |fits, known| fits | bool::from(known.ct_eq(&digest)))
    }
}

pub(crate) fn read(root: &mut Section, sources: &mut Sources, problems: &mut Problems) -> Credentials {
    let mut credentials = Credentials::default();
    let mut highest = 0;
    for (user, hash) in root.section("basic_auth_users", problems).into_texts(problems) {
        match cost(&hash) {
            Ok(cost) if !user.value.is_empty() && !user.value.contains(':') => {
                highest = highest.max(cost);
                credentials.users.insert(user.value, hash.into());
            }
            Ok(_) => problems.add(user.line, "basic_auth_users: a user name must not be empty or hold a colon"),
            Err(problem) => problems.add(user.line, format!("basic_auth_users: {problem}")),
        }
    }
    // A well-formed hash of no password that anybody knows.
    credentials.nobody = format!("$2b${highest:02}${}", "/".repeat(22 - 1) + "." + &"/".repeat(30) + ".").into();

    let list = root.texts("bearer_tokens", problems).map_or(Vec::new(), |list| list.value);
    for At { line, value } in list {
        match digest(&value) {
            Some(digest) => credentials.tokens.push(digest),
            None => problems.add(line, format!("bearer_tokens: {NOT_A_DIGEST}")),
        }
    }
    if let Some(At { line, value }) = root.text("bearer_tokens_file", problems) {
        match sources.read(Path::new(&value)) {
            Err(error) => problems.add(line, format!("bearer_tokens_file: cannot read {value:?}: {error}")),
            Ok(bytes) => {
                let text = String::from_utf8_lossy(&bytes);
                let written = |text: &&str| !text.trim().is_empty() && !text.trim_start().starts_with('#');
                for (number, text) in (1..).zip(text.lines()).filter(|(_, text)| written(text)) {
                    match text.split_whitespace().next().and_then(digest) {
                        Some(digest) => credentials.tokens.push(digest),
                        None => problems
                            .add(line, format!("bearer_tokens_file: line {number} of {value:?}: {NOT_A_DIGEST}")),
                    }
                }
            }
        }
    }
    credentials
}

const NOT_A_DIGEST: &str =
    "not a SHA-256 of a token in 64 hexadecimal digits; make one with: printf %s \"$TOKEN\" | sha256sum";

fn digest(text: &str) -> Option<[u8; 32]> {
    let mut digest = [0; 32];
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    for (index, byte) in digest.iter_mut().enumerate() {
        *byte = u8::from_str_radix(&text[2 * index..2 * index + 2], 16).ok()?;
    }
    Some(digest)
}

fn cost(hash: &str) -> Result<u32, String> {
    let cost = HashParts::from_str(hash).map(|parts| parts.get_cost());
    match cost {
        // 2x marks hashes of a faulty implementation.
        Ok(cost @ 4..=HIGHEST_COST) if !hash.starts_with("$2x$") => Ok(cost),
        Ok(cost) if !hash.starts_with("$2x$") => {
            Err(format!("the cost must be between 4 and {HIGHEST_COST}, not {cost}"))
        }
        _ => Err("not a bcrypt hash ($2a$, $2b$ or $2y$ and 57 more characters); \
                  make one with: llm-relay-exporter hash-password"
            .into()),
    }
}

/// Checks passwords one at a time, and remembers the verdicts.
pub(crate) struct PasswordChecks {
    /// Chosen at the start: what is remembered says nothing outside this process.
    salt: [u8; 32],
    turn: Arc<Semaphore>,
    right: Mutex<HashSet<[u8; 32]>>,
    wrong: Mutex<HashSet<[u8; 32]>>,
}

/// There are more passwords to check than time.
pub(crate) struct Busy;

impl PasswordChecks {
    pub(crate) fn new() -> Self {
        Self {
            salt: rand::random(),
            turn: Arc::new(Semaphore::new(1)),
            right: Mutex::default(),
            wrong: Mutex::default(),
        }
    }

    /// Whether the password is the user's. An unknown user's check takes as long as a known one's.
    ///
    /// # Errors
    /// When the turn did not come in time.
    pub(crate) async fn fits(&self, credentials: &Credentials, user: &str, password: &[u8]) -> Result<bool, Busy> {
        let known = credentials.users.get(user);
        let hash = known.unwrap_or(&credentials.nobody).clone();
        let key = self.key(user, password, &hash);
        if let Some(verdict) = self.remembered(&key) {
            return Ok(verdict);
        }
        let turn = timeout(PATIENCE, self.turn.clone().acquire_owned()).await;
        let turn = turn.ok().and_then(Result::ok).ok_or(Busy)?;
        // The same question may have been answered meanwhile.
        if let Some(verdict) = self.remembered(&key) {
            return Ok(verdict);
        }
        let password = password.to_vec();
        let checked = spawn_blocking(move || {
            // Held to the end even when the client has gone: the number of checks at once stays bounded.
            let _turn = turn;
            bcrypt::verify(password, &hash).unwrap_or(false)
        });
        let verdict = known.is_some() & checked.await.unwrap_or(false);
        let mut verdicts = locked(if verdict { &self.right } else { &self.wrong });
        if verdicts.len() >= REMEMBERED {
            verdicts.clear();
        }
        verdicts.insert(key);
        Ok(verdict)
    }

    fn remembered(&self, key: &[u8; 32]) -> Option<bool> {
        if locked(&self.right).contains(key) {
            return Some(true);
        }
        locked(&self.wrong).contains(key).then_some(false)
    }

    fn key(&self, user: &str, password: &[u8], hash: &str) -> [u8; 32] {
        let mut key = Sha256::new_with_prefix(self.salt);
        for part in [user.as_bytes(), password, hash.as_bytes()] {
            key.update((part.len() as u64).to_le_bytes());
            key.update(part);
        }
        key.finalize().into()
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::web::yaml;

    #[test]
    fn an_unknown_user_is_checked_at_the_highest_cost_of_the_known_ones() {
        let hash = |cost| bcrypt::hash_with_salt("x", cost, [1; 16]).unwrap().to_string();
        let text = format!("basic_auth_users:\n  a: {}\n  b: {}\n", hash(4), hash(5));
        let mut problems = Problems::default();
        let mut root = yaml::parse(&text, &mut problems).unwrap();
        let credentials = read(&mut root, &mut Sources::beside(Path::new("")), &mut problems);
        assert!(problems.0.is_empty() && credentials.users.len() == 2);
        assert_eq!(cost(&credentials.nobody), Ok(5));
        // It takes part in the whole check, and no password fits.
        assert!(!bcrypt::verify("x", &credentials.nobody).unwrap());
    }

    #[tokio::test]
    async fn verdicts_are_bounded_and_wrong_ones_do_not_drive_out_right_ones() {
        let hash = bcrypt::hash_with_salt("right", 4, [1; 16]).unwrap().to_string();
        let credentials = Credentials { users: [("a".into(), hash.into())].into(), ..Credentials::default() };
        let checks = PasswordChecks::new();
        assert!(checks.fits(&credentials, "a", b"right").await.is_ok_and(|fits| fits));
        for filler in 0..REMEMBERED {
            locked(&checks.wrong).insert(Sha256::digest(filler.to_le_bytes()).into());
        }
        assert!(checks.fits(&credentials, "a", b"wrong").await.is_ok_and(|fits| !fits));
        assert_eq!((locked(&checks.wrong).len(), locked(&checks.right).len()), (1, 1));
    }
}
