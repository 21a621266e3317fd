"""Plots: what legends and titles say, in which order, and how large the pictures are."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

from elysium.evaluation import plots
from elysium.evaluation.groups import GroupMean
from elysium.evaluation.ope import mean_scores, sequence_curves
from elysium.evaluation.plots import legend_label, ordered, shortened
from elysium.evaluation.quality import reliability

NAN = float("nan")


def test_legends():
    assert legend_label("nano", "AUC", 48.66) == "nano [AUC 48.7]"
    assert legend_label("perfect", "AUC", 2000 / 21) == "perfect [AUC 95.2]"
    assert legend_label("nothing", "20 px:", NAN) == "nothing [20 px: –]"
    assert shortened("two\nlines") == "two lines"
    assert len(legend_label("x" * 500, "AUC", 1.0)) == plots.NAME_LENGTH + len(" [AUC 1.0]")


def test_legends_of_plots_have_the_best_first(monkeypatch: pytest.MonkeyPatch):
    seen: list[list[str]] = []
    monkeypatch.setattr(plots, "_legend", lambda axes, handles, labels: seen.append(list(labels)))
    truth, far = np.array([[8.0, 8, 24, 24]] * 4), np.array([[40.0, 8, 56, 24]] * 2)
    answers = {"clumsy": np.concatenate([truth[:2], far]), "perfect": truth, "none": truth * NAN}
    runs = [(name, sequence_curves(boxes, truth)) for name, boxes in answers.items()]
    runs.append(("unscored", sequence_curves(truth, truth * NAN)))
    for plot in (plots.success_plot, plots.precision_plot, plots.norm_precision_plot):
        plot(runs)
    assert seen == [
        ["perfect [AUC 95.2]", "clumsy [AUC 47.6]", "none [AUC 0.0]", "unscored [AUC –]"],
        ["perfect [20 px: 100.0]", "clumsy [20 px: 50.0]", "none [20 px: 0.0]", "unscored [20 px: –]"],
        ["perfect [0.2: 100.0]", "clumsy [0.2: 50.0]", "none [0.2: 0.0]", "unscored [0.2: –]"],
    ]


def size(png: bytes) -> tuple[int, int]:
    with Image.open(BytesIO(png)) as image:
        image.load()
        return image.size


def test_many_sequences_and_groups_stay_readable():
    rng = np.random.default_rng(0)
    figures = [{f"s{i}": float(value) for i, value in enumerate(rng.uniform(0, 95, 280))} for _ in range(6)]
    runs = [(f"_{name} $x$ 犬", one) for name, one in enumerate(figures)]
    width, height = size(plots.sequences_plot(runs))
    assert width == 1080
    assert height < 3000
    groups = {f"g{i}": GroupMean(mean_scores([]), i) for i in range(90)}
    assert size(plots.groups_plot([("one", groups)]))[1] < 2000


def test_the_order_of_sequences():
    runs = [("one", {"b": 1.0, "a": 1.0, "n": NAN, "z": 0.5}), ("two", {"new": 0.0})]
    assert ordered(runs) == ["z", "a", "b", "n", "new"]


def test_reliability_says_its_error(monkeypatch: pytest.MonkeyPatch):
    titles, legends = [], []

    def catch(axes, handles, labels):
        titles.append(axes.get_title())
        legends.append(labels)

    monkeypatch.setattr(plots, "_legend", catch)
    data = reliability([0.05, 0.95, 0.95, 0.95], [False, True, True, False])  # 1/4 * 0.05 + 3/4 * |2/3 - 0.95|
    plots.reliability_plot([("one", data)])
    plots.reliability_plot([("one", data), ("two", data)])
    assert titles[0] == "Reliability, expected calibration error 22.5 %"
    assert legends[1] == ["one [ECE 22.5]", "two [ECE 22.5]"]
