//! The samples of a file for a receiver of remote write 1.0: Prometheus, Mimir, VictoriaMetrics and others.

use std::collections::HashMap;
use std::fs::{self, File};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, bail};
use hyper::body::Bytes;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use hyper::{Method, Request, StatusCode};
use prost::Message;
use url::Url;

use crate::back_off::back_off;
use crate::probe::Target;

/// Bytes of one request before they are compressed, about; some ten thousand samples.
const BATCH: usize = 1 << 20;
/// What a sample takes, at most: a float, a time stamp, and what stands before each.
const SAMPLE: usize = 20;
/// Limit of one request, connecting included.
const TIMEOUT: Duration = Duration::from_secs(60);
/// After the first failure; later ones wait longer.
const PAUSE: Duration = Duration::from_secs(1);
/// Of one request; a restart of the receiver is waited for.
const ATTEMPTS: u32 = 9;
/// Of a receiver's words, in characters.
const LONGEST_WORDS: usize = 500;

/// `prometheus.WriteRequest`.
#[derive(Clone, PartialEq, Message)]
struct WriteRequest {
    #[prost(message, repeated, tag = "1")]
    timeseries: Vec<TimeSeries>,
}

#[derive(Clone, PartialEq, Message)]
struct TimeSeries {
    #[prost(message, repeated, tag = "1")]
    labels: Vec<Label>,
    #[prost(message, repeated, tag = "2")]
    samples: Vec<Sample>,
}

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Message)]
struct Label {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    value: String,
}

#[derive(Clone, Copy, PartialEq, Message)]
struct Sample {
    #[prost(double, tag = "1")]
    value: f64,
    /// Unix milliseconds.
    #[prost(int64, tag = "2")]
    timestamp: i64,
}

/// Who takes samples by remote write.
pub(crate) struct Receiver {
    target: Target,
    headers: HeaderMap,
}

impl Receiver {
    /// `headers` is a file of lines like `Authorization: Bearer …`, which go with each request.
    ///
    /// # Errors
    /// When that file cannot be read or has another line.
    pub(crate) fn new(url: Url, headers: Option<&Path>, ca_file: Option<PathBuf>) -> anyhow::Result<Self> {
        let mut all = HeaderMap::from_iter([
            (CONTENT_ENCODING, HeaderValue::from_static("snappy")),
            (CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf")),
            (HeaderName::from_static("x-prometheus-remote-write-version"), HeaderValue::from_static("0.1.0")),
        ]);
        if let Some(path) = headers {
            let shown = path.display();
            let text = fs::read_to_string(path).with_context(|| format!("cannot read {shown}"))?;
            for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
                // Its text is a secret, also in an error.
                let (name, value) =
                    header(line).with_context(|| format!("{shown}: line {} is not `Name: value`", index + 1))?;
                all.insert(name, value);
            }
        }
        Ok(Self { target: Target { url, ca_file, timeout: TIMEOUT }, headers: all })
    }

    pub(crate) const fn url(&self) -> &Url {
        &self.target.url
    }

    /// Sends the samples of a file in its order.
    ///
    /// # Errors
    /// When the file cannot be read, or the receiver refuses samples or does not answer for minutes.
    pub(crate) async fn take(&self, path: &Path) -> anyhow::Result<()> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        let mut batch = Batch::default();
        for line in BufReader::new(file).lines() {
            let line = line.with_context(|| format!("cannot read {shown}"))?;
            if line.starts_with('#') {
                continue;
            }
            batch.add(&line).with_context(|| format!("{shown} has no sample in: {line}"))?;
            if batch.bytes >= BATCH {
                self.send(std::mem::take(&mut batch)).await?;
            }
        }
        if batch.bytes > 0 {
            self.send(batch).await?;
        }
        Ok(())
    }

    async fn send(&self, batch: Batch) -> anyhow::Result<()> {
        let request = WriteRequest { timeseries: batch.series };
        let body = Bytes::from(snap::raw::Encoder::new().compress_vec(&request.encode_to_vec())?);
        let url = self.url();
        for failures in 1.. {
            let mut request = Request::new(body.clone().into());
            *request.method_mut() = Method::POST;
            *request.headers_mut() = self.headers.clone();
            let problem = match self.target.send(request).await {
                Ok((status, _)) if status.is_success() => break,
                Ok((status, words)) => {
                    let words: String = String::from_utf8_lossy(&words).trim().chars().take(LONGEST_WORDS).collect();
                    let problem = format!("{url} answers {status}: {words}");
                    if !status.is_server_error() && status != StatusCode::TOO_MANY_REQUESTS {
                        bail!("{problem}\n{}", advice(status));
                    }
                    problem
                }
                Err(failure) => failure.to_string(),
            };
            if failures == ATTEMPTS {
                bail!("{problem}\ntried {ATTEMPTS} times; the same command continues. {OLD}");
            }
            tracing::warn!(problem, "the receiver takes no samples; trying again");
            tokio::time::sleep(back_off(PAUSE, failures)).await;
        }
        Ok(())
    }
}

/// Receivers do not agree on how to say that samples are too old.
const OLD: &str = "Prometheus and Mimir take samples of the past with an out_of_order_time_window that reaches back to \
                   the begin of the back-fill";

fn advice(status: StatusCode) -> String {
    match status {
        StatusCode::BAD_REQUEST => format!("{OLD}; the same command continues then"),
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
            "--remote-write-headers names a file with lines like `Authorization: Bearer TOKEN`".to_owned()
        }
        StatusCode::NOT_FOUND => {
            "the path is /api/v1/write of Prometheus (with --web.enable-remote-write-receiver) and \
                                  VictoriaMetrics, /api/v1/push of Mimir"
                .to_owned()
        }
        _ => "what was sent stays there; the same command continues".to_owned(),
    }
}

fn header(line: &str) -> Option<(HeaderName, HeaderValue)> {
    let (name, value) = line.split_once(':')?;
    let mut value = HeaderValue::from_str(value.trim()).ok()?;
    value.set_sensitive(true);
    Some((name.trim().parse().ok()?, value))
}

/// Samples on their way.
#[derive(Default)]
struct Batch {
    series: Vec<TimeSeries>,
    /// Places in `series`, by what stands before the value.
    places: HashMap<String, usize>,
    /// At most.
    bytes: usize,
}

impl Batch {
    /// Adds a line of OpenMetrics; `None` when it is no sample with a time stamp.
    fn add(&mut self, line: &str) -> Option<()> {
        let mut parts = line.rsplitn(3, ' ');
        let (second, value, series) = (parts.next()?, parts.next()?, parts.next()?);
        let sample = Sample { value: value.parse().ok()?, timestamp: second.parse::<i64>().ok()? * 1000 };
        let place = match self.places.get(series) {
            Some(place) => *place,
            None => {
                self.series.push(TimeSeries { labels: labels(series)?, samples: Vec::new() });
                self.places.insert(series.to_owned(), self.series.len() - 1);
                self.bytes += 2 * series.len();
                self.series.len() - 1
            }
        };
        self.series[place].samples.push(sample);
        self.bytes += SAMPLE;
        Some(())
    }
}

/// The labels of `name{label="value",…}`, sorted as remote write wants them.
fn labels(series: &str) -> Option<Vec<Label>> {
    let label = |name: &str, value: String| Label { name: name.to_owned(), value };
    let (name, mut rest) = series.strip_suffix('}')?.split_once('{')?;
    let mut labels = vec![label("__name__", name.to_owned())];
    while !rest.is_empty() {
        let (name, quoted) = rest.split_once("=\"")?;
        let (mut value, mut chars) = (String::new(), quoted.chars());
        loop {
            match chars.next()? {
                '"' => break,
                '\\' => match chars.next()? {
                    'n' => value.push('\n'),
                    escaped => value.push(escaped),
                },
                plain => value.push(plain),
            }
        }
        // An empty value is none.
        if !value.is_empty() {
            labels.push(label(name, value));
        }
        rest = chars.as_str().trim_start_matches(',');
    }
    labels.sort();
    Some(labels)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_the_samples_of_each_series_in_order_under_their_labels() {
        let mut batch = Batch::default();
        for line in [
            r#"a_bucket{user="a \"b\", \\ {c}=\"d\"",le="+Inf",empty=""} 3 1700000000"#,
            r#"a_sum{relay="中"} NaN 1700000000"#,
            r#"a_bucket{user="a \"b\", \\ {c}=\"d\"",le="+Inf",empty=""} 1.5e3 1700000060"#,
        ] {
            batch.add(line).unwrap();
        }
        let shown: Vec<_> = batch
            .series
            .iter()
            .map(|it| {
                let labels: Vec<_> = it.labels.iter().map(|it| format!("{}={}", it.name, it.value)).collect();
                let samples: Vec<_> = it.samples.iter().map(|it| (it.value.to_string(), it.timestamp)).collect();
                (labels.join("|"), samples)
            })
            .collect();
        let sample = |value: &str, second: i64| (value.to_owned(), second * 1000);
        assert_eq!(
            shown,
            [
                (
                    r#"__name__=a_bucket|le=+Inf|user=a "b", \ {c}="d""#.to_owned(),
                    vec![sample("3", 1_700_000_000), sample("1500", 1_700_000_060)]
                ),
                ("__name__=a_sum|relay=中".to_owned(), vec![sample("NaN", 1_700_000_000)]),
            ]
        );
        let encoded = WriteRequest { timeseries: batch.series }.encoded_len();
        assert!(encoded <= batch.bytes, "{encoded} bytes, expected {} at most", batch.bytes);
        assert_eq!(Batch::default().add("a{b=\"c\"} 1"), None);
    }

    #[test]
    fn a_line_that_is_no_header_is_told_by_its_number_alone() {
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(&file, "X-Scope-OrgID: site-a\n\nsecret\n").unwrap();
        let url = "http://127.0.0.1/api/v1/write".parse().unwrap();
        let Err(error) = Receiver::new(url, Some(file.path()), None) else { panic!("it is taken") };
        let told = format!("{error:#}");
        assert!(told.ends_with("line 3 is not `Name: value`"), "{told}");
    }
}
