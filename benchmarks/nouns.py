"""How much of what a thing is called the frozen tower sees at all: nouns read off its features by probes.

    python benchmarks/nouns.py --assets ../shared/data

Single pictures, those to train the probes on from training material, those to measure them on from held-out material.
The features of a thing are the tower's tokens averaged over its true box, as nano's region token has them: once of the
whole picture, and once of the window around the thing that nano looks at when it describes. This is an upper mark for
what a language model can name, not a part of nano.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import results
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elysium.boxes import denormalize
from elysium.data.synth import AssetLibrary, ClipGenerator, SynthConfig
from elysium.inference.pipelines import Elysium
from elysium.inference.windows import look_around
from elysium.model.positions import box_coverage

BATCH, EPOCHS, RATE = 256, 6, 3e-3
SIZE_PX, SEED = 224, 90_007
LOOKS = ("whole", "window")


@torch.inference_mode()
def things(model: Elysium, generator: ClipGenerator, pictures: int) -> Iterator[tuple[dict[str, Tensor], str]]:
    """Averaged features (C,), of the whole picture and of a window, and the noun of everything that has a name."""
    window = model.tracking["describe_window"]
    for number in range(pictures):
        clip = generator.generate(number)
        shown = [o for o in clip.objects if o.expressions and np.isfinite(o.boxes_xyxyn[0, 0])]
        looks, boxes = [clip.frames[0]], [o.boxes_xyxyn[0] for o in shown]
        for thing in shown:
            pixels = denormalize(thing.boxes_xyxyn[:1], (SIZE_PX, SIZE_PX))[0]
            (image,), seen = look_around(clip.frames[:1], pixels, window)
            looks.append(image)
            boxes.append(seen.inverse(pixels[None])[0])
        if shown:
            tokens = model.model.vision(model.processor.image_processor(looks)["pixel_values"])
            of_whole = pooled(model, tokens[:1].expand(len(shown), -1, -1), boxes[: len(shown)])
            of_window = pooled(model, tokens[1:], boxes[len(shown) :])
            for whole, near, thing in zip(of_whole, of_window, shown, strict=True):
                yield {"whole": whole, "window": near}, thing.noun


def pooled(model: Elysium, tokens: Tensor, boxes: list[np.ndarray]) -> Tensor:
    """(M, C) means of tokens (M, N, C) over a box in each."""
    weights = box_coverage(torch.tensor(np.stack(boxes), dtype=torch.float32), model.model.vision.grid)
    shares = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-6)
    return (shares.unsqueeze(1) @ tokens).squeeze(1)


def accuracy(probe: nn.Module, train: tuple[Tensor, Tensor], held: tuple[Tensor, Tensor]) -> float:
    """Train a probe on (M, C) features and (M,) nouns; its share of right nouns on held-out ones."""
    features, nouns = train
    optimizer = torch.optim.AdamW(probe.parameters(), lr=RATE, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, EPOCHS * (len(features) // BATCH) + 1)
    for _ in range(EPOCHS):
        for places in torch.randperm(len(features)).split(BATCH)[: len(features) // BATCH]:
            loss = F.cross_entropy(probe(features[places]), nouns[places], label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    with torch.inference_mode():
        return float((probe(held[0]).argmax(dim=1) == held[1]).float().mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--assets", type=Path, default=None)
    parser.add_argument("--pictures", type=int, default=6000, help="to train on; an eighth as many to measure on")
    parser.add_argument("--threads", type=int, default=None)
    options = parser.parse_args()
    cv2.setNumThreads(0)
    model = Elysium.from_pretrained("nano", threads=options.threads)
    config = SynthConfig(size_px=SIZE_PX, num_frames=1, min_objects=2, max_objects=6, region_probability=0.0)
    pairs = {}
    for split, pictures in (("train", options.pictures), ("val", options.pictures // 8)):
        library = AssetLibrary.from_folder(options.assets, split)
        pairs[split] = list(things(model, ClipGenerator(config, library, seed=SEED), pictures))
    numbers = {noun: number for number, noun in enumerate(sorted({noun for _, noun in pairs["train"]}))}
    figures: dict[str, object] = {
        "nouns": len(numbers), "train": len(pairs["train"]), "held": len(pairs["val"]),
        "window_ratio": model.tracking["describe_window"],
    }  # fmt: skip
    for look in LOOKS:
        train, held = (
            (torch.stack([f[look] for f, _ in pairs[s]]), torch.tensor([numbers.get(noun, -1) for _, noun in pairs[s]]))
            for s in ("train", "val")
        )
        channels = train[0].shape[1]
        torch.manual_seed(0)
        hidden = nn.Sequential(nn.Linear(channels, 192), nn.GELU(), nn.Linear(192, len(numbers)))
        linear = nn.Linear(channels, len(numbers))
        figures[look] = {"linear": accuracy(linear, train, held), "hidden": accuracy(hidden, train, held)}
    print(figures, results.write("nouns", figures))


if __name__ == "__main__":
    main()
