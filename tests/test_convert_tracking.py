"""LaSOT, GOT-10k, TrackingNet, UAV123 and OTB in their own layouts: boxes by hand, absences, frames, words, splits."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.data.convert.base import Options
from elysium.data.convert.registry import read
from elysium.data.convert.run import convert
from elysium.data.convert.sequences import read_sequences
from elysium.data.convert.uav123 import pieces
from elysium.data.records import Record, read_records, validate_records
from elysium.errors import ElysiumError, InputError, SourceError


def picture(width: int = 40, height: int = 20) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.zeros((height, width, 3), np.uint8)).save(file, "JPEG")
    return file.getvalue()


PICTURE = picture()


def images(folder: Path, numbers: Iterable[int], digits: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        (folder / f"{number:0{digits}d}.jpg").write_bytes(PICTURE)
    (folder / "._1.jpg").write_bytes(b"left by another system")


def text(path: Path, content: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)


def converted(name: str, root: Path, split: str | None = None) -> dict[str, Record]:
    """The records of a source by their ids, by way of a file in which nothing is wrong."""
    output = root.parent / f"{root.name}-{split}.jsonl"
    told = convert(name, root, output, Options(split=split), workers=1)
    assert told.failed == {}
    assert list(validate_records(output, image_size=lambda frame: Image.open(root / frame).size)) == []
    return {str(record.id): record for record in read_records(output)}


def pixels(record: Record) -> list[list[float] | None]:
    """The boxes in pixels, left, top, right, bottom; None where the object is absent."""
    return [None if np.isnan(row).any() else row.tolist() for row in record.boxes_xyxy.round(3)]


# LaSOT


def lasot(folder: Path, boxes: str = "1,1,10,5\n" * 3, full: str = "", out: str = "", words: str | None = None) -> Path:
    count = len(boxes.split())
    images(folder / "img", range(1, count + 1), 8)
    text(folder / "groundtruth.txt", boxes)
    text(folder / "full_occlusion.txt", full or ",".join("0" * count))
    text(folder / "out_of_view.txt", out or ",".join("0" * count))
    if words is not None:
        text(folder / "nlp.txt", words)
    return folder


def test_lasot_counts_pixels_from_one_and_knows_absence(tmp_path: Path):
    boxes = "1,1,10,5\n11,6,30,15\n0,0,4,4\n5,5,9,-2\n5,5,9,9\n5,5,9,9\n31,2,20,2\n"
    folder = lasot(tmp_path / "a" / "bus-1", boxes, full="0,0,0,0,1,0,0", out="0,0,0,0,0,1,0", words="red  bus\n")
    images(folder / "img", [8], 8)  # one image more than lines: as the authors' evaluation, the converter ignores it
    (record,) = converted("lasot", tmp_path).values()
    assert pixels(record) == [[0, 0, 10, 5], [10, 5, 40, 20], [0, 0, 3, 3], None, None, None, [30, 1, 40, 3]]
    assert record.absent == [False, False, False, True, True, True, False]
    assert record.frames == [f"a/bus-1/img/0000000{i}.jpg" for i in range(1, 8)] and record.frame_size == (40, 20)
    assert (record.source, record.id, record.vid) == ("LaSOT", "bus-1", "bus-1")
    assert (record.object_class, record.object_description) == ("bus", "red bus")


def test_lasot_lies_in_folders_of_classes_or_flat(tmp_path: Path):
    for place in ("cat/cat-10", "cat/cat-2", "rubicCube-1", "airplane/airplane-3"):
        lasot(tmp_path / "lasot" / place)
    text(tmp_path / "lasot" / "cat" / "notes.txt", "not a sequence")
    records = converted("lasot", tmp_path / "lasot")
    assert list(records) == ["airplane-3", "cat-2", "cat-10", "rubicCube-1"]
    assert [record.frames[0].rpartition("/img/")[0] for record in records.values()] == [
        "airplane/airplane-3", "cat/cat-2", "cat/cat-10", "rubicCube-1",
    ]  # fmt: skip
    assert {record.object_description for record in records.values()} == {"airplane", "cat", "rubicCube"}
    assert records["cat-2"].absent is None


def test_lasot_splits_are_those_of_the_lists(tmp_path: Path):
    root = tmp_path / "lasot"
    for number in (1, 2, 3):
        lasot(root / "cat" / f"cat-{number}")
    text(root / "training_set.txt", "cat-3\r\n\r\ncat-1\r\ncat-3\r\n")
    assert list(converted("lasot", root, "train")) == ["cat-3", "cat-1"]
    assert list(converted("lasot", root, "all")) == ["cat-1", "cat-2", "cat-3"]
    with pytest.raises(SourceError, match=r"no .*testing_set\.txt.*LaSOT's page of results"):
        list(read("lasot", root, Options(split="test")))
    text(root / "testing_set.txt", "cat-2\ncat-9\n")
    told = convert("lasot", root, tmp_path / "test.jsonl", Options(split="test"))
    assert told.lines == 1 and "cat/cat-9/groundtruth.txt" in told.failed["cat-9"]
    text(root / "testing_set.txt", "cat-2\n../cat-1\n")
    with pytest.raises(InputError, match=r"line 2, '../cat-1', is no name of a sequence"):
        list(read("lasot", root, Options(split="test")))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("groundtruth.txt", "1,1,5,5\n1,1,5\n1,1,5,5", r"line 2 has 3 numbers, not 4"),
        ("groundtruth.txt", "1,1,5,five\n", r"groundtruth\.txt holds something else than numbers"),
        ("groundtruth.txt", "\n", r"groundtruth\.txt holds no box"),
        ("groundtruth.txt", "1,1,5,5\n" * 4, r"full_occlusion\.txt has 3 entries for 4 boxes"),
        ("out_of_view.txt", "0,0,0,0", r"out_of_view\.txt has 4 entries for 3 boxes"),
        ("out_of_view.txt", "0,2,0", r"out_of_view\.txt: entry 2 is 2"),
        ("full_occlusion.txt", None, r"Cannot read .*full_occlusion\.txt"),
        ("img/00000002.jpg", None, r"img has no image of the number 2"),
        ("img/00000001.jpg", "no image", r"Cannot read the image .*00000001\.jpg"),
        ("img/02.jpg", "another", r"img has two images of the number 2"),
    ],
)
def test_what_is_broken_in_lasot_is_told(name: str, content: str | None, told: str, tmp_path: Path):
    file = lasot(tmp_path / "cat" / "cat-1") / name
    text(file, content) if content is not None else file.unlink()
    with pytest.raises(ElysiumError, match=told):
        list(read("lasot", tmp_path))


def test_what_is_no_lasot_is_told(tmp_path: Path):
    (tmp_path / "cat").mkdir()
    with pytest.raises(InputError, match="holds no sequence of LaSOT"):
        list(read("lasot", tmp_path))
    with pytest.raises(SourceError, match=r"There is no folder .*nowhere"):
        list(read("lasot", tmp_path / "nowhere"))
    (tmp_path / "cat" / "cat-1").mkdir()
    (tmp_path / "cat-1").mkdir()
    with pytest.raises(InputError, match="holds cat/cat-1 and cat-1"):
        list(read("lasot", tmp_path))


# GOT-10k

META = """[METAINFO]
url: https://youtu.be/P-fKM-2DHoM
anno_fps: 10Hz
object_class: african elephant
motion_class: walking
resolution: (40, 20)
"""


def got10k(folder: Path, boxes: str = "1,1,10,5\n" * 3, absence: str = "", cover: str = "", meta: str = META) -> Path:
    count = len(boxes.split())
    images(folder, range(1, count + 1), 8)
    text(folder / "groundtruth.txt", boxes)
    text(folder / "absence.label", absence or "0\n" * count)
    text(folder / "cover.label", cover or "8\n" * count)
    text(folder / "cut_by_image.label", "0\n" * count)
    text(folder / "meta_info.ini", meta)
    return folder


def test_got10k_counts_pixels_from_one_and_knows_absence(tmp_path: Path):
    boxes = "1.0000,1.0000,10.0000,5.0000\n3.5,2,4,4\n5,5,9,9\n5,5,9,9\n-1,-1,-1,-1\n9,9,0,5\n"
    got10k(tmp_path / "train" / "GOT-10k_Train_000001", boxes, "0\n0\n1\n0\n0\n0\n", "8\n1\n4\n0\n8\n8\n")
    (record,) = converted("got10k", tmp_path).values()
    assert pixels(record) == [[0, 0, 10, 5], [2.5, 1, 6.5, 5], None, None, None, None]
    assert record.frames[1] == "train/GOT-10k_Train_000001/00000002.jpg" and len(record.frames) == 6
    assert record.times_s == pytest.approx([0, 0.1, 0.2, 0.3, 0.4, 0.5])
    assert (record.object_class, record.object_description) == ("african elephant", "african elephant")
    assert record.metadata == {
        "url": "https://youtu.be/P-fKM-2DHoM", "anno_fps": "10Hz", "motion_class": "walking", "resolution": "(40, 20)",
    }  # fmt: skip
    assert (record.source, record.vid) == ("GOT-10k", "GOT-10k_Train_000001")


def test_got10k_is_a_folder_of_splits_or_one_of_them(tmp_path: Path):
    root = tmp_path / "got"
    for split, numbers in (("Train", (1, 2)), ("Val", (7, 10))):
        for number in numbers:
            got10k(root / split.lower() / f"GOT-10k_{split}_{number:06d}", meta=META.replace("10Hz", "?"))
    text(root / "train" / "list.txt", "GOT-10k_Train_000002\nGOT-10k_Train_000001\n")
    assert list(converted("got10k", root)) == ["GOT-10k_Train_000002", "GOT-10k_Train_000001"]  # as listed
    val = converted("got10k", root, "val")
    assert list(val) == ["GOT-10k_Val_000007", "GOT-10k_Val_000010"]  # no list
    assert val["GOT-10k_Val_000007"].times_s is None
    alone = converted("got10k", root / "val")
    assert list(alone) == list(val)
    assert alone["GOT-10k_Val_000010"].frames[0] == "GOT-10k_Val_000010/00000001.jpg"
    with pytest.raises(InputError, match="holds the split train, not val"):
        list(read("got10k", root / "train", Options(split="val")))


def test_got10k_has_no_boxes_for_its_test_split(tmp_path: Path):
    folder = got10k(tmp_path / "test" / "GOT-10k_Test_000001")
    text(folder / "groundtruth.txt", "1,1,5,5\n")
    for root, split in ((tmp_path, "test"), (tmp_path / "test", None)):
        with pytest.raises(InputError, match="publishes no boxes of its split test but those of the first frames"):
            list(read("got10k", root, Options(split=split)))


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        ("groundtruth.txt", "1,1,5,5\n", r"groundtruth\.txt has 1 entries for 3 images"),
        ("absence.label", "0\n0\n", r"absence\.label has 2 entries for 3 boxes"),
        ("absence.label", "0\n0\n7\n", r"absence\.label: entry 3 is 7"),
        ("cover.label", "8\n9\n8\n", r"cover\.label: entry 2 is 9"),
        ("cover.label", None, r"Cannot read .*cover\.label"),
        ("meta_info.ini", None, r"Cannot read .*meta_info\.ini"),
        ("meta_info.ini", "[METAINFO]\nanno_fps: 10Hz\n", r"meta_info\.ini has no object_class"),
        ("meta_info.ini", "[METAINFO]\nobject_class bear\n", r"line 2, 'object_class bear', has no colon"),
        ("00000003.jpg", picture(20, 10), r"begins with frames of 40x20 and ends with 20x10"),
        ("../list.txt", "GOT-10k_Train_000001\n../../etc\n", r"line 2, '../../etc', is no name of a sequence"),
    ],
)
def test_what_is_broken_in_got10k_is_told(name: str, content: str | bytes | None, told: str, tmp_path: Path):
    file = got10k(tmp_path / "train" / "GOT-10k_Train_000001") / name
    if content is None:
        file.unlink()
    else:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ElysiumError, match=told):
        list(read("got10k", tmp_path))


def test_what_is_no_got10k_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="holds neither train/ nor a sequence"):
        list(read("got10k", tmp_path))
    with pytest.raises(SourceError, match=r"There is no folder .*nowhere"):
        list(read("got10k", tmp_path / "nowhere"))


# TrackingNet


def trackingnet(part: Path, name: str, boxes: str = "0,0,10,5\n" * 3) -> None:
    images(part / "frames" / name, range(len(boxes.splitlines())), 1)
    text(part / "anno" / f"{name}.txt", boxes)


def test_trackingnet_counts_pixels_and_frames_from_zero(tmp_path: Path):
    root = tmp_path / "net"
    boxes = " 0.00,0.00,10.00,5.00\n-4.00,2.00,6.00,4.00\n38.50,18.00,5.00,5.00\n50,1,4,4\n" + "1,1,2,2\n" * 8
    trackingnet(root / "TRAIN_0", "-3TIfnTSM6c_2", boxes)
    trackingnet(root / "TRAIN_10", "0Ah0DHbJ6Uw_0")
    trackingnet(root / "TRAIN_2", "0Ah0DHbJ6Uw_10")
    trackingnet(root / "TRAIN_2", "0Ah0DHbJ6Uw_9")
    trackingnet(root / "TEST", "zzz_0", "0,0,9,9\n")
    records = converted("trackingnet", root)
    assert list(records) == [
        "TRAIN_0/-3TIfnTSM6c_2", "TRAIN_2/0Ah0DHbJ6Uw_9", "TRAIN_2/0Ah0DHbJ6Uw_10", "TRAIN_10/0Ah0DHbJ6Uw_0",
    ]  # fmt: skip
    record = records["TRAIN_0/-3TIfnTSM6c_2"]
    assert pixels(record)[:5] == [[0, 0, 10, 5], [0, 2, 2, 6], [38.5, 18, 40, 20], None, [1, 1, 3, 3]]
    assert record.frames == [f"TRAIN_0/frames/-3TIfnTSM6c_2/{i}.jpg" for i in range(12)]
    assert (record.source, record.vid, record.object_class) == ("TrackingNet", "-3TIfnTSM6c_2", "")


def test_what_is_wrong_with_trackingnet_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="holds no folder TRAIN_0 to TRAIN_11"):
        list(read("trackingnet", tmp_path))
    with pytest.raises(InputError, match="publishes no boxes of its split test"):
        list(read("trackingnet", tmp_path, Options(split="test")))
    (tmp_path / "TRAIN_0").mkdir()
    with pytest.raises(SourceError, match=r"There is no folder '.*anno'"):
        list(read("trackingnet", tmp_path))
    text(tmp_path / "TRAIN_0" / "anno" / "a_0.txt", "0,0,4,4\n" * 3)
    with pytest.raises(SourceError, match=r"There is no folder '.*frames.a_0'"):
        list(read("trackingnet", tmp_path))
    images(tmp_path / "TRAIN_0" / "frames" / "a_0", (0, 1), 1)
    with pytest.raises(InputError, match=r"a_0\.txt has 3 entries for 2 images"):
        list(read("trackingnet", tmp_path))
    images(tmp_path / "TRAIN_0" / "frames" / "a_0", (3,), 1)
    with pytest.raises(SourceError, match="has no image of the number 2"):
        list(read("trackingnet", tmp_path))


# UAV123


def test_the_pieces_of_uav123_add_up_to_its_frames():
    short, long = pieces("UAV123"), pieces("UAV20L")
    assert (len(short), sum(last - first + 1 for _, first, last in short.values())) == (123, 112578)
    assert (len(long), sum(last - first + 1 for _, first, last in long.values())) == (20, 58670)
    assert short["bird1_2"] == ("bird1", 775, 1477) and long["bird1"] == ("bird1", 1, 2437)
    assert short["car1_s"] == ("car1_s", 1, 1475) and short["uav1_3"] == ("uav1", 2473, 3469)
    assert {video for video, _, _ in long.values()} <= {video for video, _, _ in short.values()}


def test_uav123_takes_the_frames_of_the_piece_and_counts_pixels_from_one(tmp_path: Path):
    root = tmp_path / "uav"
    images(root / "data_seq" / "UAV123" / "person8", range(1070, 1526), 6)
    images(root / "data_seq" / "UAV123" / "uav6", range(1, 110), 6)
    lines = ["1,1,10,5", "NaN,NaN,NaN,NaN", *["3,4,5,6"] * 449]
    text(root / "anno" / "UAV123" / "person8_2.txt", "\n".join(lines))
    text(root / "anno" / "UAV123" / "uav6.txt", "2,2,3,3\n" * 109)
    text(root / "anno" / "UAV123" / "att" / "uav6.txt", "0,0,1")
    records = converted("uav123", root)
    assert list(records) == ["person8_2", "uav6"]
    record = records["person8_2"]
    assert pixels(record)[:3] == [[0, 0, 10, 5], None, [2, 3, 7, 9]] and len(record.frames) == 451
    assert record.frames[0] == "data_seq/UAV123/person8/001075.jpg"
    assert record.frames[-1] == "data_seq/UAV123/person8/001525.jpg"
    assert (record.source, record.vid, record.object_class) == ("UAV123", "person8", "person")
    assert record.metadata == {"first_frame": 1075, "last_frame": 1525}
    assert records["uav6"].object_description == "uav"


def test_uav20l_is_a_split(tmp_path: Path):
    root = tmp_path / "uav"
    images(root / "data_seq" / "UAV123" / "car3", range(1, 1718), 6)
    text(root / "anno" / "UAV20L" / "car3.txt", "1,1,10,5\n" * 1717)
    (record,) = converted("uav123", root, "UAV20L").values()
    assert (record.source, record.id, len(record.frames)) == ("UAV20L", "car3", 1717)
    with pytest.raises(SourceError, match=r"There is no folder '.*anno.UAV123'"):
        list(read("uav123", root))


@pytest.mark.parametrize(
    ("name", "boxes", "numbers", "told"),
    [
        ("uav6", 108, range(1, 110), r"uav6\.txt has 108 entries for 109 images"),
        ("uav6", 109, [*range(1, 50), *range(51, 111)], r"uav6 has no image of the number 50"),
        ("uav99", 3, range(1, 4), r"uav99\.txt is no sequence of UAV123"),
    ],
)
def test_what_is_broken_in_uav123_is_told(name: str, boxes: int, numbers: Iterable[int], told: str, tmp_path: Path):
    (tmp_path / "anno" / "UAV123").mkdir(parents=True)
    images(tmp_path / "data_seq" / "UAV123" / name, numbers, 6)
    with pytest.raises(InputError, match=r"UAV123 holds no <sequence>\.txt"):
        list(read("uav123", tmp_path))
    text(tmp_path / "anno" / "UAV123" / f"{name}.txt", "1,1,2,2\n" * boxes)
    with pytest.raises(ElysiumError, match=told):
        list(read("uav123", tmp_path))


# OTB


def otb(folder: Path, boxes: str = "1,1,10,5\n" * 3, file: str = "groundtruth_rect.txt") -> Path:
    images(folder / "img", range(1, len(boxes.splitlines()) + 1), 4)
    text(folder / file, boxes)
    return folder


def test_otb_counts_pixels_from_one_between_any_separators(tmp_path: Path):
    otb(tmp_path / "Crossing", "1,1,10,5\n2\t3\t4\t5\r\n31  16 10 5\n0,0,4,4\n5,5,0,0\n")
    (record,) = converted("otb100", tmp_path).values()
    assert pixels(record) == [[0, 0, 10, 5], [1, 2, 5, 7], [30, 15, 40, 20], [0, 0, 3, 3], None]
    assert record.frames == [f"Crossing/img/000{i}.jpg" for i in range(1, 6)]
    assert (record.source, record.id, record.vid, record.object_class) == ("OTB100", "Crossing", "Crossing", "")


def test_otb_sequences_may_have_several_objects(tmp_path: Path):
    root = tmp_path / "otb"
    otb(root / "Jogging", file="groundtruth_rect.1.txt")
    text(root / "Jogging" / "groundtruth_rect.2.txt", "2,2,3,3\n" * 3)
    otb(root / "Human4", file="groundtruth_rect.2.txt")
    text(root / "Human4" / "groundtruth_rect.1.txt", "\n")
    otb(root / "Car24")
    otb(root / "Car4")
    text(root / "readme" / "notes.txt", "not a sequence")
    records = converted("otb100", root)
    assert list(records) == ["Car4", "Car24", "Human4.2", "Jogging.1", "Jogging.2"]
    assert pixels(records["Jogging.2"])[0] == [1, 1, 4, 4] and pixels(records["Jogging.1"])[0] == [0, 0, 10, 5]
    assert {records[name].vid for name in ("Jogging.1", "Jogging.2")} == {"Jogging"}
    assert records["Jogging.1"].frames == records["Jogging.2"].frames


@pytest.mark.parametrize(
    ("name", "numbers", "boxes", "first", "last"),
    [
        ("David", range(1, 771), 471, 300, 770),
        ("Football1", range(1, 82), 74, 1, 74),
        ("Freeman3", range(1, 475), 460, 1, 460),
        ("Freeman4", range(1, 298), 283, 1, 283),
        ("Diving", range(1, 232), 215, 1, 215),
        ("BlurCar1", range(1, 989), 742, 247, 988),
        ("BlurCar3", range(1, 360), 357, 3, 359),
        ("BlurCar4", range(18, 398), 380, 18, 397),  # nothing but the piece
        ("BlurCar3", range(1, 358), 357, 1, 357),  # the same, counted anew
        ("Tiger1", range(1, 355), 354, 6, 354),
        ("Tiger1", range(6, 355), 349, 6, 354),
        ("Tiger2", range(1, 9), 8, 1, 8),
    ],
)
def test_otb_takes_the_official_frames(name: str, numbers: range, boxes: int, first: int, last: int, tmp_path: Path):
    folder = tmp_path / "otb" / name
    images(folder / "img", numbers, 4)
    text(folder / "groundtruth_rect.txt", "".join(f"1,1,{1 + i * 39 / boxes},5\n" for i in range(boxes)))
    (record,) = converted("otb100", tmp_path / "otb").values()
    assert record.frames == [f"{name}/img/{number:04d}.jpg" for number in range(first, last + 1)]
    left_out = boxes - len(record.frames)
    assert record.boxes_xyxy[0, 2] == pytest.approx(1 + left_out * 39 / boxes, abs=1e-4)
    assert record.boxes_xyxy[-1, 2] == pytest.approx(40 - 39 / boxes, abs=1e-4)


def test_what_is_wrong_with_otb_is_told(tmp_path: Path):
    with pytest.raises(InputError, match="holds no sequence of OTB"):
        list(read("otb100", tmp_path))
    folder = tmp_path / "David"
    images(folder / "img", range(1, 12), 4)
    with pytest.raises(SourceError, match=r"Cannot read .*David.groundtruth_rect\.txt"):
        list(read("otb100", tmp_path))
    text(folder / "groundtruth_rect.txt", "1,1,4,4\n" * 10)
    with pytest.raises(InputError, match=r"has 10 entries for 471 images"):
        list(read("otb100", tmp_path))
    folder = folder.rename(tmp_path / "Coke")
    with pytest.raises(InputError, match=r"groundtruth_rect\.txt has 10 entries for 11 images"):
        list(read("otb100", tmp_path))
    for image in (folder / "img").iterdir():
        image.unlink()
    with pytest.raises(SourceError, match=r"img holds no images"):
        list(read("otb100", tmp_path))


# Real sequences


def linked(source: Path, target: Path, images_as: str, boxes_as: str) -> Path:
    target.mkdir(parents=True)
    (target / images_as).symlink_to(source / "frames", target_is_directory=True)
    (target / boxes_as).symlink_to(source / "groundtruth.txt")
    return target


def test_real_sequences_of_otb_are_where_the_sequences_converter_has_them(tmp_path: Path, shared_dir: Path):
    sequences = shared_dir / "data" / "sequences"
    for source in sequences.glob("otb_*"):
        name = source.name.removeprefix("otb_")
        if name == "Jogging1":
            linked(source, tmp_path / "otb" / "Jogging", "img", "groundtruth_rect.1.txt")
        else:
            linked(source, tmp_path / "otb" / name, "img", "groundtruth_rect.txt")
    expected = {record.id.removeprefix("otb_"): record for record in read_sequences(sequences) if "otb_" in record.id}
    records = converted("otb100", tmp_path / "otb")
    assert {name.replace(".", "") for name in records} == set(expected) and "Jogging.1" in records
    for name, record in records.items():
        wanted = expected[name.replace(".", "")]
        np.testing.assert_allclose(record.boxes_xyxyn, wanted.boxes_xyxyn.clip(0, 1), atol=1e-6)
        assert [Path(frame).name for frame in record.frames] == [Path(frame).name for frame in wanted.frames]


def test_real_boxes_in_the_layout_of_lasot_are_a_pixel_further_left_and_up(tmp_path: Path, shared_dir: Path):
    """The boxes of DAVIS count from 0; read as LaSOT's, which count from 1, they move by one."""
    sequences = shared_dir / "data" / "sequences"
    folder = linked(sequences / "davis16_goat", tmp_path / "lasot" / "goat" / "goat-1", "img", "groundtruth.txt")
    (wanted,) = (record for record in read_sequences(sequences) if record.id == "davis16_goat")
    for labels in ("full_occlusion.txt", "out_of_view.txt"):
        text(folder / labels, ",".join("0" * len(wanted.frames)))
    (record,) = converted("lasot", tmp_path / "lasot").values()
    moved = (wanted.boxes_xyxy - 1).clip(0, np.tile(np.array(wanted.frame_size), 2))
    np.testing.assert_allclose(record.boxes_xyxy, moved, atol=1e-3)
    assert record.frame_size == wanted.frame_size and len(record.frames) == len(wanted.frames)
