"""A data version is read from where DVC keeps it, whatever the working tree holds by now."""

import contextlib
import subprocess
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
from dvc.repo import Repo
from photo_files import noisy_jpeg

import oapseg.cli
from oapseg.params import Source
from oapseg.shards.manifest import load_manifest
from oapseg.shards.read import Photos
from oapseg.shards.sources import list_source
from oapseg.shards.write import write_set


def write_version(repo: Path, seeds: range, tag: str) -> list[bytes]:
    """Photos of these seeds to shards, tracked, pushed and tagged; the bytes of the shards."""
    photos = repo.parent / f"photos-{tag}"
    photos.mkdir()
    for seed in seeds:
        (photos / f"{seed:02d}.jpg").write_bytes(noisy_jpeg(seed))
    listings = [list_source(Source(kind="photos", path="."), str(photos))]
    write_set(listings, repo / "shards/val", samples_per_shard=4, max_broken=0.0, max_pixels=10_000, workers=1)
    with dvc(repo) as opened:
        opened.add(str(repo / "shards/val"))
        opened.push()
    git(repo, "add", "-A", ".")
    git(repo, "commit", "-qm", tag)
    git(repo, "tag", tag)
    return [path.read_bytes() for path in sorted((repo / "shards/val").glob("*.tar"))]


def git(repo: Path, *arguments: str) -> None:
    who = ("-c", "user.name=tester", "-c", "user.email=tester@localhost", "-c", "commit.gpgsign=false")
    subprocess.run(["git", *who, *arguments], cwd=repo, check=True, capture_output=True)


@contextlib.contextmanager
def dvc(folder: Path) -> Iterator[Repo]:
    """The repository as DVC opens it; its own warnings are its own."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with Repo(str(folder)) if (folder / ".dvc").is_dir() else Repo.init(str(folder)) as opened:
            yield opened


@pytest.fixture(scope="module")
def repo(tmp_path_factory) -> Path:
    """A repository with two versions of a set of shards, in a remote that is a folder."""
    folder = tmp_path_factory.mktemp("dvc") / "repo"
    folder.mkdir()
    git(folder, "init", "-q")
    with dvc(folder) as opened, opened.config.edit() as config:
        config["core"] = {"analytics": False, "remote": "kept"}
        config["remote"]["kept"] = {"url": str(folder.parent / "remote")}
    return folder


@pytest.fixture(scope="module")
def versions(repo) -> dict[str, list[bytes]]:
    return {tag: write_version(repo, seeds, tag) for tag, seeds in (("v1", range(10)), ("v2", range(5, 12)))}


def resolve(repo: Path, *arguments: str) -> int:
    return oapseg.cli.main(["data", "resolve", "--repo", str(repo), *arguments])


@pytest.mark.parametrize("tag", ["v1", "v2"])
def test_the_shards_of_a_version_are_the_objects_that_dvc_keeps(tag, repo, versions, tmp_path, capsys):
    assert resolve(repo, "--rev", tag, "--path", "shards/val", "--out", str(tmp_path)) == 0
    manifest = load_manifest(str(tmp_path))
    urls = [manifest.url(number) for number in range(len(manifest.shards))]
    assert [Path(url).read_bytes() for url in urls] == versions[tag]
    assert all(url.startswith(f"{repo.parent}/remote/files/md5/") for url in urls)
    assert f"{manifest.num_samples} photos of shards/val" in capsys.readouterr().out


@pytest.mark.usefixtures("versions")
def test_the_samples_of_the_working_tree_are_those_of_its_version(repo, tmp_path):
    assert resolve(repo, "--path", "shards/val/", "--out", str(tmp_path)) == 0
    there, here = Photos(load_manifest(str(tmp_path))), Photos(load_manifest(str(repo / "shards/val")))
    assert [(sample.key, sample.labels) for sample in there] == [(sample.key, sample.labels) for sample in here]


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--rev", "v3", "--path", "shards/val"], "shards/val at v3: unknown Git revision 'v3'"),
        (["--rev", "v1", "--path", "shards/none"], "shards/none at v1: Unable to find DVC file with output"),
        (["--rev", "v1", "--path", "shards"], "shards at v1: DVC tracks no file shards/manifest.json there"),
        (["--rev", "v1", "--path", "shards/val", "--remote", "far"], "remote 'far' doesn't exist"),
    ],
)
def test_what_is_not_there_is_one_line_and_nothing_is_written(arguments, message, repo, tmp_path, capsys):
    assert resolve(repo, *arguments, "--out", str(tmp_path / "out")) == 2
    printed = capsys.readouterr().err
    assert message in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_no_repository_is_one_line(tmp_path, capsys):
    assert resolve(tmp_path / "nowhere", "--path", "shards", "--out", str(tmp_path / "out")) == 2
    assert f"{tmp_path}/nowhere: shards at its working tree: " in capsys.readouterr().err


@pytest.mark.usefixtures("versions")
def test_a_version_that_was_never_pushed_says_so(repo, tmp_path, capsys):
    with dvc(repo) as opened, opened.config.edit() as config:
        config["remote"]["empty"] = {"url": str(tmp_path / "empty")}
    assert resolve(repo, "--path", "shards/val", "--remote", "empty", "--out", str(tmp_path / "out")) == 2
    assert "shards/val/manifest.json is not in the remote; run `dvc push shards/val`" in capsys.readouterr().err
