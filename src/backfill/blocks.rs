//! Files turned into blocks of Prometheus by its own promtool.

use std::fs;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;

use anyhow::{Context, bail};
use tokio::process::Command;

/// Puts the blocks of a file into `blocks` of the directory; each appears there as a whole or not at all.
///
/// # Errors
/// When promtool is not installed or refuses the file, or the disk takes no more.
pub(crate) async fn make(file: &Path, directory: &Path, block_seconds: i64) -> anyhow::Result<()> {
    let (partial, blocks) = (directory.join("blocks.partial"), directory.join(super::BLOCKS));
    match fs::remove_dir_all(&partial) {
        Err(error) if error.kind() != ErrorKind::NotFound => return Err(error).context("cannot remove blocks.partial"),
        _ => {}
    }
    let mut promtool = Command::new("promtool");
    promtool.args(["tsdb", "create-blocks-from", "openmetrics", "--quiet"]);
    promtool.arg(format!("--max-block-duration={block_seconds}s")).arg(file).arg(&partial);
    let ended = promtool.stdin(Stdio::null()).kill_on_drop(true).output().await;
    let output = match ended {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!("promtool is not on PATH: apt-get install prometheus, or brew install prometheus")
        }
        ended => ended.context("cannot run promtool")?,
    };
    if !output.status.success() {
        bail!("promtool refused {}: {}", file.display(), String::from_utf8_lossy(&output.stderr).trim());
    }
    fs::create_dir_all(&blocks)?;
    for block in fs::read_dir(&partial)? {
        let block = block?;
        fs::rename(block.path(), blocks.join(block.file_name()))?;
    }
    fs::remove_dir_all(&partial).context("cannot remove blocks.partial")
}
