"""Rules and alerts: Prometheus accepts them, they are safe and named alike, and every alert has its scenarios."""

import concurrent.futures
import json
import os
import pathlib
import re
import tempfile
import unittest

import yaml

from bundle import (
    ANNOTATIONS, COUNTERS, DASHBOARD_BASE, DASHBOARDS, FOR_DASHBOARDS, IN_RANGES, PROMETHEUS, ROOT, WITHOUT_SOURCE,
    alerts, catalogue, check_names, files, load, name_of, program, read, recorded, rules, run, seconds, template_queries, templates,
)


def narrowed(path, folder):
    """The scenarios of a file, with those of its rules alone that they judge and what these read: what promtool takes is
    rules times steps. Every rule is evaluated with the incidents."""
    scenarios = load(path)
    groups = [
        group for pattern in scenarios["rule_files"] for file in sorted(path.parent.glob(pattern)) for group in load(file)["groups"]
    ]
    names, more = set(), judged(scenarios)
    while more - names:
        names |= more
        read_by_them = {metric for group in groups for rule in group["rules"] if name_of(rule) in names for metric in metrics_of(rule)}
        more = {name_of(rule) for group in groups for rule in group["rules"] if any(re.fullmatch(metric, name_of(rule)) for metric in read_by_them)}
    for group in groups:
        group["rules"] = [rule for rule in group["rules"] if name_of(rule) in names]
    (folder / "rules.yml").write_text(json.dumps({"groups": groups}), encoding="utf-8")
    (folder / path.name).write_text(json.dumps({**scenarios, "rule_files": ["rules.yml"]}), encoding="utf-8")
    return folder / path.name


def judged(scenarios):
    """The alerts and the recorded names that a file of scenarios asks for."""
    found = set()
    for test in scenarios["tests"]:
        found |= {case["alertname"] for case in test.get("alert_rule_test", [])}
        found |= {metric for case in test.get("promql_expr_test", []) for metric, _ in read(case["expr"])[0]}
    return found


def metrics_of(rule):
    """What a rule reads, in its templates as well; regular expressions."""
    queries = [query for text in templates(rule) for query in template_queries(text)]
    return {metric or matchers["__name__"] for expr in [rule["expr"], *queries] for metric, matchers in read(expr)[0]}


class Tools(unittest.TestCase):
    def test_prometheus_accepts_the_rules_with_every_lint_fatal(self):
        got = run(program("PROMTOOL", "promtool"), "check", "rules", "--lint=all", "--lint-fatal", *files("rules"), *files("alerts"))
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_mimir_takes_every_group(self):
        for file in [*files("rules"), *files("alerts")]:
            for group in load(file)["groups"]:
                self.assertLessEqual(len(group["rules"]), 20, f"{file.name}: {group['name']} (Mimir's ruler_max_rules_per_rule_group)")

    def test_prometheus_accepts_the_example_configuration(self):
        got = run(program("PROMTOOL", "promtool"), "check", "config", "--lint=all", "--lint-fatal", PROMETHEUS / "prometheus.yml")
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        self.assertIn("trust.yml", got.stdout, "the example does not load the alerts")

    def test_the_documented_overrides_are_rules_and_of_thresholds_that_exist(self):
        text = (ROOT / "docs" / "operations.md").read_text(encoding="utf-8")
        example = next(block for block in re.findall(r"```yaml\n(.*?)```", text, re.S) if ":override:" in block)
        with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
            file.write(example)
            file.flush()
            got = run(program("PROMTOOL", "promtool"), "check", "rules", "--lint=all", "--lint-fatal", file.name)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)
        names = {rule["record"].replace(":override:", ":threshold:") for group in yaml.safe_load(example)["groups"] for rule in group["rules"]}
        self.assertLessEqual(names, {rule["record"] for rule in recorded()})

    def test_every_scenario_fires_and_is_silent_as_written(self):
        def play(path):
            with tempfile.TemporaryDirectory() as folder:
                return path, run(program("PROMTOOL", "promtool"), "test", "rules", narrowed(path, pathlib.Path(folder)))

        with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
            for path, got in pool.map(play, files("tests")):
                with self.subTest(path.name):
                    self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_native_histograms_record_what_their_buckets_would(self):
        promtool = program("PROMTOOL", "promtool")
        words = run(promtool, "--version")
        major = re.search(r"version (\d+)", words.stdout + words.stderr).group(1)
        if int(major) < 3:
            self.skipTest(f"promtool {major} has no native histograms in its tests; set PROMTOOL")
        for path in files("tests/native"):
            got = run(promtool, "test", "rules", path)
            self.assertEqual(got.returncode, 0, got.stdout + got.stderr)


class Lint(unittest.TestCase):
    def each(self, check, *folders):
        """Check every rule of the folders, each for itself."""
        for folder in folders:
            for name, _, rule in rules(folder):
                with self.subTest(f"{name}: {rule.get('alert') or rule['record']}"):
                    check(rule)

    def test_every_metric_and_label_exists(self):
        def check(rule):
            check_names(self, rule["expr"])
            for text in templates(rule):
                for query in template_queries(text):
                    check_names(self, query)

        self.each(check, "rules", "alerts")

    def test_counters_and_buckets_are_only_read_as_growth_within_a_window(self):
        interval = seconds(load(PROMETHEUS / "prometheus.yml")["global"]["scrape_interval"])

        def check(rule):
            expr = rule["expr"]
            if rule.get("record") in COUNTERS:
                return
            for metric, _ in read(expr)[0]:
                kind = catalogue().get(metric, ("",))[0]
                if kind in ("Counter", "Histogram") or metric.endswith("_bucket"):
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
            for text in templates(rule):
                used |= {metric for query in template_queries(text) for metric, _ in read(query)[0]}
        for name in {rule["record"] for rule in recorded()}:
            with self.subTest(name):
                self.assertEqual(name in used, name not in FOR_DASHBOARDS)

    def test_the_number_of_thresholds_is_that_which_the_alert_about_them_asks_for(self):
        alert = next(rule for rule in alerts() if rule["alert"] == "LLMRelayThresholdsMissing")
        number = len({rule["record"] for rule in recorded() if rule["record"].startswith("llm_relay:threshold:")})
        self.assertTrue(alert["expr"].rstrip().endswith(f"< {number}"), f"there are {number}")
        for text in ("description", "description_zh"):
            self.assertIn(f" {number} ", alert["annotations"][text])

    def test_groups_have_unique_names_and_an_interval_below_the_look_back(self):
        groups = {(name, group["name"]): group for folder in ("rules", "alerts") for name, group, _ in rules(folder)}
        self.assertEqual(len({group for _, group in groups}), len(groups))
        for group in groups.values():
            self.assertLess(0, seconds(group["interval"]))
            if {rule.get("record") for rule in group["rules"]} != IN_RANGES:
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
            base, _, rest = texts["dashboard"].partition("/d/")
            self.assertEqual(base + "/d/", DASHBOARD_BASE)
            dashboard, _, relay = rest.partition("?")
            self.assertIn(dashboard, DASHBOARDS)
            self.assertEqual(relay, "var-relay={{ $labels.relay }}" if "$labels.relay" in texts["description"] else "")

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
                plain = {label: value for label, value in rule["labels"].items() if "{{" not in value}
                self.assertTrue([labels for labels in fired if plain.items() <= labels.items()])

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
