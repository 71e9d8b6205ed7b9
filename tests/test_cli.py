"""The command lines for people and for the pipeline: what they offer, and what bad input gets to read."""

import argparse
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

import components.__main__
import oapseg.cli
from oapseg import __version__

PROGRAMS = {"oapseg": oapseg.cli, "components": components.__main__}
OFFERED = {  # others build on these: a change is deliberate and in CHANGELOG.md
    "oapseg sample": "OUT",
    "oapseg data": "action --repo --rev --path --remote --out",
    "oapseg compare": "PHOTOS --labels --shards --generators --published --out",
    "oapseg tune": "GENERATOR PHOTOS --labels --shards --trials --out",
    "oapseg masks": "PHOTOS --out --level",
    "oapseg compare-runs": "A B --maker --shards --train-shards --photos --out",
    "oapseg name-clusters": "MODEL NAMES",
    "oapseg promote": "NAME VERSION --to --reason --override --dry-run",
    "oapseg rollback": "NAME --alias --to --reason --dry-run",
    "oapseg history": "NAME --alias",
    "oapseg reconcile": "NAME",
    "oapseg predict": "PHOTOS --model --task --out --level --min-score --overwrite",
    "oapseg serve": "--model --host --port --follow",
    "oapseg export": "--model --out --photos --labels",
    "oapseg watch": "run --once --every-s",
    "oapseg plot": "run --out",
    "components sample": "--out",
    "components shard": "set --root --out --part --parts --join",
    "components encoder": "--shards --out",
    "components pretrain": "--shards --encoder --out",
    "components finetune": "--start --encoder --set --out",
    "components predict": "--encoder --model --shards --train-shards --out",
    "components benchmark": "name --root --encoder --model --out",
    "components acg": "--shards --encoder --out",
    "components pool": "generator --encoder --shards --out --part",
    "components compare": "--encoder --shards --pooled --generators --out",
    "components evaluate": "--predictions --shards --train-shards --benchmark --out",
    "components report": "--evaluate --predictions --pretrain --finetune --shards --out",
    "components register": "--model --parent --evaluate --report --shards --out",
    "components promote": "--out",
}
each_command = pytest.mark.parametrize("command", OFFERED)


def run(command: str, *arguments: str) -> int:
    program, name = command.split()
    return int(PROGRAMS[program].main([name, *arguments]))


def actions(command: str) -> list[argparse.Action]:
    """What a command takes, besides --help."""
    program, name = command.split()
    listed = oapseg.cli.COMMANDS if program == "oapseg" else components.__main__.STEPS | components.__main__.FIELD
    parser = argparse.ArgumentParser(add_help=False)
    importlib.import_module(listed[name].module).add_arguments(parser)
    return parser._actions


def enough_arguments(command: str, folder: Path) -> list[str]:
    """Every argument that a command insists on, and --out; all of them locations that are not there."""
    arguments = []
    for action in actions(command):
        if action.required or "--out" in action.option_strings:
            arguments += action.option_strings[:1]
            value = next(iter(action.choices or ()), str(folder / "nowhere"))
            arguments += [str(value)] * (action.nargs if isinstance(action.nargs, int) else 1)
    return arguments


def test_every_command_is_listed_here() -> None:
    listed = {f"oapseg {name}" for name in oapseg.cli.COMMANDS}
    listed |= {f"components {name}" for name in components.__main__.STEPS | components.__main__.FIELD}
    assert listed == set(OFFERED)


@each_command
def test_a_command_takes_what_others_build_on(command: str) -> None:
    names = [action.option_strings[0] if action.option_strings else action.dest for action in actions(command)]
    assert " ".join(names).lower() == OFFERED[command].lower()


@each_command
def test_help_says_what_each_argument_is(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        run(command, "--help")
    assert stopped.value.code == 0
    printed = capsys.readouterr().out
    assert "--params" in printed
    for action in actions(command):
        assert action.help
        assert action.help.split()[0] in printed


@pytest.mark.parametrize("program", PROGRAMS)
def test_without_a_command_or_with_an_unknown_one_the_known_ones_are_named(
    program: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for arguments in ([], ["fly"]):
        with pytest.raises(SystemExit) as stopped:
            PROGRAMS[program].main(arguments)
        assert stopped.value.code == 2
    assert "'sample'" in capsys.readouterr().err


def test_the_version_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        oapseg.cli.main(["--version"])
    assert capsys.readouterr().out == f"oapseg {__version__}\n"


@each_command
@pytest.mark.parametrize("content", [None, "seed: [", "seed: 0\nlearning_rate: 1\n"])
def test_bad_parameters_are_one_line_and_code_2_and_nothing_is_written(
    content: str | None, command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    params = tmp_path / "my.yaml"
    if content is not None:
        params.write_text(content)
    before = sorted(tmp_path.rglob("*"))
    assert run(command, *enough_arguments(command, tmp_path), "--params", str(params)) == 2
    printed = capsys.readouterr()
    assert f"{params}: " in printed.err
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert sorted(tmp_path.rglob("*")) == before


NEEDS_NOTHING = ("oapseg sample", "components sample", "components encoder")  # the encoder ships with the package


@pytest.mark.parametrize("command", [command for command in OFFERED if command not in NEEDS_NOTHING])
def test_missing_inputs_are_one_line_and_code_2_and_nothing_is_written(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(command, *enough_arguments(command, tmp_path)) == 2
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    assert not list(tmp_path.iterdir())


def test_the_module_is_a_program_and_ends_with_its_code() -> None:
    ran = subprocess.run([sys.executable, "-m", "components", "shard", "valid", "--out", "x"], capture_output=True)
    assert ran.returncode == 2
    assert ran.stderr.decode() == (
        "python -m components shard: shards.sets has no valid; it has finetune, pretrain, val\n"
    )
