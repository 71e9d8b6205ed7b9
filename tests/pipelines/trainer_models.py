"""What Kubeflow Trainer 2.3 takes as a `TrainJob`, as far as ours goes: names and types, an unknown one refused.

The shapes are those of the package kubeflow-trainer-api 2.3.0; where it is installed, a test asks it too.
"""

from typing import Any

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, alias_generator=to_camel)


class KeyRef(Strict):
    name: str
    key: str
    optional: bool | None = None


class ValueFrom(Strict):
    secret_key_ref: KeyRef | None = None
    config_map_key_ref: KeyRef | None = None


class Variable(Strict):
    name: str
    value: str | None = None
    value_from: ValueFrom | None = None


class Mount(Strict):
    name: str
    mount_path: str


class EmptyDir(Strict):
    medium: str | None = None
    size_limit: str | None = None


class Volume(Strict):
    name: str
    empty_dir: EmptyDir


class Toleration(Strict):
    key: str
    operator: str
    effect: str


class Container(Strict):
    name: str
    env: list[Variable] | None = None
    security_context: dict[str, Any] | None = None
    volume_mounts: list[Mount] | None = None


class Pod(Strict):
    containers: list[Container]
    node_selector: dict[str, str]
    security_context: dict[str, Any]
    service_account_name: str
    termination_grace_period_seconds: int
    tolerations: list[Toleration] | None = None
    volumes: list[Volume]


class PodTemplate(Strict):
    spec: Pod


class JobSpec(Strict):
    template: PodTemplate


class JobTemplate(Strict):
    spec: JobSpec


class ReplicatedJob(Strict):
    name: str
    template: JobTemplate


class JobSetSpec(Strict):
    replicated_jobs: list[ReplicatedJob]


class JobSetTemplate(Strict):
    spec: JobSetSpec


class RuntimeSpec(Strict):
    template: JobSetTemplate


class RuntimePatch(Strict):
    manager: str
    training_runtime_spec: RuntimeSpec


class Trainer(Strict):
    num_nodes: int
    num_proc_per_node: int
    image: str | None = None
    command: list[str]
    args: list[str] | None = None
    env: list[Variable]
    resources_per_node: dict[str, dict[str, str]]


class RuntimeRef(Strict):
    name: str
    api_group: str | None = None
    kind: str | None = None


class TrainJobSpec(Strict):
    runtime_ref: RuntimeRef
    runtime_patches: list[RuntimePatch]
    trainer: Trainer


class Metadata(Strict):
    name: str
    namespace: str | None = None
    labels: dict[str, str] | None = None


class TrainJob(Strict):
    api_version: str
    kind: str
    metadata: Metadata
    spec: TrainJobSpec
