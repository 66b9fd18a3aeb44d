"""What is for Kubernetes and Docker has the right form; nothing here is run."""

import re
import subprocess
from importlib.util import find_spec
from pathlib import Path

import jsonschema
import pytest
import yaml

from dadmm.cluster.profiles import find
from dadmm.cluster.worker import WORKER_SETTINGS
from support.places import ROOT

FOLDER = ROOT / "cluster"
MANIFESTS = {"cluster.yaml": "DaskCluster", "job.yaml": "DaskJob"}
KERNELS = "/var/cache/dadmm"
CHARTS = "operator/deployment/helm/dask-kubernetes-operator/crds"


def documents(name):
    """Return the manifests of a file, by kind."""
    found = yaml.safe_load_all((FOLDER / "kubernetes" / name).read_text())
    return {each["kind"]: each for each in found}


def operator_schema(kind):
    """Return what the Dask operator says of a resource; of Kubernetes' own parts, too."""
    spec = find_spec("dask_kubernetes")  # finding it imports nothing
    if spec is None:
        pytest.skip("no schemas: pip install --no-deps dask-kubernetes")
    path = Path(spec.origin).parent / CHARTS / f"{kind.lower()}.yaml"
    (version,) = yaml.safe_load(path.read_text())["spec"]["versions"]
    return strict(version["schema"]["openAPIV3Schema"])


def strict(schema):
    """Let a schema refuse keys that it does not name, as Kubernetes does when told to validate."""
    if isinstance(schema, list):
        return [strict(each) for each in schema]
    if not isinstance(schema, dict):
        return schema
    found = {key: strict(value) for key, value in schema.items()}
    if "properties" in found and isinstance(found["properties"], dict):
        open_ended = found.get("x-kubernetes-preserve-unknown-fields")
        if not open_ended and "additionalProperties" not in found:
            found["additionalProperties"] = False
    if found.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    return found


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_a_manifest_is_what_the_operator_takes(name, kind):
    schema = operator_schema(kind)
    schema["properties"] |= {key: {} for key in ("apiVersion", "kind", "metadata")}
    validator = jsonschema.Draft202012Validator(schema)
    manifest = documents(name)[kind]
    assert manifest["apiVersion"] == "kubernetes.dask.org/v1"
    assert [error.message for error in validator.iter_errors(manifest)] == []
    manifest["spec"]["wrkr"] = {}  # the schema does look
    assert list(validator.iter_errors(manifest))


def pods(name, kind):
    spec = documents(name)[kind]["spec"]
    found = [spec["job"]["spec"]] if kind == "DaskJob" else []
    parts = spec["cluster"]["spec"] if kind == "DaskJob" else spec
    return [*found, parts["worker"]["spec"], parts["scheduler"]["spec"]]


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_pods_have_limits_no_privileges_and_dadmms_settings(name, kind):
    for pod in pods(name, kind):
        assert pod["securityContext"]["runAsNonRoot"] is True
        (container,) = pod["containers"]
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["resources"]["limits"]["memory"]
        volumes = {volume["name"] for volume in pod.get("volumes", [])}
        assert {m["name"] for m in container.get("volumeMounts", [])} <= volumes
        env = {each["name"]: each["value"] for each in container["env"]}
        assert env.pop("NUMBA_CACHE_DIR") == KERNELS
        if container["name"] != "job":
            assert env == find("kubernetes").options()["env"]


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_pods_that_compute_have_shared_memory_and_a_place_for_kernels(name, kind):
    *computing, _ = pods(name, kind)
    for pod in computing:
        volumes = {volume["name"]: volume.get("emptyDir") for volume in pod["volumes"]}
        (container,) = pod["containers"]
        mounted = {each["mountPath"]: volumes[each["name"]] for each in container["volumeMounts"]}
        assert mounted["/dev/shm"] == {"medium": "Memory", "sizeLimit": "1Gi"}
        assert mounted[KERNELS]["sizeLimit"]


@pytest.mark.parametrize(("name", "kind"), MANIFESTS.items())
def test_nobody_else_reaches_the_pods(name, kind):
    found = documents(name)
    label = {"dask.org/cluster-name": found[kind]["metadata"]["name"]}
    policy = found["NetworkPolicy"]["spec"]
    assert policy["podSelector"]["matchLabels"] == label
    assert policy["policyTypes"] == ["Ingress"]
    assert {"podSelector": {"matchLabels": label}} in policy["ingress"][0]["from"]
    text = (FOLDER / "kubernetes" / name).read_text()
    assert set(re.findall(r"type: (ClusterIP|NodePort|LoadBalancer)", text)) == {"ClusterIP"}


def test_the_drivers_pod_runs_what_the_image_has():
    dockerfile = (FOLDER / "Dockerfile").read_text()
    (driver,) = documents("job.yaml")["DaskJob"]["spec"]["job"]["spec"]["containers"]
    place, _, script = driver["args"][1].rpartition("/")
    assert (ROOT / "pipelines" / script).exists()
    assert f"COPY pipelines/*.py {place}/" in dockerfile
    for line in dockerfile.splitlines():  # what is copied is there
        words = line.split()
        if words[:1] == ["COPY"] and not words[1].startswith("--from"):
            assert all(list(ROOT.glob(source)) for source in words[1:-1]), line
    assert f"NUMBA_CACHE_DIR={KERNELS}\n" in dockerfile
    assert f"--owner dadmm --mode 700 {KERNELS}\n" in dockerfile
    assert "--shm-size" in dockerfile
    assert re.search(r"^USER dadmm$", dockerfile, re.MULTILINE)


@pytest.mark.parametrize("script", sorted((FOLDER / "slurm").iterdir()), ids=lambda path: path.name)
def test_the_shell_understands_a_script(script):
    subprocess.run(["bash", "-n", script], check=True, timeout=30)
    assert re.search(r"^#SBATCH --time=", script.read_text(), re.MULTILINE)


def test_what_scripts_export_is_what_the_profiles_set():
    text = (FOLDER / "slurm" / "one-job.sbatch").read_text()
    exported = dict(re.findall(r"(\b(?:MALLOC|OMP|OPENBLAS|MKL|DASK)_\w+)=(\S+)", text))
    assert exported == find("kubernetes").options()["env"]
    assert len(exported) == len(WORKER_SETTINGS)
