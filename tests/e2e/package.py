"""Run a compiled package in containers: `package.py PACKAGE FOLDER`, arguments and environment on stdin."""

import json
import os
import sys
from pathlib import Path

import docker.client
import yaml
from google.protobuf import json_format
from kfp import local
from kfp.local import pipeline_orchestrator
from kfp.pipeline_spec import pipeline_spec_pb2


def main() -> None:
    package, folder = Path(sys.argv[1]), Path(sys.argv[2])
    given = json.load(sys.stdin)
    os.umask(0)  # the folders that kfp makes are written to by the image's user
    folder.mkdir(parents=True, exist_ok=True)
    docker.client.DEFAULT_TIMEOUT_SECONDS = 600  # kfp follows a container's log, and a step may be silent for minutes
    runner = local.DockerRunner(
        environment=given["environment"],
        network_mode="host",
        read_only=True,
        cap_drop=["ALL"],
        security_opt=["no-new-privileges"],
        tmpfs={"/tmp": "rw,mode=1777,size=8g"},
        shm_size="1g",
    )
    local.init(runner=runner, pipeline_root=str(folder), raise_on_error=True)
    spec = json_format.ParseDict(next(yaml.safe_load_all(package.read_text())), pipeline_spec_pb2.PipelineSpec())
    pipeline_orchestrator.run_local_pipeline(spec, given["arguments"])


if __name__ == "__main__":
    main()
