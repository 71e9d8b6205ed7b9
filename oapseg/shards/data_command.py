"""`oapseg data resolve`: shards of a named data version, read from where DVC keeps them, with nothing copied.

DVC keeps each file of a tracked folder in its remote under the hash of its content. The manifest that comes out names
these objects, so what reads it gets exactly the version that was asked for, whatever the folder holds by now.
"""

import argparse
import contextlib
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from oapseg import storage
from oapseg.params import load_params
from oapseg.shards.manifest import FILE_NAME, Manifest, manifest_text, read_manifest


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=["resolve"], help="resolve: a manifest of the version that DVC keeps")
    parser.add_argument("--repo", default=".", help="folder or URL of the git repository (default: %(default)s)")
    parser.add_argument("--rev", help="commit, branch or tag (default: of a folder, its working tree; of a URL, HEAD)")
    parser.add_argument("--path", required=True, help="folder of shards in the repository, as DVC tracks it")
    parser.add_argument("--remote", help="name of a DVC remote (default: the repository's default)")
    parser.add_argument("--out", required=True, help="folder or s3:// URL for manifest.json")


def main(args: argparse.Namespace) -> None:
    load_params(args.params)
    manifest, version = resolve(args.repo, args.rev, args.path, args.remote)
    storage.write_text(storage.join(args.out, FILE_NAME), manifest_text(manifest, dvc=version))
    print(f"{storage.join(args.out, FILE_NAME)}: {manifest.num_samples} photos of {args.path}, {version['md5']}")


def resolve(repo: str, rev: str | None, path: str, remote: str | None) -> tuple[Manifest, dict[str, Any]]:
    """The manifest of a folder of shards at a revision, its shards by URL; and what DVC says of the version.

    Errors: `ValueError` where repository, revision, path or remote are not there; `OSError` where the remote is not.
    """
    from dvc.repo import Repo

    with (
        _one_line(repo, rev, path),
        Repo.open(repo, rev=rev, subrepos=True, uninitialized=True, remote=remote) as found,
    ):
        index, folder = found.get_data_index_entry(path.rstrip("/"))

        def url(name: str) -> str:
            """Where the remote keeps a file of the folder."""
            system, place = index.storage_map.get_remote(index[(*folder.key, *name.split("/"))])
            return _location(system.unstrip_protocol(place))

        where = url(FILE_NAME)
        try:
            manifest, _ = read_manifest(where)
        except FileNotFoundError:
            raise ValueError(f"{where}: {path}/{FILE_NAME} is not in the remote; run `dvc push {path}`") from None
        shards = tuple(replace(shard, url=url(shard.url)) for shard in manifest.shards)
        version = {"rev": rev, "path": path.rstrip("/"), "md5": folder.hash_info.value}
    return replace(manifest, shards=shards), version


def _location(url: str) -> str:
    """A remote's URL as a location that we read."""
    if not storage.is_url(url) and not url.startswith(("file://", "/")):
        raise ValueError(f"{url.partition('://')[0]}: no remote that shards are read from; allowed are s3 and a folder")
    return url.removeprefix("file://")


@contextlib.contextmanager
def _one_line(repo: str, rev: str | None, path: str) -> Iterator[None]:
    """What DVC and git refuse becomes a line that says what was asked for, without a password in a repository's URL."""
    from dvc.exceptions import DvcException
    from dvc_data.index import StorageKeyError
    from scmrepo.exceptions import SCMError

    asked = f"{re.sub(r'//[^/@]+@', '//', repo)}: {path} at {rev or 'its working tree'}"
    try:
        yield
    except StorageKeyError:
        raise ValueError(f"{asked}: the repository has no DVC remote to read from; name one with --remote") from None
    except KeyError as error:
        raise ValueError(f"{asked}: DVC tracks no file {'/'.join(error.args[0])} there") from None
    except (DvcException, SCMError) as error:
        reasons = dict.fromkeys(" ".join(str(each).split()) for each in (error, error.__cause__) if each is not None)
        raise ValueError(re.sub(r"//[^/@ ]+@", "//", f"{asked}: {': '.join(reasons)}")) from None
