//! Back-fill: what an exporter would have shown since the ledger's first row, as OpenMetrics with time stamps.
//!
//! The ledger is played again through the same tally, view and page as in [`crate::serve`], one instant after the other
//! (`past`), and written down in files of some hours each (`files`), which are sent to a receiver (`remote`) and become what
//! Prometheus makes of them (`blocks`) where that is wanted. Only families that rows alone tell are written
//! ([`crate::metrics::Metric::is_backfillable`]); their last values are those that a live exporter begins with, so that its series
//! go on from there. What recording rules would have made of them is evaluated by a private Prometheus ([`crate::bench`]) and
//! written beside them, so that alerts that compare with the past have one.

mod blocks;
mod files;
mod past;
mod remote;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use crate::bench::{Bench, up};
use crate::page::recording::Recording;
use crate::progress::Progress;
use crate::relay::plan::RelayPlan;
use crate::relay::{self, Usage};
use crate::rules::{Record, Rules};
use crate::servers::prometheus::PrivatePrometheus;
use past::Past;
pub(crate) use remote::Receiver;

/// The shipped rules look at spans of five minutes, in which `increase` needs two samples.
pub(crate) const LONGEST_STEP: Duration = Duration::from_secs(120);
pub(crate) const SHORTEST_STEP: Duration = Duration::from_secs(5);
/// Instants in one file, at most: they are held in memory.
const INSTANTS: i64 = 1440;
/// Spans that a block of Prometheus may have; a longer one would have to be merged on a server that keeps 15 days.
const LONGEST_BLOCK: i64 = 18 * 3600;
const SPANS: [i64; 3] = [LONGEST_BLOCK, 6 * 3600, 2 * 3600];
/// Directory of the blocks, in that of a back-fill.
const BLOCKS: &str = "blocks";
/// Share of the whole time, as measured, at which the ledger has been read.
const FILLED: f64 = 0.6;

/// An instant, or how long before the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    At(DateTime<Utc>),
    Before(Duration),
}

/// What to write down.
#[derive(Clone, Debug)]
pub(crate) struct Wanted {
    pub from: When,
    /// Without one, that of the interrupted run, else the present.
    pub to: Option<DateTime<Utc>>,
    pub step: Duration,
    /// What Prometheus will add to each series of the live exporter: `job` and `instance`.
    pub labels: BTreeMap<String, String>,
    /// Whose past is written as well.
    pub rules: Option<Rules>,
}

/// One back-fill, settled: the same ledger and job give the same files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Job {
    relay: String,
    /// What the rows' meaning rests on.
    basis: String,
    pub from: DateTime<Utc>,
    pub to: DateTime<Utc>,
    step_seconds: i64,
    labels: BTreeMap<String, String>,
}

/// The instants of one file: those of one block of Prometheus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    /// Unix seconds; the last instant is included.
    start: i64,
    first: i64,
    last: i64,
}

/// Where it goes.
pub(crate) struct Out {
    pub directory: PathBuf,
    /// Each file becomes blocks of Prometheus in the directory's own `blocks`, two hundred times smaller, and goes.
    pub blocks: bool,
    /// Who is sent each file.
    pub receiver: Option<Receiver>,
}

/// What has been done.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Done {
    pub files: u64,
    /// Written by an earlier run.
    pub kept: u64,
    pub bytes: u64,
    pub rows_read: u64,
}

impl Job {
    fn new(plan: &RelayPlan, past: &Past, wanted: &Wanted, interrupted: Option<&Self>) -> anyhow::Result<Self> {
        let present = past.present();
        let to = wanted.to.or(interrupted.map(|job| job.to)).unwrap_or(present).min(present);
        let from = match wanted.from {
            When::At(from) => from,
            When::Before(span) => to - span,
        };
        // Nothing is known from before the ledger.
        let from = from.max(past.begin());
        let seconds = |at: DateTime<Utc>| DateTime::from_timestamp(at.timestamp(), 0).unwrap_or(at);
        let job = Self {
            relay: plan.name.clone(),
            basis: past.basis().to_owned(),
            from: seconds(from),
            to: seconds(to),
            step_seconds: wanted.step.as_secs().cast_signed(),
            labels: wanted.labels.clone(),
        };
        if job.chunks().is_empty() {
            bail!("there is no instant to write between {} and {}; the ledger begins at {}", from, to, past.begin());
        }
        Ok(job)
    }

    /// Span of a file's instants in seconds.
    pub(crate) fn block_seconds(&self) -> i64 {
        let fits = |block: &i64| block / self.step_seconds <= INSTANTS;
        SPANS.into_iter().find(fits).unwrap_or(SPANS[SPANS.len() - 1])
    }

    /// Multiples of the step, in files that begin with multiples of their span: as Prometheus cuts its blocks.
    fn chunks(&self) -> Vec<Chunk> {
        let (step, block) = (self.step_seconds, self.block_seconds());
        let (first, last) = (up(self.from.timestamp(), step), self.to.timestamp().div_euclid(step) * step);
        let starts = (first.div_euclid(block)..=last.div_euclid(block)).map(|index| index * block);
        starts
            .map(|start| Chunk {
                start,
                first: first.max(up(start, step)),
                last: last.min((start + block - 1).div_euclid(step) * step),
            })
            .filter(|chunk| chunk.first <= chunk.last)
            .collect()
    }
}

impl Chunk {
    fn file_name(&self, relay: &str) -> String {
        format!("{relay}-{}.om", instant(self.start))
    }
}

/// Unix seconds, in the name of a file.
fn instant(second: i64) -> String {
    DateTime::from_timestamp(second, 0).unwrap_or_default().format("%Y%m%dT%H%MZ").to_string()
}

/// Writes the files of a back-fill, or those that an interrupted run has not written.
///
/// # Errors
/// When the ledger cannot be read, the directory is not this back-fill's own or takes no more, there is no promtool, or the
/// receiver refuses samples.
pub(crate) async fn write(plan: &RelayPlan, wanted: &Wanted, out: &Out) -> anyhow::Result<(Job, Done)> {
    let interrupted = files::interrupted(&out.directory)?;
    let server = wanted.rules.as_ref().map(|_| PrivatePrometheus::new()).transpose();
    let server = server.context("the recording rules' past needs it; --no-rules leaves that out")?;
    let progress = Progress::new("back-fill");
    let mut filling = Filling::begin(plan, wanted, interrupted.as_ref()).await?;
    files::claim(&out.directory, &filling.job, interrupted.as_ref())?;
    let mut done = Done::default();
    let filled = if server.is_some() { FILLED } else { 1.0 };
    let mut written = Vec::new();
    while let Some(chunk) = filling.next_chunk() {
        let path = out.directory.join(chunk.file_name(&filling.job.relay));
        done.files += 1;
        let imported = path.with_extension("done");
        let (is_written, is_imported) = (path.try_exists()?, imported.try_exists()?);
        done.kept += u64::from(is_written || is_imported);
        if !is_written && !is_imported {
            done.bytes += filling.write(chunk, &path, |share, at| progress.at(share * filled, at)).await?;
        }
        out.hand_on(&path, filling.job.block_seconds()).await?;
        written.push(path);
    }
    done.rows_read = filling.past.rows_read();
    if let (Some(rules), Some(prometheus)) = (&wanted.rules, server) {
        let Job { relay, from, to, step_seconds: step, .. } = &filling.job;
        let (begin, to) = (from.timestamp(), to.timestamp().div_euclid(*step) * step);
        let mut bench = Bench { prometheus, relay: relay.clone(), begin: up(begin, *step), to, step: *step };
        take(&mut bench, &written, out).await?;
        let progress = |share: f64, level: &str| progress.at(filled + share * (1.0 - filled), level);
        record(bench.start().await?, rules, out, &mut done, progress).await?;
    }
    Ok((filling.job.clone(), done))
}

impl Out {
    /// Sends a file and turns it into blocks, unless an earlier run has.
    async fn hand_on(&self, path: &Path, block_seconds: i64) -> anyhow::Result<()> {
        if let Some(receiver) = &self.receiver {
            let (sent, url) = (path.with_extension("sent"), receiver.url().as_str());
            if !fs::read_to_string(&sent).is_ok_and(|to| to == url) {
                let shown = path.display();
                ensure!(path.try_exists()?, "{shown} has become blocks and was not sent; take another directory");
                receiver.take(path).await?;
                files::write_whole(&sent, |mut file| file.write_all(url.as_bytes()))?;
            }
        }
        if self.blocks {
            self.become_blocks(path, block_seconds).await?;
        }
        Ok(())
    }

    async fn become_blocks(&self, path: &Path, block_seconds: i64) -> anyhow::Result<()> {
        let imported = path.with_extension("done");
        if !imported.try_exists()? {
            blocks::make(path, &self.directory, block_seconds).await?;
            files::write_whole(&imported, |_| Ok(()))?;
        }
        if path.try_exists()? {
            fs::remove_file(path)?;
        }
        Ok(())
    }
}

/// Gives the bench what has been written.
async fn take(bench: &mut Bench, written: &[PathBuf], out: &Out) -> anyhow::Result<()> {
    if out.blocks {
        return bench.prometheus.adopt(&out.directory.join(BLOCKS)).context("cannot copy the blocks");
    }
    // The files are not given to the server's account: it gets what this one has made of them.
    let place = bench.prometheus.directory().join("taken");
    fs::create_dir_all(&place)?;
    for path in written {
        blocks::make(path, &place, crate::bench::SPAN).await?;
    }
    let blocks = place.join(BLOCKS);
    if blocks.try_exists()? {
        bench.prometheus.adopt(&blocks).context("cannot copy the blocks")?;
    }
    fs::remove_dir_all(&place).context("cannot remove the blocks that were copied")
}

/// Writes what recording rules would have made of the past, level by level.
async fn record(
    mut bench: Bench,
    rules: &Rules,
    out: &Out,
    done: &mut Done,
    progress: impl Fn(f64, &str),
) -> anyhow::Result<()> {
    let all = rules.levels.len();
    for (level, records) in rules.levels.iter().enumerate() {
        // Thresholds are the same at any time: nobody looks back at them.
        let (of_past, constant): (Vec<&Record>, _) = records.iter().partition(|record| rules.tells_of_the_past(record));
        let (mut written, spans) = (Vec::new(), bench.spans(bench.begin));
        let count = spans.len();
        for (index, span) in spans.enumerate() {
            let share = (level as f64 + index as f64 / count as f64) / all as f64;
            progress(share, &format!("recording rules, level {} of {all}", level + 1));
            let aside = bench.prometheus.directory().join("constant.om");
            bench.record(rules, &constant, span, &aside).await?;
            if of_past.is_empty() {
                continue;
            }
            let name = format!("{}-rules-{level:02}-{}.om", bench.relay, instant(span.0));
            let path = out.directory.join(name);
            done.files += 1;
            if path.try_exists()? || path.with_extension("done").try_exists()? {
                done.kept += 1;
            } else {
                done.bytes += bench.record(rules, &of_past, span, &path).await?;
            }
            written.push(path);
        }
        for path in &written {
            out.hand_on(path, LONGEST_BLOCK).await?;
        }
        take(&mut bench, &written, out).await?;
        bench.restart().await?;
    }
    Ok(())
}

/// Whether a relay's ledger tells when things happened.
pub(crate) fn has_a_past(plan: &RelayPlan) -> bool {
    relay::open(plan).is_ok_and(|relay| matches!(relay.usage, Usage::Rows(_)))
}

/// A back-fill at work.
pub(crate) struct Filling {
    past: Past,
    job: Job,
    chunks: std::vec::IntoIter<Chunk>,
    only: Option<BTreeSet<&'static str>>,
}

impl Filling {
    /// # Errors
    /// When the ledger cannot be read or has no instant of what is wanted.
    pub(crate) async fn begin(plan: &RelayPlan, wanted: &Wanted, interrupted: Option<&Job>) -> anyhow::Result<Self> {
        let Usage::Rows(ledger) = relay::open(plan)?.usage else {
            bail!("relay {} keeps counters and no rows: they do not tell when anything happened", plan.name);
        };
        let past = Past::open(ledger, plan).await.with_context(|| format!("the ledger of relay {}", plan.name))?;
        let job = Job::new(plan, &past, wanted, interrupted)?;
        Ok(Self { past, chunks: job.chunks().into_iter(), only: None, job })
    }

    /// Leaves all but these metrics out.
    pub(crate) fn only(&mut self, metrics: BTreeSet<&'static str>) {
        self.only = Some(metrics);
    }

    pub(crate) const fn job(&self) -> &Job {
        &self.job
    }

    /// The relay's time zone.
    pub(crate) const fn zone(&self) -> Tz {
        self.past.zone()
    }

    pub(crate) const fn rows_read(&self) -> u64 {
        self.past.rows_read()
    }

    pub(crate) fn next_chunk(&mut self) -> Option<Chunk> {
        self.chunks.next()
    }

    /// Writes one file, under its name only when it is complete. Returns its size in bytes. `progress` is told which share of
    /// all has been read, and up to when.
    ///
    /// # Errors
    /// When the ledger cannot be read or the disk takes no more.
    pub(crate) async fn write(
        &mut self,
        chunk: Chunk,
        path: &Path,
        progress: impl Fn(f64, &str),
    ) -> anyhow::Result<u64> {
        let mut recording = Recording::default();
        let mut second = chunk.first;
        while second <= chunk.last {
            let at = DateTime::from_timestamp(second, 0).context("an instant outside the calendar")?;
            self.go_to(at, &progress).await?;
            let mut families = self.past.families();
            if let Some(only) = &self.only {
                families.retain(|family| only.contains(family.metric.name));
            }
            recording.add(second, &families);
            second += self.job.step_seconds;
        }
        files::write_whole(path, |file| {
            let mut out = BufWriter::new(file);
            recording.write(&mut out, &self.job.labels)?;
            out.flush()
        })
    }

    async fn go_to(&mut self, at: DateTime<Utc>, progress: impl Fn(f64, &str)) -> anyhow::Result<()> {
        let begin = self.past.begin();
        let all = (self.job.to - begin).num_seconds().max(1) as f64;
        while self.past.now() < at {
            let moved = self.past.advance(at).await;
            moved.with_context(|| format!("the ledger of relay {}", self.job.relay))?;
            let now = self.past.now();
            progress((now - begin).num_seconds() as f64 / all, &now.format("%Y-%m-%d %H:%M").to_string());
        }
        Ok(())
    }
}
