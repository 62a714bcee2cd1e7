//! The catalogue: the only list of metrics. A metric is one entry; the page, the documentation, the lints and the
//! checks of dashboards and rules are derived from it.
//!
//! Conventions: base units, counters end in `_total`, help is one sentence, every relay metric has the label `relay`
//! first (it is not listed in an entry). Names of people and things live in `*_info` metrics and in the bounded
//! leaderboards. Missing is never zero: an entry that has nothing to say emits no sample.

pub mod docs;

use crate::model::{AccountState, Circuit, Outcome};
use crate::own::Own;
use crate::probe;
use crate::reload::Reload;
use crate::view::{Board, BoardEntry, HistogramView, View};

/// One metric family.
pub struct Metric {
    /// Full name; a counter's ends in `_total`.
    pub name: &'static str,
    pub kind: Kind,
    /// Label names after `relay`.
    pub labels: &'static [&'static str],
    pub help: &'static str,
    pub emit: Emit,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Gauge,
    Counter,
    Histogram,
}

/// Where the samples come from.
pub enum Emit {
    /// Once per relay.
    Relay(fn(&View, &mut dyn Sink)),
    /// Once per relay, told by the rows of its ledger alone: so it can be told of any instant of the past too.
    Past(fn(&View, &mut dyn Sink)),
    /// Once per process; without the label `relay`.
    Exporter(fn(&Own, &mut dyn Sink)),
}

impl Metric {
    /// Whether it has the label `relay`.
    pub const fn is_of_relay(&self) -> bool {
        matches!(self.emit, Emit::Relay(_) | Emit::Past(_))
    }
}

/// Takes the samples of one family. Label values stand in the order of [`Metric::labels`].
pub trait Sink {
    fn sample(&mut self, labels: &[&str], value: f64);
    fn histogram(&mut self, labels: &[&str], value: &HistogramView);
}

/// Every metric, in the order of the page.
pub const CATALOGUE: &[Metric] = &[
    // Overview gauges: equal to the relay's own screen, number by number.
    Metric {
        name: "llm_relay_sessions_active",
        kind: Kind::Gauge,
        labels: &[],
        help: "Live sessions, counted by the relay's own rule.",
        emit: Emit::Relay(|view, out| one(out, live(view).and_then(|live| live.sessions))),
    },
    Metric {
        name: "llm_relay_requests_in_progress",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests that have started within the last 24 hours and are not yet final.",
        emit: Emit::Past(|view, out| one(out, ledger(view).and_then(|ledger| ledger.requests_in_progress))),
    },
    Metric {
        name: "llm_relay_requests_last_minute",
        kind: Kind::Gauge,
        labels: &[],
        help: "Requests that started in the last 60 seconds (RPM).",
        emit: Emit::Past(|view, out| present(out, ledger(view).and_then(|ledger| ledger.requests_last_minute))),
    },
    Metric {
        name: "llm_relay_tokens_last_minute",
        kind: Kind::Gauge,
        labels: &[],
        help: "Tokens of the requests that started in the last 60 seconds (TPM), added up as on the relay's boards.",
        emit: Emit::Past(|view, out| present(out, ledger(view).and_then(|ledger| ledger.tokens_last_minute))),
    },
    Metric {
        name: "llm_relay_day_requests",
        kind: Kind::Gauge,
        labels: &["day"],
        help: "Requests that started on the day (today, yesterday_same_time, yesterday) in the relay's time zone.",
        emit: Emit::Past(|view, out| {
            for (day, sums) in ledger(view).iter().flat_map(|ledger| &ledger.days) {
                out.sample(&[day], sums.requests as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_day_cost_usd",
        kind: Kind::Gauge,
        labels: &["day"],
        help: "Cost in US dollars of the requests that started on the day.",
        emit: Emit::Past(|view, out| {
            for (day, sums) in ledger(view).iter().flat_map(|ledger| &ledger.days) {
                out.sample(&[day], sums.cost_usd);
            }
        }),
    },
    Metric {
        name: "llm_relay_day_mean_duration_seconds",
        kind: Kind::Gauge,
        labels: &["day"],
        help: "Mean duration of the day's requests that have one; absent when none has.",
        emit: Emit::Past(|view, out| {
            for (day, sums) in ledger(view).iter().flat_map(|ledger| &ledger.days) {
                if let Some(mean) = sums.mean_duration_seconds {
                    out.sample(&[day], mean);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_day_error_ratio",
        kind: Kind::Gauge,
        labels: &["day"],
        help: "Share of the day's requests that are errors by the relay's own definition, 0 to 1; 0 without requests.",
        emit: Emit::Past(|view, out| {
            for (day, sums) in ledger(view).iter().flat_map(|ledger| &ledger.days) {
                if let Some(ratio) = sums.error_ratio {
                    out.sample(&[day], ratio);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_day_start_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Start of today in the relay's time zone.",
        emit: Emit::Past(|view, out| {
            if let Some(start) = ledger(view).and_then(|ledger| ledger.day_start) {
                out.sample(&[], unix(start));
            }
        }),
    },
    Metric {
        name: "llm_relay_window_requests",
        kind: Kind::Gauge,
        labels: &["window", "outcome"],
        help: "Requests that started in the window (1m, 1h, 8h, 24h, month) by outcome (success, failure, unknown); the sum over outcome is the total.",
        emit: Emit::Past(|view, out| {
            for (window, counts) in ledger(view).iter().flat_map(|ledger| &ledger.windows) {
                for (outcome, count) in ["success", "failure", "unknown"].into_iter().zip(counts) {
                    out.sample(&[window, outcome], *count as f64);
                }
            }
        }),
    },
    // Counters and histograms: all-time totals seeded from the relay's ledger.
    Metric {
        name: "llm_relay_requests_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model", "outcome"],
        help: "Final requests since the ledger began, by outcome: success, failure, or excluded (not the provider's fault).",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.traffic) {
                for (outcome, count) in Outcome::ALL.iter().zip(row.requests) {
                    if count > 0 {
                        out.sample(&[&row.provider_id, &row.model, outcome.label()], count as f64);
                    }
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_responses_total",
        kind: Kind::Counter,
        labels: &["provider_id", "code"],
        help: "Final requests since the ledger began, by HTTP status code; none where there was none.",
        emit: Emit::Past(|view, out| {
            for (provider, code, count) in counters(view).iter().flat_map(|counters| &counters.responses) {
                out.sample(&[provider, code], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_failures_total",
        kind: Kind::Counter,
        labels: &["provider_id", "class"],
        help: "Final requests that did not succeed, by class: rate_limited, overloaded, auth, timeout, server, client_abort, caller, policy, unknown.",
        emit: Emit::Past(|view, out| {
            for (provider, class, count) in counters(view).iter().flat_map(|counters| &counters.failures) {
                out.sample(&[provider, class], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_cost_usd_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model"],
        help: "Cost in US dollars of final requests since the ledger began, by the relay's own accounting.",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.traffic) {
                if let Some(cost) = row.cost_usd {
                    out.sample(&[&row.provider_id, &row.model], cost);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_list_cost_usd_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model"],
        help: "Cost in US dollars at the upstream's list prices, before the relay's own rates, since the ledger began.",
        emit: Emit::Relay(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.traffic) {
                if let Some(cost) = row.list_cost_usd {
                    out.sample(&[&row.provider_id, &row.model], cost);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_tokens_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model", "type"],
        help: "Tokens of final requests since the ledger began; the types exclude each other: input (uncached), output, cache_read, cache_write_5m, cache_write_1h, cache_write (not split).",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.traffic) {
                for (kind, count) in &row.tokens {
                    out.sample(&[&row.provider_id, &row.model, kind], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_user_requests_total",
        kind: Kind::Counter,
        labels: &["user_id"],
        help: "Final requests since the ledger began, by user.",
        emit: Emit::Past(|view, out| {
            for user in counters(view).iter().flat_map(|counters| &counters.users) {
                out.sample(&[&user.id], user.requests as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_user_cost_usd_total",
        kind: Kind::Counter,
        labels: &["user_id"],
        help: "Cost in US dollars of final requests since the ledger began, by user.",
        emit: Emit::Past(|view, out| {
            for user in counters(view).iter().flat_map(|counters| &counters.users) {
                out.sample(&[&user.id], user.cost_usd);
            }
        }),
    },
    Metric {
        name: "llm_relay_user_tokens_total",
        kind: Kind::Counter,
        labels: &["user_id"],
        help: "Tokens of all types of final requests since the ledger began, by user.",
        emit: Emit::Past(|view, out| {
            for user in counters(view).iter().flat_map(|counters| &counters.users) {
                out.sample(&[&user.id], user.tokens as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_requests_total",
        kind: Kind::Counter,
        labels: &["key_id"],
        help: "Final requests since the ledger began, by key.",
        emit: Emit::Past(|view, out| {
            for key in counters(view).iter().flat_map(|counters| &counters.keys) {
                out.sample(&[&key.id], key.requests as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_cost_usd_total",
        kind: Kind::Counter,
        labels: &["key_id"],
        help: "Cost in US dollars of final requests since the ledger began, by key.",
        emit: Emit::Past(|view, out| {
            for key in counters(view).iter().flat_map(|counters| &counters.keys) {
                out.sample(&[&key.id], key.cost_usd);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_list_cost_usd_total",
        kind: Kind::Counter,
        labels: &["key_id"],
        help: "Cost in US dollars at the upstream's list prices since the ledger began, by key.",
        emit: Emit::Relay(|view, out| {
            for key in counters(view).iter().flat_map(|counters| &counters.keys) {
                if let Some(cost) = key.list_cost_usd {
                    out.sample(&[&key.id], cost);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_key_tokens_total",
        kind: Kind::Counter,
        labels: &["key_id"],
        help: "Tokens of all types of final requests since the ledger began, by key.",
        emit: Emit::Past(|view, out| {
            for key in counters(view).iter().flat_map(|counters| &counters.keys) {
                out.sample(&[&key.id], key.tokens as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_request_duration_seconds",
        kind: Kind::Histogram,
        labels: &["provider_id", "model"],
        help: "Duration of final requests since the ledger began, from start to the end of the answer.",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.latency) {
                occurred(out, &[&row.provider_id, &row.model], &row.duration);
            }
        }),
    },
    Metric {
        name: "llm_relay_time_to_first_token_seconds",
        kind: Kind::Histogram,
        labels: &["provider_id", "model"],
        help: "Time from the start of a request to its first token, of final requests since the ledger began.",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.latency) {
                occurred(out, &[&row.provider_id, &row.model], &row.ttft);
            }
        }),
    },
    Metric {
        name: "llm_relay_output_tokens_per_second",
        kind: Kind::Histogram,
        labels: &["provider_id", "model"],
        help: "Output speed of each final request since the ledger began, by the relay's own rule.",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.latency) {
                occurred(out, &[&row.provider_id, &row.model], &row.speed);
            }
        }),
    },
    Metric {
        name: "llm_relay_wasted_cost_usd_total",
        kind: Kind::Counter,
        labels: &["provider_id", "reason"],
        help: "Cost in US dollars that bought nothing since the ledger began, by reason: failed, client_abort.",
        emit: Emit::Past(|view, out| {
            for (provider, reason, cost) in counters(view).iter().flat_map(|counters| &counters.wasted) {
                out.sample(&[provider, reason], *cost);
            }
        }),
    },
    Metric {
        name: "llm_relay_cache_saved_usd_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model"],
        help: "What cache reads would have cost as plain input minus what they cost, in US dollars since the ledger began; only where prices are known.",
        emit: Emit::Past(|view, out| {
            for row in counters(view).iter().flat_map(|counters| &counters.traffic) {
                if let Some(saved) = row.cache_saved_usd {
                    out.sample(&[&row.provider_id, &row.model], saved);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_unpriced_requests_total",
        kind: Kind::Counter,
        labels: &["model"],
        help: "Successful requests since the ledger began that used tokens and cost nothing.",
        emit: Emit::Past(|view, out| {
            for (model, count) in counters(view).iter().flat_map(|counters| &counters.unpriced) {
                out.sample(&[model], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_model_substitutions_total",
        kind: Kind::Counter,
        labels: &["provider_id", "model", "answered_model"],
        help: "Requests since the ledger began that the upstream answered with another model than it was asked for.",
        emit: Emit::Past(|view, out| {
            for (provider, model, answered, count) in counters(view).iter().flat_map(|counters| &counters.substitutions)
            {
                out.sample(&[provider, model, answered], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_ledger_corrections_total",
        kind: Kind::Counter,
        labels: &["kind"],
        help: "Changes of requests that had already been counted: late_cost, lowered, deleted, rewritten, reclassified.",
        emit: Emit::Relay(|view, out| {
            for (kind, count) in counters(view).iter().flat_map(|counters| &counters.corrections) {
                out.sample(&[kind], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_ledger_corrections_usd_total",
        kind: Kind::Counter,
        labels: &["kind"],
        help: "Dollars of these changes: late_cost is in the cost counters; without lowered (refunds) and deleted, and with rewritten, they would have the ledger's sum.",
        emit: Emit::Relay(|view, out| {
            for (kind, cost) in counters(view).iter().flat_map(|counters| &counters.corrections_usd) {
                out.sample(&[kind], *cost);
            }
        }),
    },
    Metric {
        name: "llm_relay_requests_missed_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests that are in the counters but not in the histograms: the relay had dropped their records before they were read.",
        emit: Emit::Relay(|view, out| one(out, counters(view).and_then(|counters| counters.missed))),
    },
    // Live state.
    Metric {
        name: "llm_relay_imported_requests_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests that the relay recorded an hour or more after they happened: in days, windows and boards, in no other counter.",
        emit: Emit::Relay(|view, out| one(out, counters(view).and_then(|counters| counters.imported))),
    },
    Metric {
        name: "llm_relay_collector_delay_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "From the end of the newest request to its record in the relay's ledger.",
        emit: Emit::Relay(|view, out| {
            present(out, live(view).and_then(|live| live.collector).and_then(|collector| collector.delay_seconds));
        }),
    },
    Metric {
        name: "llm_relay_dead_letters_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Requests that the relay's collector did not understand, so that its ledger, and every number here, is without them.",
        emit: Emit::Relay(|view, out| {
            one(out, live(view).and_then(|live| live.collector).map(|collector| collector.dead_letters));
        }),
    },
    Metric {
        name: "llm_relay_provider_slots_used",
        kind: Kind::Gauge,
        labels: &["provider_id"],
        help: "Sessions that hold a slot of the provider, counted by the relay's own rule.",
        emit: Emit::Relay(|view, out| {
            for (provider, used) in live(view).iter().flat_map(|live| live.slots_used.iter().flatten()) {
                out.sample(&[&provider.to_string()], *used as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_slots_limit",
        kind: Kind::Gauge,
        labels: &["provider_id"],
        help: "Slots of the provider; absent when unlimited.",
        emit: Emit::Relay(|view, out| {
            for provider in existing_providers(view) {
                if let Some(slots) = provider.slots {
                    out.sample(&[&provider.id.to_string()], slots as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_enabled",
        kind: Kind::Gauge,
        labels: &["provider_id"],
        help: "1 when the provider is enabled, 0 when it is switched off.",
        emit: Emit::Relay(|view, out| {
            for provider in existing_providers(view) {
                out.sample(&[&provider.id.to_string()], flag(provider.enabled));
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_circuit_state",
        kind: Kind::Gauge,
        labels: &["provider_id", "state"],
        help: "State of the provider's circuit breaker (closed, open, half_open): 1 for the present state, 0 for the others.",
        emit: Emit::Relay(|view, out| {
            for (provider, circuit) in live(view).iter().flat_map(|live| live.circuits.iter().flatten()) {
                let present = match circuit {
                    Circuit::Closed => "closed",
                    Circuit::Open { .. } => "open",
                    Circuit::HalfOpen => "half_open",
                };
                for state in ["closed", "open", "half_open"] {
                    out.sample(&[&provider.to_string(), state], flag(state == present));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_circuit_reopen_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["provider_id"],
        help: "When the open circuit of the provider lets requests through again; only while it is open.",
        emit: Emit::Relay(|view, out| {
            for (provider, circuit) in live(view).iter().flat_map(|live| live.circuits.iter().flatten()) {
                if let Circuit::Open { reopens_at: Some(at) } = circuit {
                    out.sample(&[&provider.to_string()], unix(*at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_user_sessions_active",
        kind: Kind::Gauge,
        labels: &["user_id"],
        help: "Live sessions of the user; only users that have some.",
        emit: Emit::Relay(|view, out| {
            for (user, sessions) in live(view).iter().flat_map(|live| live.user_sessions.iter().flatten()) {
                out.sample(&[&user.to_string()], *sessions as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_sessions_active",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "Live sessions of the key; only keys that have some.",
        emit: Emit::Relay(|view, out| {
            for (key, sessions) in live(view).iter().flat_map(|live| live.key_sessions.iter().flatten()) {
                out.sample(&[&key.to_string()], *sessions as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_consecutive_failures",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "Failures of an upstream key since its last success, as far as the relay's log tells; relays with a pool of keys.",
        emit: Emit::Relay(|view, out| {
            for (key, failures) in live(view).iter().flat_map(|live| live.key_failures.iter().flatten()) {
                out.sample(&[&key.to_string()], *failures as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_error_log_entries_total",
        kind: Kind::Counter,
        labels: &["type", "code"],
        help: "Entries of the relay's error log by its own type and the HTTP status code (none: there was none), since the oldest that was there at the start.",
        emit: Emit::Relay(|view, out| {
            for error in live(view).iter().flat_map(|live| live.error_log.iter().flatten()) {
                out.sample(&[&error.kind, &error.code], error.count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_slots_used",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "Requests that hold a slot of the key, counted by the relay's own rule; only keys with a limit.",
        emit: Emit::Relay(|view, out| {
            for (key, used) in live(view).iter().flat_map(|live| &live.key_slots_used) {
                out.sample(&[&key.to_string()], *used as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_slots_limit",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "Requests that the key may have at a time; absent when unlimited.",
        emit: Emit::Relay(|view, out| {
            for key in view.directory.iter().flat_map(|directory| &directory.keys).filter(|key| !key.deleted) {
                if let Some(slots) = key.slots {
                    out.sample(&[&key.id.to_string()], slots as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_queue_waiting",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "Requests of the key that wait for a slot.",
        emit: Emit::Relay(|view, out| {
            for queue in live(view).iter().flat_map(|live| &live.queues) {
                out.sample(&[&queue.key_id.to_string()], queue.waiting as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_queue_events_total",
        kind: Kind::Counter,
        labels: &["key_id", "event"],
        help: "What became of requests of the key that had to wait for a slot, by the relay's own word (entered, success, timeout, ...).",
        emit: Emit::Relay(|view, out| {
            for queue in live(view).iter().flat_map(|live| &live.queues) {
                for (event, count) in &queue.events {
                    out.sample(&[&queue.key_id.to_string(), event], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_account_state",
        kind: Kind::Gauge,
        labels: &["provider_id", "state"],
        help: "State of the upstream account (normal, rate_limited, cooling_down, overloaded, quota_exceeded, unauthorized, blocked, error, paused, disabled): 1 for the present state, 0 for the others.",
        emit: Emit::Relay(|view, out| {
            for (account, present) in live(view).iter().flat_map(|live| &live.accounts) {
                for state in AccountState::ALL {
                    out.sample(&[&account.to_string(), state.label()], flag(state == *present));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_account_utilization_ratio",
        kind: Kind::Gauge,
        labels: &["provider_id", "window"],
        help: "Used share of a window of the upstream subscription (5h, 7d, ...), as the upstream last told; absent once that is out of date.",
        emit: Emit::Relay(|view, out| {
            for it in live(view).iter().flat_map(|live| &live.subscriptions) {
                if let Some(used) = it.used_ratio {
                    out.sample(&[&it.provider_id.to_string(), it.window], used);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_account_reset_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["provider_id", "window"],
        help: "When the window of the upstream subscription ends.",
        emit: Emit::Relay(|view, out| {
            for it in live(view).iter().flat_map(|live| &live.subscriptions) {
                if let Some(at) = it.resets_at {
                    out.sample(&[&it.provider_id.to_string(), it.window], unix(at));
                }
            }
        }),
    },
    // Quotas.
    Metric {
        name: "llm_relay_rate_limit",
        kind: Kind::Gauge,
        labels: &["key_id", "unit"],
        help: "What the key may use in one rate limit window (unit requests, tokens or usd); absent without a limit.",
        emit: Emit::Relay(|view, out| {
            for it in live(view).iter().flat_map(|live| &live.rate_windows) {
                out.sample(&[&it.key_id.to_string(), it.unit], it.limit);
            }
        }),
    },
    Metric {
        name: "llm_relay_rate_limit_used",
        kind: Kind::Gauge,
        labels: &["key_id", "unit"],
        help: "What the key has used in the open rate limit window; 0 when none is open.",
        emit: Emit::Relay(|view, out| {
            for it in live(view).iter().flat_map(|live| &live.rate_windows) {
                out.sample(&[&it.key_id.to_string(), it.unit], it.used);
            }
        }),
    },
    Metric {
        name: "llm_relay_rate_limit_reset_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["key_id", "unit"],
        help: "When the open rate limit window of the key ends; absent when none is open.",
        emit: Emit::Relay(|view, out| {
            for it in live(view).iter().flat_map(|live| &live.rate_windows) {
                if let Some(at) = it.resets_at {
                    out.sample(&[&it.key_id.to_string(), it.unit], unix(at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_quota_limit_usd",
        kind: Kind::Gauge,
        labels: &["scope", "id", "window"],
        help: "Spending limit in US dollars of a user, key or provider in a window (5h, daily, weekly, monthly, total); absent without a limit.",
        emit: Emit::Relay(|view, out| {
            for quota in ledger(view).iter().flat_map(|ledger| &ledger.quotas) {
                out.sample(&[quota.scope.label(), &quota.id.to_string(), quota.window.label()], quota.limit_usd);
            }
        }),
    },
    Metric {
        name: "llm_relay_quota_used_usd",
        kind: Kind::Gauge,
        labels: &["scope", "id", "window"],
        help: "Spending in US dollars that counts against the limit, as the relay's quota page shows it.",
        emit: Emit::Relay(|view, out| {
            for quota in ledger(view).iter().flat_map(|ledger| &ledger.quotas) {
                if let Some(used) = quota.used_usd {
                    out.sample(&[quota.scope.label(), &quota.id.to_string(), quota.window.label()], used);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_quota_reset_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["scope", "id", "window"],
        help: "When the window of the quota ends and its spending starts from zero; fixed windows only.",
        emit: Emit::Relay(|view, out| {
            for quota in ledger(view).iter().flat_map(|ledger| &ledger.quotas) {
                if let Some(at) = quota.resets_at {
                    out.sample(&[quota.scope.label(), &quota.id.to_string(), quota.window.label()], unix(at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_quota_exhaustion_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["scope", "id", "window"],
        help: "When the quota will be used up at the present pace; only when that is before its reset.",
        emit: Emit::Relay(|view, out| {
            for quota in ledger(view).iter().flat_map(|ledger| &ledger.quotas) {
                if let Some(at) = quota.exhausted_at {
                    out.sample(&[quota.scope.label(), &quota.id.to_string(), quota.window.label()], unix(at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_key_expiry_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["key_id"],
        help: "When the key expires; absent when it does not.",
        emit: Emit::Relay(|view, out| {
            for key in view.directory.iter().flat_map(|directory| &directory.keys).filter(|key| !key.deleted) {
                if let Some(at) = key.expires_at {
                    out.sample(&[&key.id.to_string()], unix(at));
                }
            }
        }),
    },
    // Leaderboards: exact top-N by cost, and `other`, so that the sum is the total.
    Metric {
        name: "llm_relay_leaderboard_cost_usd",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Cost in US dollars of the first by cost in the period (today, last24h, week, month, all); id other closes the sum.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| Some(entry.cost_usd))),
    },
    Metric {
        name: "llm_relay_leaderboard_requests",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Requests of the first by cost in the period; id other closes the sum.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.requests.map(|requests| requests as f64))),
    },
    Metric {
        name: "llm_relay_leaderboard_tokens",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Tokens of the first by cost in the period, added up as on the relay's boards; id other closes the sum.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.tokens.map(|tokens| tokens as f64))),
    },
    Metric {
        name: "llm_relay_leaderboard_success_ratio",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Successes divided by successes and failures, 0 to 1, of providers and models in the period; absent without any.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.success_ratio)),
    },
    Metric {
        name: "llm_relay_leaderboard_mean_ttft_seconds",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Mean time to first token of providers in the period; absent without any.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.mean_ttft_seconds)),
    },
    Metric {
        name: "llm_relay_leaderboard_mean_output_tokens_per_second",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Mean of each request's output speed of providers in the period; absent without any.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.mean_output_tokens_per_second)),
    },
    Metric {
        name: "llm_relay_leaderboard_cache_hit_ratio",
        kind: Kind::Gauge,
        labels: &["scope", "period", "id", "name"],
        help: "Cache reads divided by all input tokens, 0 to 1, over the requests of users and providers that touched a cache; absent without any.",
        emit: Emit::Relay(|view, out| board(view, out, |entry| entry.cache_hit_ratio)),
    },
    // Facts.
    Metric {
        name: "llm_relay_info",
        kind: Kind::Gauge,
        labels: &["kind", "version", "timezone"],
        help: "The relay: its product, its version or schema level, and its time zone.",
        emit: Emit::Relay(|view, out| {
            if let Some(directory) = &view.directory {
                out.sample(&[view.kind, &directory.version, &directory.timezone], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_user_info",
        kind: Kind::Gauge,
        labels: &["user_id", "user", "role", "enabled"],
        help: "A user of the relay.",
        emit: Emit::Relay(|view, out| {
            for user in view.directory.iter().flat_map(|directory| &directory.users).filter(|user| !user.deleted) {
                out.sample(&[&user.id.to_string(), &user.name, &user.role, truth(user.enabled)], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_key_info",
        kind: Kind::Gauge,
        labels: &["key_id", "key", "user_id", "enabled"],
        help: "A key of the relay; the label key is its name, never the key itself.",
        emit: Emit::Relay(|view, out| {
            for key in view.directory.iter().flat_map(|directory| &directory.keys).filter(|key| !key.deleted) {
                let owner = key.user_id.as_ref().map(ToString::to_string).unwrap_or_default();
                out.sample(&[&key.id.to_string(), &key.name, &owner, truth(key.enabled)], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_provider_info",
        kind: Kind::Gauge,
        labels: &["provider_id", "provider", "type", "group"],
        help: "A provider: an upstream account or channel of the relay.",
        emit: Emit::Relay(|view, out| {
            for provider in existing_providers(view) {
                out.sample(&[&provider.id.to_string(), &provider.name, &provider.kind, &provider.group], 1.0);
            }
        }),
    },
    Metric {
        name: "llm_relay_currency_info",
        kind: Kind::Gauge,
        labels: &["code", "unit"],
        help: "The currency symbol on the relay's screens, with its Grafana unit; amounts are US dollars all the same.",
        emit: Emit::Relay(|view, out| {
            if let Some(code) = view.directory.as_ref().and_then(|directory| directory.currency.as_deref()) {
                out.sample(&[code, grafana_unit(code)], 1.0);
            }
        }),
    },
    // The relay itself.
    Metric {
        name: "llm_relay_http_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 when the relay's health address answered the last probe with a status from 200 to 399, else 0; absent where none is configured.",
        emit: Emit::Relay(|view, out| present(out, probed(view).map(|last| flag(last.up)))),
    },
    Metric {
        name: "llm_relay_http_probe_duration_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Duration of the last probe of the relay's health address, connecting included, also of one that failed.",
        emit: Emit::Relay(|view, out| present(out, probed(view).map(|last| last.seconds))),
    },
    Metric {
        name: "llm_relay_http_probe_failures_total",
        kind: Kind::Counter,
        labels: &["reason"],
        help: "Failed probes of the relay's health address since the exporter started, by reason: dns, connection, tls, timeout, status, protocol.",
        emit: Emit::Relay(|view, out| {
            for (reason, count) in view.probe.iter().flat_map(|probe| probe::Reason::ALL.iter().zip(probe.failures)) {
                out.sample(&[reason.label()], count as f64);
            }
        }),
    },
    // The exporter about its sources.
    Metric {
        name: "llm_relay_source_up",
        kind: Kind::Gauge,
        labels: &["source"],
        help: "1 when the last read of the source succeeded and is not stale, 0 when its metrics are or will be absent.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                out.sample(&[status.source.label()], flag(status.up));
            }
        }),
    },
    Metric {
        name: "llm_relay_source_last_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["source"],
        help: "When the source was last read successfully; absent before the first time.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                if let Some(at) = status.last_success {
                    out.sample(&[status.source.label()], unix(at));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_refresh_duration_seconds",
        kind: Kind::Histogram,
        labels: &["source"],
        help: "Duration of the refreshes of the source since the exporter started.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                out.histogram(&[status.source.label()], &status.refresh_seconds);
            }
        }),
    },
    Metric {
        name: "llm_relay_refresh_failures_total",
        kind: Kind::Counter,
        labels: &["source", "reason"],
        help: "Failed refreshes since the exporter started, by reason: timeout, connection, permission, schema, data, plan.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                for (reason, count) in &status.failures {
                    out.sample(&[status.source.label(), reason.label()], *count as f64);
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_refresh_skipped_total",
        kind: Kind::Counter,
        labels: &["source"],
        help: "Refreshes that were due while the last one still ran, since the exporter started.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                out.sample(&[status.source.label()], status.skipped as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_rows_read_total",
        kind: Kind::Counter,
        labels: &["source"],
        help: "Rows (or keys) read from the source since the exporter started; shows that the work follows new rows, not the history.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                out.sample(&[status.source.label()], status.rows_read as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_statement_refused",
        kind: Kind::Gauge,
        labels: &["source", "statement"],
        help: "1 while a recurring statement is not run because it would walk through a whole large table, else 0; check names it and says what to do.",
        emit: Emit::Relay(|view, out| {
            for status in &view.sources {
                for (statement, refused) in &status.statements {
                    out.sample(&[status.source.label(), statement], flag(*refused));
                }
            }
        }),
    },
    Metric {
        name: "llm_relay_ledger_lag_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Age of the newest ledger row that has been read, against the database's clock.",
        emit: Emit::Relay(|view, out| {
            if let Some(lag) = ledger(view).and_then(|ledger| ledger.lag_seconds) {
                out.sample(&[], lag);
            }
        }),
    },
    Metric {
        name: "llm_relay_audit_drift_requests",
        kind: Kind::Gauge,
        labels: &[],
        help: "The exporter's requests minus the ledger's in the span of the last audit, by an independent aggregate, before the repair.",
        emit: Emit::Relay(|view, out| {
            if let Some(audit) = ledger(view).and_then(|ledger| ledger.audit) {
                out.sample(&[], audit.drift_requests);
            }
        }),
    },
    Metric {
        name: "llm_relay_audit_drift_cost_usd",
        kind: Kind::Gauge,
        labels: &[],
        help: "The exporter's cost minus the ledger's in the span of the last audit, in US dollars, before the repair.",
        emit: Emit::Relay(|view, out| {
            if let Some(audit) = ledger(view).and_then(|ledger| ledger.audit) {
                out.sample(&[], audit.drift_cost_usd);
            }
        }),
    },
    Metric {
        name: "llm_relay_audit_last_run_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When the last audit ran; absent before the first.",
        emit: Emit::Relay(|view, out| {
            if let Some(audit) = ledger(view).and_then(|ledger| ledger.audit) {
                out.sample(&[], unix(audit.at));
            }
        }),
    },
    Metric {
        name: "llm_relay_history_loaded_ratio",
        kind: Kind::Gauge,
        labels: &[],
        help: "Share of the ledger's history that has been read, 0 to 1; all-time counters appear at 1.",
        emit: Emit::Relay(|view, out| {
            if let Some(ledger) = ledger(view) {
                out.sample(&[], ledger.history_loaded);
            }
        }),
    },
    Metric {
        name: "llm_relay_series_folded",
        kind: Kind::Gauge,
        labels: &["dimension"],
        help: "Label values without series of their own, which count as other, by dimension; model_without_success: names that never succeeded.",
        emit: Emit::Relay(|view, out| {
            for (dimension, count) in ledger(view).iter().flat_map(|ledger| &ledger.limited) {
                out.sample(&[dimension], *count as f64);
            }
        }),
    },
    Metric {
        name: "llm_relay_store_up",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 when the exporter's own store could be used at the last attempt; absent without a store.",
        emit: Emit::Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], flag(store.up)))),
    },
    Metric {
        name: "llm_relay_store_writer",
        kind: Kind::Gauge,
        labels: &[],
        help: "1 when this process saves the relay's checkpoint; 0 when another replica does, or nobody yet.",
        emit: Emit::Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], flag(store.writer)))),
    },
    Metric {
        name: "llm_relay_store_last_save_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "When this process last saved the relay's checkpoint; absent before the first time.",
        emit: Emit::Relay(|view, out| {
            if let Some(last_save) = view.store.and_then(|store| store.last_save) {
                out.sample(&[], unix(last_save));
            }
        }),
    },
    Metric {
        name: "llm_relay_store_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Size of the relay's checkpoint in the store, as last saved or loaded.",
        emit: Emit::Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], store.bytes as f64))),
    },
    Metric {
        name: "llm_relay_store_failures_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Attempts to use the exporter's own store that failed; the log has the reason.",
        emit: Emit::Relay(|view, out| view.store.iter().for_each(|store| out.sample(&[], store.failures as f64))),
    },
    // The exporter itself.
    Metric {
        name: "llm_relay_exporter_build_info",
        kind: Kind::Gauge,
        labels: &["version", "revision", "rustc"],
        help: "The exporter's build.",
        emit: Emit::Exporter(|own, out| out.sample(&[own.version, own.revision, own.rustc], 1.0)),
    },
    Metric {
        name: "llm_relay_exporter_config_last_reload_successful",
        kind: Kind::Gauge,
        labels: &["config"],
        help: "Whether the last reading of a configuration (`config`: relays, web) succeeded; otherwise the version before it is in force.",
        emit: Emit::Exporter(|own, out| reloads(own, out, |reload| flag(reload.successful))),
    },
    Metric {
        name: "llm_relay_exporter_config_last_reload_success_timestamp_seconds",
        kind: Kind::Gauge,
        labels: &["config"],
        help: "When the configuration in force (`config`: relays, web) was read, as Unix time.",
        emit: Emit::Exporter(|own, out| reloads(own, out, |reload| unix(reload.last_success))),
    },
    Metric {
        name: "process_cpu_seconds_total",
        kind: Kind::Counter,
        labels: &[],
        help: "Total user and system CPU time spent in seconds.",
        emit: Emit::Exporter(|own, out| present(out, own.process.cpu_seconds)),
    },
    Metric {
        name: "process_open_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Number of open file descriptors.",
        emit: Emit::Exporter(|own, out| present(out, own.process.open_fds)),
    },
    Metric {
        name: "process_max_fds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Maximum number of open file descriptors.",
        emit: Emit::Exporter(|own, out| present(out, own.process.max_fds)),
    },
    Metric {
        name: "process_virtual_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Virtual memory size in bytes.",
        emit: Emit::Exporter(|own, out| present(out, own.process.virtual_memory_bytes)),
    },
    Metric {
        name: "process_resident_memory_bytes",
        kind: Kind::Gauge,
        labels: &[],
        help: "Resident memory size in bytes.",
        emit: Emit::Exporter(|own, out| present(out, own.process.resident_memory_bytes)),
    },
    Metric {
        name: "process_start_time_seconds",
        kind: Kind::Gauge,
        labels: &[],
        help: "Start time of the process since unix epoch in seconds.",
        emit: Emit::Exporter(|own, out| present(out, own.process.start_time_seconds)),
    },
];

fn ledger(view: &View) -> Option<&crate::view::LedgerView> {
    view.ledger.as_deref()
}

fn live(view: &View) -> Option<&crate::model::Live> {
    view.live.as_deref()
}

fn probed(view: &View) -> Option<probe::Last> {
    view.probe.as_ref()?.last
}

fn counters(view: &View) -> Option<&crate::view::CountersView> {
    ledger(view)?.counters.as_ref()
}

fn existing_providers(view: &View) -> impl Iterator<Item = &crate::model::Provider> {
    view.directory.iter().flat_map(|directory| &directory.providers).filter(|provider| !provider.deleted)
}

fn one(out: &mut dyn Sink, value: Option<u64>) {
    if let Some(value) = value {
        out.sample(&[], value as f64);
    }
}

fn present(out: &mut dyn Sink, value: Option<f64>) {
    if let Some(value) = value {
        out.sample(&[], value);
    }
}

fn reloads(own: &Own, out: &mut dyn Sink, value: fn(Reload) -> f64) {
    for (config, reload) in [("relays", own.config), ("web", own.web_config)] {
        if let Some(reload) = reload {
            out.sample(&[config], value(reload));
        }
    }
}

fn occurred(out: &mut dyn Sink, labels: &[&str], histogram: &HistogramView) {
    if histogram.count() > 0 {
        out.histogram(labels, histogram);
    }
}

fn board(view: &View, out: &mut dyn Sink, value: fn(&BoardEntry) -> Option<f64>) {
    for Board { scope, period, entries } in ledger(view).iter().flat_map(|ledger| &ledger.boards) {
        for entry in entries {
            if let Some(value) = value(entry) {
                out.sample(&[scope.label(), period, &entry.id, &entry.name], value);
            }
        }
    }
}

fn unix(at: chrono::DateTime<chrono::Utc>) -> f64 {
    at.timestamp_micros() as f64 / 1e6
}

const fn flag(on: bool) -> f64 {
    if on { 1.0 } else { 0.0 }
}

const fn truth(on: bool) -> &'static str {
    if on { "true" } else { "false" }
}

/// Grafana's unit for a currency; it has built-in units for five of Claude Code Hub's nine and takes a symbol for the rest.
fn grafana_unit(code: &str) -> &'static str {
    match code {
        "CNY" => "currency:¥",
        "EUR" => "currencyEUR",
        "JPY" => "currencyJPY",
        "GBP" => "currencyGBP",
        "HKD" => "currency:HK$",
        "TWD" => "currency:NT$",
        "KRW" => "currencyKRW",
        "SGD" => "currency:S$",
        _ => "currencyUSD",
    }
}
