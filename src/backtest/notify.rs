//! Who would have been told: Alertmanager's routes, time intervals and inhibitions, as its configuration has them.
//!
//! Silences are of the moment, and grouping joins messages without losing one: neither is looked at.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use chrono::{DateTime, Datelike, NaiveTime, Timelike, Utc, Weekday};
use chrono_tz::Tz;
use regex::Regex;
use serde::Deserialize;

use super::report::{Line, Occurrence, Told};

const SHIPPED: &str = include_str!("../../prometheus/alertmanager.yml");
const FILE: &str = "alertmanager.yml";
/// How finely the course of an episode is followed, in seconds.
const STEP: i64 = 60;

type Labels = BTreeMap<String, String>;

#[derive(Deserialize)]
struct Configuration {
    route: Route,
    #[serde(default)]
    inhibit_rules: Vec<Inhibition>,
    #[serde(default)]
    time_intervals: Vec<NamedIntervals>,
}

#[derive(Deserialize)]
struct Route {
    receiver: Option<String>,
    #[serde(default)]
    matchers: Vec<Matcher>,
    #[serde(default, rename = "continue")]
    goes_on: bool,
    #[serde(default)]
    routes: Vec<Route>,
    #[serde(default)]
    active_time_intervals: Vec<String>,
    #[serde(default)]
    mute_time_intervals: Vec<String>,
}

#[derive(Deserialize)]
struct Inhibition {
    #[serde(default)]
    source_matchers: Vec<Matcher>,
    #[serde(default)]
    target_matchers: Vec<Matcher>,
    #[serde(default)]
    equal: Vec<String>,
}

#[derive(Deserialize)]
struct NamedIntervals {
    name: String,
    time_intervals: Vec<Interval>,
}

/// Strict: an interval that is understood by half would tell a lie.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Interval {
    #[serde(default)]
    times: Vec<Times>,
    #[serde(default)]
    weekdays: Vec<Weekdays>,
    location: Option<Tz>,
}

#[derive(Deserialize)]
struct Times {
    start_time: Minute,
    end_time: Minute,
}

/// Of the day; 24:00 is its end.
#[derive(Clone, Copy, PartialEq, PartialOrd, Deserialize)]
#[serde(try_from = "String")]
struct Minute(u32);

impl TryFrom<String> for Minute {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text == "24:00" {
            return Ok(Self(24 * 60));
        }
        let time = NaiveTime::parse_from_str(&text, "%H:%M").map_err(|error| format!("{text}: {error}"))?;
        Ok(Self(time.hour() * 60 + time.minute()))
    }
}

/// From one to the other, both included; weeks begin on Sunday.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Weekdays(u32, u32);

impl TryFrom<String> for Weekdays {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let day = |name: &str| {
            let day: Result<Weekday, _> = name.parse();
            day.map(|day| day.num_days_from_sunday()).map_err(|_| format!("{text}: not days of the week"))
        };
        let (first, last) = text.split_once(':').unwrap_or((&text, &text));
        Ok(Self(day(first)?, day(last)?))
    }
}

/// `label = "value"`, with `=`, `!=`, `=~` or `!~`.
#[derive(Deserialize)]
#[serde(try_from = "String")]
struct Matcher {
    label: String,
    negated: bool,
    value: Regex,
}

impl TryFrom<String> for Matcher {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let wrong = || format!("{text}: not a matcher like severity = \"critical\"");
        let at = text.find(['=', '!']).ok_or_else(wrong)?;
        let (label, rest) = text.split_at(at);
        let operators = [("=~", false, true), ("!~", true, true), ("!=", true, false), ("=", false, false)];
        let (value, negated, is_regex) = operators
            .into_iter()
            .find_map(|(sign, negated, is_regex)| Some((rest.strip_prefix(sign)?.trim(), negated, is_regex)))
            .ok_or_else(wrong)?;
        let value = value.strip_prefix('"').and_then(|it| it.strip_suffix('"')).unwrap_or(value).replace("\\\"", "\"");
        let value = if is_regex { value } else { regex::escape(&value) };
        let value = Regex::new(&format!("^(?s:{value})$")).map_err(|error| format!("{text}: {error}"))?;
        Ok(Self { label: label.trim().to_owned(), negated, value })
    }
}

impl Matcher {
    fn fits(&self, labels: &Labels) -> bool {
        self.value.is_match(get(labels, &self.label)) != self.negated
    }
}

/// Alertmanager takes a missing label for an empty one.
fn get<'a>(labels: &'a Labels, label: &str) -> &'a str {
    labels.get(label).map_or("", String::as_str)
}

fn fit(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|matcher| matcher.fits(labels))
}

impl Interval {
    fn holds(&self, at: DateTime<Utc>) -> bool {
        let local = at.with_timezone(&self.location.unwrap_or(Tz::UTC));
        let minute = Minute(local.hour() * 60 + local.minute());
        let day = local.weekday().num_days_from_sunday();
        (self.times.is_empty() || self.times.iter().any(|it| it.start_time <= minute && minute < it.end_time))
            && (self.weekdays.is_empty() || self.weekdays.iter().any(|it| (it.0..=it.1).contains(&day)))
    }
}

/// Where an alert goes.
struct Way<'a> {
    receiver: &'a str,
    route: &'a Route,
}

impl Route {
    /// The deepest routes that take the labels (Alertmanager `dispatch/route.go`, `Match`).
    fn ways<'a>(&'a self, labels: &Labels, above: &'a str) -> Vec<Way<'a>> {
        if !fit(&self.matchers, labels) {
            return Vec::new();
        }
        let receiver = self.receiver.as_deref().unwrap_or(above);
        let mut ways = Vec::new();
        for route in &self.routes {
            let found = route.ways(labels, receiver);
            let ends = !found.is_empty() && !route.goes_on;
            ways.extend(found);
            if ends {
                break;
            }
        }
        if ways.is_empty() {
            ways.push(Way { receiver, route: self });
        }
        ways
    }
}

/// An Alertmanager's configuration.
pub(crate) struct Routing(Configuration);

impl Routing {
    /// The shipped one, or that of a directory.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub(crate) fn load(directory: Option<&Path>) -> anyhow::Result<Self> {
        let text = match directory.map(|directory| directory.join(FILE)) {
            // Rules alone are tested with the shipped routes.
            Some(path) if path.exists() => {
                fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?
            }
            _ => SHIPPED.to_owned(),
        };
        let configuration: Configuration =
            serde_saphyr::from_str(&text).with_context(|| format!("{FILE} is not understood"))?;
        let routing = Self(configuration);
        routing.check(&routing.0.route)?;
        Ok(routing)
    }

    fn check(&self, route: &Route) -> anyhow::Result<()> {
        for name in route.active_time_intervals.iter().chain(&route.mute_time_intervals) {
            if !self.0.time_intervals.iter().any(|it| it.name == *name) {
                bail!("{FILE}: there is no time interval {name}");
            }
        }
        route.routes.iter().try_for_each(|route| self.check(route))
    }

    fn is_in(&self, names: &[String], at: DateTime<Utc>) -> bool {
        let named = self.0.time_intervals.iter().filter(|it| names.contains(&it.name));
        named.flat_map(|it| &it.time_intervals).any(|interval| interval.holds(at))
    }

    /// Notes with each episode who was told of it.
    pub(crate) fn tell(&self, relay: &str, lines: &mut [Line]) {
        let all: Vec<Vec<(Labels, i64, i64)>> = lines
            .iter()
            .map(|line| line.episodes.iter().map(|it| (labels(relay, line, it), it.start, it.end)).collect())
            .collect();
        for (line, of_line) in lines.iter_mut().zip(&all) {
            for (occurrence, (labels, start, end)) in line.episodes.iter_mut().zip(of_line) {
                occurrence.told = self.told(labels, *start, *end, all.iter().flatten());
            }
        }
    }

    fn told<'a>(
        &self,
        target: &Labels,
        start: i64,
        end: i64,
        others: impl Iterator<Item = &'a (Labels, i64, i64)>,
    ) -> Told {
        let overlapping: Vec<_> = others.filter(|(_, from, to)| *from < end && *to > start).collect();
        let inhibits = |rule: &Inhibition, source: &Labels| {
            // What is a source as well is not silenced by another such (Alertmanager `inhibit/inhibit.go`).
            let both = |labels| fit(&rule.source_matchers, labels) && fit(&rule.target_matchers, labels);
            fit(&rule.source_matchers, source)
                && rule.equal.iter().all(|label| get(source, label) == get(target, label))
                && !(both(target) && both(source))
        };
        let rules: Vec<&Inhibition> =
            self.0.inhibit_rules.iter().filter(|rule| fit(&rule.target_matchers, target)).collect();
        let sources: Vec<_> =
            overlapping.into_iter().filter(|it| rules.iter().any(|rule| inhibits(rule, &it.0))).collect();
        let ways = self.0.route.ways(target, "");
        let mut told = Told::default();
        for second in (start..end.max(start + 1)).step_by(STEP as usize) {
            let at = DateTime::from_timestamp(second, 0).unwrap_or_default();
            if let Some((source, ..)) = sources.iter().find(|(_, from, to)| (*from..*to).contains(&second)) {
                told.kept_back_by.get_or_insert_with(|| get(source, "alertname").to_owned());
                continue;
            }
            let open = |way: &&Way<'_>| {
                let Route { active_time_intervals: active, mute_time_intervals: mute, .. } = way.route;
                (active.is_empty() || self.is_in(active, at)) && !self.is_in(mute, at)
            };
            let receivers: Vec<&str> = ways.iter().filter(open).map(|way| way.receiver).collect();
            if !receivers.is_empty() {
                told.receiver = Some(receivers.join(", "));
                told.at = Some(second);
                break;
            }
            told.kept_back_by.get_or_insert_with(|| {
                let intervals = ways.iter().flat_map(|way| {
                    let muted = way.route.mute_time_intervals.iter().map(|name| format!("in {name}"));
                    way.route.active_time_intervals.iter().map(|name| format!("not in {name}")).chain(muted)
                });
                intervals.collect::<Vec<_>>().join(", ")
            });
        }
        told
    }
}

/// As Alertmanager gets them.
fn labels(relay: &str, line: &Line, occurrence: &Occurrence) -> Labels {
    let mut labels = occurrence.labels.clone();
    // A template cannot be evaluated here; the shipped ones name the owner of a key.
    let written = line.labels.iter().filter(|(_, value)| !value.contains("{{"));
    labels.extend(written.map(|(label, value)| (label.clone(), value.clone())));
    if line.labels.get("user_id").is_some_and(|value| value.contains("{{")) {
        labels.extend(occurrence.owner.clone().map(|owner| ("user_id".to_owned(), owner)));
    }
    labels.extend([("alertname".to_owned(), line.alert.clone()), ("relay".to_owned(), relay.to_owned())]);
    labels
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs<'a> = &'a [(&'a str, &'a str)];

    fn line(alert: &str, labels: Pairs<'_>, episodes: &[(&str, &str, Pairs<'_>)]) -> Line {
        let map = |pairs: Pairs<'_>| pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let second = |text: &str| text.parse::<DateTime<Utc>>().unwrap().timestamp();
        let occurrence = |(start, end, labels): &(&str, &str, Pairs<'_>)| Occurrence {
            start: second(start),
            end: second(end),
            labels: map(labels),
            names: BTreeMap::new(),
            owner: None,
            told: Told::default(),
        };
        Line { alert: alert.into(), labels: map(labels), episodes: episodes.iter().map(occurrence).collect() }
    }

    fn told(lines: &mut [Line]) -> Vec<(Option<&str>, Option<String>, Option<&str>)> {
        Routing::load(None).unwrap().tell("main", lines);
        let at = |it: &Told| it.at.map(|at| DateTime::from_timestamp(at, 0).unwrap().format("%d %H:%M").to_string());
        let all = lines.iter().flat_map(|line| &line.episodes);
        all.map(|it| (it.told.receiver.as_deref(), at(&it.told), it.told.kept_back_by.as_deref())).collect()
    }

    /// The shipped configuration: times are those of Shanghai, eight hours later.
    #[test]
    fn severity_hours_and_causes_decide_who_is_told() {
        let (critical, warning) = ([("severity", "critical")], [("severity", "warning"), ("source", "ledger")]);
        let mut lines = [
            line("LLMRelayErrorBudgetBurn", &critical, &[("2026-03-03T18:00:00Z", "2026-03-03T19:00:00Z", &[])]),
            line(
                "LLMRelayUnpricedTraffic",
                &warning,
                &[
                    ("2026-03-03T18:00:00Z", "2026-03-03T19:00:00Z", &[]),
                    ("2026-03-03T23:30:00Z", "2026-03-04T01:00:00Z", &[]),
                    ("2026-03-04T01:00:00Z", "2026-03-04T02:00:00Z", &[]),
                ],
            ),
        ];
        assert_eq!(
            told(&mut lines),
            [
                (Some("page"), Some("03 18:00".into()), None),
                (None, None, Some("not in waking_hours")),
                (Some("chat"), Some("04 00:00".into()), Some("not in waking_hours")),
                (Some("chat"), Some("04 01:00".into()), None),
            ]
        );

        let of = |provider| [("provider_id", provider)];
        let mut lines = [
            line(
                "LLMRelayProviderAuthFailing",
                &warning,
                &[("2026-03-04T02:00:00Z", "2026-03-04T03:00:00Z", &of("3"))],
            ),
            line(
                "LLMRelayProviderSlowFirstToken",
                &[("severity", "info")],
                &[
                    ("2026-03-04T02:10:00Z", "2026-03-04T02:50:00Z", &of("3")),
                    ("2026-03-04T02:10:00Z", "2026-03-04T03:30:00Z", &of("3")),
                    ("2026-03-04T02:10:00Z", "2026-03-04T02:50:00Z", &of("4")),
                ],
            ),
        ];
        let cause = Some("LLMRelayProviderAuthFailing");
        assert_eq!(
            told(&mut lines)[1..],
            [
                (None, None, cause),
                (Some("digest"), Some("04 03:00".into()), cause),
                (Some("digest"), Some("04 02:10".into()), None),
            ]
        );
    }

    #[test]
    fn what_is_not_understood_is_refused() {
        let place = tempfile::tempdir().unwrap();
        let load = |text: &str| {
            fs::write(place.path().join(FILE), text).unwrap();
            Routing::load(Some(place.path())).err().map(|error| format!("{error:#}"))
        };
        assert_eq!(load("route: {receiver: a}"), None);
        let wrong = load("route: {receiver: a, mute_time_intervals: [night]}").unwrap();
        assert!(wrong.contains("night"), "{wrong}");
        let wrong = load("route: {receiver: a}\ntime_intervals: [{name: x, time_intervals: [{months: ['1:3']}]}]");
        assert!(wrong.is_some_and(|wrong| wrong.contains("months")));
        assert!(load("route: {receiver: a, matchers: ['severity']}").is_some());
    }
}
