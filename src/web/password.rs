//! Hashes for `basic_auth_users`.

use std::io::{self, BufRead, IsTerminal};

use anyhow::{Context, bail};

use super::credentials::HIGHEST_COST;

/// bcrypt takes no more; longer passwords would be cut silently.
const LONGEST: usize = 71;

/// Reads a password from the standard input (on a terminal without showing it) and prints its bcrypt hash.
///
/// # Errors
/// When the cost is out of range, or the password empty, too long, or mistyped the second time.
pub(crate) fn hash_password(cost: u32) -> anyhow::Result<()> {
    let stdin = io::stdin();
    let password = if stdin.is_terminal() {
        let password = rpassword::prompt_password("Password: ").context("cannot read the password")?;
        if password != rpassword::prompt_password("Once more: ").context("cannot read the password")? {
            bail!("the two passwords differ");
        }
        password
    } else {
        first_line(stdin.lock())?
    };
    println!("{}", bcrypt_hash(&password, cost)?);
    Ok(())
}

fn first_line(mut input: impl BufRead) -> anyhow::Result<String> {
    let mut line = String::new();
    input.read_line(&mut line).context("cannot read the password from the standard input")?;
    Ok(line.trim_end_matches(['\r', '\n']).to_owned())
}

/// The hash of a password in bcrypt's form `$2b$`, which the web configuration files of all exporters take.
///
/// # Errors
/// When the cost is not between 4 and 18, or the password is empty or longer than 71 bytes.
pub fn bcrypt_hash(password: &str, cost: u32) -> anyhow::Result<String> {
    if !(4..=HIGHEST_COST).contains(&cost) {
        bail!("the cost must be between 4 and {HIGHEST_COST}, not {cost}");
    }
    if password.is_empty() {
        bail!("the password is empty");
    }
    if password.len() > LONGEST {
        bail!("the password is longer than {LONGEST} bytes; bcrypt would ignore the rest");
    }
    bcrypt::non_truncating_hash(password, cost).context("cannot hash the password")
}
