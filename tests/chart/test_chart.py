"""The chart, rendered by helm: what Kubernetes, Prometheus and Grafana get of it."""

import base64
import gzip
import json
import os
import pathlib
import subprocess
import tarfile
import tempfile
import unittest

import kubernetes_validate
import yaml

ROOT = pathlib.Path(__file__).resolve().parents[2]
CHART = ROOT / "deploy/helm/llm-relay-exporter"
MANIFESTS = ROOT / "deploy/kubernetes"
# The oldest that the chart takes, and the newest that the schemas know.
KUBERNETES = ["1.25", "1.37"]
OPERATOR = {"serviceMonitor": {"enabled": True}, "prometheusRule": {"enabled": True}}
EVERYTHING = OPERATOR | {
    "replicas": 2,
    "store": {"kind": "postgres"},
    "secrets": {"database_url": "postgres://a:b@c/d", "store_url": "postgres://e", "web.yml": "basic_auth_users: {}"},
    "web": {"config": True, "scheme": "HTTPS"},
    "extraArgs": ["--log.format=json"],
    "extraEnv": [{"name": "A", "value": "b"}],
    "extraVolumes": [{"name": "relay", "persistentVolumeClaim": {"claimName": "new-api"}}],
    "extraVolumeMounts": [{"name": "relay", "mountPath": "/relay"}],
    "imagePullSecrets": [{"name": "registry"}],
    "image": {"digest": "sha256:" + "0" * 64},
    "tolerations": [{"operator": "Exists"}],
    "priorityClassName": "low",
    "service": {"annotations": {"a": "b"}},
    "serviceAccount": {"annotations": {"a": "b"}},
    "networkPolicy": {
        "enabled": True,
        "from": [{"namespaceSelector": {}}],
        "egress": [{"to": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"port": 5432}]}],
    },
    "dashboards": {"enabled": True, "languages": ["en", "zh"]},
    "prometheusRule": {"enabled": True, "labels": {"release": "a"}, "overrides": [{"record": "a:b", "expr": "vector(5)"}]},
}
SETS = {
    "defaults": {},
    "everything": EVERYTHING,
    "no store, another secret": {"store": {"kind": "none"}, "existingSecret": "mine", "serviceAccount": {"create": False}},
    "OpenShift": {"podSecurityContext": {"runAsUser": None, "runAsGroup": None, "fsGroup": None}},
}


def helm(*arguments, values=None):
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        json.dump(values or {}, file)
        file.flush()
        given = [] if values is None else ["--values", file.name]
        return subprocess.run([os.environ["HELM"], *arguments, *given], capture_output=True, text=True, check=False)


def text(values, *arguments):
    rendered = helm("template", "llm-relay-exporter", str(CHART), *arguments, values=values)
    assert rendered.returncode == 0, rendered.stderr
    return rendered.stdout


def objects(values):
    return [it for it in yaml.safe_load_all(text(values)) if it]


def one(rendered, kind):
    (found,) = [it for it in rendered if it["kind"] == kind]
    return found


class Chart(unittest.TestCase):
    maxDiff = None

    def test_helm_finds_nothing_to_mend(self):
        for what, values in SETS.items():
            linted = helm("lint", "--strict", str(CHART), values=values)
            self.assertEqual(linted.returncode, 0, f"{what}: {linted.stdout}")

    def test_kubernetes_knows_every_field(self):
        for what, values in SETS.items():
            for it in objects(values):
                if it["apiVersion"].startswith("monitoring.coreos.com/"):
                    continue
                for version in KUBERNETES:
                    with self.subTest(what, kind=it["kind"], version=version):
                        kubernetes_validate.validate(it, version, strict=True)

    def test_no_two_objects_have_one_name(self):
        names = [(it["kind"], it["metadata"]["name"]) for it in objects(EVERYTHING)]
        self.assertEqual(len(names), len(set(names)))

    def test_prometheus_gets_the_rules_as_they_are(self):
        rules = {it["metadata"]["name"]: it["spec"] for it in objects(EVERYTHING) if it["kind"] == "PrometheusRule"}
        self.assertEqual(rules.pop("llm-relay-exporter-overrides")["groups"][0]["rules"], [{"record": "a:b", "expr": "vector(5)"}])
        files = [path for folder in ("rules", "alerts") for path in (ROOT / "prometheus" / folder).glob("*.yml")]
        expected = {f"llm-relay-exporter-{it.parent.name}-{it.stem}": yaml.safe_load(it.read_text()) for it in files}
        self.assertEqual(rules, expected)

    def test_grafana_gets_the_dashboards_as_they_are(self):
        labelled = [it for it in objects(EVERYTHING) if it["metadata"]["labels"].get("grafana_dashboard") == "1"]
        got = dict(pair for it in labelled for pair in it["data"].items())
        files = [path for language in ("en", "zh") for path in (ROOT / "grafana/dashboards" / language).glob("*.json")]
        self.assertEqual(len(labelled), len(files))
        self.assertTrue(got == {path.name: path.read_text() for path in files})

    def test_selectors_select(self):
        rendered = objects(EVERYTHING)
        pod = one(rendered, "StatefulSet")["spec"]["template"]
        labels, service = pod["metadata"]["labels"].items(), one(rendered, "Service")
        selectors = [one(rendered, "StatefulSet")["spec"]["selector"], one(rendered, "PodDisruptionBudget")["spec"]["selector"]]
        selectors += [one(rendered, "NetworkPolicy")["spec"]["podSelector"], {"matchLabels": service["spec"]["selector"]}]
        for selector in selectors:
            self.assertLessEqual(selector["matchLabels"].items(), labels)
        monitor = one(rendered, "ServiceMonitor")["spec"]
        self.assertLessEqual(monitor["selector"]["matchLabels"].items(), service["metadata"]["labels"].items())
        self.assertEqual(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"])
        self.assertEqual(monitor["endpoints"][0]["scheme"], "https")

    def test_a_changed_configuration_or_secret_starts_no_pod_anew(self):
        sets = [{}, {"config": "a = 1"}, {"secrets": {"a": "b"}}, {"secrets": {"a": "c"}}]
        first, *others = [one(objects(it), "StatefulSet") for it in sets]
        self.assertTrue(any(it.startswith("--config.auto-reload") for it in first["spec"]["template"]["spec"]["containers"][0]["args"]))
        for it in others:
            self.assertEqual(it, first)

    def test_mistakes_are_refused(self):
        for values, why in [
            ({"replica": 2}, "replica"),
            ({"replicas": "two"}, "replicas"),
            ({"config": ""}, "config"),
            ({"store": {"kind": "mysql"}}, "store"),
            ({"dashboards": {"languages": ["de"]}}, "languages"),
            ({"config": 'database_url = "postgres://user:password@host/db"'}, "a URL with a password"),
            ({"config": 'database_url = "postgres://host/db?user=reader&password=secret"'}, "a URL with a password"),
            ({"config": 'redis_url = "redis+sentinel://one,two/master?sentinel_password=secret"'}, "a URL with a password"),
            ({"config": 'redis_url = "redis+unix:///redis.sock?db=1&pass=secret"'}, "a URL with a password"),
            ({"config": "database_url = \"postgres://u:it's@host/db\""}, "a URL with a password"),
            ({"config": 'database_url = "postgres://u:a/b@host/db"'}, "a URL with a password"),
            ({"extraArgs": ["--web.external-url=https://g.example/llm/"]}, "--web.route-prefix=/"),
            ({"extraArgs": ["--web.external-url", "https://g.example/llm"]}, "--web.route-prefix=/"),
            ({"extraArgs": ["--web.route-prefix=/llm"]}, "moves the paths"),
            ({"extraArgs": ["--web.telemetry-path=/m"]}, "moves the paths"),
            ({"existingSecret": "a", "secrets": {"b": "c"}}, "only one of them"),
        ]:
            refused = helm("template", str(CHART), values=values)
            self.assertNotEqual(refused.returncode, 0, values)
            self.assertIn(why, refused.stderr)

    def test_what_is_no_mistake_is_taken(self):
        for values in [
            {"config": 'database_url = "postgres://reader@host:5432/db?sslmode=require"\nhealth_url = "https://host:443/x"'},
            {"extraArgs": ["--web.external-url=https://g.example/"]},
            {"extraArgs": ["--web.external-url=https://g.example/llm/", "--web.route-prefix=/"]},
        ]:
            rendered = helm("template", str(CHART), values=values)
            self.assertEqual(rendered.returncode, 0, rendered.stderr)

    def test_a_release_fits_into_its_secret(self):
        """Helm keeps the chart and what it gave, packed, in a Secret, which holds 1 MiB."""
        with tempfile.TemporaryDirectory() as folder:
            packed = helm("package", str(CHART), "--destination", folder)
            self.assertEqual(packed.returncode, 0, packed.stderr)
            (package,) = pathlib.Path(folder).glob("*.tgz")
            with tarfile.open(package) as packed:
                inside = {it.name: packed.extractfile(it).read() for it in packed}
        files = [{"name": name, "data": base64.b64encode(data).decode()} for name, data in inside.items()]
        self.assertEqual([name for name in inside if "optional" in name], [])
        release = json.dumps({"chart": files, "manifest": text(EVERYTHING)}).encode()
        self.assertLess(len(base64.b64encode(gzip.compress(release))), 0.8 * 2**20)

    def test_the_manifests_are_what_the_chart_gives(self):
        operator = ["--show-only", "templates/servicemonitor.yaml", "--show-only", "templates/prometheusrules.yaml"]
        for name, values, arguments in [("exporter", {}, []), ("prometheus-operator", OPERATOR, operator)]:
            helms_own = ("# Source:", "app.kubernetes.io/managed-by:", "helm.sh/chart:")
            lines = [line for line in text(values, *arguments).splitlines() if not line.strip().startswith(helms_own)]
            given, file = "\n".join(lines) + "\n", MANIFESTS / f"{name}.yaml"
            if "REGENERATE" in os.environ:
                file.write_text(given)
            self.assertTrue(file.exists() and file.read_text() == given, f"{file} is stale: run tests/regenerate")


if __name__ == "__main__":
    unittest.main()
