"""A training on several machines: the `TrainJob` (Kubeflow Trainer 2) that a launching step makes.

The pods run the stage's own command under `torchrun`. Data, checkpoints and pointers come and go by URL.
"""

from typing import Any

from pipelines import cluster
from pipelines.stages import Meta

RUNTIME = "torch-distributed"  # the ClusterTrainingRuntime that Kubeflow Trainer ships
NODE = "node"  # its job, and the job's container
MANAGER = "oapseg.io/launcher"
RANKS = "oapseg.io/ranks"  # on a pod: how many processes there are in it, each with metrics at a port of its own
NO_SIDECAR = {"sidecar.istio.io/inject": "false"}  # Istio's proxy outlives the training, so its pod would never end
GRACE_S = 300  # after SIGTERM: to finish the step, save, and copy the checkpoint away


def train_job(meta: Meta) -> dict[str, Any]:
    """The job without what only its launcher knows: name, image, arguments, run."""
    amounts = {"cpu": str(meta.cpu), "memory": meta.memory, meta.accelerator: str(meta.gpus)}
    return {
        "apiVersion": "trainer.kubeflow.org/v1alpha1",
        "kind": "TrainJob",
        "metadata": {"labels": {"app.kubernetes.io/part-of": "oapseg"}},
        "spec": {
            "runtimeRef": {"name": RUNTIME},
            "trainer": {
                "numNodes": meta.nodes,
                "numProcPerNode": _ranks(meta),
                "command": ["python", "-m", "torch.distributed.run", "-m", "components"],
                "env": [*_environment(), {"name": "OAPSEG_WORKSPACE", "value": "/workspace"}],
                "resourcesPerNode": {"limits": amounts, "requests": amounts},
            },
            "runtimePatches": [{"manager": MANAGER, "trainingRuntimeSpec": _patch(meta)}],
        },
    }


def _ranks(meta: Meta) -> int:
    """Processes on a machine."""
    return max(meta.gpus, 1)


def _environment() -> list[dict[str, Any]]:
    """As the steps' own: by reference, and all may be missing."""
    sources = [("secretKeyRef", cluster.SECRETS), ("configMapKeyRef", cluster.CONFIG_MAPS)]
    return [
        {"name": key, "valueFrom": {kind: {"name": name, "key": key, "optional": True}}}
        for kind, found in sources
        for name, keys in found.items()
        for key in keys
    ]


def _patch(meta: Meta) -> dict[str, Any]:
    """Where the pods run, as whom, and where they may write."""
    volumes: list[dict[str, Any]] = [{"name": name, "emptyDir": {}} for name in ("workspace", "tmp")]
    mounts = [{"name": "workspace", "mountPath": "/workspace"}, {"name": "tmp", "mountPath": "/tmp"}]
    if meta.shm is not None:
        volumes.append({"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": meta.shm}})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    container = {
        "name": NODE,
        "volumeMounts": mounts,
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }
    pod: dict[str, Any] = {
        "serviceAccountName": cluster.TRAINER_ACCOUNT,
        "nodeSelector": {cluster.POOL_LABEL: meta.node_pool},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": cluster.USER,
            "runAsGroup": cluster.USER,
            "fsGroup": cluster.USER,
        },
        "terminationGracePeriodSeconds": GRACE_S,
        "volumes": volumes,
        "containers": [container],
    }
    if meta.gpus:
        pod["tolerations"] = [{"key": cluster.GPU_TAINT, "operator": "Exists", "effect": "NoSchedule"}]
    labels = NO_SIDECAR | {RANKS: str(_ranks(meta))}
    template = {"metadata": {"labels": labels}, "spec": pod}
    job = {"name": NODE, "template": {"spec": {"template": template}}}
    return {"template": {"spec": {"replicatedJobs": [job]}}}
