"""Lists of captions: what is read from each form, what is refused, and where a video may lie."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from elysium.building.captions import CaptionedVideo, find_video, read_captions
from elysium.errors import InputError, SourceError

LINES = [
    {"video": "a/one.mp4", "caption": "a dog"},
    {"video": "b/one.mp4", "expressions": ["the dog", "the cat"], "start_s": 1.5, "end_s": 4},
    {"video": "two.mp4", "caption": "a cat", "url": "https://example.org/2", "id": "second"},
]


def write(path: Path, lines: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def test_json_lines_csv_and_parquet_say_the_same(tmp_path: Path) -> None:
    parquet, pyarrow = pytest.importorskip("pyarrow.parquet"), pytest.importorskip("pyarrow")
    told = read_captions(write(tmp_path / "list.jsonl", LINES))
    (tmp_path / "list.csv").write_text(
        "video,caption,expressions,start_s,end_s,url,id\n"
        "a/one.mp4,a dog,,,,,\nb/one.mp4,,the dog; the cat,1.5,4,,\ntwo.mp4,a cat,,,,https://example.org/2,second\n"
    )
    keys = {key for line in LINES for key in line}
    rows = [dict.fromkeys(keys) | line for line in LINES]
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "list.parquet")
    assert [item.id for item in told] == ["one", "one-2", "second"]
    assert told[1].expressions == ("the dog", "the cat") and (told[1].start_s, told[1].end_s) == (1.5, 4.0)
    assert read_captions(tmp_path / "list.csv") == told
    assert read_captions(tmp_path / "list.parquet") == told


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ({"video": "a.mp4"}, "line 2: there must be a caption or expressions"),
        ({"video": "a.mp4", "caption": "a", "expressions": ["b"]}, "line 2: there must be a caption or expressions"),
        ({"caption": "a dog"}, "line 2: video: Field required"),
        ({"video": "a.mp4", "caption": "a", "fps": 2}, "line 2: fps: Extra inputs are not permitted"),
        ({"video": "a.mp4", "expressions": ["a", " "]}, "line 2: expressions: an expression is empty"),
        ({"video": "a.mp4", "caption": "a", "start_s": 3, "end_s": 3}, "line 2: end_s (3) is not after start_s (3)"),
        ({"video": "a.mp4", "caption": "a", "start_s": -1}, "line 2: start_s: Input should be greater than or equal"),
        ({"video": "a.mp4", "caption": "a", "id": "../x"}, "line 2: id: String should match pattern"),
        ({"video": "a.mp4", "caption": "a", "id": ".x"}, "line 2: the id '.x' begins with a dot"),
        ({"video": "a.mp4", "caption": "a", "id": "日" * 34}, "is longer than 100 bytes"),
        ({"video": "a.mp4", "caption": "a \ud800"}, "line 2: there is half of a surrogate pair"),
        ({"video": "a.mp4", "expressions": ["a \udfff"]}, "line 2: there is half of a surrogate pair"),
        ({"video": "b.mp4", "caption": "a", "id": "x"}, "two items have the id 'x'"),
    ],
)
def test_what_is_wrong_is_told_with_its_line(line: dict[str, object], told: str, tmp_path: Path) -> None:
    path = write(tmp_path / "list.jsonl", [{"video": "a.mp4", "caption": "a dog", "id": "x"}, line])
    with pytest.raises(InputError) as caught:
        read_captions(path)
    assert told in str(caught.value)


def test_files_that_are_no_lists_are_refused(tmp_path: Path) -> None:
    (tmp_path / "list.txt").write_text("a.mp4: a dog")
    (tmp_path / "list.parquet").write_bytes(b"no parquet")
    (tmp_path / "list.jsonl").write_text("\n")
    with pytest.raises(InputError, match="is neither"):
        read_captions(tmp_path / "list.txt")
    with pytest.raises(SourceError, match="Cannot read the list of captions"):
        read_captions(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="lists nothing"):
        read_captions(tmp_path / "list.jsonl")
    pytest.importorskip("pyarrow")
    with pytest.raises(SourceError, match="Cannot read the list of captions"):
        read_captions(tmp_path / "list.parquet")


def test_ids_are_names_of_folders_whatever_the_video_is_called() -> None:
    from elysium.building.captions import _stem

    assert _stem(CaptionedVideo(video="a\\b/..hidden.clip.mp4", caption="x")) == "hidden.clip"
    assert _stem(CaptionedVideo(video="x" * 300 + ".mp4", caption="x")) == "x" * 90
    assert _stem(CaptionedVideo(video="日" * 99 + ".mp4", caption="x")) == "日" * 30


def test_ids_that_are_made_up_are_ids_that_may_be_given(tmp_path: Path) -> None:
    lines = [{"video": f"{folder}/{'x' * 200}.mp4", "caption": "a dog"} for folder in range(12)]
    items = read_captions(write(tmp_path / "list.jsonl", lines))
    assert len({item.id for item in items}) == 12
    assert [CaptionedVideo.model_validate(item.model_dump()) for item in items] == items


def test_ids_that_are_made_up_differ_in_more_than_their_case(tmp_path: Path) -> None:
    names = ["x/Clip.mp4", "y/clip.mp4", "z/CLIP.mp4", "x/cafe\u0301.mp4", "y/caf\u00e9.mp4"]
    items = read_captions(write(tmp_path / "list.jsonl", [{"video": name, "caption": "a dog"} for name in names]))
    assert [item.id for item in items] == ["Clip", "clip-2", "CLIP-3", "cafe\u0301", "caf\u00e9-2"]


def test_a_line_ends_with_a_newline_and_with_nothing_else(tmp_path: Path) -> None:
    captions = ["a dog\u2028and a cat", "a dog\x85", "a dog"]
    lines = [json.dumps({"video": "a.mp4", "caption": caption}, ensure_ascii=False) for caption in captions]
    (tmp_path / "list.jsonl").write_bytes("\r\n".join(["\ufeff" + lines[0], *lines[1:]]).encode())
    assert [item.caption for item in read_captions(tmp_path / "list.jsonl")] == captions


def test_lines_that_no_parser_can_take_are_told(tmp_path: Path) -> None:
    (tmp_path / "list.jsonl").write_text("[" * 100_000 + "\n")
    with pytest.raises(InputError, match="line 1: not JSON"):
        read_captions(tmp_path / "list.jsonl")
    (tmp_path / "list.csv").write_text('video,caption\na.mp4,"a dog' + "x" * 140_000)
    with pytest.raises(InputError, match=r"list\.csv, after line 1: field larger than field limit"):
        read_captions(tmp_path / "list.csv")


def test_what_cannot_be_a_path_is_told_for_its_video(tmp_path: Path) -> None:
    (tmp_path / "loop").symlink_to("loop")
    for name in ("a\0.mp4", "x" * 300 + ".mp4", "x" * 5000, "loop/a.mp4"):
        with pytest.raises(SourceError, match=r"The video .* (has no path that can be|is not inside)|No such video"):
            find_video(tmp_path, name)


def test_videos_are_found_inside_their_folder_only(tmp_path: Path) -> None:
    folder = tmp_path / "videos"
    (folder / "sub").mkdir(parents=True)
    for path in (folder / "a.mp4", folder / "sub" / "b.mp4", tmp_path / "outside.mp4"):
        path.touch()
    (folder / "link.mp4").symlink_to(tmp_path / "outside.mp4")
    (folder / "inner.mp4").symlink_to(folder / "a.mp4")
    for name in ("a.mp4", "sub/b.mp4", "sub/../a.mp4", "inner.mp4"):
        assert find_video(folder, name) == folder / name
    for name in ("../outside.mp4", "sub/../../outside.mp4", str(folder / "a.mp4"), "link.mp4"):
        with pytest.raises(SourceError, match="is not inside"):
            find_video(folder, name)
    with pytest.raises(SourceError, match="No such video"):
        find_video(folder, "none.mp4")
