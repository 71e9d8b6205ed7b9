"""YouTube-VIS: the labelled frames of videos, with the instances that each shows."""

from pathlib import Path
from typing import Any

from oapseg.params import Source
from oapseg.shards.annotation_file import naming, read_annotation_file
from oapseg.shards.listing import Item, Labels, Listing, existing_file, existing_folder


def list_ytvis(folder: Path, source: Source) -> Listing:
    """A photo a frame, from the folder `photos`, with `video` saying of which video and which place in it; the file
    `labels` has a region, or null, for each frame of each track. An instance's id is its track's.
    """
    path, photos = existing_file(folder / str(source.labels)), existing_folder(folder / str(source.photos))
    file = read_annotation_file(path, images="videos")
    items, absent = [], 0
    with naming(path):
        for video in sorted(file.images, key=lambda video: video["file_names"]):
            tracks = file.annotations.get(video["id"], [])
            _check_lengths(path, video, tracks)
            for frame, name in enumerate(video["file_names"]):
                if not (photos / name).is_file():
                    absent += 1
                    continue
                labels: Labels = {
                    "video": {"id": video["id"], "name": Path(name).parent.as_posix(), "frame": frame},
                    "width": video["width"],
                    "height": video["height"],
                    "instances": [_shown(track, frame) for track in tracks if track["segmentations"][frame]],
                }
                items.append(Item(name, str(photos / name), labels=labels, stated_in=path.name))
    description = f"YouTube-VIS {path.name}" + (f", {absent} labelled frames absent" if absent else "")
    return Listing("ytvis", description, items, tuple(file.categories[key] for key in sorted(file.categories)))


def _check_lengths(path: Path, video: dict[str, Any], tracks: list[dict[str, Any]]) -> None:
    frames = len(video["file_names"])
    for track in tracks:
        for key in ("segmentations", "bboxes", "areas"):
            if len(track[key]) != frames:
                said = f"{len(track[key])} {key}, video {video['id']} has {frames} frames"
                raise ValueError(f"{path}: annotation {track['id']}: {said}")


def _shown(track: dict[str, Any], frame: int) -> dict[str, Any]:
    return {
        "id": track["id"],
        "category_id": track["category_id"],
        "segmentation": track["segmentations"][frame],
        "bbox": track["bboxes"][frame],
        "area": track["areas"][frame],
        "iscrowd": track.get("iscrowd", 0),
    }
