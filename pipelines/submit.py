"""Start a run on a Kubeflow server, or have it start one by the clock."""

import argparse
import logging
import os
import tempfile
import warnings
from pathlib import Path
from typing import Any

from oapseg import storage
from oapseg.shards.data_command import resolve
from oapseg.shards.manifest import FILE_NAME, manifest_text
from pipelines.cluster import NAMESPACE, SERVICE_ACCOUNT
from pipelines.compiler import compile_package, form, title
from pipelines.component import DATA_REV, PREFIX, externals_of
from pipelines.stages import MAIN, ROOT, Pipeline, read_pipeline

TOKEN = "KFP_TOKEN"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--host", required=True, help=f"the Kubeflow Pipelines server; its bearer token from {TOKEN}")
    parser.add_argument("--namespace", default=NAMESPACE, help="Kubeflow profile (default: %(default)s)")
    parser.add_argument("--service-account", default=SERVICE_ACCOUNT, help="of the steps' pods (default: %(default)s)")
    parser.add_argument("--pipeline", default=MAIN, help="oapseg, or a folder with a dvc.yaml (default: %(default)s)")
    parser.add_argument("--experiment", help="the experiment the run is of (default: oapseg, or oapseg-PIPELINE)")
    parser.add_argument("--run-name", help="shown in the UI (default: as the experiment's)")
    parser.add_argument(
        "-S", "--set-param", action="append", default=[], metavar="KEY=VALUE", help="as `dvc exp run -S`"
    )
    parser.add_argument(
        "-P",
        "--parameter",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="s3_prefix, image_gpu, data_rev ...",
    )
    parser.add_argument("--cron", help="start a run at these times, by five fields or six with seconds first")


def main(args: argparse.Namespace) -> None:
    pipeline = read_pipeline(overrides=args.set_param, name=args.pipeline)
    args.experiment = args.experiment or title(pipeline.name)
    args.run_name = args.run_name or title(pipeline.name)
    arguments = arguments_of(pipeline, read_pipeline(name=args.pipeline), args.experiment, args.parameter)
    arguments |= resolved(pipeline, arguments, str(ROOT))
    with tempfile.TemporaryDirectory() as folder:
        package = Path(folder) / f"{pipeline.name}.yaml"
        package.write_text(compile_package(pipeline))
        print(_send(args, str(package), arguments))


def arguments_of(pipeline: Pipeline, shipped: Pipeline, experiment: str, given: list[str]) -> dict[str, Any]:
    """What the run is told: what is given, and the sections that differ from the shipped ones, to show on its page.

    Errors: `ValueError` at a parameter that the form has not.
    """
    fields = {field.name: field for field in form(pipeline)}
    usual = {field.name: field.default for field in form(shipped)}
    arguments = {name: field.default for name, field in fields.items() if field.default != usual.get(name)}
    for pair in given:
        name, sign, value = pair.partition("=")
        known = [name for name, field in fields.items() if field.type == "String" and name != "experiment"]
        if not sign or name not in known:
            raise ValueError(f"-P {pair}: must be NAME=VALUE, where NAME is one of {', '.join(known)}")
        arguments[name] = value
    return arguments | {"experiment": experiment}


def resolved(pipeline: Pipeline, arguments: dict[str, Any], repo: str) -> dict[str, str]:
    """With a `data_rev`, a manifest for each folder of shards that no stage writes and nothing is given for.

    It lies at `S3_PREFIX/data/REV/NAME` and names the objects of the DVC remote, so nothing is copied.

    Errors: `ValueError` where the revision has no such folder.
    """
    revision = arguments.get(DATA_REV.name)
    if not revision:
        return {}
    outside = {each.name: each.key for stage in pipeline.stages for each in externals_of(pipeline, stage)}
    found = {}
    for name, path in outside.items():
        if not arguments.get(name):
            manifest, version = resolve(repo, revision, path, None)
            prefix = arguments.get(PREFIX.name, PREFIX.default)
            found[name] = storage.join(prefix, "data", revision.replace("/", "-"), name, FILE_NAME)
            storage.write_text(found[name], manifest_text(manifest, dvc=version))
    return found


def cron_with_seconds(cron: str) -> str:
    """Kubeflow's cron has six fields, the seconds first. Errors: `ValueError` at another number of fields."""
    fields = cron.split()
    if len(fields) not in (5, 6):
        raise ValueError(f"--cron {cron!r}: must have five fields, or six with the seconds first")
    return " ".join(["0", *fields][-6:])


def _send(args: argparse.Namespace, package: str, arguments: dict[str, Any]) -> str:
    """Ask the server; what it made, in a line. Errors: `OSError` where it does not answer or refuses."""
    import kfp
    import kfp_server_api
    from urllib3.exceptions import HTTPError

    logging.getLogger("urllib3").setLevel(logging.ERROR)
    cron = None if args.cron is None else cron_with_seconds(args.cron)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # "only works with Kubeflow Pipelines 2"
            client = kfp.Client(host=args.host, namespace=args.namespace, existing_token=os.environ.get(TOKEN))
        experiment = client.create_experiment(args.experiment, namespace=args.namespace).experiment_id
        if cron is None:
            run = client.create_run_from_pipeline_package(
                package,
                arguments=arguments,
                run_name=args.run_name,
                experiment_id=experiment,
                namespace=args.namespace,
                service_account=args.service_account,
            )
            return f"run {run.run_id}: {args.host}/#/runs/details/{run.run_id}"
        recurring = client.create_recurring_run(
            experiment,
            args.run_name,
            cron_expression=cron,
            params=arguments,
            pipeline_package_path=package,
            service_account=args.service_account,
            no_catchup=True,
        )
        return f"recurring run {recurring.recurring_run_id}, {cron}"
    except kfp_server_api.ApiException as error:
        raise OSError(f"{args.host}: refused ({error.status} {error.reason})") from None
    except HTTPError as error:
        raise OSError(f"{args.host}: no Kubeflow Pipelines server answers ({type(error).__name__})") from None
