"""The rules, alerts and catalogue as data, and a reader of PromQL that is good enough to lint it."""

import functools
import os
import pathlib
import re
import shutil
import subprocess
import unittest

import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks.md"
METRICS = sorted((ROOT / "src" / "metrics").glob("*.rs"))
# Addresses stand in one rule (llm_relay:links:info).
RUNBOOK_BASE = '{{ with query "llm_relay:links:info" }}{{ . | first | label "runbooks" }}{{ end }}#'
DASHBOARD_BASE = '{{ with query "llm_relay:links:info" }}{{ . | first | label "grafana" }}{{ end }}/d/'
DASHBOARDS = {"llm-relay-" + name for name in "overview trends wall leaderboards providers quotas exporter".split()}
ANNOTATIONS = {"summary", "summary_zh", "description", "description_zh", "runbook_url", "dashboard"}
# About the exporter or the alerting, not about one relay: they carry no source.
WITHOUT_SOURCE = {
    "LLMRelayExporterDown", "LLMRelayExporterTargetDown", "LLMRelayExporterRestarts", "LLMRelayDown", "LLMRelayGone",
    "LLMRelayUnreachable", "LLMRelayThresholdsMissing", "LLMRelayThresholdAmbiguous", "LLMRelayOverrideUnused",
    "LLMRelayConfigReloadFailed", "LLMRelayStoreDown", "LLMRelayClockSkew", "LLMRelayWatchdog",
}
TRENDS = [{rule["record"] for rule in group["rules"]} for group in yaml.safe_load((PROMETHEUS / "rules/trends.yml").read_text())["groups"]]
# Counters that are recorded as they are: dashboards read their growth. And what dashboards read over ranges alone.
COUNTERS, IN_RANGES = TRENDS
# Recorded for dashboards only.
FOR_DASHBOARDS = COUNTERS | IN_RANGES | {
    f"llm_relay:{metric}:p{quantile}_30m"
    for metric in ("request_duration_seconds", "time_to_first_token_seconds")
    for quantile in (99,)
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
    # Fewer rounds of promtool's garbage collector: a sixth of its time.
    environment = {"GOGC": "400", **kwargs.pop("env", os.environ)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env=environment, **kwargs)


def load(path):
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def seconds(duration):
    units = {"ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
    return sum(float(n) * units[unit] for n, unit in re.findall(r"(\d+)(ms|[smhdw])", str(duration)))


@functools.cache
def catalogue():
    """Name to (kind, labels, help) of every metric in src/metrics."""
    entry = re.compile(
        r'Metric \{\s*name: "(\w+)",\s*kind: (?:Kind::)?(\w+),.*?labels: &\[([^\]]*)\],\s*help: "([^"]*)",.*?emit: (?:Emit::)?(\w+)', re.S
    )
    source = "".join(path.read_text(encoding="utf-8") for path in METRICS)
    found = {}
    for name, kind, labels, text, emit in entry.findall(source):
        own = set() if emit == "Exporter" else {"relay"}
        found[name] = (kind, set(re.findall(r'"(\w+)"', labels)) | own | {"job", "instance"}, text)
    assert len(found) == source.count("    Metric {\n") > 0, "an entry of the catalogue was not understood"
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


def name_of(rule):
    return rule.get("alert") or rule["record"]


def templates(rule):
    """The texts of a rule that Prometheus fills in: annotations and labels."""
    return [*rule.get("annotations", {}).values(), *rule.get("labels", {}).values()]


def template_queries(text):
    """The PromQL of an annotation's queries, with the placeholders filled in."""
    yield from re.findall(r'with query "([^"]*)"', text)
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
    if metric in catalogue():  # of a histogram: a native one
        return catalogue()[metric][1]
    if metric.replace(":override:", ":threshold:") in recorded_labels():  # a rule of the user's
        return {"relay"}
    if metric == "llm_relay_exporter:override:links":
        return {"grafana", "runbooks"}
    base, _, suffix = metric.rpartition("_")
    if suffix in ("bucket", "sum", "count") and catalogue().get(base, ("",))[0] == "Histogram":
        return catalogue()[base][1] | ({"le"} if suffix == "bucket" else set())
    return None


@functools.cache
def vocabulary(label):
    """Words that a closed label may have as its value: those of the domain, of the help of the metrics with it, and kinds of relays."""
    words = {word for _, labels, text in catalogue().values() if label in labels for word in re.findall(r"\w+", text)}
    products = (ROOT / "src" / "relays").glob("*/product.rs") if label == "kind" else []
    for path in [*(ROOT / "src" / "model").glob("*.rs"), ROOT / "src" / "view.rs", *METRICS, *products]:
        words |= set(re.findall(r'"([\w-]+)"', path.read_text(encoding="utf-8")))
    return words


def check_names(test, expr):
    """Fail the test when the expression names a metric, label or word that does not exist."""
    selectors, lists = read(expr)
    known = {"job", "instance", "__name__", *re.findall(r'label_replace\([^"]*(?:\{[^}]*\}[^"]*)?"(\w+)"', expr)}
    names = [*catalogue(), *recorded_labels()]
    names += [name.replace(":threshold:", ":override:") for name in names]  # rules of the user's
    for metric, matchers in selectors:
        if not metric:
            test.assertIn("__name__", matchers, expr)
            found = [name for name in names if re.fullmatch(matchers["__name__"], name)]
            test.assertTrue(found, expr)
            known |= set().union(*map(labels_of, found))
            continue
        labels = labels_of(metric)
        test.assertIsNotNone(labels, f"no metric {metric}: {expr}")
        test.assertLessEqual(set(matchers), labels, f"{metric} has no such label: {expr}")
        known |= labels
        for label in CLOSED_LABELS & set(matchers):
            for value in matchers[label].split("|"):
                if re.fullmatch(r"[a-z][\w-]*", value):
                    test.assertTrue(value in vocabulary(label), f"{label} is never {value}: {expr}")
    test.assertLessEqual(lists, known, f"a label that no metric in it has: {expr}")
