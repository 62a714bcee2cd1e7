"""Runbooks: one section per alert, and everything in them that can be run or parsed is."""

import contextlib
import http.server
import itertools
import json
import os
import pathlib
import re
import tempfile
import threading
import unittest

import yaml

from bundle import DASHBOARDS, ROOT, RUNBOOK_BASE, RUNBOOKS, alerts, catalogue, check_names, labels_of, program, read, recorded, run


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

    def test_a_section_shows_the_dashboard_of_its_alert(self):
        shown = dict(re.findall(r"^## (\w+)\n(?:(?!## ).*\n)*?\*\*See it\.\*\* `/d/([\w-]+)`", self.text, re.M))
        linked = {rule["alert"]: re.search(r"/d/([\w-]+)", rule["annotations"]["dashboard"])[1] for rule in alerts()}
        self.assertGreater(len(shown), 40)
        self.assertEqual(shown, {alert: linked[alert] for alert in shown})

    def test_links_and_dashboards_exist(self):
        anchors = {rule["alert"].lower() for rule in alerts()}
        self.assertLessEqual(set(re.findall(r"\]\(#(\w+)\)", self.text)), anchors)
        self.assertLessEqual(set(re.findall(r"/d/(llm-relay-\w+)", self.text)), DASHBOARDS)

    def test_thresholds_named_exist(self):
        named = set(re.findall(r"llm_relay:(?:threshold|budget_usd):\w+", self.text))
        self.assertLessEqual(named, {rule["record"] for rule in recorded()})

    def test_every_query_parses_and_names_what_exists(self):
        queries = self.blocks("promql")
        for query in queries:
            with self.subTest(query):
                check_names(self, query)
        group = {"groups": [{"name": "x", "rules": [{"record": f"a:b:c{i}", "expr": q} for i, q in enumerate(queries)]}]}
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "queries.yml"
            path.write_text(yaml.safe_dump(group), encoding="utf-8")
            got = run(program("PROMTOOL", "promtool"), "check", "rules", path)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_replicas_count_once_in_every_query(self):
        queries = [*self.blocks("promql"), *re.findall(r"```promql\n(.*?)\n```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)]
        tests = [{"interval": "1m", "input_series": replicas(query), "promql_expr_test": [
            {"expr": f"({query}) != ({of_one(query)})", "eval_time": "90m", "exp_samples": []}]} for query in queries]
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "replicas.yml"
            path.write_text(json.dumps({"rule_files": [], "evaluation_interval": "1m", "tests": tests}), encoding="utf-8")
            got = run(program("PROMTOOL", "promtool"), "test", "rules", path)
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


# What each exporter counts of its own work adds up.
OWN = re.compile("llm_relay_(refresh|rows_read|http|dead_letters|requests_missed|exporter|store)")


def of_relays(query):
    return {metric: matchers for metric, matchers in read(query)[0] if metric.startswith("llm_relay_") and ":" not in metric}


def replicas(query):
    """What two exporters show of what a query reads, and what Prometheus has recorded of it."""
    found = []
    for metric, matchers in read(query)[0]:
        labels = {label: matchers.get(label, "7").split("|")[0] for label in labels_of(metric) or () if label not in ("job", "instance")}
        instances = [{"instance": "a"}] if ":" in metric or OWN.match(metric) else [{"instance": "a"}, {"instance": "b"}]
        buckets = [{"le": "1"}, {"le": "+Inf"}] if "le" in labels else [{}]
        for instance, bucket in itertools.product(instances, buckets) if metric else []:
            every = {**labels, **bucket, **({} if ":" in metric else instance)}
            text = ",".join(f'{label}="{value}"' for label, value in every.items())
            found.append({"series": f"{metric}{{{text}}}", "values": "1000+3x120"})
    return [dict(pairs) for pairs in dict.fromkeys(tuple(each.items()) for each in found)]


def of_one(query):
    """A query that reads one of two exporters."""
    for metric in of_relays(query):
        query = re.sub(rf"\b{metric}\b(?:\{{(.*?)\}})?", rf'{metric}{{instance="a",\1}}', query)
    return query


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
