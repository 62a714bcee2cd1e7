//! A relay's past in a private Prometheus, and what recording rules make of it: the server does all the arithmetic.

use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{BufWriter, Write as _};
use std::path::Path;

use anyhow::Context;
use futures_util::{StreamExt, TryStreamExt, stream};

use crate::page::text;
use crate::rules::{KNOWN, Record, Rules};
use crate::servers::prometheus::{PrivatePrometheus, Series};

/// Seconds that are evaluated and imported at once; a span that a block of Prometheus may have.
pub(crate) const SPAN: i64 = 54 * 3600;
/// Of what never changes there is a sample so often: Prometheus looks back for five minutes.
const CONSTANT_STEP: i64 = 240;
/// Questions on their way to the server.
const AT_ONCE: usize = 3;
/// No target, no rule: everything is asked.
const CONFIGURATION: &str = "global: {scrape_interval: 1m}\n";

/// The past, from `begin` to `to` in Unix seconds, every `step`.
pub(crate) struct Bench {
    pub prometheus: PrivatePrometheus,
    pub relay: String,
    pub begin: i64,
    pub to: i64,
    pub step: i64,
}

impl Bench {
    /// Takes the relay for known throughout, and starts the server on what has been imported.
    ///
    /// # Errors
    /// When Prometheus does not start.
    pub(crate) async fn start(mut self) -> anyhow::Result<Self> {
        let mut page = format!("# TYPE {KNOWN} gauge\n");
        for at in (self.begin..=self.to).step_by(CONSTANT_STEP as usize) {
            let _ = writeln!(page, "{KNOWN}{{relay={:?}}} 0 {at}", self.relay);
        }
        page.push_str("# EOF\n");
        let path = self.prometheus.directory().join("known.om");
        fs::write(&path, page).context("cannot write into the temporary directory")?;
        self.prometheus.import(&path, SPAN).await?;
        self.restart().await?;
        Ok(self)
    }

    /// Starts the server anew, so that it sees what has been imported since.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn restart(&mut self) -> anyhow::Result<()> {
        Ok(self.prometheus.start(CONFIGURATION).await?)
    }

    /// Spans of at most [`SPAN`] from `from` on, cut as Prometheus cuts its blocks.
    pub(crate) fn spans(&self, from: i64) -> impl ExactSizeIterator<Item = (i64, i64)> + use<> {
        let (first, last) = (from.div_euclid(SPAN), self.to.div_euclid(SPAN));
        let (to, step) = (self.to, self.step);
        (0..usize::try_from(last - first + 1).unwrap_or(0)).map(move |index| {
            let block = first + index as i64;
            (up(block * SPAN, step).max(from), (up((block + 1) * SPAN, step) - step).min(to))
        })
    }

    /// Writes what rules record from `first` to `last`, as OpenMetrics, under its name only when it is complete. All rules of
    /// one name are given together. Returns the file's size in bytes.
    ///
    /// # Errors
    /// When the server refuses a rule or the disk takes no more.
    pub(crate) async fn record(
        &self,
        rules: &Rules,
        records: &[&Record],
        (first, last): (i64, i64),
        path: &Path,
    ) -> anyhow::Result<u64> {
        let mut records: Vec<&Record> = records.to_vec();
        records.sort_by(|one, other| one.name.cmp(&other.name));
        let asking = records.iter().map(|record| {
            // No finer than the rule is evaluated in life.
            let step = match record.interval {
                _ if !rules.tells_of_the_past(record) => CONSTANT_STEP,
                Some(interval) => i64::try_from(interval.as_secs()).unwrap_or(self.step),
                None => self.step,
            };
            let step = up(step.max(self.step), self.step);
            let expr = record.expr.to_string();
            async move {
                Ok::<_, anyhow::Error>((*record, self.prometheus.range(&expr, up(first, step), last, step).await?))
            }
        });
        let unwritable = || format!("cannot write {}", path.display());
        let partial = path.with_extension("partial");
        let mut out = BufWriter::new(File::create(&partial).with_context(unwritable)?);
        let mut answers = stream::iter(asking).buffered(AT_ONCE);
        let (mut page, mut family) = (String::new(), "");
        while let Some((record, answer)) = answers.try_next().await? {
            if record.name != family {
                family = &record.name;
                let _ = writeln!(page, "# TYPE {family} gauge");
            }
            for series in answer {
                samples(&mut page, record, series);
            }
            out.write_all(page.as_bytes()).with_context(unwritable)?;
            page.clear();
        }
        drop(answers);
        let whole = || {
            out.write_all(b"# EOF\n")?;
            let file = out.into_inner()?;
            file.sync_all()?;
            fs::rename(&partial, path)?;
            Ok::<_, std::io::Error>(file.metadata()?.len())
        };
        whole().with_context(unwritable)
    }
}

/// What a rule records of a series.
fn samples(page: &mut String, record: &Record, series: Series) {
    let mut labels = series.metric;
    labels.remove("__name__");
    labels.extend(record.labels.clone());
    let mut sample = String::new();
    let labels = labels.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    text::line(&mut sample, [&record.name, ""], labels, None);
    for (at, value) in series.values {
        let _ = writeln!(page, "{sample}{value} {at}");
    }
}

/// The next multiple of a step.
pub(crate) const fn up(at: i64, step: i64) -> i64 {
    (at + step - 1).div_euclid(step) * step
}
