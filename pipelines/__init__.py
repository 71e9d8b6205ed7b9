"""`dvc.yaml` for Kubeflow Pipelines: nothing about a step is said here.

In: `dvc.yaml` of the clone or of any folder in it (`field/`), and `params.yaml`, read by DVC's own parser
(`stages.py`). Out: a compiled package of each in `pipelines/compiled`, with a container component a stage, the DAG from
who writes what who reads, one pipeline parameter a section of `params.yaml` that stages name (its comments are the
description), and what `meta` asks of the cluster.
What only a cluster has is in `cluster.py` (names, which `k8s/` declares) and `compiler.py` (the exit handler).

`python -m pipelines compile`, `submit`, `diff`.
"""
