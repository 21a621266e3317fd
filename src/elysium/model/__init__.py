"""The model as Hugging Face classes, registered with the Auto classes.

Knows: configuration, modules, processor. Does not know: inference, data, training.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from elysium.model.configuration import ElysiumConfig, SelectorConfig
from elysium.model.image_processing import ElysiumImageProcessor
from elysium.model.modeling import ElysiumForConditionalGeneration, ElysiumOutput
from elysium.model.processing import ElysiumProcessor

AutoConfig.register("elysium", ElysiumConfig, exist_ok=True)
AutoModelForImageTextToText.register(ElysiumConfig, ElysiumForConditionalGeneration, exist_ok=True)
AutoModelForCausalLM.register(ElysiumConfig, ElysiumForConditionalGeneration, exist_ok=True)
AutoProcessor.register(ElysiumConfig, ElysiumProcessor, exist_ok=True)
AutoImageProcessor.register(ElysiumConfig, slow_image_processor_class=ElysiumImageProcessor, exist_ok=True)

__all__ = [
    "ElysiumConfig", "ElysiumForConditionalGeneration", "ElysiumImageProcessor", "ElysiumOutput",
    "ElysiumProcessor", "SelectorConfig",
]  # fmt: skip
