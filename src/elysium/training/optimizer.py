"""Learning rates by part; and Muon for matrices, AdamW for everything else, behind one optimizer for the Trainer.

Muon (Jordan et al. 2024) orthogonalises the momentum of each weight matrix; embeddings, scalars, biases and norms
stay with AdamW, as its authors advise. On nano's first steps it needed half the samples of AdamW alone.

Knows: which parameter goes where. Does not know: schedules, models.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

_SMALLEST_MATRIX = 8  # thinner ones (a score of one output, say) are vectors in disguise


class CpuMuon(Muon):
    """PyTorch's Muon, which multiplies in bfloat16 wherever it is, in float32 for parameters on a CPU.

    A CPU without instructions for bfloat16 takes more than twenty times as long for it, longer than for all the rest
    of nano's training. The state is that of PyTorch's, so a run goes on with either. Always
    with Nesterov's momentum and steps of the size of AdamW's ("match_rms_adamw").
    """

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                grad, state = parameter.grad, self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(grad)
                momentum = state["momentum_buffer"].lerp_(grad, 1 - group["momentum"])
                update = orthogonalised(grad.lerp(momentum, group["momentum"]), group)
                parameter.mul_(1 - group["lr"] * group["weight_decay"])
                parameter.add_(update, alpha=-0.2 * group["lr"] * max(parameter.shape) ** 0.5)


def orthogonalised(matrix: torch.Tensor, group: Mapping[str, Any]) -> torch.Tensor:
    """Roughly U V^T of a matrix U S V^T: Newton-Schulz iterations (Jordan et al. 2024) with the numbers of a group."""
    a, b, c = group["ns_coefficients"]
    x = matrix.T if matrix.shape[0] > matrix.shape[1] else matrix
    x = x / x.norm().clamp(min=group["eps"])  # no singular value above 1
    for _ in range(group["ns_steps"]):
        gram = x @ x.T
        x = torch.addmm(x, torch.addmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class MuonAdamW(Optimizer):
    """Two optimizers stepped as one. Their parameter groups stand one after the other, Muon's first.

    Args:
        named_parameters: of the model; those that need no gradient are left out.
        muon_lr, adamw_lr: learning rates. Muon's updates are scaled to the size of AdamW's.
        weight_decay: of the matrices alone.
        rates: factors on the learning rates of parts, see :func:`rate_of`.
    """

    def __init__(
        self, named_parameters: Iterable[tuple[str, nn.Parameter]], muon_lr: float, adamw_lr: float,
        weight_decay: float = 0.0, rates: Mapping[str, float] | None = None,
    ) -> None:  # fmt: skip
        trained = [(name, p) for name, p in named_parameters if p.requires_grad]
        matrices = [(name, p) for name, p in trained if is_matrix(name, p)]
        others = [(name, p) for name, p in trained if not is_matrix(name, p)]
        by_rate = [part_groups(kind, lr, rates or {}) for kind, lr in ((matrices, muon_lr), (others, adamw_lr))]
        muon = CpuMuon if all(p.device.type == "cpu" for _, p in matrices) else Muon
        self.parts: tuple[Optimizer, Optimizer] = (
            muon(by_rate[0], lr=muon_lr, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw"),
            AdamW(by_rate[1], lr=adamw_lr, betas=(0.9, 0.98), weight_decay=0.0),
        )
        self.defaults = {}

    @property
    def param_groups(self) -> list[dict[str, Any]]:  # type: ignore[override]
        return [group for part in self.parts for group in part.param_groups]

    @property
    def state(self) -> dict[Any, Any]:  # type: ignore[override]
        return {key: value for part in self.parts for key, value in part.state.items()}

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for part in self.parts:
            part.step()

    def zero_grad(self, set_to_none: bool = True) -> None:
        for part in self.parts:
            part.zero_grad(set_to_none)

    def state_dict(self) -> dict[str, Any]:
        return {"muon": self.parts[0].state_dict(), "adamw": self.parts[1].state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.parts[0].load_state_dict(state_dict["muon"])
        self.parts[1].load_state_dict(state_dict["adamw"])


def part_groups(
    named_parameters: Iterable[tuple[str, nn.Parameter]], lr: float, rates: Mapping[str, float],
    weight_decay: float | None = None, decayed: Collection[str] = (),
) -> list[dict[str, Any]]:  # fmt: skip
    """Parameter groups by learning rate and, if there is a ``weight_decay``, by whether they are among the ``decayed``;
    without what needs no gradient."""
    groups: dict[tuple[float, bool], dict[str, Any]] = {}
    for name, parameter in named_parameters:
        if not parameter.requires_grad:
            continue
        rate, decays = rate_of(name, rates), name in decayed
        group = groups.setdefault((rate, decays), {"params": [], "lr": lr * rate})
        group["params"].append(parameter)
        if weight_decay is not None:
            group["weight_decay"] = weight_decay if decays else 0.0
    return list(groups.values())


def rate_of(name: str, rates: Mapping[str, float]) -> float:
    """The factor on a parameter's learning rate: that of the longest beginning of its name, 1 without one."""
    fitting = [start for start in rates if name.startswith(start)]
    return rates[max(fitting, key=len)] if fitting else 1.0


def is_matrix(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter is a weight matrix between hidden spaces, Muon's kind."""
    return parameter.ndim == 2 and min(parameter.shape) > _SMALLEST_MATRIX and "embed" not in name
