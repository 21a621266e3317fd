"""What an Elysium is made of: configuration of tower, selector, projector and language model.

Knows: every architectural switch and its default. The defaults are those of the released 7B model
(576 tokens a frame, 108 kept, two-layer GELU projector); everything the released model does not have
(prompt-conditioned gate, token annotations, region tokens, several feature layers) is off.
Does not know: tensors, tokenizers, prompts.
"""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from transformers import AutoConfig, PreTrainedConfig

from elysium.errors import ModelError

Gate = Literal["mlp", "legacy", "fixed", "uniform", "average", "prompt"]
ProjectorType = Literal["mlp2x_gelu", "linear"]
_KEYS_OF_TRANSFORMERS = ("auto_map", "dtype", "quantization_config", "tie_word_embeddings", "torch_dtype", "use_cache")


@dataclass(frozen=True)
class SelectorConfig:
    """How the T-Selector chooses tokens.

    Attributes:
        gate: ``mlp`` (the paper), ``legacy`` (what the released checkpoint computes), ``fixed`` (one learned order of
            the places for all frames: a released checkpoint whose choice is the same for every image), ``uniform`` (a
            fixed grid, the floor to beat), ``average`` (nothing is chosen: the frame is cut into ``num_tokens`` cells
            and the tokens of each are averaged) or ``prompt`` (tokens are scored against the region or words asked
            about).
        num_tokens: tokens kept per frame, 1..N. A call may ask for another number.
        hidden_size: width of the gate's hidden layer, or of everything inside the prompt gate (a multiple of 4).
        num_layers: of the prompt gate: in how many layers tokens see each other, and words see each other and them.
        noise: scale of the Gumbel noise on the gate's logits in training; 0 switches it off.
        position_embedding: add a 2-D sine-cosine code to the tokens before the gate. For towers without
            absolute positions (convolutional ones).
        annotate: tell the language model, by an added embedding, where each kept token lies, in which frame,
            and, with the prompt gate, how well it matches what was asked and which box it votes for.
    """

    gate: Gate = "mlp"
    num_tokens: int = 108
    hidden_size: int = 512
    num_layers: int = 2
    noise: float = 1.0
    position_embedding: bool = False
    annotate: bool = False

    def __post_init__(self) -> None:
        if self.gate not in get_args(Gate):
            raise ModelError(f"Unknown selector gate {self.gate!r}", f"Use one of {', '.join(get_args(Gate))}")
        if self.num_tokens < 1:
            raise ModelError(f"selector.num_tokens is {self.num_tokens}", "Keep at least one token a frame")

    @classmethod
    def of(cls, values: Mapping[str, Any]) -> SelectorConfig:
        """From its settings by name. Raises ModelError for names that it does not have."""
        names = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(values) - set(names))
        if unknown:
            raise ModelError(f"The selector has no setting {', '.join(unknown)}", f"It has {', '.join(names)}.")
        return cls(**values)


class ElysiumConfig(PreTrainedConfig):
    """Configuration of :class:`~elysium.model.modeling.ElysiumForConditionalGeneration`.

    Args:
        vision_config: configuration (or its dict) of any vision tower that ``AutoModel`` knows.
        text_config: configuration (or its dict) of any causal language model of transformers.
        image_size: height and width in pixels of the frames that the tower reads.
        vision_feature_layers: indices into the tower's ``hidden_states``; several are concatenated by channel.
        vision_drop_cls: drop the first token of a transformer tower (the class token).
        vision_grid: side of the token grid for convolutional towers: finer maps are folded into channels
            (space to depth), coarser ones interpolated. ``None``: the grid of the tower itself.
        vision_feature_norm: normalise each feature layer (layer norm, nothing learned) before the selector.
        selector: fields of :class:`SelectorConfig`.
        projector_type: ``mlp2x_gelu`` or ``linear``.
        region_tokens: feature tokens that follow a box in the question (a square number), 0 for none.
        query_embeddings: the words that a prompt gate looks at have embeddings of their own, so that the gate and the
            language model can be trained one after the other; otherwise they share the language model's.
        image_token_id, region_token_id: ids of the placeholders. They may lie outside the language model's
            vocabulary: their embeddings are always replaced, so no vocabulary is resized.
        number_token_ids: ids of "0".."100" where each is one token; with ``selector.annotate`` the prompt gate's voted
            coordinates are then written on kept tokens in these tokens' embeddings.
        tracking: defaults for inference (``clip_length``, ``search_window``, ``describe_window``, ``min_score``,
            ``ask_frames``, ``places``, ``known_words``).
    """

    model_type = "elysium"
    sub_configs = {"vision_config": AutoConfig, "text_config": AutoConfig}

    def __init__(
        self,
        vision_config: dict[str, Any] | PreTrainedConfig | None = None,
        text_config: dict[str, Any] | PreTrainedConfig | None = None,
        image_size: int = 336,
        vision_feature_layers: tuple[int, ...] | list[int] = (-2,),
        vision_drop_cls: bool = True,
        vision_grid: int | None = None,
        vision_feature_norm: bool = False,
        selector: dict[str, Any] | None = None,
        projector_type: ProjectorType = "mlp2x_gelu",
        region_tokens: int = 0,
        query_embeddings: bool = False,
        image_token_id: int = 32000,
        region_token_id: int = 32001,
        number_token_ids: list[int] | None = None,
        tracking: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if is_released(kwargs):
            raise ModelError("This is a checkpoint in the released layout", "Run: elysium import-checkpoint SRC DST")
        self.vision_config = _as_config(vision_config, "clip_vision_model")
        self.text_config = _as_config(text_config, "llama")
        self.image_size = image_size
        self.vision_feature_layers = list(vision_feature_layers)
        self.vision_drop_cls = vision_drop_cls
        self.vision_grid = vision_grid
        self.vision_feature_norm = vision_feature_norm
        self.selector = dataclasses.asdict(SelectorConfig.of(selector or {}))
        self.projector_type = projector_type
        self.region_tokens = region_tokens
        self.query_embeddings = query_embeddings
        self.image_token_id = image_token_id
        self.region_token_id = region_token_id
        self.number_token_ids = list(number_token_ids or [])
        self.tracking = dict(tracking or {})
        self._check()
        kwargs.setdefault("tie_word_embeddings", getattr(self.text_config, "tie_word_embeddings", False))
        super().__init__(**kwargs)

    def _check(self) -> None:
        if self.projector_type not in get_args(ProjectorType):
            options = ", ".join(get_args(ProjectorType))
            raise ModelError(f"Unknown projector_type {self.projector_type!r}", f"Use one of {options}")
        if int(self.region_tokens**0.5) ** 2 != self.region_tokens:
            raise ModelError(f"region_tokens is {self.region_tokens}", "Use a square number (0, 1, 4, 9 ...)")

    @classmethod
    def unknown_keys(cls, values: Mapping[str, Any]) -> list[str]:
        """Keys of a ``config.json`` that mean nothing to an Elysium, nor to transformers."""
        own = inspect.signature(cls.__init__).parameters
        known = {*own, *PreTrainedConfig().to_dict(), *_KEYS_OF_TRANSFORMERS}
        return sorted(key for key in values if key not in known and not key.startswith("_"))

    @property
    def selector_config(self) -> SelectorConfig:
        """The selector's settings as a typed object."""
        return SelectorConfig.of(self.selector)


def is_released(values: Mapping[str, Any]) -> bool:
    """Whether a ``config.json`` is that of the released 7B model, or of one made from it, and not one of ours."""
    return "llm_config" in values and "adapter_config" in values


def _as_config(config: dict[str, Any] | PreTrainedConfig | None, default_type: str) -> PreTrainedConfig:
    if isinstance(config, PreTrainedConfig):
        return config
    values = dict(config or {})
    return AutoConfig.for_model(values.pop("model_type", default_type), **values)
