"""SAM 2 through transformers as a follower: a box in the first frame becomes masks, their bounding boxes come back.

Ravi et al., "SAM 2", arXiv 2408.00714. Frames go in one at a time, and what the model no longer looks at is let go of,
so memory does not grow with the clip. Does not know: phrases, which trajectories are any good.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import Sam2VideoModel
from transformers.models.sam2_video.modeling_sam2_video import Sam2VideoInferenceSession

from elysium.boxes import FloatArray
from elysium.building.models.loading import load_model, pixels, preprocessing
from elysium.building.stages import Clip
from elysium.inference.devices import resolve_device, resolve_dtype

DEFAULT_MODEL = "facebook/sam2.1-hiera-tiny"
_CORNERS = (2, 3)  # labels of a prompt's points that are a box's top left and bottom right


class Sam2Follower:
    """All objects of a clip in one pass. A score is the model's probability that the object is in the frame.

    Args:
        model: a folder or a hub id of SAM 2 for video (`Sam2VideoModel`).
        device, dtype: as `Elysium.from_pretrained` takes them.

    Where a mask is empty there is no box. Raises ModelError if it cannot be loaded.
    """

    def __init__(self, model: str = DEFAULT_MODEL, device: str = "auto", dtype: str = "auto") -> None:
        self.name = f"sam2 ({model})"
        where = resolve_device(device)
        folder = str(Path(model).expanduser()) if Path(model).expanduser().is_dir() else model
        self._model = load_model(Sam2VideoModel, folder, where, resolve_dtype(dtype, where))
        # Checkpoints have their processor's numbers in either of these.
        self._said = preprocessing(folder) or preprocessing(folder, "processor_config.json").get("video_processor", {})
        config = self._model.config
        self._remembered = max(config.num_maskmem, config.max_object_pointers_in_encoder) + 1

    @torch.inference_mode()
    def follow(self, clip: Clip, starts_xyxy: Sequence[FloatArray]) -> list[tuple[FloatArray, FloatArray | None]]:
        boxes = np.full((len(starts_xyxy), len(clip.indices), 4), np.nan)
        scores = np.full((len(starts_xyxy), len(clip.indices)), np.nan)
        session = self._session(starts_xyxy, clip.resolution_wh)
        for number, image in enumerate(clip.frames()):
            side = int(self._model.config.image_size)
            output = self._model(session, frame=pixels(image, (side, side), self._said))
            masks = upsampled(output.pred_masks, clip.resolution_wh)
            boxes[:, number] = [mask_box(mask) for mask in masks]
            scores[:, number] = output.object_score_logits.reshape(-1).double().sigmoid().cpu().numpy()
            _forget(session, number, self._remembered)
        boxes[:, 0] = np.array(starts_xyxy).reshape(-1, 4)
        scores[:, 0] = np.nan
        return [(boxes[k], scores[k]) for k in range(len(starts_xyxy))]

    def _session(self, starts_xyxy: Sequence[FloatArray], resolution_wh: tuple[int, int]) -> Any:
        """An inference session with a box for each object, in pixels of the model's square input."""
        width, height = resolution_wh
        device, side = self._model.device, int(self._model.config.image_size)
        session = Sam2VideoInferenceSession(
            video_height=height, video_width=width, dtype=self._model.dtype, inference_device=device,
            inference_state_device=device, video_storage_device=device,
        )  # fmt: skip
        for number, start in enumerate(starts_xyxy):
            corners = np.asarray(start).reshape(2, 2) * [side / width, side / height]
            prompt = {
                "point_coords": torch.tensor(corners, dtype=torch.float32)[None, None],
                "point_labels": torch.tensor(_CORNERS, dtype=torch.int32)[None, None],
            }
            session.add_point_inputs(session.obj_id_to_idx(number), 0, prompt)
        session.obj_with_new_inputs = list(range(len(starts_xyxy)))
        return session


def upsampled(logits: torch.Tensor, resolution_wh: tuple[int, int]) -> NDArray[np.bool_]:
    """(N, 1, h, w) logits of the model's square input -> (N, H, W) masks of the frame, bilinear."""
    width, height = resolution_wh
    whole = torch.nn.functional.interpolate(logits.float(), (height, width), mode="bilinear", align_corners=False)
    masks: NDArray[np.bool_] = (whole[:, 0] > 0).cpu().numpy()
    return masks


def mask_box(mask: NDArray[np.bool_]) -> FloatArray:
    """(H, W) -> (4,) the smallest box, in pixels, that holds all pixels of the mask, with the far edges of the last
    ones; NaN if there are none."""
    columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
    if not len(columns):
        return np.full(4, np.nan)
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1], dtype=np.float64)


def _forget(session: Any, number: int, remembered: int) -> None:
    """Let go of the frame's pixels, and of outputs that are too old to be looked at; those of frame 0 stay."""
    session.processed_frames[number] = torch.empty(0)  # its place is counted
    for outputs in session.output_dict_per_obj.values():
        outputs["non_cond_frame_outputs"].pop(number - remembered, None)
