"""Masks, polygons and tracks of several objects as records: VOT, DAVIS, TNL2K, MOTChallenge, CVAT."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from elysium.data.convert.base import Options
from elysium.data.convert.parts import image_size
from elysium.data.convert.registry import converter, read
from elysium.data.convert.run import convert
from elysium.data.records import read_records, validate_records
from elysium.errors import ElysiumError, InputError, SourceError

SIZE = (40, 20)


def images(folder: Path, *names: str, size=SIZE) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(np.zeros(size[::-1], np.uint8)).save(folder / name)
    return folder


def written(name: str, source: Path, out: Path, root: Path | None = None, **options):
    """The records of a file that the converter has written and the checks find nothing in, images looked at."""
    told = convert(name, source, out / "out.jsonl", Options(**options), workers=1)
    root = root or source
    assert told.failed == {}
    assert list(validate_records(out / "out.jsonl", image_size=lambda frame: image_size(root / frame))) == []
    records = list(read_records(out / "out.jsonl"))
    assert all((root / frame).is_file() for record in records for frame in record.frames)
    assert len(records) == told.lines
    return records


def boxes(record) -> list[list[float] | None]:
    """Pixels, None where the object is absent."""
    return [None if np.isnan(row).any() else np.round(row, 3).tolist() for row in record.boxes_xyxy]


# VOT


def vot(root: Path, name: str, truth: str, place: str = "color", frames: int = 1, **objects: str) -> Path:
    images(root / name / place, *(f"{number:08d}.jpg" for number in range(1, frames + 1)))
    for thing, text in objects.items():
        (root / name / f"groundtruth_{thing}.txt").write_text(text)
    if truth:
        (root / name / "groundtruth.txt").write_text(truth)
    with (root / "list.txt").open("a") as file:
        file.write(f"{name}\n")
    return root / name


@pytest.mark.parametrize(
    ("line", "box"),
    [
        ("4,2,10,6", [4, 2, 14, 8]),  # a rectangle, from 0: the first pixel of the frame is at 0
        ("0,0,40,20", [0, 0, 40, 20]),
        ("12.5,3,30,8,20,17.25,2.5,12", [2.5, 3, 30, 17.25]),
        ("5,5,9,5,7,11", [5, 5, 9, 11]),  # three corners
        ("-3,-2,8,5", [0, 0, 5, 3]),
        ("50,2,5,5", None),  # outside of the frame
        ("0", None), ("1", None), ("2", None), ("4,2,0,6", None),
        ("nan,nan,nan,nan", None), ("1,1,inf,5", None), ("1,2,nan,2,3,4,1,4", None),
        # 4 x 3 pixels from (10, 5):  .... / .##. / .#..
        ("m10,5,4,3,5,2,2,1,2", [11, 6, 13, 8]),
        ("m10,5,4,3,0,1,11", [10, 5, 11, 6]),  # the first pixel alone
        ("m10,5,4,3,11,1", [13, 7, 14, 8]),  # the last
        ("m10,5,4,3,2,3,7", [10, 5, 14, 7]),  # a run over the end of a row: both sides
        ("m10,5,4,3,12", None), ("m0,0,0,0,0", None),
    ],
)  # fmt: skip
def test_regions_of_vot(line, box, tmp_path):
    vot(tmp_path, "ball", line + "\n")
    (record,) = read("vot", tmp_path)
    assert boxes(record) == [box] and record.absent == (None if box else [True])


def test_sequences_of_vot_in_the_order_of_their_list(tmp_path):
    root = tmp_path / "vot"
    vot(root, "b10", "4,2,10,6\n0\n0,0,4,4\n", frames=3)
    vot(root, "b9", "1\n3,3,5,5\n", place=".", frames=2)
    (root / "b10" / "occlusion.tag").write_text("0\n1\n1\n")
    (root / "b10" / "camera_motion.label").write_text("1\n0\n0\n")
    first, second = written("vot", root, tmp_path)
    assert (first.id, first.vid, first.source, first.frame_size) == ("b10", "b10", "VOT", (40, 20))
    assert first.frames == [f"b10/color/0000000{n}.jpg" for n in (1, 2, 3)]
    assert boxes(first) == [[4, 2, 14, 8], None, [0, 0, 4, 4]] and first.absent == [False, True, False]
    assert first.metadata == {"tags": {"camera_motion": 1, "occlusion": 2}}
    assert second.frames == ["b9/00000001.jpg", "b9/00000002.jpg"] and second.metadata == {}
    (root / "list.txt").unlink()
    assert [record.id for record in read("vot", root)] == ["b9", "b10"]


def test_several_objects_of_vot(tmp_path):
    vot(tmp_path / "v", "zoo", "", cat="1,1,2,2", dog10="3,3,2,2", dog9="5,5,2,2")
    records = written("vot", tmp_path / "v", tmp_path)
    assert [(record.id, record.vid) for record in records] == [
        ("zoo/cat", "zoo"), ("zoo/dog9", "zoo"), ("zoo/dog10", "zoo"),
    ]  # fmt: skip
    assert boxes(records[2]) == [[3, 3, 5, 5]]


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        ("1,2,3,4\n1,2,3\n", r"groundtruth.txt, line 2: '1,2,3' is no region. Write a rectangle"),
        ("1,2,3,4\n\na,b,c,d\n", "line 3: 'a,b,c,d' is no region"),
        ("m0,0,2,2,9\n1\n", "line 1: 'm0,0,2,2,9' is no region"),
        ("m0,0,2,2,-1,5\n1\n", "is no region"),
        ("m0,0\n1\n", "is no region"),
        ("m0,0,99999999999999999999,9,0,99999999999999999999\n1\n", "is no region"),
        ("1,2,3,4\n", "has 1 entries for 2 images"),
    ],
)
def test_broken_vot(truth, sentence, tmp_path):
    vot(tmp_path, "ball", truth, frames=2)
    with pytest.raises(InputError, match=sentence):
        list(read("vot", tmp_path))


def test_missing_parts_of_vot(tmp_path):
    with pytest.raises(InputError, match="holds no sequence"):
        list(read("vot", tmp_path))
    with pytest.raises(SourceError, match="There is no folder"):
        list(read("vot", tmp_path / "nowhere"))
    vot(tmp_path, "ball", "")
    with pytest.raises(SourceError, match=r"ball has no groundtruth.txt"):
        list(read("vot", tmp_path))
    (tmp_path / "list.txt").write_text(f"../{tmp_path.name}\n")
    with pytest.raises(SourceError, match=r"list.txt names '../"):
        list(read("vot", tmp_path))
    (tmp_path / "list.txt").write_text("empty\n")
    (tmp_path / "empty").mkdir()
    (tmp_path / "empty" / "groundtruth.txt").write_text("1\n")
    with pytest.raises(SourceError, match="empty holds no images"):
        list(read("vot", tmp_path))


# DAVIS


def mask(path: Path, mode: str = "P", size=SIZE, **areas) -> None:
    """Each area (x1, y1, x2, y2), its last pixels included, filled with the value in its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.zeros(size[::-1], np.uint8)
    for name, (x1, y1, x2, y2) in areas.items():
        values[y1 : y2 + 1, x1 : x2 + 1] = int(name[1:])
    image = Image.fromarray(values)
    if mode == "P":
        image.putpalette([level for colour in range(256) for level in (255 - colour, colour, 7)])
    image = image if mode == "P" else image.convert(mode)
    image.save(path)


@pytest.fixture
def davis(tmp_path):
    root = tmp_path / "DAVIS"
    images(root / "JPEGImages/480p/dogs-scale", "00000.jpg", "00001.jpg", "00010.jpg")
    annotations = root / "Annotations/480p"
    mask(annotations / "dogs-scale/00000.png", v1=(3, 2, 5, 2), v2=(0, 0, 0, 0), v255=(30, 10, 39, 19))
    mask(annotations / "dogs-scale/00001.png", v2=(39, 19, 39, 19))
    mask(annotations / "dogs-scale/00010.png", v1=(0, 0, 39, 19))
    images(root / "JPEGImages/480p/bear", "00000.jpg")
    mask(annotations / "bear/00000.png", v1=(1, 1, 2, 2))
    (root / "ImageSets/2017").mkdir(parents=True)
    (root / "ImageSets/2017/train.txt").write_text("dogs-scale\n")
    (root / "ImageSets/2017/val.txt").write_text("bear\n\n")
    return root


def test_objects_of_davis(davis, tmp_path):
    first, second = written("davis", davis, tmp_path)
    assert (first.id, first.vid, second.id) == ("dogs-scale/1", "dogs-scale", "dogs-scale/2")
    assert first.frames == [f"JPEGImages/480p/dogs-scale/{n}.jpg" for n in ("00000", "00001", "00010")]
    assert boxes(first) == [[3, 2, 6, 3], None, [0, 0, 40, 20]]  # the pixels 3 to 5 end at 6
    assert boxes(second) == [[0, 0, 1, 1], [39, 19, 40, 20], None] and second.absent == [False, False, True]
    assert first.object_class == "" and first.expressions is None


@pytest.mark.parametrize(
    ("split", "ids"),
    [
        ("train", ["dogs-scale/1", "dogs-scale/2"]),
        ("val", ["bear/1"]),
        ("all", ["dogs-scale/1", "dogs-scale/2", "bear/1"]),
    ],
)
def test_splits_of_davis(split, ids, davis, tmp_path):
    assert [record.id for record in written("davis", davis, tmp_path, split=split)] == ids


def test_words_of_davis(davis, tmp_path):
    texts = davis / "davis_text_annotations"
    texts.mkdir()
    (texts / "Davis17_annot1.txt").write_text('bear 1 "a  bear"\ndog-scale 1 "a dog left"\ndog-scale 2 "a scale"\n')
    (texts / "Davis17_annot1_full_video.txt").write_text('dog-scale 1 "a dog that turns"\n')
    lines = 'dog-scale 1 "a café dog"\r\ndog-scale 2 "a scale"\r\n'
    (texts / "Davis17_annot2.txt").write_bytes(lines.encode("latin-1"))
    (davis / "davis_semantics.json").write_text(json.dumps({"dogs-scale": {"1": "dog"}}))
    dog, scale, bear = written("davis", davis, tmp_path, split="all")
    assert (dog.object_class, dog.object_description) == ("dog", "a dog left")
    assert dog.expressions == ["a dog left", "a café dog", "a dog that turns"]
    assert (scale.object_class, scale.object_description, scale.expressions) == ("", "a scale", ["a scale"])
    assert bear.expressions == ["a bear"]


@pytest.mark.parametrize("mode", ["L", "1", "RGBA"])
def test_black_and_white_masks_of_davis_2016(mode, tmp_path):
    root = tmp_path / "DAVIS"
    images(root / "JPEGImages/480p/bear", "00000.jpg", "00001.jpg")
    mask(root / "Annotations/480p/bear/00000.png", mode, v255=(3, 2, 5, 9))
    mask(root / "Annotations/480p/bear/00001.png", mode)
    (root / "ImageSets/480p").mkdir(parents=True)
    lines = (f"/JPEGImages/480p/bear/{n}.jpg /Annotations/480p/bear/{n}.png\n" for n in ("00000", "00001"))
    (root / "ImageSets/480p/train.txt").write_text("".join(lines))
    (record,) = written("davis", root, tmp_path)
    assert record.id == "bear/1" and boxes(record) == [[3, 2, 6, 10], None]


def test_broken_davis(davis):
    def told(sentence: str, error: type[ElysiumError] = InputError) -> None:
        with pytest.raises(error, match=sentence):
            list(read("davis", davis))

    folder = davis / "Annotations/480p/dogs-scale"
    mask(folder / "00001.png", size=(20, 20))
    told(r"00001.png is 20 x 20 pixels, its image 40 x 20")
    Image.new("RGB", SIZE, (128, 0, 0)).save(folder / "00001.png")
    told(r"00001.png is in colours. Save it with a palette")
    (folder / "00001.png").write_bytes(b"no image")
    told(r"Cannot read the mask .*00001.png", SourceError)
    (folder / "00001.png").unlink()
    told("dogs-scale: '00001' is not there as both image and mask")
    (davis / "davis_semantics.json").write_text("[1]")
    told("davis_semantics.json does not say")
    (davis / "davis_semantics.json").unlink()
    (davis / "davis_text_annotations").mkdir()
    (davis / "davis_text_annotations/Davis17_annot2.txt").write_text('bear 1 "a bear"\nbear "a bear"\n')
    told("annot2.txt, line 2 is not <sequence> <object>")
    (davis / "ImageSets/2017/train.txt").write_text("\n")
    told("names no sequence")
    (davis / "ImageSets/2017/train.txt").unlink()
    told(r"Cannot read .*train.txt", SourceError)
    (davis / "Annotations/480p").rename(davis / "Annotations/other")
    told("has no JPEGImages/480p with Annotations/480p")


# TNL2K


def tnl2k(root: Path, name: str, truth: str, words: str | None = "the red car\n", frames: int = 2) -> Path:
    images(root / name / "imgs", *(f"{number}.jpg" for number in range(1, frames + 1)))
    (root / name / "groundtruth.txt").write_text(truth)
    if words is not None:
        (root / name / "language.txt").write_text(words)
    return root / name


def test_sequences_of_tnl2k(tmp_path):
    root = tmp_path / "TNL2K"
    folder = tnl2k(root, "car_2", "0,1,10,5\n" * 10 + "4,4,0,5\n", "the  red\ncar \n", frames=11)
    (folder / "attributes.txt").write_text("1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,1\n")
    tnl2k(root / "part", "INF_run1", "1,1,2,2\n3,3,2,2\n", "")
    car, run = written("tnl2k", root, tmp_path)
    assert (car.id, car.source, car.object_description) == ("car_2", "TNL2K", "the red car")
    assert car.frames == [f"car_2/imgs/{n}.jpg" for n in range(1, 12)]
    assert boxes(car)[0] == [0, 1, 10, 6] and boxes(car)[10] is None and car.absent[9:] == [False, True]
    assert car.metadata == {"attributes": ["CM", "MS"]}
    assert (run.id, run.object_description) == ("part/INF_run1", "") and run.metadata == {}


@pytest.mark.parametrize(
    ("truth", "words", "sentence"),
    [
        ("1,1,2,2\n" * 3, "a", "has 3 lines for 2 images. They must be as many; the authors have published"),
        ("1,1,2\n" * 2, "a", "line 1 has 3 numbers, not 4"),
        ("1,1,2,x\n" * 2, "a", "holds something else than numbers"),
        ("1,1,2,2\n" * 2, None, "Cannot read .*language.txt"),
    ],
)
def test_broken_tnl2k(truth, words, sentence, tmp_path):
    tnl2k(tmp_path, "car", truth, words)
    with pytest.raises(ElysiumError, match=sentence):
        list(read("tnl2k", tmp_path))


def test_missing_parts_of_tnl2k(tmp_path):
    with pytest.raises(InputError, match="holds no sequence"):
        list(read("tnl2k", tmp_path))
    folder = tnl2k(tmp_path, "car", "1,1,2,2\n" * 2)
    (folder / "attributes.txt").write_text("1,0\n")
    with pytest.raises(InputError, match=r"attributes.txt has 2 numbers, not 17"):
        list(read("tnl2k", tmp_path))
    (folder / "imgs/1.jpg").unlink()
    (folder / "imgs/2.jpg").unlink()
    with pytest.raises(SourceError, match="imgs holds no images"):
        list(read("tnl2k", tmp_path))


# MOTChallenge


INFO = "[Sequence]\nname=s\nimDir=img1\nframeRate=10\nseqLength=5\nimWidth=40\nimHeight=20\nimExt=.jpg\n"


def mot(folder: Path, truth: str, frames: int = 5, info: str = INFO) -> Path:
    images(folder / "img1", *(f"{number:06d}.jpg" for number in range(1, frames + 1)))
    (folder / "gt").mkdir()
    (folder / "gt/gt.txt").write_text(truth)
    if info:
        (folder / "seqinfo.ini").write_text(info)
    return folder


TRUTH = (
    "2,7,1,1,10,5,1,1,1\n"  # begins at the first pixel of the frame: frames and pixels count from 1
    "4,7,31,16,20,20,1,1,0.5\n"  # none in frame 3, and sticks out of frame 4
    "5,7,5,5,4,4,1,1,0\n"  # nothing visible of it
    "1,3,11,6,4,4,1,3,1\n"
    "3,3,1,1,4,4,0,3,1\n"  # not to be considered
    "1,9,1,1,4,4,0,12,1\n"
    "1,11,1,1,4,4,1,1,0\n"  # never seen
)


def test_tracks_of_mot(tmp_path):
    root = tmp_path / "MOT16"
    mot(root / "train/MOT16-02", TRUTH)
    (root / "test/MOT16-01/img1").mkdir(parents=True)
    car, walker = written("mot", root, tmp_path)
    assert (walker.id, walker.vid, walker.source) == ("MOT16-02/7", "MOT16-02", "MOTChallenge")
    assert walker.frames == [f"train/MOT16-02/img1/00000{n}.jpg" for n in (2, 3, 4, 5)]
    assert boxes(walker) == [[0, 0, 10, 5], None, [30, 15, 40, 20], None]
    assert walker.absent == [False, True, False, True] and walker.times_s == [0.1, 0.2, 0.3, 0.4]
    assert (walker.object_class, walker.object_description) == ("pedestrian", "pedestrian")
    assert (car.id, car.object_class, len(car.frames)) == ("MOT16-02/3", "car", 1)
    assert boxes(car) == [[10, 5, 14, 9]] and car.times_s == [0.0]
    with pytest.raises(InputError, match=r"test holds no sequence with gt/gt.txt. MOTChallenge publishes none"):
        list(read("mot", root, Options("test")))


def test_one_sequence_and_sequences_without_a_train_folder(tmp_path):
    mot(tmp_path / "flat/s10", TRUTH)
    mot(tmp_path / "flat/s9", TRUTH, info="")
    flat = written("mot", tmp_path / "flat", tmp_path)
    assert [record.id for record in flat] == ["s9/3", "s9/7", "s10/3", "s10/7"] and flat[0].times_s is None
    (first, _) = written("mot", tmp_path / "flat/s10", tmp_path)
    assert first.id == "s10/3" and first.frames == ["img1/000001.jpg"]


def test_a_sequence_of_mot17_is_taken_once(tmp_path):
    for detector in ("SDP", "DPM", "FRCNN"):
        mot(tmp_path / f"train/MOT17-02-{detector}", TRUTH)
    mot(tmp_path / "train/MOT17-04-SDP", TRUTH)
    assert [name for name, _ in converter("mot").units(tmp_path, Options("train"))] == ["MOT17-02-DPM", "MOT17-04-SDP"]


@pytest.mark.parametrize(
    ("truth", "labels", "classes"),
    [
        ("1,2,3,4,5,6,-1,-1,-1,-1\n1,3,3,4,5,6,0.87,-1,-1,-1\n", "", ["", ""]),  # what trackers write
        ("1,2,3,4,5,6,1,17.5,0,0\n1,3,3,4,5,6,0,1,2,3\n", "bee\n", ["bee"]),  # MOT15, flag 0 left out
        ("1,2,3,4,5,6\n", "bee\nwasp\n", [""]),
        ("1,2,3,4,5,6,1,2\n", "bee\nwasp\n", ["wasp"]),
        ("1,2,3,4,5,6,1,13\n", "", ["crowd"]),
    ],
)
def test_other_numbers_of_columns(truth, labels, classes, tmp_path):
    folder = mot(tmp_path / "s", truth)
    if labels:
        (folder / "gt/labels.txt").write_text(labels)
    records = written("mot", tmp_path, tmp_path)
    assert [record.object_class for record in records] == classes and boxes(records[0]) == [[2, 3, 7, 9]]


@pytest.mark.parametrize(
    ("truth", "sentence"),
    [
        ("0,1,1,1,2,2,1,1,1\n", "there is no frame 0 or id 1. Frames are whole numbers from 1 to 5"),
        ("6,1,1,1,2,2,1,1,1\n", "there is no frame 6"),
        ("1,1.5,1,1,2,2,1,1,1\n", "or id 1.5"),
        ("1,1,1,1,2,2,1,1,1\n\n1,1,1,1,2,x,1,1,1\n", "gt.txt, line 3 holds something else than numbers"),
        ("1,1,1,1,2,2,1,1,1\n1,2,1,1,2,2,1,1\n", "line 2 has 8 columns. Each line has the same"),
        ("1,1,1,1,2\n", "line 1 has 5 columns"),
        ("1,1,1,1,2,2,1,1,1\n" * 2, "the id 1 is in frame 1 twice"),
        ("1,1,1,1,2,2,1,14,1\n", r"the id 1 is of the class 14, which has no name. .*labels.txt"),
    ],
)
def test_broken_lines_of_mot(truth, sentence, tmp_path):
    mot(tmp_path / "s", truth)
    with pytest.raises(InputError, match=sentence):
        list(read("mot", tmp_path))


@pytest.mark.parametrize(
    ("info", "sentence"),
    [
        ("[Sequence]\nseqLength=6\n", "img1 has 5 images. seqinfo.ini says 6"),
        ("[Sequence]\nframeRate=fast\n", r"seqinfo.ini is not what MOTChallenge writes \(could not"),
        ("frameRate=5\n", "is not what MOTChallenge writes"),
        ("[Sequence]\nframeRate=0\n", "frameRate 0.0 cannot be"),
        ("[Sequence]\nimDir=../x\n", "imDir '../x'"),
        ("[Sequence]\nimDir=pics\n", "There is no folder .*pics"),
    ],
)
def test_broken_seqinfo(info, sentence, tmp_path):
    mot(tmp_path / "s", TRUTH, info=info)
    with pytest.raises(ElysiumError, match=sentence):
        list(read("mot", tmp_path))


def test_no_sequences_of_mot(tmp_path):
    with pytest.raises(InputError, match=r"holds no sequence with gt/gt.txt. Check the path"):
        list(read("mot", tmp_path))


# CVAT

META = """<version>1.1</version><meta><task><id>5</id><name>yard</name><size>3</size><mode>interpolation</mode>
<start_frame>4</start_frame><stop_frame>8</stop_frame><frame_filter>step=2</frame_filter>
<original_size><width>40</width><height>20</height></original_size></task></meta>"""
CORNERS = 'xtl="4.50" ytl="2.00" xbr="14.00" ybr="20.00"'
TRACKS = f"""<track id="0" label="hen" source="manual">
<box frame="4" outside="0" occluded="1" keyframe="1" {CORNERS}>
  <attribute name="breed">white</attribute><attribute name="pose">up</attribute></box>
<box frame="6" outside="1" occluded="0" keyframe="0" {CORNERS}>
  <attribute name="breed">white</attribute><attribute name="pose">down</attribute></box>
</track>
<track id="1" label="egg"><polygon frame="4" points="1,1;2,2;3,3" outside="0"/></track>
<track id="2" label="egg"><box frame="8" outside="0" xtl="0" ytl="0" xbr="40.00" ybr="1"/></track>
<track id="3" label="gone"><box frame="8" outside="1" xtl="0" ytl="0" xbr="40.00" ybr="1"/></track>"""


def cvat(folder: Path, body: str, head: str = '<?xml version="1.0" encoding="utf-8"?>') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "annotations.xml").write_text(f"{head}\n<annotations>{body}</annotations>", encoding="utf-8")
    return folder


FRAMES = ("frame_000004.PNG", "frame_000006.PNG", "frame_000008.PNG")


def test_tracks_of_cvat(tmp_path):
    source = cvat(tmp_path / "export", META + TRACKS)
    images(source / "images", *FRAMES)
    hen, egg = written("cvat", source, tmp_path)
    assert (hen.id, hen.vid, hen.source, hen.object_class) == ("yard/0", "yard", "CVAT", "hen")
    assert hen.frames == [f"images/{name}" for name in FRAMES] == egg.frames
    assert boxes(hen) == [[4.5, 2, 14, 20], None, None]  # taken as they are; then outside; then no box
    assert hen.metadata == {"attributes": {"breed": "white"}} and hen.object_description == "hen"
    assert egg.id == "yard/2" and boxes(egg) == [None, None, [0, 0, 40, 1]] and egg.metadata == {}
    (again, _) = written("cvat", source / "annotations.xml", tmp_path, root=source)
    assert again.frames == hen.frames


def test_images_of_a_task_by_their_order(tmp_path):
    """Not named by CVAT: the frames 4, 6, 8 of <meta> are the images in the order of their numbers."""
    source = cvat(tmp_path / "export", META + TRACKS)
    images(tmp_path / "elsewhere", "a2.jpg", "a10.jpg", "a1.jpg")
    images(tmp_path / "elsewhere/images", "other.jpg")  # the folder that was named is taken, not one in it
    hen, egg = written("cvat", source, tmp_path, root=tmp_path / "elsewhere", images=tmp_path / "elsewhere")
    assert hen.frames == ["a1.jpg", "a2.jpg", "a10.jpg"]
    assert hen.absent == [False, True, True] and egg.absent == [True, True, False]
    (tmp_path / "elsewhere/a1.jpg").unlink()
    with pytest.raises(InputError, match=r"elsewhere has 2 images for 3 frames. Give as many, or name them frame_<n>"):
        list(read("cvat", source, Options(images=tmp_path / "elsewhere")))


def test_images_of_cvat(tmp_path):
    body = """<image id="0" name="a.jpg" width="40" height="20">
      <box label="hen" occluded="0" xtl="1.00" ytl="2.00" xbr="3.50" ybr="4.00" z_order="0">
        <attribute name="breed">white</attribute></box>
      <box label="hen" xtl="50" ytl="2" xbr="60" ybr="4"/>
      <box label="egg" xtl="10" ytl="5" xbr="30" ybr="15" rotation="90.00"/>
      <polygon label="egg" points="1,1;2,2;3,3"/></image>
    <image id="1" name="empty.jpg" width="40" height="20"/>
    <image id="2" name="sub/frame_000002" subset="Train" width="30" height="10">
      <box label="egg" xtl="0" ytl="0" xbr="30" ybr="10"/></image>"""
    source = cvat(tmp_path / "export", body)
    images(source / "images", "a.jpg")
    images(source / "images/Train/sub", "frame_000002.png", size=(30, 10))
    hen, turned, egg = written("cvat", source, tmp_path)
    assert (hen.id, hen.vid, hen.object_class, hen.frames) == ("a.jpg/1", "a.jpg", "hen", ["images/a.jpg"])
    assert boxes(hen) == [[1, 2, 3.5, 4]] and hen.metadata == {"attributes": {"breed": "white"}}
    assert turned.id == "a.jpg/3" and boxes(turned) == [[15, 0, 25, 20]]  # 20 x 10, upright 10 x 20
    assert egg.frames == ["images/Train/sub/frame_000002.png"] and egg.frame_size == (30, 10)
    assert boxes(egg) == [[0, 0, 30, 10]]


def test_images_of_cvat_come_in_chunks(tmp_path):
    image = '<image name="{}.png" width="40" height="20"><box label="hen" xtl="1" ytl="2" xbr="3" ybr="4"/></image>'
    source = cvat(tmp_path, "".join(image.format(number) for number in range(1001)))
    units = list(converter("cvat").units(source, Options()))
    assert [(name, len(chunk)) for name, chunk in units] == [
        ("images to 500", 500), ("images to 1000", 500), ("images to 1001", 1),
    ]  # fmt: skip
    with pytest.raises(InputError, match=r"has two images '7.png'"):
        list(converter("cvat").units(cvat(tmp_path, image.format(7) * 2), Options()))


BOMB = '<!DOCTYPE annotations [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;">]>'


def test_declared_entities_are_refused(tmp_path):
    source = cvat(tmp_path, f'<track id="0" label="&b;">{TRACKS}</track>', head=BOMB)
    with pytest.raises(InputError, match=r"declares a document type. CVAT writes none"):
        list(read("cvat", source))


BOX = '<track id="0" label="hen"><box frame="4" xtl="1" ytl="1" xbr="2" ybr="2"/></track>'
PICTURE = '<image name="a.jpg" width="40" height="20"><box label="a" xtl="1" ytl="1" xbr="2" ybr="2"/></image>'


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (META + BOX.replace('"1"', '"x"', 1), "track 0, frame 4: xtl is 'x', no number"),
        (META + BOX.replace('ybr="2"', ""), "ybr is None, no number"),
        (META + BOX.replace('"4"', '"4.5"'), "track 0: frame is '4.5', no whole number"),
        (META + BOX.replace('"2"', '"0"', 1), "the box 1,1,0,2 is inside out"),
        (META + BOX.replace('"4"', '"5"'), "no image for the frame 5 of track 0. Export with images"),
        (META + BOX.replace("</track>", '<box frame="4" outside="1"/></track>'), "track 0 has two boxes in frame 4"),
        (META.replace(">40<", ">41<") + BOX, r"are \(40, 20\), but in <meta> \(41, 20\)"),
        (META.replace(">3<", ">many<") + BOX, "in <meta> is no whole number"),
        (META.replace("task>", "project>") + BOX, "is the export of a project"),
        (META + '<track id="1" label="egg"><polygon frame="4"/></track>', "holds no box. Draw boxes"),
        (META + "<track>", "is not XML: mismatched tag"),
        (PICTURE, "There is no image .*a.jpg"),
        (PICTURE.replace("a.jpg", "../a.jpg"), "image '../a.jpg' of 40 x 20 pixels cannot be"),
        (PICTURE.replace("a.jpg", "/a.jpg"), "of 40 x 20 pixels cannot be"),
        (PICTURE.replace("<image", '<image subset=".."'), "image '../a.jpg' of 40 x 20 pixels cannot be"),
        (PICTURE.replace("40", "0"), "of 0 x 20 pixels cannot be"),
    ],
)
def test_broken_cvat(body, sentence, tmp_path):
    source = cvat(tmp_path, body)
    images(source / "images", *FRAMES)
    with pytest.raises(ElysiumError, match=sentence):
        list(read("cvat", source))


def test_missing_parts_of_cvat(tmp_path):
    with pytest.raises(SourceError, match=r"Cannot read .*annotations.xml"):
        list(read("cvat", tmp_path))
    cvat(tmp_path, META + BOX)
    with pytest.raises(InputError, match="has no image for the frame 4"):
        list(read("cvat", tmp_path))
    (tmp_path / "annotations.xml").write_text("<labels/>")
    with pytest.raises(InputError, match="begins with <labels>, not <annotations>"):
        list(read("cvat", tmp_path))
    (tmp_path / "annotations.xml").write_text("")
    with pytest.raises(InputError, match="is not XML: no element found"):
        list(read("cvat", tmp_path))
