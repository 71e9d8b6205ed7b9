"""`python -m components STEP ...`: the one way a step is run, in DVC, in a container and in a shell."""

import re
import sys
from itertools import pairwise
from pathlib import Path

from oapseg.cli import Command, dispatch
from oapseg.shards import processes

STEPS = {
    "sample": Command("components.sample", "draw the embedded sample"),
    "shard": Command("components.shard", "photos to shards and a manifest"),
    "encoder": Command("components.encoder", "find the encoder, or train one by DINO"),
    "pretrain": Command("components.pretrain", "train the segmenter with masks pooled online"),
    "finetune": Command("components.finetune", "go on from a checkpoint on a mix of shards"),
    "predict": Command("components.predict", "masks of photos by the generator and the models"),
    "evaluate": Command("components.evaluate", "score predictions against labels"),
    "report": Command("components.report", "one page of metrics, curves and pictures"),
    "register": Command("components.register", "a version in the model registry"),
}
FIELD = {  # pipelines of their own: field/dvc.yaml, generators/dvc.yaml, promote/dvc.yaml
    "benchmark": Command("components.benchmark", "shards, predictions and scores of one public benchmark"),
    "acg": Command("components.acg", "train the concept generator of the generator acseg"),
    "pool": Command("components.pool", "pseudo-masks of photos by one generator"),
    "compare": Command("components.compare", "a leaderboard of generators on the same photos"),
    "promote": Command("components.promote", "an alias for the registered version, by its gate"),
}
NAME_LENGTH = 80  # the most of a stage's name that is told: it becomes a label of metrics
LOADING = ("pretrain", "finetune", "acg")  # steps whose loader has processes of its own
CLUSTER = {  # what only a cluster runs
    "launch": Command("components.launch", "run a training on several machines"),
    "notify": Command("components.notify", "say how a run ended, and push its metrics"),
}


def main(arguments: list[str] | None = None) -> int:
    """Run one step; with `--executor-input`, as a container of Kubeflow Pipelines does."""
    arguments = sys.argv[1:] if arguments is None else arguments
    if "--executor-input" in arguments and arguments[0] not in CLUSTER:
        from components import container

        return container.run(arguments, _plain)
    return _plain(arguments)


def _plain(arguments: list[str]) -> int:
    if arguments[:1] and arguments[0] in LOADING:
        processes.start()  # before the step's own imports, which take as long
    if not arguments or arguments[0] not in STEPS | FIELD:
        return _dispatch(arguments)
    from oapseg.monitor.push import stage

    with stage(stage_name(arguments), arguments) as ended:
        code = _dispatch(arguments)
        ended(code)
    return code


def stage_name(arguments: list[str]) -> str:
    """What tells a step from others of its run that run the same command: `shard@val`, `shard@val-part-2`.

    After the @ stands what the step is for, its first word; where it has none, the folder that `--out` names, unless
    that is called as the step is: then the one around it, such as `report@ecssd` of `work/field/ecssd/report`, and
    none of the pipeline's own, `work/report`.
    """
    step, *words = [half for word in arguments for half in (word.split("=", 1) if word[:2] == "--" else [word])]
    options = dict(pairwise(words))
    of = next((word for word in words[:1] if not word.startswith("-")), "")
    folders = Path(options.get("--out", "")).parts
    if not of and folders:
        around = [folder for folder in folders if folder not in ("/", step)]
        of = folders[-1] if folders[-1] != step else "".join(around[1:][-1:])
    part = f"-part-{options['--part'].partition('/')[0]}" if "--part" in options else ""
    name = f"{step}@{of}"[: NAME_LENGTH - len(part)].rstrip("@") + part
    return re.sub(r"[^\w.@-]", "-", name)[:NAME_LENGTH]


def _dispatch(arguments: list[str]) -> int:
    return dispatch("python -m components", __doc__ or "", STEPS | FIELD | CLUSTER, "params.yaml", arguments)


if __name__ == "__main__":
    sys.exit(main())
