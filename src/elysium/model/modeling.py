"""The Elysium model: vision tower -> T-Selector -> projector -> causal language model.

Knows: how visual tokens of F frames, those of a batch of B requests one after the other, take the places of the image
placeholders in ``input_ids``; how region features take those of the region placeholders. Requests may share frames:
then fewer, U, are given, and ``frame_ids`` says which of them each request's frames are.
Does not know: prompts, boxes as text, videos, tracking.

Inputs beyond a language model's (all optional; only needed where the sequence holds placeholders, so only at
prefill):

- ``pixel_values`` (U, 3, S, S) float, or ``vision_features`` (U, D), the output of :meth:`encode_frames`;
- ``frame_ids`` (F,) int64, the frame 0..U-1 of each request's frames; without it U = F, in order;
- ``frame_counts`` (B,) int64, how many of the F frames belong to each request, needed when B > 1;
- ``region_boxes`` (R, 4) in 0..1 of the model frame and ``region_frames`` (R,) int64, the frame 0..F-1 of each;
- ``query_ids`` (B, Q) and ``query_mask`` (B, Q): the words that a prompt-conditioned selector looks at;
- ``named_boxes`` (M, 4) in 0..1 and ``named_frames`` (M,), in training: parts of the U frames to compare with words.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache
from transformers.modeling_outputs import ModelOutput

from elysium.errors import ModelError
from elysium.model.configuration import ElysiumConfig
from elysium.model.gates import PromptContext
from elysium.model.positions import box_coverage
from elysium.model.projector import build_projector
from elysium.model.selector import Selection, TSelector
from elysium.model.vision import VisionEncoder

FEATURE_KEYS = (
    "pixel_values", "vision_features", "frame_ids", "frame_counts", "region_boxes", "region_frames",
    "query_ids", "query_mask",
)  # fmt: skip


_QUERY_STD = 0.3  # of a position code's order, which is added to it
_NAME_SCALE = 0.2  # of name logits: they reach 15 at norms that embeddings and projected tokens come to have


@dataclass
class ElysiumOutput(ModelOutput):
    """Output of the model: a causal language model's, and ``selector_logits`` (F, N), ``selected`` (F, k)
    and, from a prompt gate, ``votes`` (F, N, 4) and their consensus ``voted_box`` (F, 4); ``name_logits`` (M, V)."""

    loss: Tensor | None = None
    logits: Tensor | None = None
    past_key_values: Cache | None = None
    hidden_states: tuple[Tensor, ...] | None = None
    attentions: tuple[Tensor, ...] | None = None
    selector_logits: Tensor | None = None
    selected: Tensor | None = None
    votes: Tensor | None = None
    voted_box: Tensor | None = None
    name_logits: Tensor | None = None


class ElysiumPreTrainedModel(PreTrainedModel):
    config: ElysiumConfig
    config_class = ElysiumConfig
    base_model_prefix = ""
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ["past_key_values"]
    _keep_in_fp32_modules_strict = ["selector"]
    _keep_in_fp32_modules = ["selector"]  # which is what bitsandbytes leaves alone

    def _init_weights(self, module: nn.Module) -> None:
        """Own modules keep the initialisation of their constructors; submodels initialise themselves."""


class ElysiumForConditionalGeneration(ElysiumPreTrainedModel, GenerationMixin):
    """Vision tower, T-Selector, projector and a causal language model that writes boxes as text.

    ``touches_parts``: while it learns, every batch gives all parameters between tower and language model a gradient,
    if only zero. Set where processes add up gradients or hold weights in pieces: there each must use the same ones.
    """

    touches_parts = False

    def __init__(self, config: ElysiumConfig) -> None:
        super().__init__(config)
        self.vision = VisionEncoder(config)
        self.build_adapters()
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.post_init()

    def build_adapters(self) -> None:
        """What stands between tower and language model, with initial values."""
        config, width = self.config, self.config.text_config.hidden_size
        channels, num_tokens = self.vision.num_channels, self.vision.num_tokens
        self.selector = TSelector(config.selector_config, channels, num_tokens, width)
        self.projector = build_projector(config.projector_type, channels, width)
        annotate = config.selector_config.annotate
        self.annotation = nn.Linear(self.selector.note_size, width) if annotate else None
        self.number_scale = nn.Parameter(torch.tensor(10.0)) if annotate and config.number_token_ids else None
        vocabulary = config.text_config.vocab_size
        self.query_embeddings = nn.Embedding(vocabulary, width) if config.query_embeddings else None
        if self.query_embeddings is not None:
            nn.init.normal_(self.query_embeddings.weight, std=_QUERY_STD)

    def get_input_embeddings(self) -> nn.Module:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.language_model.get_output_embeddings()

    def encode_frames(self, pixel_values: Tensor) -> Tensor:
        """Run the vision tower alone: (F, 3, S, S) -> (F, D), what ``vision_features`` takes."""
        return self.vision.encode(pixel_values.to(self.vision_dtype))

    @property
    def vision_dtype(self) -> torch.dtype:
        return self._float_dtype(self.vision.tower)

    def _float_dtype(self, module: nn.Module) -> torch.dtype:
        """The number type that a module computes in: weights in 8 or 4 bits are held in integers."""
        types = (parameter.dtype for parameter in module.parameters() if parameter.is_floating_point())
        fallback: Tensor = self.get_input_embeddings().weight  # type: ignore[assignment]
        return next(types, fallback.dtype)

    def embed_text(self, input_ids: Tensor) -> Tensor:
        """Token embeddings (B, L, W); placeholders outside the vocabulary get those of token 0, to be replaced."""
        table = self.get_input_embeddings()
        known = input_ids < self.config.text_config.vocab_size
        return table(torch.where(known, input_ids, torch.zeros_like(input_ids)))

    def select_tokens(
        self, tokens: Tensor, k: int | None, context: PromptContext | None
    ) -> tuple[Tensor, Selection]:
        """Visual tokens (U, N, C) -> embeddings of the kept ones (F, k, W), and the selection itself."""
        selection = self.selector(tokens, k, context)
        embeddings = self.projector(selection.tokens)
        if self.annotation is not None and selection.notes is not None:
            embeddings = embeddings + self.annotation(selection.notes.to(embeddings.dtype))
        if self.number_scale is not None and selection.numbers is not None:
            embeddings = embeddings + self.number_scale * self._embed_numbers(selection.numbers).to(embeddings.dtype)
        return embeddings, selection

    def _embed_numbers(self, numbers: Tensor) -> Tensor:
        """Numbers (...) in 0..1 -> (..., W) in the language model's own embeddings of 0..100; zero for NaN.

        Mixed by a Gaussian of one bin, so that a voted coordinate looks like the token that the answer would write.
        """
        ids = torch.tensor(self.config.number_token_ids, device=numbers.device)
        module = self.get_input_embeddings()  # puts its table together where that is held in pieces
        table = module(ids) / getattr(module, "embed_scale", 1.0)
        bins = torch.arange(len(table), device=numbers.device)
        known = ~numbers.isnan()
        distance = numbers.nan_to_num(0.0).unsqueeze(-1) * (len(table) - 1) - bins
        weights = (-0.5 * distance.square()).softmax(dim=-1) * known.unsqueeze(-1)
        return weights.to(table.dtype) @ table

    def embed(self, input_ids: Tensor, goes_on: bool = False, **features: Any) -> tuple[Tensor, Selection | None]:
        """Input embeddings (B, L, W) of text with every placeholder filled, and the selection (None without frames).

        ``goes_on``: these ids follow a prompt that is in the cache, so they are text, whatever their numbers.
        """
        embeddings = self.embed_text(input_ids)
        image_slots = input_ids == self.config.image_token_id
        if features.get("pixel_values") is None and features.get("vision_features") is None:
            if not goes_on and bool(image_slots.any()):
                raise ModelError(
                    f"The prompt has {int(image_slots.sum())} image tokens but no frames were given",
                    "Pass pixel_values",
                )
            if not self._learns_now():
                return embeddings, None
            zero, selection = self._touch()
            return embeddings + zero, selection
        tokens = self._visual_tokens(features)
        context = self._context(input_ids, len(tokens), features)
        k = self._tokens_per_frame(image_slots, len(context.frame_rows))
        visual, selection = self.select_tokens(tokens, k, context)
        embeddings = embeddings.masked_scatter(image_slots.unsqueeze(-1), visual.to(embeddings.dtype))
        return self._fill_regions(embeddings, input_ids, tokens, context), selection

    def _learns_now(self) -> bool:
        return self.training and torch.is_grad_enabled()

    def _touch(self) -> tuple[Tensor | float, Selection | None]:
        """Zero, by way of tower, selector and projector on a blank frame, and the selection from it.

        Where weights are sharded over processes, all must pass through the same modules in the same order: one whose
        batch is text alone would leave the others waiting for its part of the tower.
        """
        side = self.config.image_size
        blank = torch.zeros(1, 3, side, side, device=self.device, dtype=self.vision_dtype)
        visual, selection = self.select_tokens(self._visual_tokens({"pixel_values": blank}), None, None)
        return 0.0 * visual.sum(), selection

    def _touch_parts(self) -> Tensor | float:
        """Zero, by way of every parameter that learns between tower and language model.

        Which of them a batch uses depends on what it asks (words, regions, several frames). Each is fetched from its
        module, which is where weights that are held in pieces are put together.
        """
        parts = [self.selector, self.projector, self.annotation, self.query_embeddings]
        modules = [module for part in parts if part is not None for module in part.modules()]
        weights = [getattr(module, name) for module in modules for name in module._parameters]
        used = [w.float().sum() for w in [*weights, self.number_scale] if w is not None and w.requires_grad]
        return 0.0 * torch.stack(used).sum() if used else 0.0

    def _visual_tokens(self, features: dict[str, Any]) -> Tensor:
        encoded = features.get("vision_features")
        if encoded is None:
            encoded = self.encode_frames(features["pixel_values"])
        return self.vision.assemble(encoded.to(self.projector_dtype))

    @property
    def projector_dtype(self) -> torch.dtype:
        return self._float_dtype(self.projector)

    def _tokens_per_frame(self, image_slots: Tensor, num_frames: int) -> int:
        """k, from the number of placeholders: so that one call can ask for another k than the configuration's."""
        slots = int(image_slots.sum())
        if slots == 0 or slots % num_frames:
            expected = num_frames * self.config.selector_config.num_tokens
            raise ModelError(
                f"The prompt has {slots} image tokens but {num_frames} frames give {expected} visual tokens",
                "Let the processor make input_ids and pixel_values together",
            )
        return slots // num_frames

    def _context(self, input_ids: Tensor, num_given: int, features: dict[str, Any]) -> PromptContext:
        ids, counts = features.get("frame_ids"), features.get("frame_counts")
        num_frames = num_given if ids is None else len(ids)
        if counts is None:
            if num_frames % len(input_ids):
                raise ModelError(f"{num_frames} frames for {len(input_ids)} requests", "Pass frame_counts")
            counts = input_ids.new_full((len(input_ids),), num_frames // len(input_ids))
        if int(counts.sum()) != num_frames:
            raise ModelError(
                f"frame_counts add up to {int(counts.sum())} but {num_frames} frames were given",
                "Pass one count per request",
            )
        rows = torch.repeat_interleave(torch.arange(len(counts), device=input_ids.device), counts)
        words, mask = features.get("query_ids"), features.get("query_mask")
        if "prompt" not in self.selector.looks_at:
            words = mask = None
        if words is not None:
            mask = torch.ones_like(words, dtype=torch.bool) if mask is None else mask.bool()
            words = self.embed_text(words) if self.query_embeddings is None else self.query_embeddings(words)
        return PromptContext(rows, ids, features.get("region_boxes"), features.get("region_frames"), words, mask)

    def _fill_regions(self, embeddings: Tensor, input_ids: Tensor, tokens: Tensor, context: PromptContext) -> Tensor:
        slots = input_ids == self.config.region_token_id
        count = int(slots.sum()) if self.config.region_tokens else 0
        given = 0 if context.region_boxes is None else len(context.region_boxes) * self.config.region_tokens
        if count != given:
            raise ModelError(
                f"The prompt has {count} region tokens but the regions give {given}",
                "Mark each box in the question with <region>",
            )
        if not count or context.region_boxes is None or context.region_frames is None:
            return embeddings
        frames = context.region_frames if context.frame_ids is None else context.frame_ids[context.region_frames]
        pooled = self._pool_regions(tokens, context.region_boxes, frames)
        return embeddings.masked_scatter(slots.unsqueeze(-1), self.projector(pooled).to(embeddings.dtype))

    def _pool_regions(self, tokens: Tensor, boxes: Tensor, frames: Tensor) -> Tensor:
        """(R, r*r, C): each region cut into r x r parts, the tokens averaged over each by coverage."""
        side = round(self.config.region_tokens**0.5)
        steps = torch.arange(side + 1, device=boxes.device, dtype=torch.float32) / side
        edges = boxes[:, None, :2] + steps[:, None] * (boxes[:, None, 2:] - boxes[:, None, :2])  # (R, r+1, 2)
        parts = [
            torch.stack([edges[:, i, 0], edges[:, j, 1], edges[:, i + 1, 0], edges[:, j + 1, 1]], dim=-1)
            for j in range(side)
            for i in range(side)
        ]
        return self._pool(tokens, torch.stack(parts, dim=1), frames)

    def _pool(self, tokens: Tensor, boxes: Tensor, frames: Tensor) -> Tensor:
        """(R, P, C): the tokens (U, N, C) of frame ``frames`` (R,) averaged by coverage over ``boxes`` (R, P, 4)."""
        coverage = torch.stack([box_coverage(part, self.vision.grid) for part in boxes.unbind(dim=1)], dim=1)
        weights = coverage / coverage.sum(dim=-1, keepdim=True).clamp_min(1e-6)
        return weights.to(tokens.dtype) @ tokens[frames]

    def name_logits(self, encoded: Tensor, boxes: Tensor, frames: Tensor) -> Tensor:
        """How well each word of the vocabulary fits what lies in ``boxes`` (M, 4) of the frames ``frames`` (M,) of
        ``encoded`` (U, D): (M, V) inner products of its projected features and the language model's embeddings.

        Trained on, they bring visual tokens to where the language model has its words (the alignment that LLaVA, Liu
        et al. 2023, gets by training the projector under captions, asked for directly). The table gets no gradient.
        """
        used, places = frames.unique(return_inverse=True)
        tokens = self.vision.assemble(encoded[used].to(self.projector_dtype))
        projected = self.projector(self._pool(tokens, boxes.unsqueeze(1), places)).squeeze(1)
        weight: Tensor = self.get_input_embeddings().weight  # type: ignore[assignment]
        return _NAME_SCALE * projected @ weight.detach().to(projected.dtype).T

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        pixel_values: Tensor | None = None,
        vision_features: Tensor | None = None,
        frame_ids: Tensor | None = None,
        frame_counts: Tensor | None = None,
        region_boxes: Tensor | None = None,
        region_frames: Tensor | None = None,
        query_ids: Tensor | None = None,
        query_mask: Tensor | None = None,
        named_boxes: Tensor | None = None,
        named_frames: Tensor | None = None,
        only_select: bool = False,
        return_dict: bool | None = None,
        **kwargs: Any,
    ) -> ElysiumOutput:
        """Logits (B, L, V) and, with ``labels``, the mean next-token loss over labels other than -100.

        ``attention_mask`` is (B, L), or (B, 1, L, L) bool, true where a token sees another.

        ``only_select`` leaves the language model out: the output has what the selector says and nothing else. With
        ``named_boxes`` and no ``input_ids``, it has ``name_logits`` alone.
        """
        features = {
            "pixel_values": pixel_values, "vision_features": vision_features, "frame_ids": frame_ids,
            "frame_counts": frame_counts, "region_boxes": region_boxes, "region_frames": region_frames,
            "query_ids": query_ids, "query_mask": query_mask,
        }  # fmt: skip
        selection, names = None, None
        zero = self._touch_parts() if self.touches_parts and self._learns_now() else None
        if named_boxes is not None and named_frames is not None:
            if vision_features is None and pixel_values is not None:  # the tower runs once for both
                features["vision_features"] = vision_features = self.encode_frames(pixel_values)
            if vision_features is not None:
                names = self.name_logits(vision_features, named_boxes, named_frames)
                names = names if zero is None else names + zero
        if inputs_embeds is None:
            if input_ids is None and names is not None:
                return ElysiumOutput(name_logits=names)
            if input_ids is None:
                raise ModelError("Neither input_ids nor inputs_embeds were given", "Pass input_ids")
            inputs_embeds, selection = self.embed(input_ids, _goes_on(past_key_values), **features)
        if zero is not None:
            inputs_embeds = inputs_embeds + zero
            if selection is not None:
                selection.logits = selection.logits + zero
        if only_select:
            return ElysiumOutput(**_selection_output(selection), name_logits=names)
        output = self.language_model(
            inputs_embeds=inputs_embeds, attention_mask=attention_mask, position_ids=position_ids,
            past_key_values=past_key_values, labels=labels, use_cache=use_cache, logits_to_keep=logits_to_keep,
            return_dict=True, **kwargs,
        )  # fmt: skip
        return ElysiumOutput(
            loss=output.loss, logits=output.logits, past_key_values=output.past_key_values,
            hidden_states=output.hidden_states, attentions=output.attentions, **_selection_output(selection),
            name_logits=names,
        )  # fmt: skip

    def prepare_inputs_for_generation(self, input_ids: Tensor, **kwargs: Any) -> dict[str, Any]:
        """Frames, regions and queries enter at prefill only: later steps find them in the cache."""
        features = {key: kwargs.pop(key, None) for key in FEATURE_KEYS}
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(input_ids, **kwargs)
        past = inputs.get("past_key_values")
        if past is None or past.get_seq_length() == 0:
            inputs.update(features)
        return inputs


def _goes_on(cache: Cache | None) -> bool:
    """Whether a prompt is in the cache. Only steps of decoding are compiled, and there the question would be one to the
    device."""
    return cache is not None and (torch.compiler.is_compiling() or bool(cache.get_seq_length() > 0))


def _selection_output(selection: Selection | None) -> dict[str, Any]:
    """What an output says of the selection."""
    if selection is None:
        return {}
    return {
        "selector_logits": selection.logits, "selected": selection.indices, "votes": selection.votes,
        "voted_box": selection.box,
    }  # fmt: skip
