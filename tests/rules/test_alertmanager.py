"""The Alertmanager example: accepted, routed, rendered in both languages, and silenced by a real Alertmanager."""

import contextlib
import json
import pathlib
import shutil
import socket
import subprocess
import tempfile
import time
import unittest
import urllib.request

from bundle import PROMETHEUS, alerts, program, run


class Alertmanager(unittest.TestCase):
    config = PROMETHEUS / "alertmanager.yml"

    def test_alertmanager_accepts_the_example(self):
        got = run(program("AMTOOL", "amtool"), "check-config", self.config)
        self.assertEqual(got.returncode, 0, got.stdout + got.stderr)

    def test_each_severity_goes_to_its_receiver(self):
        routes = [
            ("page", "alertname=LLMRelayOutage", "severity=critical", "relay=main"),
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
        texts = {**rule["annotations"], "description": "12 % failed", "description_zh": "12 % 失败",
                 "dashboard": "http://grafana/d/llm-relay-overview?var-relay=main", "runbook_url": "http://docs/runbooks.md#x"}
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
                ("en", "resolved"): ("Resolved [main]: Many requests", "Resolved: Many requests", "http://grafana/d/llm-relay-overview?var-relay=main"),
                ("zh", "resolved"): ("已恢复 [main]：当前有大量", "已恢复：当前有大量", "http://grafana/d/llm-relay-overview-zh?var-relay=main"),
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
            "milder": alert("ProviderErrorBudgetBurn", "info", relay="c", provider_id="1", source="ledger"),
            "of a provider that is cut off": alert("ProviderSlowFirstToken", "info", relay="c", provider_id="2", source="ledger"),
            "of a relay that is gone": alert("ProviderSlotsNearlyFull", "warning", relay="d", provider_id="1", source="live"),
            "its sources": alert("SourceDown", "critical", relay="d", source="ledger"),
            "predicted": alert("DayBudgetPredicted", "warning", relay="c", source="ledger"),
            "nearly, of the day that is spent": alert("SpenderBudgetNearlySpent", "info", relay="c", scope="user", id="7", window="day", source="ledger"),
        }
        heard = {
            "the source": source,
            "of the other source": alert("ProviderSlotsNearlyFull", "warning", relay="a", provider_id="1", source="live"),
            "of another relay": alert("ErrorSpike", "warning", relay="b", source="ledger"),
            "sharper": alert("ProviderErrorBudgetBurn", "warning", relay="c", provider_id="1", source="ledger"),
            "of another provider": alert("ProviderErrorBudgetBurn", "info", relay="c", provider_id="3", source="ledger"),
            "the circuit": alert("ProviderCircuitOpen", "warning", relay="c", provider_id="2", source="live"),
            "the relay that is gone": alert("Down", "critical", relay="d"),
            "the budget": alert("DayBudgetSpent", "critical", relay="c", source="ledger"),
            "a user's day": alert("SpenderBudgetSpent", "warning", relay="c", scope="user", id="7", window="day", source="ledger"),
            "the same user's month": alert("SpenderBudgetNearlySpent", "info", relay="c", scope="user", id="7", window="month", source="ledger"),
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

    def test_one_cause_is_one_message_and_no_site_silences_another(self):
        def alert(name, severity, **labels):
            return {"alertname": "LLMRelay" + name, "severity": severity, **labels}

        ledger = {"source": "ledger"}
        causes = [
            # what fires at once, first the one that is heard
            [alert("ExporterDown", "critical", cluster="eu"), alert("Gone", "critical", cluster="eu", relay="a"),
             alert("Outage", "critical", cluster="eu", relay="a", **ledger)],
            [alert("Outage", "critical", cluster="us", relay="a", **ledger)],  # the same name on another site
            [alert("Gone", "critical", relay="b"), alert("Outage", "critical", relay="b", **ledger), alert("SourceDown", "warning", relay="b", source="live")],
            [alert("ExporterTargetDown", "warning", instance="b:9879")],  # which may show other relays
            [alert("Outage", "critical", relay="c", **ledger), alert("ErrorSpike", "warning", relay="c", **ledger),
             alert("ErrorBudgetBurn", "critical", relay="c", **ledger), alert("ProviderTypeDown", "critical", relay="c", type="claude", source="live"),
             *(alert("ProviderErrorBudgetBurn", "warning", relay="c", provider_id=str(i), **ledger) for i in range(7))],
            [alert("ErrorBudgetBurn", "critical", relay="d", **ledger), alert("ErrorBudgetBurn", "warning", relay="d", **ledger), alert("ProviderErrorBudgetBurn", "warning", relay="d", provider_id="1", **ledger)],
            [alert("ErrorSpike", "warning", relay="e", **ledger), alert("ProviderErrorBudgetBurn", "warning", relay="e", provider_id="1", **ledger)],
            [alert("Unreachable", "critical", relay="f"), alert("TrafficVanished", "critical", relay="f", **ledger), alert("NoTraffic", "warning", relay="f", **ledger)],
            [alert("UserCostSurge", "critical", relay="g", user_id="1", **ledger), alert("KeyCostSurge", "critical", relay="g", user_id="1", key_id="7", **ledger),
             alert("CostSurge", "warning", relay="g", **ledger)],
            [alert("UserCostSurge", "warning", relay="g", user_id="2", **ledger)],  # not the same thief
            [alert("KeyCostSurge", "warning", relay="h", user_id="2", key_id="8", **ledger)],  # of another relay
            [alert("QuotaExhausted", "info", relay="j", scope="key", id="1", window="day", **ledger),
             alert("QuotaSoftLimitReached", "info", relay="j", scope="key", id="1", window="day", **ledger)],
            [alert("ReplicaBehind", "warning", relay="k", **ledger), alert("NoTraffic", "warning", relay="k", **ledger), alert("LedgerLag", "warning", relay="k", **ledger)],
            [alert("SourceDown", "warning", relay="l", source="directory"), alert("QuotaExhausted", "info", relay="l", scope="key", id="1", window="day", **ledger)],
            [alert("ProviderTypeDown", "critical", relay="m", type="gemini", source="live"), alert("AccountUnusable", "warning", relay="m", provider_id="1", type="gemini", source="live")],
            [alert("AccountUnusable", "warning", relay="m", provider_id="2", type="claude", source="live")],  # of another type
            [alert("TrafficVanished", "critical", relay="m", **ledger)],  # the relay has died meanwhile
            [alert("SourceDown", "critical", relay="i", **ledger), alert("SourceDown", "warning", relay="i", source="directory"),
             alert("RefreshFailing", "warning", relay="i", **ledger)],
        ]
        with alertmanager(self.config) as address:
            silenced = inhibited(address, [alert for cause in causes for alert in cause])
        for first, *rest in causes:
            with self.subTest(first):
                self.assertNotIn(first, silenced)
                self.assertEqual([alert for alert in rest if alert not in silenced], [])


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
    with urllib.request.urlopen(urllib.request.Request(address, data, {"Content-Type": "application/json"}), timeout=60) as answer:
        return answer.read()


def wait_for(condition, process=None):
    """Until the condition holds: its own value, or a failure after four minutes."""
    end = time.monotonic() + 240
    while True:
        if process and process.poll() is not None:
            raise AssertionError(process.stderr.read())
        with contextlib.suppress(OSError):
            if value := condition():
                return value
        if time.monotonic() > end:
            raise AssertionError("not within four minutes")
        time.sleep(0.05)


def inhibited(address, labels):
    """The alerts, of those sent, that Alertmanager silences once it has decided about all of them."""
    request(f"{address}/api/v2/alerts", [{"labels": each, "annotations": {}} for each in labels])

    def decided():
        got = json.loads(request(f"{address}/api/v2/alerts"))
        states = {alert["status"]["state"] for alert in got}
        return got if len(got) == len(labels) and "unprocessed" not in states else None

    def silenced():
        return [alert["labels"] for alert in wait_for(decided) if alert["status"]["inhibitedBy"]]

    # Its inhibitor hears of an alert a moment after its list does; every question is answered anew.
    last = silenced()
    while True:
        time.sleep(0.5)
        before, last = last, silenced()
        if before == last:
            return last
