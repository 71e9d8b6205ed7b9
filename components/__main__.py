"""`python -m components STEP ...`: the one way a step is run, in DVC, in a container and in a shell."""

import sys

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

    with stage(arguments[0], arguments) as ended:
        code = _dispatch(arguments)
        ended(code)
    return code


def _dispatch(arguments: list[str]) -> int:
    return dispatch("python -m components", __doc__ or "", STEPS | FIELD | CLUSTER, "params.yaml", arguments)


if __name__ == "__main__":
    sys.exit(main())
