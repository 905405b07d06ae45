"""The chart as Helm renders it: guards, security, requests, secrets. Needs helm on the PATH."""

import re
import subprocess
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.servers import program

pytestmark = pytest.mark.integration

_CHART = Path(__file__).parents[3] / "charts" / "hourcast"
_PROFILES = ("kind", "production", "ci")
_OURS = ("etl", "trainer", "bento", "controller", "viz", "mlflow")


def _helm(*words: str) -> subprocess.CompletedProcess[str]:
    helm = program("helm", package="helm")
    return subprocess.run([helm, *words], capture_output=True, text=True, timeout=60, check=False)


def _render(profile: str | None = None, **values: str) -> list[dict[str, Any]]:
    words = ["template", "hourcast", str(_CHART), "--namespace", "shown"]
    if profile:
        words += ["-f", str(_CHART / f"values-{profile}.yaml")]
    for name, value in values.items():
        words += ["--set", f"{name.replace('__', '.')}={value}"]
    done = _helm(*words)
    assert done.returncode == 0, done.stderr
    return [part for part in yaml.safe_load_all(done.stdout) if part]


def _pods(objects: list[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    """Pod specs by kind and name of what makes them."""
    found = {}
    for part in objects:
        spec = part.get("spec", {})
        if part["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if part["kind"] == "Pod":
            found[f"Pod {part['metadata']['name']}"] = spec
        elif "template" in spec:
            found[f"{part['kind']} {part['metadata']['name']}"] = spec["template"]["spec"]
    return found


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"mysql__enabled": "false"}, "mysql.enabled is false, so mysql.host must name the MySQL server to use"),
        ({"mysql__enabled": "false", "mysql__host": "db"}, "mysql.enabled is false, so mysql.existingSecret must name a secret with the key admin-password"),
        ({"mysql__provision": "false"}, "mysql.provision is false, so mysql.accountsSecret must name a secret with the accounts' passwords"),
        ({"s3__enabled": "false", "s3__endpoint": "http://s3:9000"}, "s3.enabled is false and s3.provision is true, so s3.existingSecret must name a secret with admin-user and admin-password"),
        ({"s3__enabled": "false", "s3__existingSecret": "a"}, "s3.provision makes accounts on a MinIO, and s3.endpoint names none; for Amazon's S3 set s3.provision to false"),
        ({"s3__provision": "false"}, "s3.provision is false, so s3.accountsSecret must name a secret with the accounts' keys"),
        ({"s3__bucket": "one", "s3__artifactsBucket": "one"}, 's3.bucket and s3.artifactsBucket are both "one"; packages and artefacts need buckets of their own'),
        ({"mlflow__enabled": "false"}, "mlflow.enabled is false, so mlflow.url must name the MLflow server to use"),
        ({"etl__source": "files:/data"}, 'etl.source is "files:/data", so etl.filesClaim must name a claim with the files'),
        ({"etl__hourDeadlineSeconds": "1800"}, "etl.hourDeadlineSeconds is 1800, and a run is ended after etl.deadlineSeconds, 1800; an hour that lacks a bar would never be closed"),
        ({"etl__hourDeadlineSeconds": "3001", "etl__deadlineSeconds": "3600"}, "at '/etl/hourDeadlineSeconds': maximum: got 3,001, want 3,000"),
        ({"settings__HOUR_DEADLINE_S": "60"}, "settings.HOUR_DEADLINE_S is set by the chart itself; use the value that is meant for it"),
        ({"clock": "2025-06-26"}, 'clock stands at "2025-06-26" while etl.source is live; a clock that stands is for recorded bars'),
        ({"serving__autoscaling__enabled": "true", "serving__autoscaling__minReplicas": "9"}, "serving.autoscaling.minReplicas is greater than maxReplicas"),
        ({"serving__minAvailable": "2"}, "serving.minAvailable is 2 of 2 pods, so no node could ever be drained; use a smaller one"),
        ({"viz__ingress__enabled": "true"}, "viz.ingress is enabled and has no host"),
        ({"trainer__device": "cuda"}, "trainer.device is cuda and trainer.gpus is 0; a training sees no GPU that it does not ask for"),
        ({"settings__DATABASE_URL": "x"}, "settings.DATABASE_URL is set by the chart itself; use the value that is meant for it"),
        ({"serving__replcas": "3"}, "additional properties 'replcas' not allowed"),
        ({"controller__policy": "best"}, "value must be one of 'newest', 'champion'"),
    ],
    ids=lambda v: next(iter(v)) if isinstance(v, dict) else "",
)  # fmt: skip
def test_values_that_cannot_work_are_refused_with_a_sentence(values: dict[str, str], sentence: str) -> None:
    """Each guard says what is wrong and what to do."""
    words = [w for name, value in values.items() for w in ("--set", f"{name.replace('__', '.')}={value}")]
    done = _helm("template", "hourcast", str(_CHART), *words)
    assert done.returncode != 0
    assert sentence in done.stderr


@pytest.mark.parametrize("profile", [None, *_PROFILES])
def test_every_container_is_confined(profile: str | None) -> None:
    """Restricted pod security, a read-only root, limits of memory, no service links, a token for the controller alone."""
    for name, spec in _pods(_render(profile)).items():
        security = spec["securityContext"]
        assert security["runAsNonRoot"] is True, name
        assert security["runAsUser"] > 0, name
        assert security["seccompProfile"] == {"type": "RuntimeDefault"}, name
        assert spec["enableServiceLinks"] is False, name
        assert spec["automountServiceAccountToken"] is (name == "Deployment hourcast-controller"), name
        assert "hostPath" not in str(spec.get("volumes", [])), name
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            where = f"{name}, {container['name']}"
            assert container["securityContext"] == {
                "allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]},
            }, where  # fmt: skip
            assert {"cpu", "memory"} <= set(container["resources"]["requests"]), where
            assert "memory" in container["resources"]["limits"], where
            assert container["terminationMessagePolicy"] == "FallbackToLogsOnError", where


@pytest.mark.parametrize("seconds", [None, "0", "900"])
def test_the_etl_waits_for_late_bars_as_the_value_says(seconds: str | None) -> None:
    """`etl.hourDeadlineSeconds` reaches each of its jobs and nobody else; by default it is the setting's own."""
    from hourcast_etl.settings import EtlSettings

    pods = _pods(_render(**({} if seconds is None else {"etl__hourDeadlineSeconds": seconds})))
    default = EtlSettings.model_fields["hour_deadline_s"].default
    for name, spec in pods.items():
        told = [
            v["value"]
            for c in spec["containers"]
            for v in c.get("env", [])
            if v["name"] == "HOURCAST_HOUR_DEADLINE_S"
        ]
        assert told == ([seconds or f"{default:g}"] if "etl" in name else []), name


@pytest.mark.parametrize("profile", [None, *_PROFILES])
def test_what_serves_has_probes(profile: str | None) -> None:
    """Each Deployment and StatefulSet is started, watched and found ready by probes of its own."""
    for name, spec in _pods(_render(profile)).items():
        if name.startswith(("Deployment", "StatefulSet")):
            for container in spec["containers"]:
                assert {"startupProbe", "readinessProbe", "livenessProbe"} <= set(container), name


def test_a_server_that_hangs_meets_the_deadline_before_its_probe() -> None:
    """Killed by its probe first, it would look like one that the place has ended, and the version would not be blamed."""
    for seconds in (180, 30):
        documents = _render(serving__progressDeadlineSeconds=str(seconds))
        (container,) = _pods(documents)["Deployment hourcast-serving"]["containers"]
        probe = container["startupProbe"]
        assert probe["periodSeconds"] * probe["failureThreshold"] > seconds


@pytest.mark.parametrize("enabled", ["true", "false"])
def test_a_server_fetches_its_package_itself(enabled: str) -> None:
    """No other container comes before it; it keeps packages where a restart of it finds them, and writes nowhere else."""
    spec = _pods(_render(serving__cache__enabled=enabled))["Deployment hourcast-serving"]
    assert "initContainers" not in spec
    (serving,) = spec["containers"]
    cache = "/srv/cache" if enabled == "true" else "/tmp/packages"
    assert serving["args"] == ["serve", "--host", "0.0.0.0", "--port", "8000", "--cache", cache]
    mounts = {m["name"]: m["mountPath"] for m in serving["volumeMounts"]}
    assert mounts == {"tmp": "/tmp"} | ({"cache": "/srv/cache"} if enabled == "true" else {})
    assert [v["name"] for v in spec["volumes"]] == list(mounts)


def test_a_server_is_not_ended_while_it_waits_for_its_package() -> None:
    """It ends by itself, with the reason as its last words, before its probe or the roll's deadline would end it."""
    from hourcast_bento.settings import ServingSettings

    (serving,) = _pods(_render())["Deployment hourcast-serving"]["containers"]
    probe = serving["startupProbe"]
    assert probe["httpGet"]["path"] == "/startedz"
    patience_s = probe["periodSeconds"] * probe["failureThreshold"]
    assert patience_s > ServingSettings.model_fields["fetch_wait_s"].default
    # Longer than it keeps a probe waiting for the moment at which it is ready.
    assert {serving[f"{kind}Probe"]["timeoutSeconds"] for kind in ("startup", "readiness")} == {5}


def test_a_pod_that_is_to_end_drains_first(tmp_path: Path) -> None:
    """Its command lays down the flag that its server looks for, waits for `serving.drainSeconds`, and ends well."""
    from hourcast_bento.drain import flag

    spec = _pods(_render(serving__drainSeconds="0"))["Deployment hourcast-serving"]
    command = spec["containers"][0]["lifecycle"]["preStop"]["exec"]["command"]
    assert command == ["sh", "-c", f"touch /tmp/{flag().name} && exec sleep 0"]
    here = [word.replace("/tmp/", f"{tmp_path}/") for word in command]
    subprocess.run(here, check=True, timeout=30)
    assert (tmp_path / flag().name).exists()
    assert spec["terminationGracePeriodSeconds"] == 40


@pytest.mark.parametrize("profile", [None, *_PROFILES])
def test_no_secret_is_in_arguments_values_or_config(profile: str | None) -> None:
    """Passwords and keys reach containers from secrets alone."""
    objects = _render(profile)
    secret = re.compile(r"PASSWORD|SECRET|ACCESS_KEY|ENCRYPTION_KEY")
    for name, spec in _pods(objects).items():
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            for variable in container.get("env", []):
                if secret.search(variable["name"]):
                    assert "secretKeyRef" in variable["valueFrom"], f"{name}: {variable['name']}"
            assert not re.search(r"password|secret", " ".join(container.get("args", []))), name
    for part in objects:
        if part["kind"] == "ConfigMap":
            assert not [key for key in part["data"] if secret.search(key)]


def _cores(text: str) -> float:
    return float(text.removesuffix("m")) / 1000 if text.endswith("m") else float(text)


def _mib(text: str) -> float:
    return float(text[:-2]) * {"Mi": 1, "Gi": 1024}[text[-2:]]


def test_the_kind_profile_asks_for_at_most_two_cores_and_four_gigabytes() -> None:
    """What runs all the time fits a laptop."""
    cores = memory = 0.0
    for part in _render("kind"):
        if part["kind"] in ("Deployment", "StatefulSet"):
            for container in part["spec"]["template"]["spec"]["containers"]:
                asked = container["resources"]["requests"]
                cores += part["spec"]["replicas"] * _cores(asked["cpu"])
                memory += part["spec"]["replicas"] * _mib(asked["memory"])
    assert 0 < cores <= 2
    assert 0 < memory <= 4096


def test_cronjobs_forbid_overlap_and_end() -> None:
    """Every CronJob has a time zone, a deadline, limits of history, and never runs twice at once."""
    seen = 0
    for part in _render("kind"):
        if part["kind"] == "CronJob":
            seen += 1
            spec = part["spec"]
            assert spec["concurrencyPolicy"] == "Forbid"
            assert spec["timeZone"] == "Etc/UTC"
            assert {"startingDeadlineSeconds", "successfulJobsHistoryLimit", "failedJobsHistoryLimit"} <= set(
                spec
            )
            assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] > 0
    assert seen == 5


def test_production_survives_the_loss_of_a_node() -> None:
    """Two or more of each part, a budget, scaling, spreading, priority and ingress; databases are not the chart's."""
    objects = _render("production")
    kinds = Counter(part["kind"] for part in objects)
    assert kinds["StatefulSet"] == 0
    assert kinds["PodDisruptionBudget"] == kinds["HorizontalPodAutoscaler"] == 1
    assert kinds["Ingress"] == 2
    by_name = {p["metadata"]["name"]: p for p in objects if p["kind"] == "Deployment"}
    assert "replicas" not in by_name["hourcast-serving"]["spec"]
    serving = by_name["hourcast-serving"]["spec"]["template"]["spec"]
    assert {c["topologyKey"] for c in serving["topologySpreadConstraints"]} == {
        "kubernetes.io/hostname", "topology.kubernetes.io/zone",
    }  # fmt: skip
    assert serving["priorityClassName"] == "serving"
    assert by_name["hourcast-controller"]["spec"]["replicas"] == 2
    assert by_name["hourcast-viz"]["spec"]["replicas"] == 2


def test_helm_never_names_the_served_version() -> None:
    """The two annotations are the controller's alone, so no upgrade or rollback touches them."""
    (serving,) = [
        p for p in _render() if p["kind"] == "Deployment" and p["metadata"]["name"] == "hourcast-serving"
    ]
    assert set(serving["spec"]["template"]["metadata"]["annotations"]) == {"hourcast.io/config"}
    assert "annotations" not in serving["metadata"]


def test_the_controller_alone_has_rights_and_by_name_where_the_api_allows() -> None:
    """One role; names wherever a verb can be bound to one."""
    roles = [p for p in _render() if p["kind"] in ("Role", "ClusterRole")]
    assert [r["metadata"]["name"] for r in roles] == ["hourcast-controller"]
    assert not [p for p in _render() if p["kind"].startswith("Cluster")]
    for rule in roles[0]["rules"]:
        unnamed = {"create", "list"} & set(rule["verbs"]) or set(rule["resources"]) <= {"pods", "events"}
        assert "resourceNames" in rule or unnamed, rule
        assert "*" not in rule["verbs"] + rule["resources"]


def test_the_controller_alone_is_let_out_to_the_kubernetes_api() -> None:
    """No other policy has a rule for the API's ports, and every pod is under the policy that denies the rest."""
    policies = {p["metadata"]["name"]: p["spec"] for p in _render("kind") if p["kind"] == "NetworkPolicy"}
    out = {
        name
        for name, spec in policies.items()
        for rule in spec.get("egress", [])
        if 6443 in [port["port"] for port in rule.get("ports", [])]
    }
    assert out == {"hourcast-controller"}
    assert all(spec["policyTypes"] == ["Ingress", "Egress"] for spec in policies.values())
    assert "component" not in str(policies["hourcast-deny"]["podSelector"])


def test_a_job_is_named_after_what_it_does() -> None:
    """Another image makes another job, since jobs cannot be changed; the same values make the same."""

    def names(**values: str) -> set[str]:
        return {p["metadata"]["name"] for p in _render(**values) if p["kind"] == "Job"}

    assert names() == names()
    assert not names() & names(images__tag="other")
    assert len(names()) == 4


def test_gpus_are_asked_for_by_value() -> None:
    """`trainer.gpus` becomes a limit of the trainer's containers, and of no other."""
    for name, spec in _pods(_render(trainer__gpus="1")).items():
        limits = spec["containers"][0]["resources"]["limits"]
        assert limits.get("nvidia.com/gpu") == (1 if "train" in name or "backtest" in name else None), name


def test_external_services_bring_no_servers() -> None:
    """With all three outside, no database, bucket or registry is installed, and credentials come from named secrets."""
    objects = _render(
        mysql__enabled="false", mysql__host="db.example", mysql__existingSecret="db-admin", s3__enabled="false",
        s3__endpoint="https://s3.example", s3__provision="false", s3__accountsSecret="s3-keys",
        mlflow__enabled="false", mlflow__url="https://mlflow.example", mlflow__existingSecret="mlflow-login",
    )  # fmt: skip
    assert not [p for p in objects if p["kind"] == "StatefulSet"]
    assert "Deployment hourcast-mlflow" not in _pods(objects)
    text = str(_pods(objects)["CronJob hourcast-packager"])
    for part in ("https://mlflow.example", "mlflow-login", "s3-keys", "https://s3.example"):
        assert part in text or part in str(objects)
    trainer = _pods(objects)["CronJob hourcast-trainer"]["containers"][0]["env"]
    assert {"MLFLOW_TRACKING_USERNAME", "MLFLOW_TRACKING_PASSWORD"} <= {v["name"] for v in trainer}


def test_images_are_named_in_full() -> None:
    """Registry, name and tag of each image are written out, and can be set."""
    for name, spec in _pods(_render("kind")).items():
        for container in [*spec.get("initContainers", []), *spec["containers"]]:
            assert re.match(r"^(docker|quay)\.io/\w+/[\w-]+:[\w.-]+$", container["image"]), name
    for service in _OURS:
        assert f"here/{service}:v7" in str(_render(**{f"images__{service}__repository": f"here/{service}", f"images__{service}__tag": "v7"}))  # fmt: skip


@pytest.mark.parametrize("values", ["values", "values-kind", "values-ci"])
def test_helm_3_and_4_render_the_same(values: str) -> None:
    """Both are in use; secrets are drawn anew at each call, and all else is equal to the byte."""
    words = ["template", "hourcast", str(_CHART), "-n", "hourcast", "-f", str(_CHART / f"{values}.yaml")]

    def rendered(name: str) -> str:
        helm = program(name, package=name)
        done = subprocess.run([helm, *words], capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr
        # Helm 3 and 4 differ in the order of documents and in the blank lines between them.
        documents = sorted(
            d.strip() for d in f"\n{done.stdout}".split("\n---\n") if "\nkind: Secret\n" not in d
        )
        # A hash of a drawn secret makes pods start anew when it changes.
        return re.sub(r"(checksum/\S+: )\S+", r"\1…", "\n---\n".join(documents))

    assert rendered("helm") == rendered("helm3")


def _secrets(*words: str) -> dict[str, dict[str, str]]:
    done = _helm("template", "hourcast", str(_CHART), "-n", "shown", *words)
    assert done.returncode == 0, done.stderr
    parts = [part for part in yaml.safe_load_all(done.stdout) if part]
    return {part["metadata"]["name"]: part["data"] for part in parts if part["kind"] == "Secret"}


def test_whoever_renders_without_the_cluster_can_leave_the_secrets_alone() -> None:
    """`lookup` finds nothing there, so that each rendering draws anew; with secrets.create=false two are equal and hold none."""
    drawn = _secrets("--show-only", "templates/secrets.yaml")
    assert drawn != _secrets("--show-only", "templates/secrets.yaml")
    words = ("template", "hourcast", str(_CHART), "-n", "shown", "--set", "secrets.create=false")
    once, again = _helm(*words), _helm(*words)
    assert once.returncode == 0, once.stderr
    assert once.stdout == again.stdout
    assert _secrets("--set", "secrets.create=false") == {}
    asked = {
        (variable["valueFrom"]["secretKeyRef"]["name"], variable["valueFrom"]["secretKeyRef"]["key"])
        for pod in _pods(_render(secrets__create="false")).values()
        for container in [*pod.get("initContainers", []), *pod["containers"]]
        for variable in container.get("env", [])
        if "secretKeyRef" in variable.get("valueFrom", {})
    }
    # What pods ask for is what was drawn: nothing has to be made by hand beside it.
    assert asked == {(name, key) for name, data in drawn.items() for key in data}
