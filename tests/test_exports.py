"""Exports: every format read back with a parser that is not ours, and nothing left behind by a failure."""

from __future__ import annotations

import errno
import json
import os
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from elysium.cli import outputs
from elysium.errors import ElysiumError, InputError, OutputError
from elysium.exports import EXPORTS, check_yolo_folder, write_cvat
from elysium.tracks import TrackRecorder, TrackResult

NAN = float("nan")
DOG = 'the "big" <dog> & Größe 犬'
NAMES = {  # what each format writes, as the command line names it
    "yolo": "tracks.yolo",
    "coco": "tracks.coco.json",
    "labelstudio": "tracks.labelstudio.json",
    "cvat": "tracks.cvat.xml",
    "records": "tracks.records.jsonl",
}


def make_result(source: str = "my clip.mp4", expression: str = DOG) -> TrackResult:
    """Two objects on every second frame from 4 to 10: one is absent on 6 and carried on 8, one is always there."""
    dog = TrackRecorder(1, expression)
    dog.add(4, 0.4, [16, 12, 48, 36], 0.98765, "tracked")
    dog.add(6, 0.6, None, 0.5, "absent")
    dog.add(8, 0.8, [16, 12, 48, 36], 0.25, "carried")
    dog.add(10, 1.0, [32, 12, 64, 30], 0.75, "tracked")
    ball = TrackRecorder(2, None, [0, 0, 8, 6])
    for index in (4, 6, 8, 10):
        ball.add(index, index / 10, [index, 0, index + 8, 6], NAN if index == 10 else 0.5, "tracked")
    return TrackResult(source, "nano", 10.0, (64, 48), [dog.finish(), ball.finish()])


def one_track(*boxes: Any, expression: str | None = "x", state: str = "tracked") -> TrackResult:
    """One object on the frames 0, 1, ... with these boxes."""
    recorder = TrackRecorder(1, expression)
    for index, box in enumerate(boxes):
        recorder.add(index, index / 10, box, 0.5, "absent" if box is None else state)  # type: ignore[arg-type]
    return TrackResult("clip.mp4", "nano", 10.0, (64, 48), [recorder.finish()])


def everything_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {name: (folder / name).read_bytes() for name in everything_in(folder) if (folder / name).is_file()}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("name", EXPORTS)
def test_export_writes_one_thing_and_returns_its_path(name: str, tmp_path: Path):
    target = tmp_path / "new" / NAMES[name]
    assert make_result().export(target, name) == target
    first = contents(tmp_path)
    assert make_result().export(str(target), name) == target  # again, over it
    assert contents(tmp_path) == first
    assert os.listdir(tmp_path / "new") == [NAMES[name]]


def test_an_unknown_format_names_the_known_ones(tmp_path: Path):
    with pytest.raises(InputError, match=r"'voc'.*yolo, coco, labelstudio, cvat, records"):
        make_result().export(tmp_path / "x", "voc")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", EXPORTS)
def test_exports_of_a_result_read_back_are_the_same(name: str, tmp_path: Path):
    again = TrackResult.from_json(make_result().to_json())
    for folder, result in (("a", make_result()), ("b", again)):
        result.export(tmp_path / folder / "x", name)
    assert contents(tmp_path / "a") == contents(tmp_path / "b") != {}


def test_yolo(tmp_path: Path):
    path = make_result().export(tmp_path / "set", "yolo")
    assert everything_in(path) == [
        "data.yaml",
        "labels",
        "labels/my clip_000004.txt",
        "labels/my clip_000006.txt",
        "labels/my clip_000008.txt",
        "labels/my clip_000010.txt",
    ]
    texts = [(path / "labels" / f"my clip_{i:06d}.txt").read_text() for i in (4, 6, 8, 10)]
    assert texts == [
        "0 0.500000 0.500000 0.500000 0.500000\n1 0.125000 0.062500 0.125000 0.125000\n",
        "1 0.156250 0.062500 0.125000 0.125000\n",
        "1 0.187500 0.062500 0.125000 0.125000\n",  # the dog is carried here
        "0 0.750000 0.437500 0.500000 0.375000\n1 0.218750 0.062500 0.125000 0.125000\n",
    ]
    about = yaml.safe_load((path / "data.yaml").read_text(encoding="utf-8"))
    assert about == {"train": "images", "val": "images", "nc": 2, "names": [DOG, "object"]}


def test_yolo_has_an_empty_file_for_a_frame_without_boxes(tmp_path: Path):
    path = one_track([1, 2, 3, 4], None).export(tmp_path / "set", "yolo")
    assert (path / "labels" / "clip_000001.txt").read_bytes() == b""


def test_yolo_can_include_carried_boxes(tmp_path: Path):
    path = make_result().export(tmp_path / "set", "yolo", include_carried=True)
    lines = (path / "labels" / "my clip_000008.txt").read_text().splitlines()
    assert lines[0] == "0 0.500000 0.500000 0.500000 0.500000"
    assert len(lines) == 2


def test_yolo_is_read_by_supervision(tmp_path: Path):
    import supervision as sv

    path = make_result().export(tmp_path / "set", "yolo")
    (path / "images").mkdir()
    for index in (4, 6, 8, 10):
        Image.new("RGB", (64, 48)).save(path / "images" / f"my clip_{index:06d}.jpg")
    data = sv.DetectionDataset.from_yolo(str(path / "images"), str(path / "labels"), str(path / "data.yaml"))
    assert data.classes == [DOG, "object"]
    found = {Path(name).stem: detections for name, _, detections in data}
    np.testing.assert_allclose(found["my clip_000004"].xyxy, [[16, 12, 48, 36], [4, 0, 12, 6]], atol=1e-3)
    assert found["my clip_000006"].class_id.tolist() == [1]


def test_yolo_replaces_its_own_labels_and_nothing_else(tmp_path: Path):
    target = tmp_path / "set"
    target.mkdir()  # empty: fine
    make_result().export(target, "yolo")
    (target / "images").mkdir()
    (target / "images" / "a.jpg").write_bytes(b"mine")
    one_track([1, 2, 3, 4]).export(target, "yolo")
    assert everything_in(target) == ["data.yaml", "images", "images/a.jpg", "labels", "labels/clip_000000.txt"]
    assert os.listdir(tmp_path) == ["set"]


def test_yolo_refuses_what_is_not_its_own(tmp_path: Path):
    (tmp_path / "set" / "labels").mkdir(parents=True)
    (tmp_path / "set" / "data.yaml").write_text("names: [mine]\n")
    (tmp_path / "file").write_text("mine")
    for name in ("set", "file"):
        with pytest.raises(OutputError, match="no folder of labels written by elysium"):
            make_result().export(tmp_path / name, "yolo")
    assert everything_in(tmp_path) == ["file", "set", "set/data.yaml", "set/labels"]
    check_yolo_folder(tmp_path / "free")


def test_yolo_leaves_the_old_labels_when_it_fails_late(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    target = one_track([1, 2, 3, 4]).export(tmp_path / "set", "yolo")
    before = everything_in(tmp_path)

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OutputError, match="No space left"):
        make_result().export(target, "yolo")
    assert everything_in(tmp_path) == before


def test_coco(tmp_path: Path):
    data = read_json(make_result().export(tmp_path / "x.json", "coco"))
    size = {"width": 64, "height": 48}
    assert data["info"] == {"description": "Tracks by elysium", "source": "my clip.mp4", "model": "nano"}
    assert data["videos"] == [{"id": 1, "name": "my clip", "fps": 10.0, **size}]
    assert data["images"] == [
        {"id": place + 1, "video_id": 1, "frame_id": place, "frame_index": index}
        | {"file_name": f"my clip_{index:06d}.jpg", **size}
        for place, index in enumerate((4, 6, 8, 10))
    ]
    assert data["categories"] == [{"id": 1, "name": DOG}, {"id": 2, "name": "object"}]
    assert data["tracks"] == [
        {"id": 1, "category_id": 1, "video_id": 1},
        {"id": 2, "category_id": 2, "video_id": 1},
    ]
    found = data["annotations"]
    assert [(a["id"], a["image_id"], a["track_id"]) for a in found] == [
        (1, 1, 1),
        (2, 1, 2),
        (3, 2, 2),
        (4, 3, 2),
        (5, 4, 1),
        (6, 4, 2),
    ]
    assert found[0] == {
        "id": 1,
        "image_id": 1,
        "video_id": 1,
        "category_id": 1,
        "instance_id": 1,
        "track_id": 1,
        "bbox": [16.0, 12.0, 32.0, 24.0],
        "area": 768.0,
        "iscrowd": 0,
        "score": 0.9877,
    }
    assert found[4]["bbox"] == [32.0, 12.0, 32.0, 18.0]
    assert "score" not in found[5]  # it has none, and JSON has no NaN


def test_coco_can_include_carried_boxes(tmp_path: Path):
    data = read_json(make_result().export(tmp_path / "x.json", "coco", include_carried=True))
    carried = [a for a in data["annotations"] if (a["image_id"], a["track_id"]) == (3, 1)]
    assert [a["bbox"] for a in carried] == [[16, 12, 32, 24]]


def test_coco_is_read_by_pycocotools(tmp_path: Path):
    coco = pytest.importorskip("pycocotools.coco", reason="pycocotools is not installed")
    data = coco.COCO(str(make_result().export(tmp_path / "x.json", "coco")))
    assert data.getImgIds() == [1, 2, 3, 4]
    assert [c["name"] for c in data.loadCats(data.getCatIds())] == [DOG, "object"]
    assert data.getAnnIds(imgIds=[2]) == [3]
    assert data.getAnnIds(catIds=[1]) == [1, 5]


def test_labelstudio(tmp_path: Path):
    (task,) = read_json(make_result().export(tmp_path / "x.json", "labelstudio"))
    assert task["data"] == {"video": "my clip.mp4", "fps": 10.0}
    (prediction,) = task["predictions"]
    assert prediction["model_version"] == "nano"
    dog, ball = prediction["result"]
    box = {"rotation": 0, "x": 25.0, "y": 25.0, "width": 50.0, "height": 50.0}
    assert dog == {
        "id": "elysium-1",
        "type": "videorectangle",
        "from_name": "box",
        "to_name": "video",
        "value": {
            "framesCount": 11,
            "duration": 1.1,
            "sequence": [
                {"frame": 5, "enabled": False, **box, "time": 0.5},
                {"frame": 9, "enabled": True, **box, "time": 0.9, "state": "carried"},
                {"frame": 11, "enabled": False, **box, "x": 50.0, "height": 37.5, "time": 1.1},
            ],
            "labels": [DOG],
        },
        "meta": {"text": ["1 of 3 boxes carried over from earlier frames"]},
    }
    assert (ball["id"], ball["value"]["labels"], "meta" in ball) == ("elysium-2", ["object"], False)
    assert [k["enabled"] for k in ball["value"]["sequence"]] == [True, True, True, False]
    assert [k["x"] for k in ball["value"]["sequence"]] == [6.25, 9.375, 12.5, 15.625]


def seen_in_labelstudio(sequence: list[dict[str, Any]], frame: int) -> bool:
    """Label Studio's rule: the last keyframe up to `frame` decides, and a keyframe itself is always shown."""
    before = [k for k in sequence if k["frame"] <= frame]
    return bool(before) and (before[-1]["frame"] == frame or before[-1]["enabled"])


def test_labelstudio_shows_what_was_found(tmp_path: Path):
    result = one_track(None, [1, 1, 9, 9], [1, 1, 9, 9], None, None, [1, 1, 9, 9], None, [1, 1, 9, 9])
    (task,) = read_json(result.export(tmp_path / "x.json", "labelstudio"))
    sequence = task["predictions"][0]["result"][0]["value"]["sequence"]
    seen = [index for index in range(12) if seen_in_labelstudio(sequence, index + 1)]
    assert seen == [1, 2, 5, 7]


def test_labelstudio_without_carried_boxes_has_a_gap(tmp_path: Path):
    path = make_result().export(tmp_path / "x.json", "labelstudio", include_carried=False)
    dog = read_json(path)[0]["predictions"][0]["result"][0]
    assert [(k["frame"], k["enabled"]) for k in dog["value"]["sequence"]] == [(5, False), (11, False)]
    assert "meta" not in dog


def boxes_of(track: ET.Element) -> list[dict[str, str]]:
    return [box.attrib for box in track.iter("box")]


def test_cvat(tmp_path: Path):
    path = make_result("a<b>&c.mp4").export(tmp_path / "x.xml", "cvat")
    assert path.read_bytes().startswith(b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n')
    root = ET.parse(path).getroot()
    assert (root.tag, root.findtext("version")) == ("annotations", "1.1")
    task = root.find("meta/task")
    assert task is not None
    asked = ("name", "size", "mode", "original_size/width", "original_size/height")
    assert [task.findtext(name) for name in asked] == ["a_b_&c", "11", "interpolation", "64", "48"]
    assert [label.findtext("name") for label in task.iter("label")] == [DOG, "object"]
    dog, ball = root.findall("track")
    assert dog.attrib == {"id": "1", "label": DOG, "source": "auto"}
    there = {"outside": "0", "occluded": "0", "keyframe": "1", "z_order": "0"}
    first = {"xtl": "16.00", "ytl": "12.00", "xbr": "48.00", "ybr": "36.00"}
    assert boxes_of(dog) == [
        {"frame": "4", **there, **first},
        {"frame": "6", **there, **first, "outside": "1"},
        {"frame": "8", **there, **first, "occluded": "1"},
        {"frame": "10", **there, "xtl": "32.00", "ytl": "12.00", "xbr": "64.00", "ybr": "30.00"},
    ]
    assert [(b["frame"], b["xtl"], b["outside"]) for b in boxes_of(ball)] == [
        ("4", "4.00", "0"),
        ("6", "6.00", "0"),
        ("8", "8.00", "0"),
        ("10", "10.00", "0"),
    ]


def test_cvat_marks_a_gap_once_and_skips_what_comes_before(tmp_path: Path):
    result = one_track(None, [1, 1, 9, 9], None, None, [2, 2, 9, 9], None)
    root = ET.parse(result.export(tmp_path / "x.xml", "cvat")).getroot()
    found = [(b["frame"], b["outside"], b["xtl"]) for b in boxes_of(root)]
    assert found == [("1", "0", "1.00"), ("2", "1", "1.00"), ("4", "0", "2.00"), ("5", "1", "2.00")]
    write_cvat(make_result(), tmp_path / "y.xml", include_carried=False)
    dog = ET.parse(tmp_path / "y.xml").getroot().findall("track")[0]
    assert [(b["frame"], b["outside"]) for b in boxes_of(dog)] == [("4", "0"), ("6", "1"), ("10", "0")]


def test_cvat_labels_are_short_and_legal(tmp_path: Path):
    result = one_track([1, 1, 9, 9], expression="a\x00\x0b\ud800 dog\nthat " + "runs and " * 20)
    root = ET.parse(result.export(tmp_path / "x.xml", "cvat")).getroot()
    label = root.findall("track")[0].attrib["label"]
    assert label == ("a\ufffd\ufffd\ufffd dog that " + "runs and " * 20)[:63] + "…"
    assert [e.findtext("name") for e in root.iter("label")] == [label]


def test_records(tmp_path: Path):
    lines = make_result().export(tmp_path / "x.jsonl", "records").read_text(encoding="utf-8").splitlines()
    dog, ball = (json.loads(line) for line in lines)
    assert dog == {
        "source": "elysium",
        "id": "my clip_1",
        "vid": "my clip",
        "metadata": {"video": "my clip.mp4", "model": "nano", "fps": 10.0, "frame_indices": [4, 10]},
        "frames": ["my clip_000004.jpg", "my clip_000010.jpg"],
        "object_class": DOG,
        "box": [[0.25, 0.25, 0.75, 0.75], [0.5, 0.25, 1.0, 0.625]],
        "object_description": DOG,
        "frame_size": [64, 48],
    }
    assert (ball["object_class"], ball["object_description"], len(ball["box"])) == ("object", "", 4)


def test_records_can_include_carried_boxes(tmp_path: Path):
    path = make_result().export(tmp_path / "x.jsonl", "records", include_carried=True)
    dog = json.loads(path.read_text(encoding="utf-8").splitlines()[0])
    assert dog["metadata"]["frame_indices"] == [4, 8, 10]


@pytest.mark.parametrize(("name", "tag"), [("labelstudio", "elysium-"), ("cvat", "<track"), ("records", '"vid"')])
def test_a_track_that_was_never_found_is_left_out(name: str, tag: str, tmp_path: Path):
    for result in (one_track(None, None), one_track([NAN] * 4, state="carried")):
        assert tag not in result.export(tmp_path / "x", name).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", EXPORTS)
def test_a_result_without_tracks(name: str, tmp_path: Path):
    path = TrackResult("clip.mp4", "nano", 25.0, (64, 48), []).export(tmp_path / "x", name)
    if name == "yolo":
        assert everything_in(path) == ["data.yaml", "labels"]
    elif name == "cvat":
        assert ET.parse(path).getroot().findtext("meta/task/size") == "0"
    elif name == "records":
        assert path.read_bytes() == b""
    else:
        assert read_json(path)


def test_boxes_are_clipped_and_those_without_area_are_none(tmp_path: Path):
    result = one_track([-8, -6, 32, 24], [70, 10, 80, 20], [10, 10, 10.001, 20], [10.004, 10, 20.006, 20])
    found = read_json(result.export(tmp_path / "x", "coco"))["annotations"]
    assert [(a["image_id"], a["bbox"]) for a in found] == [(1, [0, 0, 32, 24]), (4, [10, 10, 10.01, 10])]


def test_tracks_may_start_at_different_frames(tmp_path: Path):
    first, late = TrackRecorder(1, "a dog"), TrackRecorder(2, "a  dog")
    for index in range(4):
        first.add(index, index / 10, [1, 1, 9, 9], 0.5, "tracked")
    late.add(3, 0.3, [2, 2, 9, 9], 0.5, "tracked")
    result = TrackResult("clip.mp4", "nano", 10.0, (64, 48), [first.finish(), late.finish()])
    data = read_json(result.export(tmp_path / "x", "coco"))
    assert data["categories"] == [{"id": 1, "name": "a dog"}]  # the same words, but for a space
    assert [(a["image_id"], a["track_id"]) for a in data["annotations"]] == [(1, 1), (2, 1), (3, 1), (4, 1), (4, 2)]


def test_frames_are_named_after_the_source(tmp_path: Path):
    (tmp_path / "v1.5").mkdir()
    stems = {
        "a/clip.v2.mp4": "clip.v2",
        str(tmp_path / "v1.5"): "v1.5",
        str(tmp_path / "v1.5" / "*.jpg"): "v1.5",
        "array": "array",
        "4 images": "4 images",
        "rtsp://host/live?x=1": "host",
        "what is: this|that.mp4": "what is_ this_that",
        "\udcff.mp4": "\ufffd",
    }
    for source, stem in stems.items():
        data = read_json(make_result(source).export(tmp_path / "x", "coco"))
        assert data["videos"][0]["name"] == stem


@pytest.mark.parametrize("name", EXPORTS)
def test_a_write_that_fails_leaves_nothing(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError):
        make_result().export(tmp_path / "file" / "x", name)

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OutputError, match="No space left"):
        make_result().export(tmp_path / "x", name)
    assert os.listdir(tmp_path) == ["file"]


def test_the_command_line_knows_the_same_formats():
    assert set(outputs.FORMATS) - set(EXPORTS) == {"json", "csv", "mot", "mp4", "gif"}
    assert outputs.parse_formats(" YOLO,json,cvat") == ("json", "cvat", "yolo")
    assert outputs.folder_names(tuple(NAMES)) == NAMES
    assert outputs.stem_names("dog", ("coco", "yolo")) == {"coco": "dog.coco.json", "yolo": "dog.yolo"}


def test_the_command_line_writes_them_twice(tmp_path: Path):
    for _ in range(2):
        plan = outputs.plan_output(str(tmp_path / "out"), ",".join(NAMES), "my clip.mp4", tmp_path)
        written, failed = outputs.save_result(make_result(), plan)
        assert failed == []
        assert written == {name: tmp_path / "out" / file for name, file in NAMES.items()}
    assert sorted(os.listdir(tmp_path / "out")) == sorted(NAMES.values())


def test_the_command_line_refuses_a_strange_folder_early(tmp_path: Path):
    (tmp_path / "tracks.yolo").mkdir()
    (tmp_path / "tracks.yolo" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="no folder of labels"):
        outputs.plan_output(str(tmp_path), "yolo", "clip.mp4", tmp_path)
    with pytest.raises(InputError, match="neither a folder nor"):
        outputs.plan_output(str(tmp_path / "tracks.xml"), "cvat", "clip.mp4", tmp_path)


def test_the_command_line_leaves_nothing_of_a_failure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    plan = outputs.plan_output(str(tmp_path / "a" / "b"), "yolo,coco", "clip.mp4", tmp_path)

    def full(*_: Any, **__: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    written, failed = outputs.save_result(make_result(), plan)
    assert (written, [type(error) for error in failed]) == ({}, [OutputError, OutputError])
    assert all(isinstance(error, ElysiumError) for error in failed)
    assert os.listdir(tmp_path) == []
