"""How many updates an optimizer has really made."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from onecycle.torch._updates import updates


def test_a_fused_optimizer_that_skips_has_made_no_update() -> None:
    class Fused(torch.optim.SGD):
        _step_supports_amp_scaling = True  # it unscales by itself, and looks whether to skip

        def step(self, closure: Any = None) -> Any:  # noqa: ARG002
            asked.append(bool(vars(self)["found_inf"]))

    asked: list[bool] = []
    weight = nn.Parameter(torch.ones(1))
    optimizer = Fused([weight], lr=0.1)
    scaler = torch.amp.GradScaler("cpu")
    assert updates(optimizer) == 0
    for factor in (1.0, float("inf"), 1.0):
        optimizer.zero_grad()
        scaler.scale(factor * weight.sum()).backward()  # type: ignore[no-untyped-call]
        scaler.step(optimizer)
        scaler.update()
    assert asked == [False, True, False]
    assert updates(optimizer) == 2


def test_an_optimizer_that_does_not_tell_is_refused() -> None:
    with pytest.raises(TypeError, match=r"optimizer must be a torch optimizer, got object"):
        updates(object())  # type: ignore[arg-type]
