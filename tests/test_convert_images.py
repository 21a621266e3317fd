"""Image benchmarks, YOLO folders and what this project writes itself, as records: values by hand, and what is refused.

Images are 40 x 20 pixels, so that a box that is off by one pixel is off by 0.025 or 0.05.
"""

from __future__ import annotations

import gzip
import json
import pickle
import re
import tarfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from elysium.data.convert.base import Options
from elysium.data.convert.registry import read
from elysium.data.convert.run import convert
from elysium.data.frames import extract_frames
from elysium.data.records import Record, read_records, validate_records
from elysium.errors import ElysiumError, InputError
from elysium.exports import write_coco
from elysium.tracks import TrackRecorder, TrackResult
from elysium.video import VideoWriter

BOX = (0.1, 0.25, 0.5, 0.75)  # of left 4, top 5, width 16, height 10
CATEGORIES = [{"id": 7, "name": "dog"}, {"id": 9, "name": "cat"}]


def image(path: Path, size: tuple[int, int] = (40, 20)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size).save(path)
    return path


def written(name: str, source: Path, out: Path, options: Options | None = None) -> list[Record]:
    """What one process writes to a file, in which no problem is found."""
    convert(name, source, out, options, workers=1)
    assert list(validate_records(out)) == []
    return list(read_records(out))


def dump(path: Path, value: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")
    return path


# --- coco ---------------------------------------------------------------------------------------------------------


def annotation(id: int, box: Any = (4, 5, 16, 10), **more: Any) -> dict[str, Any]:
    return {"id": id, "image_id": 1, "category_id": 7, "bbox": box, **more}


def instances(path: Path, *annotations: dict[str, Any], **tables: Any) -> Path:
    images = [{"id": 1, "file_name": "val/1.jpg", "width": 40, "height": 20}]
    return dump(path, {"images": images, "annotations": annotations, "categories": CATEGORIES, **tables})


def test_coco_boxes_count_from_zero_and_crowds_are_dropped(tmp_path: Path):
    image(tmp_path / "images" / "val" / "1.jpg")
    source = instances(
        tmp_path / "instances.json",
        annotation(3, segmentation=[[1, 2, 3, 4, 5, 6]], iscrowd=0),
        annotation(4, iscrowd=1),
        annotation(5, [30, 15, 20, 20], category_id=9),  # sticks out on the right and below
        annotation(6, [4, 5, 0, 10]),
        annotation(8, [40, 5, 4, 4]),  # outside
    )
    dog, cat = written("coco", source, tmp_path / "out.jsonl", Options(images=tmp_path / "images"))
    assert (dog.id, dog.vid, dog.source) == ("annotation-3", "1", "instances")
    assert (dog.frames, dog.frame_size, dog.object_class, dog.box) == (["val/1.jpg"], (40, 20), "dog", [BOX])
    assert (cat.id, cat.object_description, cat.box) == ("annotation-5", "cat", [(0.75, 0.75, 1.0, 1.0)])
    assert dog.absent is None and dog.expressions is None


def test_coco_is_cut_into_units_of_five_hundred_of_which_a_broken_one_fails_alone(tmp_path: Path):
    image(tmp_path / "val" / "1.jpg")
    many = [*(annotation(id) for id in range(1, 502)), annotation(900, [1, 2, "x", 4])]
    told = convert("coco", instances(tmp_path / "a.json", *many), tmp_path / "out.jsonl")
    assert (told.lines, told.units) == (500, 2) and list(told.failed) == ["objects 501-502"]
    assert "the box of annotation 900 is [1, 2, 'x', 4], not four finite numbers" in told.failed["objects 501-502"]


@pytest.mark.parametrize(
    ("key", "names"),
    [("frame_index", "edcba"), ("frame_id", "edcba"), ("", "01234"), ("", ["8", "9", "10", "11", "12"])],
)
def test_coco_tracks_run_from_their_first_box_to_their_last(key: str, names: Any, tmp_path: Path):
    """CocoVID and TAO: the order is that of the frames' numbers, else of the file names, whatever that of the file."""
    for name in names:
        image(tmp_path / "v" / f"{name}.jpg")
    images = [
        {"id": 10 + n, "video_id": 5, key: n * 30, "file_name": f"v\\{names[n]}.jpg", "width": 40, "height": 20}
        for n in (2, 0, 4, 1, 3)
    ]
    source = instances(
        tmp_path / "tao.json",
        annotation(1, [8, 4, 8, 8], image_id=13, track_id=2),
        annotation(2, image_id=11, track_id=2),
        annotation(3, image_id=14, category_id=9, instance_id=3),
        annotation(4, image_id=10),  # of a video, and of no track
        images=images, videos=[{"id": 5, "name": "walk"}],
    )  # fmt: skip
    still, dog, cat = written("coco", source, tmp_path / "out.jsonl")
    assert (dog.id, dog.vid, dog.frames) == ("track-5-2", "walk", [f"v/{names[n]}.jpg" for n in (1, 2, 3)])
    assert dog.box == [BOX, None, (0.2, 0.2, 0.4, 0.6)] and dog.absent == [False, True, False]
    assert (cat.id, cat.frames, cat.object_class, cat.absent) == ("track-5-3", [f"v/{names[4]}.jpg"], "cat", None)
    assert (still.id, still.frames) == ("annotation-4", [f"v/{names[0]}.jpg"])


def test_coco_videos_with_a_box_or_null_a_frame(tmp_path: Path):
    """YouTube-VIS."""
    names = [f"0a/{number}.jpg" for number in range(3)]
    for name in names:
        image(tmp_path / name)
    video = {"id": 2, "width": 40, "height": 20, "length": 3, "file_names": names}
    mark = {"id": 1, "video_id": 2, "category_id": 7, "bboxes": [None, [4, 5, 16, 10], None], "areas": [None, 9, None]}
    (record,) = written("coco", instances(tmp_path / "a.json", mark, images=[], videos=[video]), tmp_path / "out.jsonl")
    assert (record.id, record.vid, record.frames) == ("annotation-1", "2", names)
    assert record.box == [None, BOX, None] and record.absent == [True, False, True]
    mark["bboxes"] = [None]
    with pytest.raises(InputError, match="annotation 1 has not as many bboxes as its video has file_names"):
        list(read("coco", instances(tmp_path / "a.json", mark, images=[], videos=[video])))


def test_coco_reads_what_this_project_exports(tmp_path: Path):
    for index in (3, 5, 7):
        image(tmp_path / f"clip_{index:06d}.jpg")
    write_coco(result("clip.mp4"), tmp_path / "tracks.json")
    (record,) = written("coco", tmp_path / "tracks.json", tmp_path / "out.jsonl")
    assert record.frames == ["clip_000003.jpg"] and record.box == [BOX] and record.object_class == "the dog"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"bbox": [4, 5, float("nan"), 10]}, "the box of annotation 3 is"),
        ({"bbox": None}, "the box of annotation 3 is None"),
        ({"image_id": 2}, "annotation 3 needs 2 among the images"),
        ({"image_id": [1]}, r"annotation 3 needs \[1\] among the images"),
        ({"category_id": 1}, "annotation 3 needs 1 among the categories"),
        ({"id": None}, "number 1 of the annotations has no id"),
    ],
)
def test_coco_names_the_annotation_that_is_broken(changes: dict[str, Any], told: str, tmp_path: Path):
    image(tmp_path / "val" / "1.jpg")
    with pytest.raises(InputError, match=told):
        list(read("coco", instances(tmp_path / "a.json", annotation(3) | changes)))


@pytest.mark.parametrize(
    ("tables", "told"),
    [
        ({"annotations": [annotation(3), annotation(3)]}, "two of the annotations have the id 3"),
        ({"annotations": []}, "holds no annotations or no categories"),
        ({"categories": {}}, "holds no lists of annotations and categories"),
        ({"images": [{"id": 1, "file_name": "../1.jpg", "width": 40, "height": 20}]}, "no path inside of the image"),
        ({"images": [{"id": 1, "file_name": "C:\\1.jpg", "width": 40, "height": 20}]}, "no path inside of the image"),
        ({"images": [{"id": 1, "file_name": "1.jpg", "width": 0, "height": 20}]}, "image 1 has no width and height"),
        ({"images": [{"id": 1, "file_name": "1.jpg", "width": 40, "height": 20}]}, "There is no image .*--images"),
    ],
)
def test_coco_names_what_is_wrong_with_the_file(tables: dict[str, Any], told: str, tmp_path: Path):
    with pytest.raises(ElysiumError, match=told):
        list(read("coco", instances(tmp_path / "a.json", annotation(3), **tables)))


def test_coco_tracks_that_make_no_sense(tmp_path: Path):
    images = [
        {"id": n, "video_id": 5, "frame_id": n, "file_name": f"{n}.jpg", "width": 40 + n, "height": 20} for n in (1, 2)
    ]
    twice = annotation(1, track_id=2), annotation(2, track_id=2)
    with pytest.raises(InputError, match="track 2 has two boxes in image 1"):
        list(read("coco", instances(tmp_path / "a.json", *twice, images=images)))
    apart = annotation(1, track_id=2), annotation(2, image_id=2, track_id=2)
    with pytest.raises(InputError, match="video '5' has images of several sizes"):
        list(read("coco", instances(tmp_path / "a.json", *apart, images=images)))


def test_coco_needs_json(tmp_path: Path):
    (tmp_path / "a.json").write_text("[")
    with pytest.raises(InputError, match="is not JSON"):
        list(read("coco", tmp_path / "a.json"))
    with pytest.raises(ElysiumError, match=r"Cannot read .*nowhere"):
        list(read("coco", tmp_path / "nowhere.json"))


# --- refcoco ------------------------------------------------------------------------------------------------------


def sentences(*words: str) -> list[dict[str, Any]]:
    return [{"sent_id": n, "sent": text, "raw": text.upper(), "tokens": text.split()} for n, text in enumerate(words)]


def ref(number: int, split: str, *words: str, ann_id: int = 3) -> dict[str, Any]:
    return {
        "ref_id": number, "ann_id": ann_id, "image_id": 1, "category_id": 7, "split": split,
        "file_name": "val/1_3.jpg", "sentences": sentences(*words), "sent_ids": list(range(len(words))),
    }  # fmt: skip


@pytest.fixture
def refs(tmp_path: Path) -> Path:
    folder = tmp_path / "refcoco+"
    image(tmp_path / "images" / "val" / "1.jpg")
    instances(folder / "instances.json", annotation(3), annotation(4, [0, 0, 40, 20], category_id=9), annotation(5))
    found = [
        ref(0, "train", "the dog", "a dog ", "the dog"), ref(1, "testA", "cat", ann_id=4), ref(2, "train", ann_id=5),
    ]  # fmt: skip
    (folder / "refs(unc).p").write_bytes(pickle.dumps(found, protocol=2))
    return folder


def test_refs_become_records_with_all_their_sentences(refs: Path, tmp_path: Path):
    options = Options(images=tmp_path / "images")
    dog, bare = written("refcoco", refs, tmp_path / "out.jsonl", options)  # train, without a word about it
    assert (dog.id, dog.vid, dog.source, dog.metadata) == ("ref-0", "1", "refcoco+", {"split": "train"})
    assert dog.frames == ["val/1.jpg"] and dog.box == [BOX] and dog.frame_size == (40, 20)
    assert dog.expressions == ["the dog", "a dog"] and dog.object_description == "the dog"
    assert (dog.object_class, bare.object_description, bare.expressions) == ("dog", "dog", None)
    (cat,) = read("refcoco", refs, Options("testA", tmp_path / "images"))
    assert (cat.id, cat.object_class, cat.box) == ("ref-1", "cat", [(0, 0, 1, 1)])
    everything = read("refcoco", refs, Options("all", tmp_path / "images"))
    assert [record.id for record in everything] == ["ref-0", "ref-1", "ref-2"]
    with pytest.raises(InputError, match=r"no ref of the split 'val'. Use one of testA, train, all"):
        list(read("refcoco", refs, Options("val")))


def test_which_refs_of_several(refs: Path, tmp_path: Path):
    options = Options(images=tmp_path / "images")
    dump(refs / "refs.json", [ref(8, "train", "json")])
    (refs / "refs(google).p").write_bytes(pickle.dumps([ref(9, "train", "google")]))
    assert next(read("refcoco", refs, options)).id == "ref-0"
    (google,) = read("refcoco", refs / "refs(google).p", options)
    assert (google.id, google.source) == ("ref-9", "refcoco+")
    (refs / "refs(unc).p").unlink()
    (refs / "refs(google).p").unlink()
    assert next(read("refcoco", refs, options)).expressions == ["json"]
    (refs / "refs.json").unlink()
    with pytest.raises(ElysiumError, match=r"holds none of refs\(unc\).p"):
        list(read("refcoco", refs, options))


def test_a_pickle_of_python_2_is_read(refs: Path, tmp_path: Path):
    """Its texts are bytes in any encoding; this is one as Python 2 writes it, by hand."""
    text = (
        b"(lp0\n(dp1\nS'ref_id'\np2\nI7\nsS'ann_id'\np3\nI3\nsS'split'\np4\nS'train'\np5\nsS'sentences'\np6\n"
        b"(lp7\n(dp8\nS'sent'\np9\nS'caf\\xe9'\np10\nsasa."
    )
    (refs / "refs(unc).p").write_bytes(text)
    (record,) = read("refcoco", refs, Options(images=tmp_path / "images"))
    assert (record.id, record.expressions) == ("ref-7", ["café"])


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("harm-was-done"),)


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_a_pickle_that_runs_something_is_refused(protocol: int, refs: Path, tmp_path: Path, monkeypatch: Any):
    monkeypatch.chdir(tmp_path)
    (refs / "refs(unc).p").write_bytes(pickle.dumps([Harmful()], protocol))
    with pytest.raises(InputError, match=r"The pickle .*refs\(unc\).p asks for \S+, which refs need not"):
        list(read("refcoco", refs))
    assert not Path("harm-was-done").exists()


@pytest.mark.parametrize(
    ("value", "told"),
    [
        (b"no pickle", "is no pickle that can be read"),
        (b"", "is no pickle that can be read"),
        (pickle.dumps({}), "holds no list of refs"),
        (pickle.dumps([{"ref_id": 1}]), "ref number 1 lacks ref_id, ann_id, split or sentences"),
        (pickle.dumps([ref(1, "train"), ref(1, "train")]), "two refs have the ref_id 1"),
        (pickle.dumps([ref(1, "train", ann_id=99)]), "ref 1 needs 99 among the annotations"),
    ],
)
def test_refs_that_cannot_be_used(value: bytes, told: str, refs: Path, tmp_path: Path):
    (refs / "refs(unc).p").write_bytes(value)
    with pytest.raises(InputError, match=told):
        list(read("refcoco", refs, Options(images=tmp_path / "images")))


# --- yolo ---------------------------------------------------------------------------------------------------------

NAMES = "names:\n  0: dog\n  1: cat\n"


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    """Three images, one without labels, and one of another size in a folder of its own."""
    folder = tmp_path / "pets"
    for name, size in (("10.jpg", (40, 20)), ("2.jpg", (40, 20)), ("more/a.png", (10, 10))):
        image(folder / "images" / "train" / name, size)
    (folder / "labels" / "train" / "more").mkdir(parents=True)
    (folder / "labels" / "train" / "2.txt").write_text("0 0.3 0.5 0.4 0.5\n\n1 0.1 0.2 0.3 0.2 0.2 0.6 0.2 0.4\n")
    (folder / "labels" / "train" / "more" / "a.txt").write_text("1 1 1 1 1\n0 0.5 0.5 0 0.5\n")
    (folder / "data.yaml").write_text(f"train: images/train\nval: images/val\n{NAMES}")
    return folder


def test_yolo_lines_are_centres_and_sizes_or_polygons(yolo: Path, tmp_path: Path):
    dog, polygon, corner = written("yolo", yolo, tmp_path / "out.jsonl")
    assert (dog.id, dog.vid, dog.source) == ("images/train/2.jpg#1", "images/train/2", "pets")
    assert (dog.frames, dog.frame_size, dog.object_class, dog.box) == (["images/train/2.jpg"], (40, 20), "dog", [BOX])
    assert (polygon.id, polygon.object_class, polygon.box) == ("images/train/2.jpg#3", "cat", [(0.1, 0.2, 0.3, 0.6)])
    assert (corner.frames, corner.frame_size, corner.box) == (["images/train/more/a.png"], (10, 10), [(0.5, 0.5, 1, 1)])


@pytest.mark.parametrize(
    "about",
    [
        f"path: ..\ntrain: pets/images/train\n{NAMES}",
        f"path: /nowhere/pets\ntrain: images/train\n{NAMES}",
        f"train: ../images/train\n{NAMES}",
        "train: images/train\nnames: [dog, cat]\n",
        f"train: [images/train/more, images/train]\n{NAMES}",
        f"train: train.txt\n{NAMES}",
    ],
)
def test_yolo_finds_the_images_however_they_are_named(about: str, yolo: Path):
    (yolo / "train.txt").write_text("images/train/more/a.png\n./images/train/2.jpg\n\nimages/train/10.jpg\n")
    (yolo / "data.yaml").write_text(about)
    found = {record.id: record.object_class for record in read("yolo", yolo / "data.yaml")}
    assert found == {"images/train/2.jpg#1": "dog", "images/train/2.jpg#3": "cat", "images/train/more/a.png#1": "cat"}


def test_yolo_images_beside_their_labels_folder(yolo: Path):
    """As Roboflow has it: <split>/images and <split>/labels."""
    image(yolo / "valid" / "images" / "x.jpg")
    (yolo / "valid" / "labels").mkdir()
    (yolo / "valid" / "labels" / "x.txt").write_text("1 0.3 0.5 0.4 0.5")
    (yolo / "data.yaml").write_text(f"val: ../valid/images\n{NAMES}")
    (record,) = read("yolo", yolo, Options("val"))
    assert (record.frames, record.box, record.object_class) == (["valid/images/x.jpg"], [BOX], "cat")


def test_yolo_boxes_in_front_of_key_points(yolo: Path):
    (yolo / "data.yaml").write_text(f"train: images/train\nkpt_shape: [2, 3]\n{NAMES}")
    (yolo / "labels" / "train" / "2.txt").write_text("0 0.3 0.5 0.4 0.5 0.1 0.1 2 0.9 0.9 1\n")
    assert next(read("yolo", yolo)).box == [BOX]


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("2 0.3 0.5 0.4 0.5", r"2.txt, line 2: there is no class 2. data.yaml names those from 0 to 1"),
        ("-1 0.3 0.5 0.4 0.5", "line 2: there is no class -1"),
        ("0.5 0.3 0.5 0.4 0.5", "line 2: there is no class 0.5"),
        ("0 0.3 0.5 1.4 0.5", "line 2: 1.4 is not in 0..1. Divide pixels"),
        ("0 0.3 -0.1 0.4 0.5", "line 2: -0.1 is not in 0..1"),
        ("0 0.3 nan 0.4 0.5", "line 2: nan is not in 0..1"),
        ("0 0.3 0.5 0.4", "line 2 has 4 numbers"),
        ("0 0.3 0.5 0.4 0.5 0.9", "line 2 has 6 numbers"),
        ("0 0.1 0.2 0.3 0.2 0.2 0.6 0.2", "line 2 has 8 numbers"),
        ("dog 0.3 0.5 0.4 0.5", "line 2: something else than numbers"),
    ],
)
def test_yolo_names_the_line_that_is_broken(line: str, told: str, yolo: Path):
    (yolo / "labels" / "train" / "2.txt").write_text(f"0 0.3 0.5 0.4 0.5\n{line}\n")
    with pytest.raises(InputError, match=told):
        list(read("yolo", yolo))


@pytest.mark.parametrize(
    ("about", "told"),
    [
        (f"train: images/other\n{NAMES}", "names 'images/other', and there is no such folder"),
        (f"val: images/train\n{NAMES}", "has no split 'train'. It has val"),
        ("train: images/train\n", "has no names"),
        ("train: images/train\nnames: {a: dog}\n", "names is neither a list nor a mapping"),
        ("- 1\n", "holds no keys"),
        ("a: [\n", "is not YAML"),
        (f"train: labels\n{NAMES}", "the split 'train' has no images"),
        (f"train: ../elsewhere\n{NAMES}", "which is not in"),
        (f"train: bare\n{NAMES}", r"No image of 'train' has labels: there is no .*bare.1.txt"),
    ],
)
def test_yolo_names_what_is_wrong_with_its_yaml(about: str, told: str, yolo: Path):
    image(yolo.parent / "elsewhere" / "1.jpg")
    image(yolo / "bare" / "1.jpg")
    (yolo / "data.yaml").write_text(about)
    with pytest.raises(ElysiumError, match=told):
        list(read("yolo", yolo))


# --- tracks -------------------------------------------------------------------------------------------------------


def result(source: str, expression: str | None = "the dog") -> TrackResult:
    """One object, looked for in every second frame from the fourth: tracked, carried, absent; and one never found."""
    dog, ghost = TrackRecorder(1, expression), TrackRecorder(2, "a ghost")
    dog.add(3, 0.12, [4, 5, 20, 15], 0.9, "tracked")
    dog.add(5, 0.2, [4, 5, 20, 15], 0.01, "carried")
    dog.add(7, 0.28, None, 0.8, "absent")
    ghost.add(3, 0.12, None, 0.9, "absent")
    return TrackResult(source, "nano", 25.0, (40, 20), (dog.finish(), ghost.finish()))


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for number in range(1, 13):  # not padded: 10 comes after 9
        image(tmp_path / "frames" / "clip" / f"{number}.jpg")
    (tmp_path / "runs" / "walk").mkdir(parents=True)
    result("videos/clip.mp4").to_json(tmp_path / "runs" / "walk" / "tracks.json")
    return tmp_path / "runs"


def test_tracks_become_records_of_the_frames_that_are_known(run_folder: Path, tmp_path: Path):
    options = Options(images=tmp_path / "frames")
    (record,) = written("tracks", run_folder, tmp_path / "out.jsonl", options)  # nothing of the ghost
    assert (record.id, record.vid, record.source) == ("runs/walk/1", "clip", "elysium")
    assert record.frames == ["clip/4.jpg", "clip/8.jpg"]  # indices 3 and 7; what was carried is not known
    assert record.box == [BOX, None] and record.absent == [False, True] and record.times_s == [0.12, 0.28]
    assert (record.object_class, record.object_description, record.frame_size) == ("the dog", "the dog", (40, 20))
    assert record.metadata == {"video": "videos/clip.mp4", "model": "nano", "fps": 25, "frame_indices": [3, 7]}


def test_tracks_of_one_file_and_frames_in_the_folder_itself(run_folder: Path, tmp_path: Path):
    result("clip.mp4", expression=None).to_json(run_folder / "walk" / "tracks.json")
    (record,) = read("tracks", run_folder / "walk" / "tracks.json", Options(images=tmp_path / "frames" / "clip"))
    assert (record.id, record.frames, record.object_class) == ("walk/1", ["4.jpg", "8.jpg"], "")


def test_tracks_of_several_runs_need_a_folder_of_frames_each(run_folder: Path, tmp_path: Path):
    (run_folder / "walk-2").mkdir()
    result("clip.mp4").to_json(run_folder / "walk-2" / "tracks.json")
    ids = [record.id for record in read("tracks", run_folder, Options(images=tmp_path / "frames"))]
    assert ids == ["runs/walk/1", "runs/walk-2/1"]
    with pytest.raises(ElysiumError, match=r"has no folder 'clip' for the frames of 'videos/clip.mp4'"):
        list(read("tracks", run_folder, Options(images=tmp_path / "frames" / "clip")))


def test_tracks_and_the_frames_that_this_project_writes(tmp_path: Path):
    """Frames 0, 3, 6, 9: of the tracked ones, only 3."""
    with VideoWriter(tmp_path / "clip.mp4", 25.0, (40, 20)) as video:
        for grey in range(10):
            video.write(np.full((20, 40, 3), 20 * grey, np.uint8))
    extract_frames(tmp_path / "clip.mp4", tmp_path / "frames" / "clip", stride=3)
    result("clip.mp4").to_json(tmp_path / "tracks.json")
    (record,) = written("tracks", tmp_path / "tracks.json", tmp_path / "out.jsonl", Options(images=tmp_path / "frames"))
    assert record.frames == ["clip/000003.jpg"] and record.box == [BOX] and record.times_s == [0.12]
    told = json.loads((tmp_path / "frames" / "clip" / "frames.json").read_text())
    for frames, sentence in (
        ([row for row in told["frames"] if row["index"] != 3], "has none of the frames of"),
        ([{"index": 3}], "frames.json is broken"),
    ):
        dump(tmp_path / "frames" / "clip" / "frames.json", {**told, "frames": frames})
        with pytest.raises(InputError, match=sentence):
            list(read("tracks", tmp_path / "tracks.json", Options(images=tmp_path / "frames")))


def test_tracks_and_frames_that_do_not_fit(run_folder: Path, tmp_path: Path):
    options = Options(images=tmp_path / "frames")
    with pytest.raises(ElysiumError, match=r"tracks.json holds no frames. Name the folder .* with --images"):
        list(read("tracks", run_folder))
    with pytest.raises(InputError, match=r"holds no tracks.json"):
        list(read("tracks", tmp_path / "frames", options))
    image(tmp_path / "frames" / "clip" / "1.jpg", (80, 40))
    with pytest.raises(InputError, match=r"1.jpg is 80x40, but .* is about frames of \(40, 20\)"):
        list(read("tracks", run_folder, options))
    for number in range(8, 13):
        (tmp_path / "frames" / "clip" / f"{number}.jpg").unlink()
    with pytest.raises(InputError, match=r"is about frame 7, and .*clip has 7 images, from frame 0 on"):
        list(read("tracks", run_folder, options))
    (run_folder / "walk" / "tracks.json").write_text('{"schema": 1}')
    with pytest.raises(InputError, match=r"walk.tracks.json: These are not tracks written by elysium: the key"):
        list(read("tracks", run_folder, options))


# --- elysiumtrack -------------------------------------------------------------------------------------------------


def published(id: Any, *boxes: Any, **more: Any) -> dict[str, Any]:
    """A record with the keys of the published file, and one that only it has."""
    return {
        "source": "webvid10M_self_make", "id": id, "vid": 33020620, "metadata": "[]", "caption": "a boy",
        "frames": [f"frames/1/{n:06d}.jpg" for n in range(len(boxes))], "object_class": "a boy",
        "box": list(boxes), "object_description": "a boy", "frame_size": [596, 336],
    } | more  # fmt: skip


GOOD = [0.27013422818, 0.2142857142, 0.63, 0.74]


def test_elysiumtrack_passes_through_what_is_right(tmp_path: Path):
    entries = [published(428388628037791, GOOD, GOOD), {"id": 2, "vid": 1, "frames": [], "vqa": [
        {"from": "human", "value": "Hello?"}, {"from": "gpt", "value": "Hello."}]}]  # fmt: skip
    source = dump(tmp_path / "ElysiumTrack-1M.json", entries)
    written("elysiumtrack", source, tmp_path / "out.jsonl")
    assert [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()] == entries


def test_elysiumtrack_mends_boxes_and_ids(tmp_path: Path):
    lines = [
        published(1, [-0.01, 0.2, 1.02, 0.9], [0.6, 0.7, 0.2, 0.3]),
        published(1, GOOD, [1.01, 0.2, 1.2, 0.4], [0.5, 0.5, 0.5, 0.8]),
    ]
    with gzip.open(tmp_path / "a.jsonl.gz", "wt") as file:
        file.write("".join(json.dumps(line) + "\n" for line in lines))
    first, second = written("elysiumtrack", tmp_path / "a.jsonl.gz", tmp_path / "out.jsonl")
    assert first.box == [(0.0, 0.2, 1.0, 0.9), (0.2, 0.3, 0.6, 0.7)] and first.absent is None
    assert second.box is not None and second.box[1:] == [None, None] and second.absent == [False, True, True]
    assert (first.id, second.id) == (1, "1-2")


@pytest.mark.parametrize(
    ("entry", "told"),
    [
        (published(2, GOOD, frames=["a.jpg", "b.jpg"]), "1 boxes for 2 frames"),
        (published(2, [10, 20, 300, 200]), "look like pixels"),
        (published(2, [0.1, 0.2, None, 0.4]), "must be four finite numbers"),
        (published(2, GOOD, frames=["../a.jpg"]), "leaves the image folder"),
        (published(2, GOOD, GOOD, frames=["a.jpg", "a.jpg"]), "'a.jpg' is frames"),
        (published(2, [1.1, 0.2, 1.2, 0.3]), "nothing of its boxes is in the frame"),
        ({"id": 2, "frames": ["a.jpg"]}, "the key is missing"),
        ([1], "not an object"),
        ("{", "is not JSON"),
    ],
)
def test_elysiumtrack_leaves_out_what_is_broken_and_says_so(entry: Any, told: str, tmp_path: Path):
    broken = entry if entry == "{" else json.dumps(entry)
    lines = [json.dumps(published(1, GOOD)), broken, json.dumps(published(3, GOOD))]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    sentence = rf"1 of 3 records left out; the first: .*a.jsonl, record 2 \(line 2\).*{told}"
    said = convert("elysiumtrack", tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    (((reason,),),) = [said.told.values()]
    assert re.search(sentence, reason)
    assert [record.id for record in read_records(tmp_path / "out.jsonl")] == [1, 3]


def test_elysiumtrack_is_cut_into_units_of_five_hundred(tmp_path: Path):
    lines = [json.dumps(published(number, GOOD)) for number in range(501)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines) + "\n")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = convert("elysiumtrack", tmp_path / "a.jsonl", tmp_path / "out.jsonl")
    assert (told.lines, told.units) == (501, 2)
    ids = [record.id for record in read_records(tmp_path / "out.jsonl")]
    assert ids == np.arange(501).tolist()


def test_elysiumtrack_looks_for_the_first_frame_where_it_is_told_to(tmp_path: Path):
    source = dump(tmp_path / "a.json", [published(1, GOOD)])
    with pytest.raises(ElysiumError, match=r"There is no image .*000000.jpg'. Check --images, or leave it out"):
        list(read("elysiumtrack", source, Options(images=tmp_path)))
    image(tmp_path / "frames" / "1" / "000000.jpg")
    assert len(list(read("elysiumtrack", source, Options(images=tmp_path)))) == 1
    (tmp_path / "tars").mkdir()
    with tarfile.open(tmp_path / "tars" / "group.tar", "w") as tar:
        tar.add(tmp_path / "frames" / "1" / "000000.jpg", "./frames/1/000000.jpg")
    assert len(list(read("elysiumtrack", source, Options(images=tmp_path / "tars")))) == 1
