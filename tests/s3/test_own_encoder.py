"""An encoder of one's own whose folder lies in a real S3 server."""

from pathlib import Path

from train.tiny import tiny_encoder

from oapseg import storage
from oapseg.encode.load import resolve
from oapseg.params import EncodeParams


def test_it_is_put_into_a_folder_of_this_machine_byte_for_byte(bucket: str, tmp_path: Path) -> None:
    mine = tiny_encoder(tmp_path / "mine")
    for name in storage.list_files(mine):
        storage.upload(mine / name, f"{bucket}/mine/{name}")
    resolve(EncodeParams(name="own", weights=f"{bucket}/mine"), tmp_path / "found")
    assert storage.list_files(tmp_path / "found") == storage.list_files(mine)
    for name in storage.list_files(mine):
        assert (tmp_path / "found" / name).read_bytes() == (mine / name).read_bytes()
