"""What every framework's module must do; each one's test says how its framework does it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import pytest

import onecycle as oc

STEPS = 24
Values = list[list[dict[str, float]]]


class Conformance(ABC):
    """Scenarios that run in each framework's own training loop on a tiny real model.

    Attributes:
        sets_momentum: whether the framework lets momentum be changed while it trains.
        has_groups: whether its optimizers have parameter groups with rates of their own.
    """

    sets_momentum: ClassVar[bool] = True
    has_groups: ClassVar[bool] = True

    @abstractmethod
    def used(
        self,
        policy: oc.Policy,
        steps: int,
        *,
        adam: bool = False,
        stop_at: int | None = None,
        factors: tuple[float, ...] = (1.0,),
        accumulate: int = 1,
    ) -> Values:
        """Train `steps` updates by the policy; what each update used, one dict a parameter group.

        Read inside the optimizer's own step, so that nothing but the truth counts. With `stop_at`, save
        after that many updates as the framework does, build everything anew, load, and go on; the values
        are those of both parts. `factors` are the groups' rates to begin with, as shares of 0.1.
        """

    @abstractmethod
    def range_test(self, **settings: Any) -> tuple[oc.Curve, Any, Any]:
        """Run a range test through the framework's module: curve, fingerprint before, fingerprint after.

        A fingerprint holds model, optimizer and random generators, and is compared with `==`.
        """

    def expected(self, policy: oc.Policy, steps: int) -> list[dict[str, float]]:
        """Values of the policy at each update, less what the framework cannot set."""
        names = ("lr", "momentum") if self.sets_momentum else ("lr",)
        return [{name: policy(i)[name] for name in names} for i in range(steps)]

    def check(self, values: Values, policy: oc.Policy, factors: tuple[float, ...] = (1.0,)) -> None:
        """Compare what was used with the policy, each group's rate with its share."""
        expected = self.expected(policy, STEPS)
        assert len(values) == STEPS
        for used, value in zip(values, expected, strict=True):
            assert len(used) == len(factors)
            for group, factor in zip(used, factors, strict=True):
                assert group["lr"] == pytest.approx(value["lr"] * factor / factors[0], rel=1e-6)
                if self.sets_momentum:
                    assert group["momentum"] == pytest.approx(value["momentum"], rel=1e-6)

    def test_each_update_uses_the_policy_s_values(self) -> None:
        policy = oc.one_cycle(0.1, STEPS)
        self.check(self.used(policy, STEPS), policy)

    def test_the_first_of_adam_s_betas_is_the_momentum(self) -> None:
        policy = oc.one_cycle(0.01, STEPS)
        self.check(self.used(policy, STEPS, adam=True), policy)

    def test_a_run_that_was_stopped_goes_on_as_if_it_had_not(self) -> None:
        policy = oc.one_cycle(0.1, STEPS)
        self.check(self.used(policy, STEPS, stop_at=9), policy)

    def test_one_step_of_the_policy_is_one_update_under_accumulation(self) -> None:
        policy = oc.one_cycle(0.1, STEPS)
        self.check(self.used(policy, STEPS, accumulate=2), policy)

    def test_groups_keep_their_ratios(self) -> None:
        if not self.has_groups:
            pytest.skip("this framework's optimizers have one rate")
        policy = oc.one_cycle(0.1, STEPS)
        self.check(self.used(policy, STEPS, factors=(1.0, 0.1)), policy, (1.0, 0.1))

    def test_past_its_end_a_policy_holds(self) -> None:
        policy = oc.one_cycle(0.1, STEPS - 6)
        self.check(self.used(policy, STEPS), policy)

    def test_a_range_test_changes_nothing(self) -> None:
        curve, before, after = self.range_test(start=1e-4, end=10.0, steps=30)
        assert before == after
        assert curve.value[0] == pytest.approx(1e-4)
        assert len(curve) >= 20

    def test_a_range_test_gives_the_same_curve_twice(self) -> None:
        first, _, _ = self.range_test(start=1e-4, end=1.0, steps=20, seed=3)
        second, _, _ = self.range_test(start=1e-4, end=1.0, steps=20, seed=3)
        assert first.loss.tolist() == second.loss.tolist()
