"""Prompts, frames and videos to model inputs, as the processors of transformers do it.

Knows: how placeholders are expanded (k image tokens a frame, r region tokens a box, a video to its frames), how the
pieces between them are tokenised, which tokens are an answer, and how a batch is padded. Does not know: what a question
says (language.prompts), how files are read (video), what the model does with the tensors.

Pieces of text between placeholders are tokenised one by one, because the released model was trained so; with
``bos_per_piece`` each piece after an image starts with the tokenizer's special tokens, as there. ``published`` goes
all the way with that model: see :class:`ElysiumProcessor`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from transformers import PreTrainedTokenizerBase
from transformers.image_processing_utils import BatchFeature
from transformers.image_utils import load_image
from transformers.processing_utils import ProcessorMixin

from elysium.errors import ModelError, SourceError
from elysium.language.prompts import (
    CHAT_TEMPLATE,
    MARK_ANSWER,
    MARK_IMAGE,
    MARK_REGION,
    MARK_VIDEO,
    frames_block,
)
from elysium.model.image_processing import ElysiumImageProcessor, FrameLike
from elysium.sampling import uniform_frames
from elysium.video import open_source, read_image

VIDEO_FRAMES = 16  # of a video that is asked about, as in the paper
IGNORED = -100  # label of a token that carries no loss
_OPTIONS = ("regions", "queries", "answers", "num_image_tokens", "num_frames", "padding_side")
_PIECES_KEPT = 4096
_SHOWN = 200  # letters of a text that names no image; it may be the image itself
_REFUSED = ("truncation", "fps", "return_offsets_mapping")  # of other processors; left out, the result would be wrong

Region = tuple[int, Sequence[float]]
"""(frame of the request, from 0; x1, y1, x2, y2 in 0..1 of the model frame)."""


class ElysiumProcessor(ProcessorMixin):
    """Tokenizer and image processor in one.

    Args:
        image_processor, tokenizer: the parts. The tokenizer must know ``<image>`` (and ``<region>``) as tokens.
        num_image_tokens: k, image tokens per frame; must equal the selector's.
        num_region_tokens: tokens per ``<region>`` mark.
        bos_per_piece: whether every text piece after an image starts with the special tokens.
        dialect: name of the box format in text (``elysium.language.dialects``).
        video_frames: at most so many frames are taken of a video file, spread evenly.
        published: prompts as the released model was trained on them, for what is imported from it. Later rounds of a
            chat start with the special tokens too, so does the nothing between two images that touch; answers in a
            history are tokenised on their own; questions about a video call its frames "1s", "2s" ...
    """

    def __init__(
        self,
        image_processor: ElysiumImageProcessor | None = None,
        tokenizer: PreTrainedTokenizerBase | None = None,
        num_image_tokens: int = 108,
        num_region_tokens: int = 0,
        bos_per_piece: bool = True,
        dialect: str = "elysium",
        video_frames: int = VIDEO_FRAMES,
        published: bool = False,
        chat_template: str | None = None,
        **kwargs: Any,
    ) -> None:
        self.num_image_tokens = num_image_tokens
        self.num_region_tokens = num_region_tokens
        self.bos_per_piece = bos_per_piece
        self.dialect = dialect
        self.video_frames = video_frames
        self.published = published
        super().__init__(image_processor, tokenizer, chat_template=chat_template or CHAT_TEMPLATE)
        self.image_token = MARK_IMAGE
        self.image_token_id = self._mark_id(MARK_IMAGE)
        self.region_token_id = self._mark_id(MARK_REGION)
        self._pieces: dict[tuple[int, int, str, bool], tuple[int, ...]] = {}

    def _mark_id(self, mark: str) -> int:
        token_id = self.tokenizer.convert_tokens_to_ids(mark)
        if token_id is None or token_id == self.tokenizer.unk_token_id:
            raise ModelError(f"The tokenizer has no token {mark}", "Add it with add_marks(tokenizer)")
        return int(token_id)

    @property
    def model_input_names(self) -> list[str]:
        return ["input_ids", "attention_mask", "pixel_values", "frame_counts"]

    def encode_prompt(self, text: str, num_image_tokens: int | None = None, begins: bool = True) -> list[int]:
        """Ids of a prompt, every ``<image>`` expanded to k ids and every ``<region>`` to r.

        ``begins``: it starts with the tokenizer's own special tokens, as the first round of a chat does.
        """
        if not self.published:
            return self._encode_pieces(text, num_image_tokens, begins)
        answered = rf"(?<={MARK_ANSWER})(.*?){re.escape(self.tokenizer.eos_token)}"
        ids: list[int] = []
        for place, turn in enumerate(re.split(answered, text, flags=re.DOTALL)):  # a history has answers between
            if place % 2:
                ids += self.encode_answer(turn)
            elif turn or not place:
                ids += self._encode_pieces(turn, num_image_tokens, True)
        return ids

    def _encode_pieces(self, text: str, num_image_tokens: int | None, special: bool) -> list[int]:
        """Ids of a prompt of one round. ``special``: it starts with the tokenizer's special tokens."""
        k = num_image_tokens or self.num_image_tokens
        marks = {MARK_IMAGE: [self.image_token_id] * k, MARK_REGION: [self.region_token_id] * self.num_region_tokens}
        ids: list[int] = []
        for piece in re.split(f"({re.escape(MARK_IMAGE)}|{re.escape(MARK_REGION)})", text):
            if piece in marks:
                ids += marks[piece]
                special = self.bos_per_piece and piece == MARK_IMAGE
            elif piece or (special and self.published):
                ids += self._encode_text(piece, special)
                special = False
        return ids

    def _encode_text(self, text: str, special: bool = False) -> list[int]:
        """Ids of a piece. What stands between frames comes again in every prompt, so ids are kept."""
        key = (id(self.tokenizer), len(self.tokenizer), text, special)
        if key not in self._pieces:
            if len(self._pieces) >= _PIECES_KEPT:
                self._pieces.clear()
            self._pieces[key] = tuple(self.tokenizer(text, add_special_tokens=special).input_ids)
        return list(self._pieces[key])

    def encode_words(self, words: Sequence[str]) -> list[int]:
        """Ids of words as they stand in the middle of a sentence."""
        return [token for word in words for token in self._encode_text(f" {word}")]

    def encode_answer(self, text: str) -> list[int]:
        """Ids of an answer as a training target: no special tokens in front, the end token behind."""
        return [*self._encode_text(text), int(self.tokenizer.eos_token_id)]

    def __call__(
        self,
        text: str | Sequence[str],
        images: Any = None,
        videos: Any = None,
        regions: Sequence[Sequence[Region]] | None = None,
        queries: Sequence[str | None] | None = None,
        answers: str | Sequence[str] | None = None,
        num_image_tokens: int | None = None,
        num_frames: int | None = None,
        padding_side: str = "left",
        return_tensors: str = "pt",
        add_special_tokens: bool = True,
        pixels: bool = True,
        **kwargs: Any,
    ) -> BatchFeature:
        """Model inputs for one prompt or a batch, padded to the longest.

        Args:
            text: prompts with ``<image>`` and ``<video>`` marks.
            images: RGB frames, or files, addresses or base64 of some; flat in the order of the marks, or one list per
                prompt.
            videos: each whatever :func:`elysium.video.open_source` reads, or a list of frames; flat or one list per
                prompt. A mark is written out as ``Frame 1: <image>, Frame 2: <image>, ...`` (see ``published``).
            regions: per prompt, the boxes that the question asks about.
            queries: per prompt, the words that it asks about (for selectors that look at the prompt).
            answers: per prompt, what the model is to say; gives ``labels``, in which these and the end token behind
                them alone carry loss.
            num_image_tokens: k; by default the processor's.
            num_frames: at most so many frames of each video; by default ``video_frames`` of a file and all of a list.
            add_special_tokens: whether a prompt starts with the tokenizer's own special tokens.
            pixels: whether to make ``pixel_values`` of the frames; whoever has ``vision_features`` needs none.

        Returns ``input_ids, attention_mask`` (B, L) and, as given, ``pixel_values`` (F, 3, S, S),
        ``frame_counts`` (B,), ``region_boxes`` (R, 4), ``region_frames`` (R,), ``query_ids, query_mask`` (B, Q),
        ``labels`` (B, L). Options of other processors that are left unnamed change nothing.
        Raises ModelError with both counts when marks and frames, videos or answers differ in number, and for options of
        other processors that would change the result; SourceError for files that cannot be read.
        """
        refused = [name for name in _REFUSED if kwargs.get(name)]
        if refused:
            raise ModelError(f"This processor has no {refused[0]}", "Leave it out.")
        prompts, frames = self._write_out([text] if isinstance(text, str) else list(text), images, videos, num_frames)
        ids = [self.encode_prompt(prompt, num_image_tokens, add_special_tokens) for prompt in prompts]
        data = self._with_answers(ids, answers, padding_side)
        counts = [prompt.count(MARK_IMAGE) for prompt in prompts]
        if frames:
            if pixels:
                data["pixel_values"] = self.image_processor(frames)["pixel_values"]
            data["frame_counts"] = torch.tensor(counts)
        data.update(_region_tensors(regions, counts))
        data.update(self.query_tensors(queries))
        return BatchFeature(data)

    def apply_chat_template(self, conversation: Any, *args: Any, **kwargs: Any) -> Any:
        """As of every processor of transformers. What the last question says is also what a selector that looks at the
        prompt is told, as :meth:`elysium.Elysium.ask` does it (``queries`` in ``processor_kwargs`` replaces it)."""
        if kwargs.get("tokenize"):
            several = isinstance(conversation[0], (list, tuple))
            queries = [_last_question(chat) for chat in (conversation if several else [conversation])]
            own = {name: kwargs.pop(name) for name in _OPTIONS if name in kwargs}
            kwargs["processor_kwargs"] = {"queries": queries, **own, **(kwargs.get("processor_kwargs") or {})}
        return super().apply_chat_template(conversation, *args, **kwargs)

    def _write_out(
        self, prompts: list[str], images: Any, videos: Any, num_frames: int | None
    ) -> tuple[list[str], list[FrameLike]]:
        """The prompts with numbered frames in place of each video, and all frames in the order of their marks."""
        pictures, clips = _flatten(images), _flat_videos(videos)
        for mark, given in ((MARK_IMAGE, pictures), (MARK_VIDEO, clips)):
            marks = sum(prompt.count(mark) for prompt in prompts)
            if marks != len(given):
                what = "frames" if mark == MARK_IMAGE else "videos"
                raise ModelError(
                    f"The prompts have {marks} {mark} marks but {len(given)} {what} were given", "Give one per mark"
                )
        frames: list[FrameLike] = []

        def write(match: re.Match[str]) -> str:
            if match[0] == MARK_IMAGE:
                frames.append(_read_picture(pictures.pop(0)))
                return MARK_IMAGE
            clip = self._frames_of(clips.pop(0), num_frames)
            frames.extend(clip)
            return frames_block(len(clip), labelled=len(clip) > 1 or not self.published, seconds=self.published)

        return [re.sub(f"{MARK_IMAGE}|{MARK_VIDEO}", write, prompt) for prompt in prompts], frames

    def _frames_of(self, video: Any, count: int | None) -> list[FrameLike]:
        """The frames of one video, or ``count`` of them."""
        if count is not None and count < 1:
            raise ModelError(f"num_frames is {count}", "Take one frame or more")
        if isinstance(video, (list, tuple)):
            video = [np.asarray(v.convert("RGB")) if isinstance(v, Image.Image) else v for v in video]
        most = count or (len(video) if isinstance(video, (list, np.ndarray)) else self.video_frames)
        source = open_source(video)
        return [frame.image for frame in uniform_frames(source, most, source.num_frames_estimate)]

    def _with_answers(
        self, ids: list[list[int]], answers: str | Sequence[str] | None, side: str
    ) -> dict[str, Tensor]:
        """``input_ids``, ``attention_mask`` and, where there are answers, ``labels``."""
        if answers is None:
            return self._pad(ids, side)
        texts = [answers] if isinstance(answers, str) else list(answers)
        if len(texts) != len(ids):
            raise ModelError(f"{len(ids)} prompts have {len(texts)} answers", "Give one answer per prompt")
        said = [self.encode_answer(text) for text in texts]
        data = self._pad([asked + answer for asked, answer in zip(ids, said, strict=True)], side)
        labels = [[IGNORED] * len(asked) + answer for asked, answer in zip(ids, said, strict=True)]
        return {**data, "labels": _rectangle(labels, IGNORED, side)}

    def _pad(self, rows: list[list[int]], side: str) -> dict[str, Tensor]:
        pad = self.tokenizer.pad_token_id if self.tokenizer.pad_token_id is not None else self.tokenizer.eos_token_id
        ones = [[1] * len(row) for row in rows]
        return {"input_ids": _rectangle(rows, int(pad), side), "attention_mask": _rectangle(ones, 0, side)}

    def query_tensors(self, queries: Sequence[str | None] | None) -> dict[str, Tensor]:
        """``query_ids, query_mask`` (B, Q) of the words that each request asks about; empty when none has any."""
        if queries is None or not any(queries):
            return {}
        # Words carry a leading space, as they do in the middle of a question; the end token alone stands for none.
        rows = [self._encode_text(f" {q.strip()}") if q else [] for q in queries]
        padded = self._pad([row or [int(self.tokenizer.eos_token_id)] for row in rows], "right")
        mask = padded["attention_mask"] * torch.tensor([[bool(row)] for row in rows])
        return {"query_ids": padded["input_ids"], "query_mask": mask}


def _last_question(chat: Sequence[Any]) -> str:
    """The text of a chat's last question that stands behind its pictures; empty where nothing is asked."""
    content = next((message["content"] for message in reversed(chat) if message["role"] == "user"), "")
    if isinstance(content, str):
        return content.strip()
    words: list[str] = []
    for part in content:  # what stands between pictures are numbers of frames
        words = [*words, part["text"].strip()] if part["type"] == "text" else []
    return " ".join(words)


def _rectangle(rows: list[list[int]], filler: int, side: str) -> Tensor:
    """(B, L) int64: the rows, with ``filler`` on the ``side`` of the shorter ones."""
    width = max(len(row) for row in rows)
    table = torch.full((len(rows), width), filler)
    for i, row in enumerate(rows):
        table[i, slice(width - len(row), width) if side == "left" else slice(0, len(row))] = torch.tensor(row)
    return table


def _flatten(images: Any) -> list[Any]:
    if images is None:
        return []
    if not isinstance(images, (list, tuple)):
        return [images]
    return [frame for item in images for frame in (item if isinstance(item, (list, tuple)) else [item])]


def _flat_videos(videos: Any) -> list[Any]:
    """Videos in order; a list of frames is one of them."""
    if videos is None:
        return []
    if not isinstance(videos, (list, tuple)) or _is_clip(videos):
        return [videos]
    return [
        video
        for item in videos
        for video in (item if isinstance(item, (list, tuple)) and not _is_clip(item) else [item])
    ]


def _is_clip(items: Sequence[Any]) -> bool:
    """Whether these are the frames of one video: pictures, in memory."""
    frames = [isinstance(i, Image.Image) or (isinstance(i, np.ndarray) and i.ndim == 3) for i in items]
    return bool(frames) and all(frames)


def _read_picture(picture: Any) -> Any:
    """A frame as it is; that of a file, an address or base64. Raises SourceError."""
    if not isinstance(picture, (str, Path)):
        return picture  # the image processor looks into it
    if os.path.isfile(picture):  # unlike Path.is_file it takes texts of any length
        return read_image(picture)
    try:
        return load_image(str(picture))
    except Exception as error:  # an address that does not answer, what is no base64, or no image
        shown = str(picture)[:_SHOWN]
        raise SourceError(f"There is no image {shown!r}", "Give a file, an address or base64.") from error


def _region_tensors(regions: Sequence[Sequence[Region]] | None, counts: list[int]) -> dict[str, Tensor]:
    if regions is None or not any(regions):
        return {}
    starts = [sum(counts[:row]) for row in range(len(counts))]
    flat = [(starts[row] + frame, box) for row, boxes in enumerate(regions) for frame, box in boxes]
    return {
        "region_boxes": torch.tensor([list(box) for _, box in flat], dtype=torch.float32),
        "region_frames": torch.tensor([frame for frame, _ in flat]),
    }


def add_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    """Give a tokenizer the placeholders ``<image>`` and ``<region>``, behind its vocabulary, which keeps its size
    in the language model: the model never looks their embeddings up."""
    tokenizer.add_tokens([MARK_IMAGE, MARK_REGION], special_tokens=True)
