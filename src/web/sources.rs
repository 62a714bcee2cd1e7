//! The files that make up a configuration, and whether they have changed since they were read.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// No file of a web configuration comes near.
const LARGEST: u64 = 1 << 20;

/// What differs when a file was written again or replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    modified: (i64, i64),
    changed: (i64, i64),
    size: u64,
    inode: u64,
}

/// Every file that was read, as it was before the reading.
pub(crate) struct Sources {
    directory: PathBuf,
    files: Vec<(PathBuf, Option<Stamp>)>,
}

impl Sources {
    /// Paths that are read are relative to the directory of the file.
    pub(crate) fn beside(file: &Path) -> Self {
        Self { directory: file.parent().unwrap_or(Path::new("")).to_owned(), files: Vec::new() }
    }

    pub(crate) fn read(&mut self, path: &Path) -> io::Result<Vec<u8>> {
        let path = self.directory.join(path);
        // Taken first: a change during the reading is seen at the next look.
        self.files.push((path.clone(), stamp(&path)));
        let mut bytes = Vec::new();
        File::open(&path)?.take(LARGEST + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > LARGEST {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "larger than 1 MiB"));
        }
        Ok(bytes)
    }

    pub(crate) fn as_read(&self) -> Vec<Option<Stamp>> {
        self.files.iter().map(|(_, stamp)| *stamp).collect()
    }

    pub(crate) fn as_now(&self) -> Vec<Option<Stamp>> {
        self.files.iter().map(|(path, _)| stamp(path)).collect()
    }
}

fn stamp(path: &Path) -> Option<Stamp> {
    let it = fs::metadata(path).ok()?;
    Some(Stamp {
        modified: (it.mtime(), it.mtime_nsec()),
        changed: (it.ctime(), it.ctime_nsec()),
        size: it.size(),
        inode: it.ino(),
    })
}
