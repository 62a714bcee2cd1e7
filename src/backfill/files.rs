//! The directory of a back-fill: files that are there as a whole or not at all, and a note of which back-fill they are of.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::Path;

use anyhow::{Context, bail};

use super::Job;

const NOTE: &str = "backfill.json";

/// The back-fill that a directory is of; `None` when it is empty or not there.
///
/// # Errors
/// When it holds something else.
pub(crate) fn interrupted(directory: &Path) -> anyhow::Result<Option<Job>> {
    let shown = directory.display();
    match fs::read(directory.join(NOTE)) {
        Ok(note) => {
            let job = serde_json::from_slice(&note);
            Ok(Some(job.with_context(|| format!("{shown}/{NOTE} is not a back-fill's note; name another directory"))?))
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            let is_empty = match fs::read_dir(directory) {
                Ok(mut entries) => entries.next().is_none(),
                Err(error) if error.kind() == ErrorKind::NotFound => true,
                Err(error) => return Err(error).with_context(|| format!("cannot look into {shown}")),
            };
            if !is_empty {
                bail!("{shown} holds other files; name an empty or new directory");
            }
            Ok(None)
        }
        Err(error) => Err(error).with_context(|| format!("cannot read {shown}/{NOTE}")),
    }
}

/// Makes the directory this back-fill's own.
///
/// # Errors
/// When it is that of another one.
pub(crate) fn claim(directory: &Path, job: &Job, interrupted: Option<&Job>) -> anyhow::Result<()> {
    let shown = directory.display();
    match interrupted {
        Some(other) if other == job => Ok(()),
        Some(other) => bail!(
            "{shown} holds another back-fill: relay {}, {} to {}, step {} s, labels {:?}, by {}; name another directory, \
             or remove this one",
            other.relay,
            other.from,
            other.to,
            other.step_seconds,
            other.labels,
            other.basis
        ),
        None => {
            fs::create_dir_all(directory).with_context(|| format!("cannot make {shown}"))?;
            let note = serde_json::to_vec_pretty(job)?;
            write_whole(&directory.join(NOTE), |mut file| io::Write::write_all(&mut file, &note))?;
            Ok(())
        }
    }
}

/// Writes a file that appears under its name only when it is complete. Returns its size in bytes.
///
/// # Errors
/// When the disk is full or the directory not ours.
pub(crate) fn write_whole(path: &Path, write: impl FnOnce(&File) -> io::Result<()>) -> anyhow::Result<u64> {
    let partial = path.with_extension("partial");
    let written = || {
        let file = File::create(&partial)?;
        write(&file)?;
        file.sync_all()?;
        let size = file.metadata()?.len();
        fs::rename(&partial, path)?;
        Ok::<_, io::Error>(size)
    };
    written().with_context(|| format!("cannot write {}", path.display()))
}
