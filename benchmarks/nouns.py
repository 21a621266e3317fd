"""How much of what a thing is called the frozen tower sees at all: nouns read off its features by probes.

    python benchmarks/nouns.py --cache runs/nano/cache

The cache is that of `elysium train configs/nano.yaml`: single pictures to train the probes on, validation clips (their
first frames) to measure them on. The features of a thing are the tower's tokens averaged over its true box, as nano's
region token has them. This is an upper mark for what a language model can name, not a part of nano.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import results
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from elysium.inference.loading import locate
from elysium.model import ElysiumForConditionalGeneration
from elysium.model.positions import box_coverage
from elysium.training.features import SHARD_CLIPS, FeatureCache

BATCH, EPOCHS, RATE = 256, 6, 3e-3


@torch.inference_mode()
def things(model: ElysiumForConditionalGeneration, cache: FeatureCache) -> Iterator[tuple[Tensor, str]]:
    """Averaged features (C,) and the noun of everything in first frames that has a name."""
    for index in range(len(cache)):
        frames, labels = cache[index]
        shown = [o for o in labels.objects if o.expressions and np.isfinite(o.boxes_xyxyn[0, 0])]
        if shown:
            tokens = model.vision.assemble(torch.tensor(frames[:1]).float())[0]
            boxes = torch.from_numpy(np.stack([o.boxes_xyxyn[0] for o in shown])).float()
            weights = box_coverage(boxes, model.vision.grid)
            pooled = weights / weights.sum(dim=1, keepdim=True).clamp_min(1e-6) @ tokens
            yield from zip(pooled, (o.noun for o in shown), strict=True)


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
    parser.add_argument("--cache", type=Path, default=Path("runs/nano/cache"))
    options = parser.parse_args()
    model = ElysiumForConditionalGeneration.from_pretrained(locate("nano"), dtype=torch.float32).eval()
    pairs = {}
    for split in ("stills", "val"):
        shards = len(list((options.cache / split).glob("labels-*.json")))
        pairs[split] = list(things(model, FeatureCache(options.cache / split, shards * SHARD_CLIPS)))
    numbers = {noun: number for number, noun in enumerate(sorted({noun for _, noun in pairs["stills"]}))}
    train, held = (
        (torch.stack([f for f, _ in pairs[s]]), torch.tensor([numbers.get(noun, -1) for _, noun in pairs[s]]))
        for s in ("stills", "val")
    )
    channels = train[0].shape[1]
    torch.manual_seed(0)
    hidden = nn.Sequential(nn.Linear(channels, 192), nn.GELU(), nn.Linear(192, len(numbers)))
    figures = {
        "nouns": len(numbers), "train": len(train[0]), "held": len(held[0]),
        "linear": accuracy(nn.Linear(channels, len(numbers)), train, held), "hidden": accuracy(hidden, train, held),
    }  # fmt: skip
    print(figures, results.write("nouns", figures))


if __name__ == "__main__":
    main()
