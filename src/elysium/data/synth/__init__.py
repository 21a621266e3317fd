"""Clips made by program, with exact boxes and words: cut-outs and drawn shapes moving over photos."""

from elysium.data.synth.assets import AssetLibrary, Cutout
from elysium.data.synth.clip import ClipGenerator, SynthClip, SynthConfig, SynthObject

__all__ = ["AssetLibrary", "ClipGenerator", "Cutout", "SynthClip", "SynthConfig", "SynthObject"]
