#!/usr/bin/env python3
"""Checks the Prometheus rules, alerts, their tests, the Alertmanager example and the runbooks.

    python3 tests/rules.py              # everything, about a minute and a half
    python3 tests/rules.py Lint         # one class, or Lint.test_x

Needs promtool, amtool and alertmanager (Debian: prometheus, prometheus-alertmanager) and PyYAML (python3-yaml); other
places of the programs: PROMTOOL, AMTOOL, ALERTMANAGER. With EXPORTER=http://host:9879 the runbooks' commands are also
run against that exporter.
"""

import contextlib
import functools
import http.server
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import tempfile
import threading
import time
import unittest
import urllib.request

import yaml

ROOT = pathlib.Path(__file__).resolve().parent.parent
PROMETHEUS = ROOT / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
RUNBOOK_BASE = "https://github.com/llm-relay-exporter/llm-relay-exporter/blob/main/docs/runbooks.md#"
DASHBOARDS = {"llm-relay-" + name for name in "overview trends wall leaderboards providers quotas exporter".split()}
ANNOTATIONS = {"summary", "summary_zh", "description", "description_zh", "runbook_url", "dashboard"}
# About the exporter or the alerting, not about one relay: they carry no source.
WITHOUT_SOURCE = {
    "LLMRelayExporterDown", "LLMRelayExporterTargetDown", "LLMRelayExporterRestarts", "LLMRelayDown",
    "LLMRelayThresholdsMissing", "LLMRelayWatchdog",
}
# Recorded for dashboards only.
FOR_DASHBOARDS = {
    f"llm_relay:{metric}:p{quantile}_30m"
    for metric in ("request_duration_seconds", "time_to_first_token_seconds")
    for quantile in (50, 99)
}
CLOSED_LABELS = {"outcome", "class", "type", "reason", "kind", "state", "day", "window", "scope", "period", "source"}
KEYWORDS = set("by without on ignoring group_left group_right and or unless bool offset inf nan".split())
LABEL_LISTS = {"by", "without", "on", "ignoring", "group_left", "group_right"}
TOKEN = re.compile(r'\[[^\]"]*\]|"(?:[^"\\]|\\.)*"|\d[\w.+-]*(?<![+-])|[A-Za-z_:][\w:]*|=~|!~|==|!=|<=|>=|\S')


def program(variable, *names):
    for name in [os.environ.get(variable)] if os.environ.get(variable) else names:
        if path := shutil.which(name):
            return path
    raise unittest.TestCase.failureException(f"none of {', '.join(names)} is installed; or set {variable}")


def run(*command, **kwargs):
    return subprocess.run(command, capture_output=True, text=True, check=False, **kwargs)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdw])", str(duration)))


@functools.cache
def catalogue():
    """Name to (kind, labels) of every metric in src/metrics.rs."""
    entry = re.compile(r'name: "(\w+)",\s*kind: Kind::(\w+),\s*labels: &\[([^\]]*)\],\s*help: "([^"]*)",\s*emit: Emit::(\w+)')
    source = (ROOT / "src" / "metrics.rs").read_text(encoding="utf-8")
    found = {}
    for name, kind, labels, text, emit in entry.findall(source):
        own = {"relay"} if emit == "Relay" else set()
        found[name] = (kind, set(re.findall(r'"(\w+)"', labels)) | own | {"job", "instance"}, text)
    assert len(found) == source.count("    Metric {\n"), "an entry of the catalogue was not understood"
    return found


def files(folder):
    found = sorted((PROMETHEUS / folder).glob("*.yml"))
    assert found, folder
    return found


@functools.cache
def rules(folder):
    """Every rule of rules/ or alerts/ as (file, group, rule)."""
    return [
        (path.name, group, rule)
        for path in files(folder)
        for group in load(path)["groups"]
        for rule in group["rules"]
    ]


def recorded():
    return [rule for _, _, rule in rules("rules")]


def alerts():
    return [rule for _, _, rule in rules("alerts")]


@functools.cache
def read(expr):
    """A PromQL expression's selectors [(metric, {label: value})] and the labels of its by, on and group_left lists."""
    tokens = TOKEN.findall(expr)
    selectors, lists = [], set()
    i = 0
    while i < len(tokens):
        token = tokens[i]
        following = tokens[i + 1] if i + 1 < len(tokens) else ""
        if token in LABEL_LISTS and following == "(":
            end = tokens.index(")", i)
            lists |= {t for t in tokens[i + 2 : end] if t != ","}
            i = end + 1
            continue
        name = bool(re.match(r"[A-Za-z_:]", token)) and token.lower() not in KEYWORDS and following not in ("(", "by", "without")
        if name or token == "{":
            start = i if token == "{" else i + 1
            matchers = {}
            if start < len(tokens) and tokens[start] == "{":
                end = tokens.index("}", start)
                for j in range(start, end):
                    if tokens[j] in ("=", "=~", "!~", "!="):
                        matchers[tokens[j - 1]] = tokens[j + 1][1:-1]
                i = end
            selectors.append((token if name else "", matchers))
        i += 1
    return selectors, lists


def template_queries(text):
    """The PromQL of an annotation's queries, with the placeholders filled in."""
    for query in re.findall(r'printf "((?:[^"\\]|\\.)*)"[^|{}]*\| query', text):
        scopes = ["user", "key", "provider"] if "llm_relay_%s_info" in query else [""]
        for scope in scopes:
            yield query.replace("%s", scope).replace("%q", '"0"').replace('\\"', '"')


@functools.cache
def recorded_labels():
    """Recorded name to the labels it may have."""
    found = {}
    for rule in recorded():
        selectors, lists = read(rule["expr"])
        own = found.setdefault(rule["record"], set())
        own |= set(rule.get("labels", {})) | lists
    for _ in range(4):  # names recorded from recorded names
        for rule in recorded():
            for metric, _ in read(rule["expr"])[0]:
                found[rule["record"]] |= found.get(metric, set())
    return found


def labels_of(metric):
    """The labels a metric may have; None when there is no such metric."""
    if metric in ("up", "ALERTS"):
        return {"job", "instance", "alertname"}
    if metric in recorded_labels():
        return recorded_labels()[metric]
    if metric in catalogue() and catalogue()[metric][0] != "Histogram":
        return catalogue()[metric][1]
    base, _, suffix = metric.rpartition("_")
    if suffix in ("bucket", "sum", "count") and catalogue().get(base, ("",))[0] == "Histogram":
        return catalogue()[base][1] | ({"le"} if suffix == "bucket" else set())
    return None


@functools.cache
def vocabulary(label):
    """Words that a closed label may have as its value: those of the domain, and of the help of the metrics with it."""
    words = {word for _, labels, text in catalogue().values() if label in labels for word in re.findall(r"\w+", text)}
    for name in ("model.rs", "view.rs", "metrics.rs"):
        words |= set(re.findall(r'"(\w+)"', (ROOT / "src" / name).read_text(encoding="utf-8")))
    return words


class Tools(unittest.TestCase):
    def test_prometheus_accepts_the_rules_with_every_lint_fatal(self):
        got = run(program("PROMTOOL", "promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files("rules"), *files("alerts"))
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_prometheus_accepts_the_example_configuration(self):
        got = run(program("PROMTOOL", "promtool"), "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        self.assertIn("trust.yml", got.stdout, "the example does not load the alerts")

    def test_every_scenario_fires_and_is_silent_as_written(self):
        for path in files("tests"):
            with self.subTest(path.name):
                got = run(program("PROMTOOL", "promtool"), "test", "rules", path)
                self.assertEqual(got.returncode, 0, got.stdout + got.stderr)


class Lint(unittest.TestCase):
    def each(self, check, *folders):
        """Check every rule of the folders, each for itself."""
        for folder in folders:
            for name, _, rule in rules(folder):
                with self.subTest(f"{name}: {rule.get('alert') or rule['record']}"):
                    check(rule)

    def check_names(self, expr):
        selectors, lists = read(expr)
        known = {"job", "instance"}
        for metric, matchers in selectors:
            if not metric:
                self.assertIn("__name__", matchers, expr)
                self.assertTrue([m for m in [*catalogue(), *recorded_labels()] if re.fullmatch(matchers["__name__"], m)], expr)
                continue
            labels = labels_of(metric)
            self.assertIsNotNone(labels, f"no metric {metric}: {expr}")
            self.assertLessEqual(set(matchers), labels, f"{metric} has no such label: {expr}")
            known |= labels
            for label in CLOSED_LABELS & set(matchers):
                for value in matchers[label].split("|"):
                    if re.fullmatch(r"[a-z]\w*", value):
                        self.assertTrue(value in vocabulary(label), f"{label} is never {value}: {expr}")
        self.assertLessEqual(lists, known, f"a label that no metric in it has: {expr}")

    def test_every_metric_and_label_exists(self):
        def check(rule):
            self.check_names(rule["expr"])
            for text in rule.get("annotations", {}).values():
                for query in template_queries(text):
                    self.check_names(query)

        self.each(check, "rules", "alerts")

    def test_counters_and_buckets_are_only_read_as_growth_within_a_window(self):
        interval = seconds(load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"])

        def check(rule):
            expr = rule["expr"]
            for metric, _ in read(expr)[0]:
                kind = catalogue().get(metric, ("",))[0]
                if kind == "Counter" or metric.endswith("_bucket"):
                    uses = len(re.findall(rf"\b{metric}\b", expr))
                    grown = re.findall(rf"\b(?:rate|increase)\({metric}(?:\{{[^}}]*\}})?\[(\w+)\]", expr)
                    self.assertEqual(len(grown), uses, f"bare {metric}: {expr}")
                    self.assertTrue(all(seconds(window) >= 4 * interval for window in grown), expr)
                elif kind == "Gauge":
                    self.assertNotRegex(expr, rf"\b(rate|increase)\({metric}\b", "the growth of a gauge")

        self.each(check, "rules", "alerts")

    def test_no_division_by_zero(self):
        def check(rule):
            expr = re.sub(r'"[^"]*"', '""', rule["expr"])
            for slash in re.finditer("/", expr):
                divisor = expr[slash.end() :].lstrip()
                if re.match(r"\d|scalar\(llm_relay:threshold:", divisor):
                    continue
                self.assertTrue(divisor.startswith("("), f"unguarded division: {expr}")
                depth = end = 0
                for end, char in enumerate(divisor):
                    depth += {"(": 1, ")": -1}.get(char, 0)
                    if depth == 0:
                        break
                self.assertRegex(divisor[:end], r">\s*(0|0\.1 \*)", f"unguarded division: {expr}")

        self.each(check, "rules", "alerts")

    def test_recorded_names_say_level_metric_and_operation(self):
        def check(rule):
            self.assertRegex(rule["record"], r"^llm_relay(_[a-z]+)*:[a-z][a-z0-9_]*:[a-z0-9_]+$")

        self.each(check, "rules")

    def test_every_recorded_series_is_used(self):
        used = {metric for rule in [*recorded(), *alerts()] for metric, _ in read(rule["expr"])[0]}
        for rule in alerts():
            for text in rule["annotations"].values():
                used |= {metric for query in template_queries(text) for metric, _ in read(query)[0]}
        for name in {rule["record"] for rule in recorded()}:
            with self.subTest(name):
                self.assertEqual(name in used, name not in FOR_DASHBOARDS)

    def test_groups_have_unique_names_and_an_interval_below_the_look_back(self):
        groups = {(name, group["name"]): group for folder in ("rules", "alerts") for name, group, _ in rules(folder)}
        self.assertEqual(len({group for _, group in groups}), len(groups))
        for group in groups.values():
            self.assertLess(0, seconds(group["interval"]))
            self.assertLess(seconds(group["interval"]), 300, group["name"])

    def test_alerts_compare_wait_and_have_a_severity(self):
        scrape = seconds(load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"])

        def check(rule):
            bare = re.sub(r'"[^"]*"|\{[^}]*\}', "", rule["expr"])
            self.assertRegex(bare, r"==|!=|<|>", "no comparison: it fires on any value")
            self.assertNotRegex(bare, r"\b(topk|bottomk)\b", "flickers")
            self.assertGreater(seconds(rule.get("for", "0s")), 2 * scrape)
            self.assertIn(rule["labels"]["severity"], {"critical", "warning", "info"})
            self.assertRegex(rule["alert"], r"^LLMRelay([A-Z][a-z]+)+$")
            if rule["alert"] not in WITHOUT_SOURCE:
                carries = rule["labels"].get("source") or "source" in read(rule["expr"])[1]
                self.assertTrue(carries, "Alertmanager cannot silence it when its source is down")
                if rule["labels"].get("source") and rule["alert"] not in WITHOUT_SOURCE:
                    self.assertIn(rule["labels"]["source"], {"ledger", "live", "directory"})

        self.each(check, "alerts")

    def test_alerts_say_what_they_mean_in_both_languages(self):
        def check(rule):
            texts = rule["annotations"]
            self.assertEqual(set(texts), ANNOTATIONS)
            self.assertNotIn("{{", texts["summary"] + texts["summary_zh"], "a summary groups: no variables")
            constant = re.search(r"== [01]\b", rule["expr"])
            self.assertTrue(constant or "$value" in texts["description"], "the description lacks the value")
            for language in ("summary_zh", "description_zh"):
                self.assertRegex(texts[language], "[\u4e00-\u9fff]")
            used = [sorted(set(re.findall(r"\$value|\$labels\.\w+", texts[key]))) for key in ("description", "description_zh")]
            self.assertEqual(used[0], used[1], "the languages do not say the same")
            self.assertIn(texts["dashboard"], DASHBOARDS)

        self.each(check, "alerts")

    def test_names_of_people_and_things_are_looked_up_by_their_own_info_metric(self):
        def check(rule):
            for label, mark in (("provider_id", "llm_relay_provider_info"), ("user_id", "llm_relay_user_info"), ("key_id", "llm_relay_key_info")):
                if f"$labels.{label}" in rule["annotations"]["description"]:
                    self.assertIn(mark, rule["annotations"]["description"])

        self.each(check, "alerts")


class Coverage(unittest.TestCase):
    """Every alert fires somewhere, is silent before, and resolves."""

    @classmethod
    def setUpClass(cls):
        cls.cases = {}  # alert to [(scenario, seconds, [labels])]
        for path in files("tests"):
            for number, test in enumerate(load(path)["tests"]):
                for case in test.get("alert_rule_test", []):
                    fired = [alert["exp_labels"] for alert in case.get("exp_alerts") or []]
                    cls.cases.setdefault(case["alertname"], []).append(((path.name, number), seconds(case["eval_time"]), fired))

    def test_every_alert_rule_fires_with_its_labels(self):
        for rule in alerts():
            with self.subTest(rule["alert"] + str(rule["labels"])):
                fired = [labels for _, _, all_labels in self.cases.get(rule["alert"], []) for labels in all_labels]
                self.assertTrue([labels for labels in fired if rule["labels"].items() <= labels.items()])

    def test_every_alert_is_silent_before_and_after(self):
        for name in {rule["alert"] for rule in alerts()}:
            with self.subTest(name):
                cases = self.cases.get(name, [])
                fired = [(scene, at, labels) for scene, at, all_labels in cases for labels in all_labels]
                silent = [
                    other < at
                    for scene, at, labels in fired
                    for place, other, all_labels in cases
                    if place == scene and labels not in all_labels
                ]
                self.assertIn(True, silent, "no scenario in which it is silent just before it fires")
                if name not in ("LLMRelayWatchdog", "LLMRelayThresholdsMissing"):  # never ends; ends in a scenario apart
                    self.assertIn(False, silent, "no scenario in which it resolves")

    def test_scenarios_evaluate_the_groups_in_a_fixed_order(self):
        for path in files("tests"):
            with self.subTest(path.name):
                test = load(path)
                loaded = [
                    group["name"]
                    for pattern in test["rule_files"]
                    for file in sorted(path.parent.glob(pattern))
                    for group in load(file)["groups"]
                ]
                self.assertEqual(set(test["group_eval_order"]), set(loaded))

    def test_scenarios_are_of_alerts_that_exist(self):
        self.assertLessEqual(set(self.cases), {rule["alert"] for rule in alerts()})


class Runbooks(unittest.TestCase):
    text = RUNBOOKS.read_text(encoding="utf-8")

    def blocks(self, language):
        found = re.findall(rf"```{language}\n(.*?)\n```", self.text, re.S)
        self.assertTrue(found)
        return found

    def test_every_alert_has_its_section_and_links_to_it(self):
        sections = re.findall(r"^## (LLMRelay\w+)$", self.text, re.M)
        self.assertEqual(len(sections), len(set(sections)))
        self.assertEqual(set(sections), {rule["alert"] for rule in alerts()})
        for rule in alerts():
            self.assertEqual(rule["annotations"]["runbook_url"], RUNBOOK_BASE + rule["alert"].lower())

    def test_every_section_says_what_where_and_what_first(self):
        for section in re.split(r"^## ", self.text, flags=re.M)[1:]:
            with self.subTest(section.split("\n")[0]):
                for mark in ("**Means.**", "**See it.**", "**First.**", "```promql"):
                    self.assertIn(mark, section)

    def test_links_and_dashboards_exist(self):
        anchors = {rule["alert"].lower() for rule in alerts()}
        self.assertLessEqual(set(re.findall(r"\]\(#(\w+)\)", self.text)), anchors)
        self.assertLessEqual(set(re.findall(r"/d/(llm-relay-\w+)", self.text)), DASHBOARDS)

    def test_thresholds_named_exist(self):
        named = set(re.findall(r"llm_relay:(?:threshold|budget_usd):\w+", self.text))
        self.assertLessEqual(named, {rule["record"] for rule in recorded()})

    def test_every_query_parses_and_names_what_exists(self):
        queries = self.blocks("promql")
        lint = Lint()
        for query in queries:
            with self.subTest(query):
                lint.check_names(query)
        group = {"groups": [{"name": "x", "rules": [{"record": f"a:b:c{i}", "expr": q} for i, q in enumerate(queries)]}]}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "queries.yml"
            path.write_text(yaml.safe_dump(group), encoding="utf-8")
            got = run(program("PROMTOOL", "promtool"), "check", "rules", path)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_every_command_runs(self):
        page = "".join(f'{name}{{relay="main"}} 1\n' for name in catalogue())
        with exporter_page(page) as address:
            for command in self.blocks("sh"):
                with self.subTest(command):
                    got = run("bash", "-euo", "pipefail", "-c", command, env={**os.environ, "EXPORTER": address})
                    self.assertEqual(got.returncode, 0, got.stderr)
                    self.assertTrue(got.stdout)

    def test_every_command_runs_against_a_real_exporter(self):
        if not os.environ.get("EXPORTER"):
            self.skipTest("EXPORTER is not set")
        for command in self.blocks("sh"):
            with self.subTest(command):
                got = run("bash", "-euo", "pipefail", "-c", command)
                self.assertLessEqual(got.returncode, 1, got.stderr)  # 1: grep found nothing, e.g. no provider


@contextlib.contextmanager
def exporter_page(page):
    """An exporter's HTTP side on a free port: /metrics, /healthz, /readyz."""

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            bodies = {"/metrics": page, "/healthz": "ok\n", "/readyz": "ok\n"}
            self.send_response(200 if self.path in bodies else 404)
            self.end_headers()
            self.wfile.write(bodies.get(self.path, "").encode())

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class Alertmanager(unittest.TestCase):
    config = PROMETHEUS / "alertmanager.yml"

    def test_alertmanager_accepts_the_example(self):
        got = run(program("AMTOOL", "amtool"), "check-config", self.config)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_each_severity_goes_to_its_receiver(self):
        routes = [
            ("page", "alertname=LLMRelayErrorBudgetBurn", "severity=critical", "relay=main"),
            ("chat", "alertname=LLMRelayErrorSpike", "severity=warning", "relay=main"),
            ("digest", "alertname=LLMRelaySeriesLimited", "severity=info", "relay=main"),
            ("heartbeat", "alertname=LLMRelayWatchdog", "severity=info"),
            ("chat", "alertname=SomethingElse", "severity=critical"),
        ]
        for receiver, *labels in routes:
            with self.subTest(labels):
                got = run(program("AMTOOL", "amtool"), "config", "routes", "test", f"--config.file={self.config}", f"--verify.receivers={receiver}", *labels)
                self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_both_languages_render(self):
        rule = next(rule for rule in alerts() if rule["alert"] == "LLMRelayErrorSpike")
        texts = {**rule["annotations"], "description": "12 % failed", "description_zh": "12 % 失败"}
        alert = {"labels": {"relay": "main"}, "annotations": texts, "startsAt": "2026-01-01T00:00:00Z"}
        for status in ("firing", "resolved"):
            data = {
                "status": status,
                "alerts": [{**alert, "status": status}],
                "commonLabels": {"relay": "main", "severity": "critical"},
                "commonAnnotations": texts,
            }
            wanted = {
                ("en", "firing"): ("CRITICAL [main]: Many requests", "12 % failed", "/d/llm-relay-overview?var-relay=main"),
                ("zh", "firing"): ("严重 [main]：当前有大量", "12 % 失败", "/d/llm-relay-overview-zh?var-relay=main"),
                ("en", "resolved"): ("Resolved [main]: Many requests", "Resolved: Many requests", "/d/llm-relay-overview?"),
                ("zh", "resolved"): ("已恢复 [main]：当前有大量", "已恢复：当前有大量", "/d/llm-relay-overview-zh?"),
            }
            with tempfile.NamedTemporaryFile("w", suffix=".json", encoding="utf-8") as file:
                json.dump(data, file)
                file.flush()
                for language in ("en", "zh"):
                    with self.subTest(language + status):
                        text = "".join(f'{{{{ template "llm_relay.{language}.{part}" . }}}}' for part in ("title", "text"))
                        got = run(
                            program("AMTOOL", "amtool"), "template", "render", f"--template.glob={PROMETHEUS}/templates/*.tmpl",
                            f"--template.text={text}", f"--template.data={file.name}",
                        )
                        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
                        for part in wanted[language, status]:
                            self.assertIn(part, got.stdout)
                        self.assertNotIn("no value", got.stdout)

    def test_what_explains_the_rest_silences_it(self):
        def alert(name, severity, **labels):
            return {"alertname": "LLMRelay" + name, "severity": severity, **labels}

        source = alert("SourceDown", "critical", relay="a", source="ledger")
        fired = {
            "computed from the source that is down": alert("ErrorSpike", "warning", relay="a", source="ledger"),
            "its own age": alert("DataStale", "warning", relay="a", source="ledger"),
            "milder": alert("ProviderErrorBudgetBurn", "info", relay="c", provider_id="1", source="ledger", window="1d"),
            "of a provider that is cut off": alert("ProviderSlowFirstToken", "info", relay="c", provider_id="2", source="ledger"),
            "of a relay that is gone": alert("ProviderSlotsNearlyFull", "warning", relay="d", provider_id="1", source="live"),
            "its sources": alert("SourceDown", "critical", relay="d", source="ledger"),
            "predicted": alert("DayBudgetPredicted", "warning", relay="c", source="ledger"),
        }
        heard = {
            "the source": source,
            "of the other source": alert("ProviderSlotsNearlyFull", "warning", relay="a", provider_id="1", source="live"),
            "of another relay": alert("ErrorSpike", "warning", relay="b", source="ledger"),
            "sharper": alert("ProviderErrorBudgetBurn", "warning", relay="c", provider_id="1", source="ledger", window="1h"),
            "of another provider": alert("ProviderErrorBudgetBurn", "info", relay="c", provider_id="3", source="ledger", window="1d"),
            "the circuit": alert("ProviderCircuitOpen", "warning", relay="c", provider_id="2", source="live"),
            "the relay that is gone": alert("Down", "critical", relay="d"),
            "the budget": alert("DayBudgetSpent", "critical", relay="c", source="ledger"),
            "the dead man's switch": alert("Watchdog", "info"),
        }
        with alertmanager(self.config) as address:
            silenced = inhibited(address, [*fired.values(), *heard.values()])
            for why, labels in fired.items():
                self.assertIn(labels, silenced, why)
            for why, labels in heard.items():
                self.assertNotIn(labels, silenced, why)
        with alertmanager(self.config) as address:
            silenced = inhibited(address, [alert("ExporterDown", "critical"), heard["of another relay"], heard["the dead man's switch"]])
            self.assertEqual(silenced, [heard["of another relay"]])


@contextlib.contextmanager
def alertmanager(config):
    """A real Alertmanager with the example, on a free port; its webhooks lead nowhere."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        shutil.copytree(config.parent / "templates", pathlib.Path(folder) / "templates")
        copy = pathlib.Path(folder) / "alertmanager.yml"
        copy.write_text(config.read_text(encoding="utf-8").replace("127.0.0.1:8080", "127.0.0.1:1"), encoding="utf-8")
        process = subprocess.Popen(
            [program("ALERTMANAGER", "alertmanager", "prometheus-alertmanager"), f"--config.file={copy}", f"--storage.path={folder}/data",
             f"--web.listen-address=127.0.0.1:{port}", "--cluster.listen-address="],
            stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        )
        try:
            wait_for(lambda: request(f"http://127.0.0.1:{port}/-/ready"), process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.terminate()
            process.communicate(timeout=30)


def request(address, body=None):
    data = None if body is None else json.dumps(body).encode()
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": "application/json"}), timeout=10) as answer:
        return answer.read()


def wait_for(condition, process=None):
    """Until the condition holds: its own value, or a failure after 30 seconds."""
    end = time.monotonic() + 30
    while True:
        if process and process.poll() is not None:
            raise AssertionError(process.stderr.read())
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        if time.monotonic() > end:
            raise AssertionError("not within 30 seconds")
        time.sleep(0.05)


def inhibited(address, labels):
    """The alerts, of those sent, that Alertmanager silences once it has decided about all of them."""
    request(f"{address}/api/v2/alerts", [{"labels": each, "annotations": {}} for each in labels])

    def decided():
        got = json.loads(request(f"{address}/api/v2/alerts"))
        states = {alert["status"]["state"] for alert in got}
        return got if len(got) == len(labels) and "unprocessed" not in states else None

    return [alert["labels"] for alert in wait_for(decided) if alert["status"]["inhibitedBy"]]


if __name__ == "__main__":
    unittest.main()
