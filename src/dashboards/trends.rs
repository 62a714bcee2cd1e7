//! Cost and calls by the hour or day, of users, keys, providers and models, overlaid and stacked.

use serde_json::json;

use super::dashboard::{Dashboard, Row, row};
use super::link::Link;
use super::panel::{Money, NOTHING, Panel, UNRECORDED};
use super::panel_types::{Better, bars, chart, legend_table, lines, stack, versus};
use super::promql::{self, Named, Replicas};
use super::query::Query;
use super::shared::{JUDGED, OF_TYPE};
use super::variable::{BUCKET, COMPARE, JOB, KEY, MODEL, PROVIDER, RECORDED_DAYS, RELAY, RELAYS, TYPE, USER, Variable};

/// How many lines a chart shows before the rest is one.
const LINES: u32 = 10;

/// Of the hour or day in which the time range ends.
const RUNNING: &str = "Not over yet";

const FILTER: &str = r#"{provider_id=~"$provider",model=~"$model"}"#;

/// A link that sets the time range with the buckets that suit it, and keeps the filters.
macro_rules! range {
    ($from:literal, $bucket:literal, $compare:literal) => {
        concat!(
            "/d/llm-relay-trends{suffix}?from=",
            $from,
            "&to=now&var-bucket=",
            $bucket,
            "&var-compare=",
            $compare,
            "&${datasource:queryparam}&${relay:queryparam}&${user:queryparam}&${key:queryparam}&${type:queryparam}",
            "&${provider:queryparam}&${model:queryparam}"
        )
    };
}

pub(crate) fn dashboard() -> Dashboard {
    let mut rows = vec![totals().under("Totals (filters: Provider, Provider type, Model)"), by_bucket()];
    rows.extend([
        cost(Split::User, ["Cost of users, overlaid", "Cost of users, stacked"]).under("By user (filter: User)"),
        calls(Split::User, ["Calls of users, overlaid", "Calls of users, stacked"]),
        cost(Split::Key, ["Cost of keys, overlaid", "Cost of keys, stacked"]).under("By key (filters: User, Key)"),
        calls(Split::Key, ["Calls of keys, overlaid", "Calls of keys, stacked"]),
        cost(Split::Provider, ["Cost of providers, overlaid", "Cost of providers, stacked"])
            .under("By provider (filters: Provider, Provider type, Model)"),
        calls(Split::Provider, ["Calls of providers, overlaid", "Calls of providers, stacked"]),
        cost(Split::Model, ["Cost of models, overlaid", "Cost of models, stacked"])
            .under("By model (filters: Provider, Provider type, Model)"),
        calls(Split::Model, ["Calls of models, overlaid", "Calls of models, stacked"]),
    ]);
    rows.push(tokens().under("Tokens and cache (filters: Provider, Provider type, Model)"));
    Dashboard {
        uid: "llm-relay-trends",
        title: "Trends",
        description: "Cost, calls and tokens by the hour or day: today, 7 days, 30 days, this month.",
        refresh: "1m",
        from: "now/d",
        replicas: Replicas::FoldRecorded,
        variables: vec![
            Variable::Source,
            JOB,
            RELAY,
            RELAYS,
            BUCKET,
            COMPARE,
            RECORDED_DAYS,
            USER,
            KEY,
            TYPE,
            PROVIDER,
            MODEL,
        ],
        links: vec![
            ("Today by the hour", range!("now/d", "1h", "1d")),
            ("7 days", range!("now-6d/d", "1d", "7d")),
            ("30 days", range!("now-29d/d", "1d", "30d")),
            ("This month", range!("now/M", "1d", "30d")),
        ],
        alerts: true,
        quick_ranges: true,
        rows,
    }
}

/// The sum of a counter over the time range, and over the same range before.
fn compared(counter: &str, matchers: &str) -> String {
    let over = |at: &str| {
        let offset = if at.is_empty() { String::new() } else { format!(" offset {at}") };
        format!("sum(increase({counter}{matchers}[$__range]{offset}){OF_TYPE})")
    };
    promql::versus(&over(""), &over("$compare"))
}

fn totals() -> Row {
    const NOTE: &str = "Over the time range, by the counters. The change is against the same span as many days earlier as chosen above.";
    let ratio = |at: &str| {
        let over = |outcome: &str| {
            format!(
                r#"sum(increase(llm_relay_requests_total{{outcome=~"{outcome}",provider_id=~"$provider",model=~"$model"}}[$__range]{at}){OF_TYPE}{JUDGED})"#
            )
        };
        format!("({} / ({} > 0))", over("success"), over("success|failure"))
    };
    let count =
        |title, counter, better| versus(title, better).note(NOTE).query(Query::rows("now", compared(counter, FILTER)));
    row(
        4,
        [
            (6, count("Cost", "llm_relay_cost_usd_total", Better::Lower).money(Money::All).decimals(2)),
            (6, count("Calls", "llm_relay_requests_total", Better::Neither)),
            (6, count("Tokens", "llm_relay_tokens_total", Better::Neither)),
            (
                6,
                versus("Success", Better::Higher)
                    .unit("percentunit")
                    .decimals(1)
                    .note("Over the time range, by the counters. The change is in percentage points, against the same span as many days earlier as chosen above.")
                    .untold(UNRECORDED)
                    .query(Query::rows("now", promql::versus_in_points(&ratio(""), &ratio(" offset $compare")))),
            ),
        ],
    )
}

/// A grey veil over the bar of the hour or day that runs: `all` is what all bars add up to.
fn veiled(panel: Panel, all: &str) -> Panel {
    let running = format!("({all}) and on () (vector(time()) > ($__to - $__interval_ms) / 1000 + 1)");
    panel.query(Query::line("running", running, RUNNING).step("$bucket")).legend(
        RUNNING,
        vec![
            ("color", json!({"mode": "fixed", "fixedColor": "gray"})),
            ("custom.fillOpacity", json!(60)),
            ("custom.stacking", json!({"mode": "none", "group": "veil"})),
        ],
    )
}

fn by_bucket() -> Row {
    // As on the overview.
    let color = |color: &str| json!({"mode": "fixed", "fixedColor": color});
    let bucket = |counter: &str| format!("sum(increase({counter}{FILTER}[$bucket] offset -$bucket){OF_TYPE})");
    let each = |title, counter: &str, legend| {
        let all = bucket(counter);
        veiled(bars(title).query(Query::line("all", &*all, legend).step("$bucket")), &all)
    };
    row(
        8,
        [
            (
                12,
                each("Cost by hour or day", "llm_relay_cost_usd_total", "Cost")
                    .money(Money::Legends(&["Cost", RUNNING]))
                    .unit("currencyUSD")
                    .set("color", color("blue")),
            ),
            (12, each("Calls by hour or day", "llm_relay_requests_total", "Calls").set("color", color("orange"))),
        ],
    )
}

#[derive(Clone, Copy)]
enum Split {
    User,
    Key,
    Provider,
    Model,
}

impl Split {
    /// Labels that tell its lines apart.
    const fn labels(self) -> &'static str {
        match self {
            Self::User => "relay, user_id",
            Self::Key => "relay, key_id",
            Self::Provider => "relay, provider_id",
            // One model is one line, whichever relay it was asked of.
            Self::Model => "model",
        }
    }

    const fn cost(self) -> &'static str {
        match self {
            Self::User => r#"llm_relay_user_cost_usd_total{user_id=~"$user"}"#,
            Self::Key => r#"llm_relay_key_cost_usd_total{key_id=~"$key"}"#,
            Self::Provider | Self::Model => r#"llm_relay_cost_usd_total{provider_id=~"$provider",model=~"$model"}"#,
        }
    }

    const fn calls(self) -> &'static str {
        match self {
            Self::User => r#"llm_relay_user_requests_total{user_id=~"$user"}"#,
            Self::Key => r#"llm_relay_key_requests_total{key_id=~"$key"}"#,
            Self::Provider | Self::Model => r#"llm_relay_requests_total{provider_id=~"$provider",model=~"$model"}"#,
        }
    }

    /// What narrows its rows further.
    const fn filter(self) -> &'static str {
        match self {
            Self::User => "",
            // A key that belongs to nobody, or was deleted, stays.
            Self::Key => r#" unless on (relay, key_id) (llm_relay_key_info{user_id!~"$user|"} @ end())"#,
            Self::Provider | Self::Model => OF_TYPE,
        }
    }

    fn named(self, expr: &str) -> String {
        match self {
            Self::User => Named::User.of_buckets(expr),
            Self::Key => Named::Key.of_buckets(expr),
            Self::Provider => Named::Provider.of_buckets(expr),
            Self::Model => expr.to_owned(),
        }
    }

    const fn link(self) -> Link {
        match self {
            Self::User => Link::USER,
            Self::Key => Link::KEY,
            Self::Provider => Link::PROVIDER,
            Self::Model => Link::MODEL,
        }
    }

    const fn legend(self) -> &'static str {
        match self {
            Self::User => "{{user}}",
            Self::Key => "{{key}}",
            Self::Provider => "{{provider}}",
            Self::Model => "{{model}}",
        }
    }

    /// The first lines of a counter over the time range, and the rest as one, per bucket. A bucket's point stands at its
    /// start, hence the offset into its future; the last bucket is the present one.
    fn lines(self, panel: Panel, counter: &str) -> Panel {
        let (labels, filter) = (self.labels(), self.filter());
        let sum = |range: &str, at: &str| {
            format!("sum by ({labels}) (increase({counter}[{range}] offset -$bucket{at}){filter})")
        };
        let each = sum("$bucket", "");
        let first = format!("topk({LINES}, {} > 0)", sum("$__range", " @ end()"));
        let top = self.named(&format!("({each} and on ({labels}) {first})"));
        let others = format!("sum({each} unless on ({labels}) {first}) > 0");
        panel
            .query(Query::lines("top", top, self.legend()).step("$bucket"))
            .query(Query::line("others", others, "Others").step("$bucket"))
            .link(self.link())
    }
}

const OVERLAY: &str =
    "The ten greatest over the time range, one line each. The last point is the hour or day that is not over yet.";
const STACKED: &str = "The ten greatest over the time range and the rest, on top of each other. The last point is the hour or day that is not over yet.";

/// The same lines overlaid and stacked, asked for once.
fn pair(split: Split, [overlaid, stacked]: [&'static str; 2], counter: &str, look: fn(Panel) -> Panel) -> Row {
    let look = |panel| look(legend_table(panel, &[("sum", "Total")])).empty(NOTHING);
    row(
        10,
        [
            (12, split.lines(look(lines(overlaid)).note(OVERLAY), counter).same_as(stacked, "others")),
            (
                12,
                split
                    .lines(look(stack(stacked)).note(STACKED), counter)
                    // The rest is nobody.
                    .legend("Others", vec![("links", json!([]))]),
            ),
        ],
    )
}

fn cost(split: Split, titles: [&'static str; 2]) -> Row {
    pair(split, titles, split.cost(), |panel| panel.money(Money::All))
}

fn calls(split: Split, titles: [&'static str; 2]) -> Row {
    pair(split, titles, split.calls(), |panel| panel)
}

fn tokens() -> Row {
    let of = |types: &str| {
        format!(
            r#"sum(increase(llm_relay_tokens_total{{type=~"{types}",provider_id=~"$provider",model=~"$model"}}[$bucket] offset -$bucket){OF_TYPE})"#
        )
    };
    row(9, [
        (12, veiled(legend_table(bars("Tokens by type"), &[("sum", "Total")])
            .query(Query::line("input", of("input"), "Input").step("$bucket"))
            .query(Query::line("output", of("output"), "Output").step("$bucket"))
            .query(Query::line("read", of("cache_read"), "Cache read").step("$bucket"))
            .query(Query::line("write", of("cache_write.*"), "Cache write").step("$bucket")), &of(".+"))),
        (12, chart("Cache hit ratio").unit("percentunit").set("max", json!(1)).decimals(1)
            .note("Tokens read from a cache divided by all tokens of input. The relay's board counts only requests that touched a cache.")
            .query(Query::line("hits", format!("{} / ({} > 0)", of("cache_read"), of("input|cache_.*")), "Cache hit ratio").step("$bucket"))),
    ])
}
