"""What `meta` asks for, on a task; the names here are those that `k8s/base` declares, and a test holds both equal.

The service account is the run's (`submit`, the UI's run form). A priority class is no field of a Kubeflow task, nor of
a `TrainJob`.
"""

from typing import Any

from pipelines.stages import Meta

NAMESPACE = "oapseg"
SERVICE_ACCOUNT = "oapseg-runner"
TRAINER_ACCOUNT = "oapseg-trainer"  # of the pods of a training on several machines
SECRETS: dict[str, tuple[str, ...]] = {"oapseg-s3": ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")}
CONFIG_MAPS: dict[str, tuple[str, ...]] = {
    "oapseg-s3": ("AWS_ENDPOINT_URL", "AWS_REGION", "AWS_CA_BUNDLE"),
    "oapseg-registry": ("MLFLOW_TRACKING_URI", "PUSHGATEWAY_URL", "OAPSEG_JOURNAL", "OAPSEG_METRICS_PORT"),
}
NOTIFY_SECRETS: dict[str, tuple[str, ...]] = {"oapseg-notify": ("WEBHOOK_URL",)}
CACHE_VOLUME, CACHE_PATH = "oapseg-cache", "/cache"
DATA_VOLUME, DATA_PATH = "oapseg-data", "/data"
POOL_LABEL = "oapseg.io/pool"
GPU_TAINT = "nvidia.com/gpu"
USER = 10001  # the images'
RUN_LABEL = "metadata.labels['pipeline/runid']"  # which Kubeflow puts on every pod of a run
LONGEST_BACKOFF_S = 3600

NOTIFY = Meta(image="cpu", node_pool="cpu", cpu=1, memory="1Gi", retries=3, timeout_s=600, cache=False)


def launcher(meta: Meta) -> Meta:
    """What the step itself asks for where its work is done by a job of several machines: next to nothing."""
    if meta.nodes == 1:
        return meta
    return meta.model_copy(
        update={"image": "cpu", "cpu": 1, "memory": "1Gi", "gpus": 0, "node_pool": "cpu", "shm": None}
    )


def place(task: Any, meta: Meta, secrets: dict[str, tuple[str, ...]] = SECRETS) -> None:
    """Resources, node pool, retries, environment and volumes of a task."""
    from kfp import kubernetes as k8s

    task.set_cpu_request(str(meta.cpu)).set_cpu_limit(str(meta.cpu))
    task.set_memory_request(meta.memory).set_memory_limit(meta.memory)
    if meta.gpus:
        task.set_accelerator_type(meta.accelerator).set_accelerator_limit(meta.gpus)
        k8s.add_toleration(task, key=GPU_TAINT, operator="Exists", effect="NoSchedule")
    task.set_retry(
        num_retries=meta.retries,
        backoff_duration=f"{meta.backoff_s}s",
        backoff_factor=2.0,
        backoff_max_duration=f"{LONGEST_BACKOFF_S}s",
    )
    task.set_caching_options(meta.cache)
    k8s.add_node_selector(task, POOL_LABEL, meta.node_pool)
    k8s.set_security_context(task, run_as_user=USER, run_as_group=USER, run_as_non_root=True)
    if meta.timeout_s is not None:
        k8s.set_timeout(task, meta.timeout_s)
    _environment(task, secrets)
    _volumes(task, meta)


def _environment(task: Any, secrets: dict[str, tuple[str, ...]]) -> None:
    """Secrets by reference only. All may be missing: workload identity needs no key, a run no registry."""
    from kfp import kubernetes as k8s

    for name, keys in secrets.items():
        k8s.use_secret_as_env(task, name, {key: key for key in keys}, optional=True)
    for name, keys in CONFIG_MAPS.items():
        k8s.use_config_map_as_env(task, name, {key: key for key in keys}, optional=True)
    k8s.use_field_path_as_env(task, "OAPSEG_RUN", RUN_LABEL)
    task.set_env_variable("OAPSEG_WORKSPACE", "/workspace")


def _volumes(task: Any, meta: Meta) -> None:
    """Places to write, since the image's own file system may be read-only."""
    from kfp import kubernetes as k8s

    k8s.empty_dir_mount(task, "workspace", "/workspace")
    k8s.empty_dir_mount(task, "tmp", "/tmp")
    if meta.shm is not None:
        k8s.empty_dir_mount(task, "shm", "/dev/shm", medium="Memory", size_limit=meta.shm)
    if meta.downloads:
        k8s.mount_pvc(task, CACHE_VOLUME, CACHE_PATH)
        task.set_env_variable("HF_HOME", f"{CACHE_PATH}/huggingface")
        task.set_env_variable("TORCH_HOME", f"{CACHE_PATH}/torch")
    if meta.data:
        k8s.mount_pvc(task, DATA_VOLUME, DATA_PATH)
        task.set_env_variable("OAPSEG_DATA", DATA_PATH)
