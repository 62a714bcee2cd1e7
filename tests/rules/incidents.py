"""Incidents as data (incidents/*.yml), what the rules and Alertmanager make of them, and the table that tells it.

A case:
    incident   what happens, for the table
    phases     {name: duration}; the first is the healthy past, the last begins when the trouble is over
    hours      day (the default) or night: whether Alertmanager's receivers for waking hours are muted
    alone      true for a Prometheus in which no other exporter answers: the case tells up itself
    traffic    requests per minute in each phase, as an exporter shows them: success, failure; null: not shown.
               class: of the failures (server); told: false for a relay that does not tell which requests failed
    series     further series: value (a gauge), per_minute (a counter) or behind (a clock, in seconds) in each phase; from:
               where a counter begins. The label relay is added to what begins with llm_relay; an instance is of one case alone
    expect     page or chat: the alert that is told first, and within: how soon; messages: how many at most, that all is
               well included. Empty: nobody is told anything but the digest

Cases share a Prometheus, each as a relay of its own. Prometheus is promtool's, in steps of 30 seconds, or of a minute for
cases of hours; Alertmanager is a real one with the shipped configuration, whose waits are shortened so that an hour takes
half a minute or less.
"""

import concurrent.futures
import contextlib
import http.server
import json
import pathlib
import re
import tempfile
import threading
import time

from bundle import PROMETHEUS, alerts, load, program, rules, run, seconds
from test_alertmanager import alertmanager, request

FOLDER = pathlib.Path(__file__).parent / "incidents"
SAMPLES = 30
HOURS = 3 * 3600


class Case:
    def __init__(self, told, number):
        self.told = told
        self.relay = f"case-{number}"
        self.phases = [seconds(length) for length in told["phases"].values()]
        self.begins = self.phases[0]
        self.over = sum(self.phases[:-1])
        self.ends = sum(self.phases)
        self.step = 60 if self.ends >= HOURS else 30
        self.series = [self.one(each) for each in [*self.traffic(), *told.get("series", [])]]

    def traffic(self):
        """What an exporter shows of these requests: one provider, three keys."""
        traffic = self.told.get("traffic")
        if not traffic:
            return
        success = traffic["success"]
        failure = traffic.get("failure", [value if value is None else 0 for value in success])
        told = traffic.get("told", True)
        every = [None if a is None else a + b for a, b in zip(success, failure)]
        counted = every if told else success
        with_up = any("source_up" in each["series"] for each in self.told.get("series", []))
        if not with_up:
            yield {"series": 'llm_relay_source_up{source="ledger"}', "value": [1] * len(success)}
        yield {"series": 'llm_relay_provider_info{provider_id="7",provider="Max 3",type="claude",group="default"}', "value": [1] * len(success)}
        yield {"series": 'llm_relay_requests_total{provider_id="7",model="opus",outcome="success"}', "per_minute": success}
        if told:
            yield {"series": 'llm_relay_requests_total{provider_id="7",model="opus",outcome="failure"}', "per_minute": failure}
            yield {"series": 'llm_relay_responses_total{provider_id="7",code="200"}', "per_minute": success}
        yield {"series": f'llm_relay_failures_total{{provider_id="7",class="{traffic.get("class", "server")}"}}', "per_minute": failure}
        yield {"series": "llm_relay_requests_last_minute", "last_minute": counted}
        for key in "123":
            yield {"series": f'llm_relay_key_requests_total{{key_id="{key}"}}', "per_minute": [rate and rate / 3 for rate in counted]}

    def one(self, told):
        """A series in promtool's notation."""
        name, _, labels = told["series"].partition("{")
        labels = [labels.rstrip("}")] if labels else []
        if name.startswith("llm_relay"):
            labels.insert(0, f'relay="{self.relay}"')
        counter = "per_minute" in told
        total = told.get("from", 1000)
        values, before = [], None
        given = next(told[form] for form in ("per_minute", "value", "behind", "last_minute") if form in told)
        for phase, each in zip(self.phases, given, strict=True):
            for _ in range(round(phase / SAMPLES)):
                if each is None:
                    values.append("_" if values and values[-1] in ("_", "stale") else "stale")
                elif counter:
                    total += each * SAMPLES / 60
                    values.append(f"{total:.2f}" if "_usd" in name else f"{int(total + 1e-6)}")
                elif "behind" in told:
                    values.append(f"{len(values) * SAMPLES - each}")
                else:
                    values.append(f"{(each + before) / 2 if before is not None and 'last_minute' in told else each}")
                before = each
        return {"series": f"{name}{{{','.join(labels)}}}", "values": " ".join(values)}

    def is_of(self, alert):
        """An alert is of its relay, or else of its exporter; one that names neither is of everyone."""
        if "instance" in alert and "relay" not in alert:
            return any(f'instance="{alert["instance"]}"' in each["series"] for each in self.series)
        return alert.get("relay", self.relay) == self.relay


def cases():
    told = [case for path in sorted(FOLDER.glob("*.yml")) for case in load(path)]
    return [Case(case, number) for number, case in enumerate(told)]


def timelines(every):
    """Each case's alerts: {second: [(labels, annotations)]} of every step from its beginning on, by promtool."""
    worlds = {}
    for case in every:
        # A relay is judged until the last case of its Prometheus is over: those of hours share another one.
        worlds.setdefault(case.relay if case.told.get("alone") else case.step, []).append(case)
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        found = {}
        for world, steps in zip(worlds.values(), pool.map(evaluate, worlds.values())):
            for case in world:
                found[case.relay] = {
                    at - case.begins: [alert for alert in steps.get(at, []) if case.is_of(alert[0])]
                    for at in range(int(case.begins), int(case.ends), case.step)
                }
    return found


def evaluate(world):
    """Every alert that fires at every step, as {second: [(labels, annotations)]}."""
    names = sorted({rule["alert"] for rule in alerts()} - {"LLMRelayWatchdog"})
    first, last, step = min(case.begins for case in world), max(case.ends for case in world), world[0].step
    # An exporter answers, unless the case says otherwise.
    exporter = [] if world[0].told.get("alone") else [{"series": 'up{job="llm-relay",instance="a:9879"}', "values": f"1+0x{int(last / SAMPLES)}"}]
    groups = {folder: {group["name"]: None for _, group, _ in rules(folder)} for folder in ("rules", "alerts")}
    order = sorted(groups["rules"], key=lambda name: not name.startswith(("llm-relay-budgets", "llm-relay-thresholds")))
    test = {
        "rule_files": [f"{PROMETHEUS}/{folder}/*.yml" for folder in ("rules", "alerts")],
        "group_eval_order": [*order, *groups["alerts"]],
        "evaluation_interval": f"{step}s",
        "tests": [{
            "interval": f"{SAMPLES}s",
            "input_series": [series for case in world for series in case.series] + exporter,
            # What is expected is nothing, so that promtool tells what there is.
            "alert_rule_test": [
                {"eval_time": f"{at}s", "alertname": name} for at in range(int(first), int(last), step) for name in names
            ],
        }],
    }
    with tempfile.NamedTemporaryFile("w", suffix=".yml", encoding="utf-8") as file:
        json.dump(test, file)
        file.flush()
        got = run(program("PROMTOOL", "promtool"), "test", "rules", file.name)
    text = got.stdout + got.stderr
    steps = {}
    for block in re.split(r"\n    (?:name: .*,\n    )?alertname: ", text)[1:]:
        at = seconds(re.match(r"\w+, time: (\w+),", block)[1])
        for labels, annotations in re.findall(r"Labels:(\{.*\})\n\s*Annotations:(\{.*\})", block.split("got:[", 1)[1]):
            steps.setdefault(int(at), []).append((pairs(labels), pairs(annotations)))
    if ", err: " in text or (not steps and got.returncode):
        raise AssertionError(text[-2000:])
    return steps


def pairs(text):
    return {name: json.loads(f'"{value}"') for name, value in re.findall(r'(\w+)="((?:[^"\\]|\\.)*)"', text)}


def messages(every, found):
    """What is sent of each case, as [(second, receiver, status, {alertname: description})], by a real Alertmanager."""
    sent = {case.relay: [] for case in every}
    with concurrent.futures.ThreadPoolExecutor(3) as pool:
        kinds = {}
        for case in every:
            kinds.setdefault((case.told.get("hours", "day"), case.step), []).append(case)
        for job in [pool.submit(replayed, hours, some, found, sent) for (hours, _), some in kinds.items()]:
            job.result()
    return sent


def replayed(hours, some, found, sent):
    """The same of a machine that has not stood still meanwhile: what is sent late is another incident."""
    for _ in range(3):
        for case in some:
            sent[case.relay].clear()
        if replay(hours, some, found, sent) < 1:
            break


def replay(hours, some, found, sent):
    """The alerts of these cases, sent to an Alertmanager that is faster by what makes the longest last 50 seconds. By how
    many seconds the latest of them was late."""
    begun = late = 0
    last = max(case.ends - case.begins for case in some) + 15 * 60
    speed = max(120, last / 50)

    class Receiver(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            told = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            at = (time.monotonic() - begun) * speed
            what = {alert["labels"]["alertname"]: alert["annotations"]["description"] for alert in told["alerts"] if alert["status"] == told["status"]}
            sent[told["groupLabels"]["cluster"]].append((at, self.path.strip("/"), told["status"], what))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Receiver) as server, tempfile.TemporaryDirectory() as folder:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        text = (PROMETHEUS / "alertmanager.yml").read_text(encoding="utf-8")
        text = re.sub(r"(group_wait|group_interval|repeat_interval): (\w+)", lambda it: f"{it[1]}: {max(1, int(seconds(it[2]) * 1000 / speed))}ms", text)
        never = "years: ['2000']"
        text = re.sub(r"times: \[\{.*\}\]", never if hours == "night" else "years: ['2000:2999']", text)
        text = text.replace("weekdays: ['monday:friday']", "months: ['1:12']").replace("127.0.0.1:8080", f"127.0.0.1:{server.server_port}")
        config = pathlib.Path(folder) / "alertmanager.yml"
        config.write_text(text, encoding="utf-8")
        (pathlib.Path(folder) / "templates").symlink_to(PROMETHEUS / "templates")
        with alertmanager(config) as address:
            begun = time.monotonic()
            firing = {case.relay: {} for case in some}
            for at in range(0, int(last), some[0].step):
                body = []
                for case in some:
                    now = {json.dumps(labels, sort_keys=True): texts for labels, texts in found[case.relay].get(at, [])}
                    for labels, texts in {**firing[case.relay], **now}.items():
                        body.append({"labels": {**json.loads(labels), "cluster": case.relay}, "annotations": texts, **({} if labels in now else {"endsAt": stamp(0)})})
                        if labels in now:
                            body[-1]["endsAt"] = stamp(3600)
                    firing[case.relay] = now
                wait = begun + at / speed - time.monotonic()
                late = max(late, -wait)
                if wait > 0:
                    time.sleep(wait)
                if body:
                    request(f"{address}/api/v2/alerts", body)
        with contextlib.suppress(OSError):
            server.shutdown()
    return late


def stamp(later):
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + later))


def waits():
    """How long Alertmanager waits before the first message to a receiver."""
    route = load(PROMETHEUS / "alertmanager.yml")["route"]
    return {each["receiver"]: seconds(each.get("group_wait", route["group_wait"])) for each in reversed(route["routes"])}


class Outcome:
    """What became of a case: the first message, when it came, how many there were, and when all was well."""

    def __init__(self, case, steps, sent):
        self.case = case
        self.sent = [each for each in sent if each[1] in ("page", "chat")]
        self.first = self.after = self.receiver = None
        if self.sent:
            _, self.receiver, _, names = self.sent[0]
            # The text of an alert's first step: how soon Alertmanager takes the next one is a matter of the machine.
            page = self.receiver == "page"
            fired = [
                (at, labels["alertname"], texts["description"])
                for at, now in steps.items()
                for labels, texts in now
                if labels["alertname"] in names and (labels["severity"] == "critical") == page
            ]
            self.first = {name: text for _, name, text in reversed(fired)}
            fired = fired[0][0]
            self.after = fired + waits()[self.receiver]
        told = {name for _, _, _, names in self.sent for name in names}
        still = [at for at, now in steps.items() for labels, _ in now if labels["alertname"] in told]
        self.well = max(still) + case.step - (case.over - case.begins) if still else None
        self.too_early = [names for at, _, status, names in self.sent if status == "resolved" and at < case.over - case.begins]

    def said(self):
        return "; ".join(text.replace(self.case.relay, "main") for text in self.first.values())


def minutes(duration):
    return f"{int(duration // 60)}:{int(duration % 60):02}"


def table(outcomes):
    lines = [
        "| incident | told first | after | it said | messages | well again after |",
        "|---|---|---:|---|---:|---:|",
    ]
    for it in outcomes:
        name = it.case.told["incident"]
        if not it.first:
            lines.append(f"| {name} | nothing | | | 0 | |")
            continue
        first = ", ".join(f"`{alert}`" for alert in it.first)
        well = minutes(it.well) if it.well < it.case.ends - it.case.over else "later"
        lines.append(f"| {name} | {first} ({it.receiver}) | {minutes(it.after)} | {it.said()} | {len(it.sent)} | {well} |")
    return "\n".join(lines)
