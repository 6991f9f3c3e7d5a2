from __future__ import annotations

import contextlib
import json
import math
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from onecycle._anchors import Anchors, anchors, edge, read
from onecycle._curve import Curve
from onecycle._errors import Inconclusive
from onecycle._suggest import RULES, default_rule
from onecycle._suggestion import USES, Suggestion

SMITH = Path(__file__).parents[2] / "shared" / "data" / "smith"
NAN, INF = math.nan, math.inf
X = np.geomspace(1e-6, 10, 701)


def bowl(x: Any = X, fall: float = 0.01, rise: float = 3.0) -> Any:
    """A loss of 2.3 that falls to about 0.3 around `fall` and climbs past `rise`."""
    return 2.3 - 2 / (1 + (fall / x) ** 2) + (x / rise) ** 4


def noisy(seed: int = 0, noise: float = 0.05, n: int = 200, **shape: Any) -> Any:
    x = np.geomspace(1e-6, 10, n)
    return x, bowl(x, **shape) + np.random.default_rng(seed).normal(0, noise, n)


# Anchors --------------------------------------------------------------------------------------------


def test_anchors_of_a_known_curve() -> None:
    seen = anchors(Curve(X, bowl()))
    # By calculus: a tenth has gone at fall / 3, it is steepest at fall, least where x^6 = (rise^2 * fall)^2,
    # and half is lost again at rise.
    assert seen.start == pytest.approx(2.3, abs=1e-4)
    assert seen.best == pytest.approx(0.3015, abs=2e-3)
    assert seen.noise == pytest.approx(0, abs=1e-3)
    assert seen.onset == pytest.approx(0.01 / 3, rel=0.05)
    assert seen.steepest == pytest.approx(0.01, rel=0.04)
    # Nine tenths of the fall: 2 * (fall / x)^2 = a tenth of it plus what the floor is above 0.3.
    assert seen.floor == pytest.approx(0.03, rel=0.05)
    assert seen.minimum == pytest.approx(0.448, rel=0.05)
    assert seen.divergence == pytest.approx(3, rel=0.05)
    assert seen.falling is False


def test_anchors_are_read_at_levels_between_grid_points() -> None:
    # Straight in log10: falls from 2 to 0 over 4 decades, then rises by 1 per decade.
    x = np.geomspace(1e-4, 1e2, 6001)
    log = np.log10(x)
    seen = anchors(Curve(x, np.where(log < 0, -log / 2, log)))
    start = 2 - 0.3 / 2  # the median over the first tenth, 0.6 decades
    assert seen.start == pytest.approx(start, abs=1e-3)
    assert seen.minimum == pytest.approx(1, rel=0.1)
    drop = start - seen.best
    assert seen.onset == pytest.approx(10 ** (-2 * (start - drop / 10)), rel=1e-3)
    assert seen.divergence == pytest.approx(10 ** (seen.best + drop / 2), rel=1e-3)


def test_what_is_not_there_is_none() -> None:
    assert anchors(Curve(X, np.ones(701))) == Anchors(1.0, 1.0, 0.0)
    rising = anchors(Curve(X, 1 + X))
    assert (rising.onset, rising.steepest, rising.minimum, rising.divergence) == (None,) * 4
    assert rising.falling is False
    falling = anchors(Curve(X, 1 / (1 + X)))
    assert falling.falling is True
    assert falling.divergence is None
    assert falling.minimum == pytest.approx(10)
    creeping = anchors(Curve(X, bowl(rise=11)))
    assert creeping.divergence is None
    assert creeping.falling is False
    # Already falling at the first value: the onset was not seen.
    late = np.geomspace(0.02, 10, 300)
    assert anchors(Curve(late, bowl(late))).onset is None
    assert anchors(Curve(late, bowl(late))).steepest == pytest.approx(0.02, rel=0.6)


def test_an_empty_curve_has_no_anchors() -> None:
    seen = anchors(Curve([0, 0], [1, 2]))
    assert math.isnan(seen.start)
    assert math.isnan(seen.best)
    assert (seen.noise, seen.minimum, seen.divergence, seen.falling) == (0.0, None, None, False)


def test_steepest_lies_between_onset_and_minimum() -> None:
    # A steep dip far below the onset does not count.
    loss = bowl() + np.where((X > 1e-5) & (X < 3e-5), 2, 0)
    seen = anchors(Curve(X, loss))
    assert seen.steepest == pytest.approx(0.01, rel=0.05)
    assert seen.onset == pytest.approx(0.0033, rel=0.05)


def test_divergence_is_where_the_loss_stops_being_finite() -> None:
    loss = np.where(X > 0.5, NAN, bowl())
    seen = anchors(Curve(X, loss))
    assert seen.divergence == X[X > 0.5][0]
    assert seen.falling is False
    # A crossing comes first, where there is one.
    late = np.where(X > 5, INF, bowl())
    assert anchors(Curve(X, late)).divergence == pytest.approx(anchors(Curve(X, bowl())).divergence, rel=1e-3)
    # A repeat that was lost before the minimum does not move it: its end is no end of the sweep.
    both = Curve(
        np.tile(X, 3), np.r_[np.where(X > 1e-4, NAN, bowl()), loss, loss], seed=np.repeat([0, 1, 2], 701)
    )
    assert anchors(both).minimum == pytest.approx(anchors(Curve(X, loss)).minimum, rel=0.05)


def test_an_explosion_in_the_last_loss_is_a_divergence() -> None:
    x = X[X < 0.3]
    loss = bowl(x)
    seen = anchors(Curve(x, np.r_[loss[:-1], 1e6]))
    assert seen.divergence == pytest.approx(x[-1], rel=0.05)
    assert seen.falling is False
    assert anchors(Curve(x, loss)).falling is True


def test_falling_means_a_minimum_within_a_kernel_of_the_end() -> None:
    # The kernel is 0.06 decades wide.
    for beyond, falling in ((0.03, True), (0.055, True), (0.2, False)):
        x = np.geomspace(1e-4, 10**beyond, 2000)
        loss = np.abs(np.log10(x))
        assert anchors(Curve(x, loss)).falling is falling, beyond


curves = st.builds(
    lambda seed, fall, rise, noise: noisy(seed, noise, fall=10**fall, rise=10**rise),
    st.integers(0, 1000),
    st.floats(-4, -1.5),
    st.floats(-0.5, 0.8),
    st.floats(0.001, 0.2),
)


def points(seen: Anchors) -> list[float]:
    return [point or 0.0 for point in (seen.onset, seen.steepest, seen.minimum, seen.divergence)]


@settings(max_examples=40, deadline=None)
@given(curve=curves, a=st.floats(0.01, 100), b=st.floats(-100, 100), c=st.floats(1e-3, 1e3))
def test_anchors_do_not_depend_on_units(curve: Any, a: float, b: float, c: float) -> None:
    x, y = curve
    plain = anchors(Curve(x, y))
    assert points(anchors(Curve(x, a * y + b))) == pytest.approx(points(plain), rel=1e-6)
    assert points(anchors(Curve(x * c, y))) == pytest.approx([c * point for point in points(plain)], rel=1e-6)
    shifted = anchors(Curve(x, a * y + b))
    assert [shifted.start, shifted.best] == pytest.approx(
        [a * plain.start + b, a * plain.best + b], abs=1e-6 * (a + 100)
    )
    assert shifted.noise == pytest.approx(a * plain.noise, rel=1e-6, abs=1e-9)


@settings(max_examples=30, deadline=None)
@given(curve=curves, tail=st.lists(st.sampled_from([NAN, INF, -INF, 1.0]), max_size=5))
def test_a_tail_that_is_not_finite_moves_nothing_before_it(curve: Any, tail: Any) -> None:
    x, y = curve
    plain = anchors(Curve(x, y))
    longer = anchors(Curve(np.r_[x, 11 + np.arange(len(tail) + 1)], np.r_[y, NAN, tail]))
    assert points(longer)[:3] == points(plain)[:3]
    assert longer.divergence == (plain.divergence or 11)


@settings(max_examples=30, deadline=None)
@given(fall=st.floats(-4, -1.5), rise=st.floats(0, 0.8), n=st.integers(150, 400))
def test_twice_the_points_change_little(fall: Any, rise: Any, n: int) -> None:
    one, two = (
        anchors(Curve(x, bowl(x, 10**fall, 10**rise)))
        for x in (np.geomspace(1e-6, 10, m) for m in (n, 2 * n))
    )
    assert points(two) == pytest.approx(points(one), rel=0.35)
    same = anchors(Curve(np.repeat(X, 2), np.repeat(bowl(), 2), seed=[0, 1] * 701))
    assert points(same) == pytest.approx(points(anchors(Curve(X, bowl()))), rel=0.01)


def test_pure_noise_has_no_minimum() -> None:
    x = np.geomspace(1e-6, 10, 100)
    found = [anchors(Curve(x, np.random.default_rng(s).normal(0, 1, 100))).minimum for s in range(200)]
    assert sum(minimum is not None for minimum in found) <= 6
    # A drop of two standard deviations is seen.
    seen = [
        anchors(Curve(x, np.random.default_rng(s).normal(0, 1, 100) + np.where(x > 0.001, -4, 0))).minimum
        for s in range(50)
    ]
    assert sum(minimum is not None for minimum in seen) >= 48


def test_a_drop_lost_again_far_below_where_the_loss_rises_is_noise() -> None:
    def seen(rises: float) -> Anchors:
        x = np.geomspace(1e-6, 10, 100)
        dip = -0.3 * np.exp(-((np.log10(x / 1e-5) / 0.2) ** 2))
        noise = np.random.default_rng(0).normal(0, 0.01, 100)
        return anchors(Curve(x, 2 + dip + noise + np.where(x > rises, 1.0, 0.0)))

    assert seen(1e-2).minimum == pytest.approx(1e-5, rel=0.2)
    lost = seen(1e-2).divergence
    assert lost is not None
    assert seen(500 * lost).minimum is not None
    assert seen(4000 * lost).minimum is None


# Suggestion -----------------------------------------------------------------------------------------

GOOD = Suggestion(0.32, 0.126, 0.6, "onecycle", "because of 3")


def test_suggestion() -> None:
    assert GOOD.max_lr == 0.32
    assert float(GOOD) == 0.32
    assert (GOOD.use, GOOD.hyper) == ("one_cycle", "lr")
    assert str(GOOD) == "max_lr 0.32 (0.126 to 0.6), rule onecycle: because of 3"
    momentum = replace(GOOD, hyper="momentum")
    assert str(momentum) == "momentum 0.32 (0.126 to 0.6), rule onecycle: because of 3"
    with pytest.raises(AttributeError, match=r"for momentum, not lr; it is in suggestion\.value"):
        momentum.max_lr  # noqa: B018


@pytest.mark.parametrize(
    ("low", "value", "high"),
    [(0, 1, 2), (2, 1, 3), (1, 3, 2), (1, 2, INF), (NAN, 1, 2), (1, NAN, 2), (-1, 1, 2)],
)
def test_a_suggestion_is_in_order(low: float, value: Any, high: Any) -> None:
    with pytest.raises(ValueError, match="needs 0 < low <= value <= high < infinity, got low="):
        Suggestion(value, low, high, "r", "s")


def test_a_suggestion_in_words_says_what_it_is_for() -> None:
    assert str(replace(GOOD, use="constant")).startswith("lr 0.32 (0.126 to 0.6), rule onecycle")
    assert str(replace(GOOD, use="cyclical", base_lr=0.01)).startswith("base_lr 0.01, max_lr 0.32 (0.126")


def test_ends_may_be_the_value() -> None:
    assert Suggestion(1, 1, 1, "r", "s").high == 1


def test_suggestion_json() -> None:
    assert json.loads(GOOD.to_json()) == {
        "format": "onecycle.suggestion", "version": 1, "value": 0.32, "low": 0.126, "high": 0.6,
        "rule": "onecycle", "reason": "because of 3", "use": "one_cycle", "hyper": "lr", "base_lr": None,
    }  # fmt: skip
    assert Suggestion.from_json(GOOD.to_json()) == GOOD
    assert Suggestion.from_json(replace(GOOD, use="constant", hyper="momentum").to_json()).use == "constant"
    cycle = replace(GOOD, use="cyclical", base_lr=0.01)
    assert Suggestion.from_json(cycle.to_json()) == cycle
    older = json.loads(GOOD.to_json())
    del older["base_lr"]
    assert Suggestion.from_json(json.dumps(older)) == GOOD


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"low": 0}, "^here: a suggestion needs 0 < low"),
        ({"low": "1"}, "^here: the field \"low\" is of the wrong type: '1'"),
        ({"value": None}, '^here: the field "value" is of the wrong type: None'),
        ({"high": []}, '^here: the field "high" is of the wrong type'),
        ({"rule": 1}, '^here: the field "rule" is of the wrong type: 1'),
        ({"reason": 1}, '^here: the field "reason" is of the wrong type: 1'),
        ({"base_lr": "1"}, '^here: the field "base_lr" is of the wrong type'),
        ({"base_lr": 0.32}, r"^here: a suggestion needs 0 < base_lr < value, got base_lr=0\.32, value=0\.32"),
        ({"base_lr": 0}, r"^here: a suggestion needs 0 < base_lr < value, got base_lr=0, "),
        ({"use": 1}, '^here: the field "use" is of the wrong type: 1'),
        ({"hyper": 1}, '^here: the field "hyper" is of the wrong type: 1'),
        ({"version": 2}, "^here: written in version 2 of onecycle.suggestion"),
        ({"format": "onecycle.curve"}, "found 'onecycle.curve'"),
    ],
)
def test_suggestion_json_names_what_is_wrong(change: Any, message: str) -> None:
    text = json.dumps(json.loads(GOOD.to_json()) | change)
    with pytest.raises(ValueError, match=message):
        Suggestion.from_json(text, source="here")
    with pytest.raises(ValueError, match=r"^the JSON text: "):
        Suggestion.from_json(text)


# The default rule -----------------------------------------------------------------------------------


def together(*losses: Any, **facts: Any) -> Curve:
    """Sweeps with these losses as one curve of so many repeats."""
    n = len(losses)
    seed = np.repeat(np.arange(n), X.size)
    return Curve(
        np.tile(X, n), np.concatenate(losses), np.tile(np.arange(X.size), n), seed, settings={"trial": facts}
    )


def test_of_several_sweeps_the_median_of_their_readings_is_taken() -> None:
    sweeps = [bowl(X / shift) for shift in (1, 4, 2)]
    first, last, middle = (Curve(X, loss).suggest() for loss in sweeps)
    of_three = together(*sweeps).suggest()
    assert of_three.value == middle.value
    assert of_three.reason == "in the middle one of 3 sweeps " + middle.reason
    # Of an even number, the geometric mean of the two in the middle.
    of_two = together(sweeps[0], sweeps[1]).suggest()
    assert of_two.value == pytest.approx((first.value * last.value) ** 0.5)
    assert of_two.reason.startswith(f"in the middle one of 2 sweeps {first.reason}, times 2")
    assert of_two.reason.endswith(" for the other sweep in the middle, half of the way to it")
    assert of_two.high / of_two.low == pytest.approx(first.high / first.low)
    # One that exploded early does not move the others.
    wild = [*sweeps, np.where(X < 1e-3, 2.3, 100.0), bowl(X / 2)]
    assert together(*wild).suggest().value == pytest.approx(middle.value)
    # Passes over the data are those of one sweep.
    small = {"steps_per_epoch": 70}
    assert together(*sweeps, **small).suggest().value == pytest.approx(middle.value * 10 ** (-1 / 2))
    for use in USES:
        assert together(*sweeps).suggest(use=use).use == use


def test_sweeps_that_tell_nothing_one_by_one_are_read_together() -> None:
    rng = np.random.default_rng(0)
    noisy = [bowl() + rng.normal(0, 6, X.size) for _ in range(25)]
    alone = 0
    for loss in noisy:
        with contextlib.suppress(Inconclusive):
            alone += Curve(X, loss).suggest().value > 0
    assert alone < 12
    found = together(*noisy).suggest()
    assert not found.reason.startswith("in the middle one")
    assert found.value == pytest.approx(Curve(X, bowl()).suggest().value, rel=1.5)


def test_sweeps_of_too_few_points_each_are_read_together() -> None:
    x = np.geomspace(1e-4, 10, 27)
    order = np.argsort(np.arange(27) % 3, kind="stable")
    curve = Curve(x[order], bowl(x)[order], np.tile(np.arange(9), 3), np.repeat([0, 1, 2], 9))
    assert curve.suggest().value == pytest.approx(Curve(x, bowl(x)).suggest().value, rel=0.5)


def test_the_default_rule_is_a_share_of_the_middle_of_the_trough() -> None:
    curve = Curve(X, bowl(rise=1))
    seen, steepest, minimum = read(curve)
    assert (steepest, minimum) == (seen.steepest, seen.minimum)
    suggestion, trough = curve.suggest(), seen.trough or 0.0
    assert trough < 5 * (seen.floor or 0.0)
    assert suggestion.value == pytest.approx(0.5 * trough)
    assert suggestion.low == pytest.approx(0.5 * trough / 7)
    assert suggestion.high == pytest.approx(0.5 * trough * 7)
    assert (suggestion.rule, suggestion.use, suggestion.hyper) == ("onecycle", "one_cycle", "lr")
    assert suggestion.reason == (
        f"the loss falls from 2.3 to {seen.best:.3g}, fastest at {steepest:.3g}, is least at {minimum:.3g} "
        f"and has diverged at {seen.divergence:.3g}; 1cycle does best at about 0.5 of {trough:.3g}, the "
        "middle of its trough"
    )
    assert curve.suggest("onecycle") == suggestion


def test_in_a_wide_trough_the_rate_is_told_by_where_it_begins() -> None:
    # A net whose units have died stays as low as it was, up to any rate.
    floor = SEEN.floor or 0.0
    assert SEEN.trough is not None
    assert SEEN.trough > 5 * floor
    suggestion = Curve(X, bowl()).suggest()
    assert suggestion.value == pytest.approx(2.5 * floor) == PLAIN
    assert suggestion.reason.endswith(
        f"1cycle does best at about 0.5 of {5 * floor:.3g}, 5 times where it flattens, as the trough is wide"
    )


def test_the_trough_is_where_less_than_a_fifth_of_the_drop_lacks() -> None:
    # Down from 1 to 0 over the decade below 0.1, level, and up to 2 over the decade above 1.
    x = np.geomspace(1e-4, 10, 5001)
    loss = np.interp(np.log10(x), [-4, -2, -1, 0, 1], [1, 1, 0, 0, 2])
    seen = anchors(Curve(x, loss))
    assert seen.trough == pytest.approx(10 ** ((-1.2 + 0.1) / 2), rel=0.02)
    # Where the loss is lost before that, the trough ends there.
    lost = anchors(Curve(x, np.where(x > 0.5, NAN, loss)))
    assert lost.trough == pytest.approx((10**-1.2 * 0.5) ** 0.5, rel=0.02)
    # A sweep that begins in it begins it.
    inside = anchors(Curve(x, np.where(x < 2e-4, 1, np.maximum(loss - 1, 0))))
    assert inside.trough is not None
    # No way up again, no middle.
    assert anchors(Curve(x, np.minimum(loss, 1 - (x > 0.1) * 0.9))).trough is None


def test_the_interval_ends_where_the_loss_has_diverged() -> None:
    # A narrow valley: divergence just past the minimum.
    x = np.geomspace(0.1, 10, 4000)
    curve = Curve(x, np.where(np.abs(np.log10(x)) < 0.2, np.abs(np.log10(x)) / 0.2, 1))
    seen, _, minimum = read(curve)
    assert seen.divergence is not None
    assert seen.trough == pytest.approx(minimum, rel=0.02)
    assert minimum == pytest.approx(1, rel=0.02)
    suggestion = curve.suggest()
    assert suggestion.value == pytest.approx(0.5 * (seen.trough or 0.0))
    assert suggestion.high == seen.divergence < 0.5 * minimum * 7


def test_without_a_divergence_the_interval_has_its_full_reach() -> None:
    curve = Curve(X, bowl(rise=11))
    suggestion = curve.suggest()
    assert suggestion.high == pytest.approx(suggestion.value * 7)
    assert "and never diverges; 1cycle" in suggestion.reason
    with pytest.raises(
        Inconclusive, match="the loss never diverged, so rule 'divergence/4' has nothing to read: sweep"
    ):
        curve.suggest("divergence/4")


def towards(value: float, most: float = 1.5, usual: float = 0.1) -> float:
    """Towards 0.1, but no further than half as much again; where the loss never fell, four times to 0.07."""
    return value * min(max(usual / value, 1 / most), most)


def waiting(rise: float = 0.5, seed: int = 0) -> Any:
    """A loss that stays at 2.3, with some noise, and rises beyond `rise`."""
    return 2.3 + (X / rise) ** 4 + np.random.default_rng(seed).normal(0, 0.01, X.size)


def test_with_sgd_a_loss_that_never_falls_is_read_at_a_share_of_where_it_rises() -> None:
    facts = {"optimizer": "SGD", "momentum": 0.9}
    curve = Curve(X, waiting(), settings={"trial": facts})
    rises = edge(curve)
    assert rises is not None
    assert rises == pytest.approx(0.25, rel=0.4)  # where (x / rise)^4 leaves the noise
    found, share = curve.suggest(), 0.14 * rises
    assert found.value == pytest.approx(towards(share, 4, 0.07))
    assert (found.low, found.high) == pytest.approx((share / 10.5, rises))
    assert found.reason == (
        f"the loss never clearly falls from 2.3, and rises from {rises:.3g} on; "
        "1cycle does best at about 0.14 of that with SGD, "
        "times 3.2 towards 0.07, near which most nets train best with SGD"
    )
    low = Curve(X / 2, waiting(), settings={"trial": facts}).suggest()
    assert low.value == pytest.approx(4 * share / 2)
    assert share / 2 < 0.07 / 4 < share
    assert curve.suggest(use="constant").value == pytest.approx(0.5 * share)
    cycle = curve.suggest(use="cyclical")
    assert (cycle.value, cycle.base_lr) == pytest.approx((share, share / 4))
    # Passes do not count, momentum does.
    often = Curve(X, waiting(), settings={"trial": {**facts, "steps_per_epoch": 70}}).suggest()
    assert often == found
    off = Curve(X, waiting(), settings={"trial": {**facts, "momentum": 0.0}}).suggest()
    assert off.value == pytest.approx(towards(share * (1 - 0.85**2) ** 0.5, 4, 0.07))


def test_with_sgd_ten_stands_for_divergence_where_the_loss_falls_up_to_there() -> None:
    facts = {"optimizer": "SGD", "momentum": 0.9}
    curve = Curve(X, 1 / (1 + X), settings={"trial": facts})
    found = curve.suggest()
    assert found.value == pytest.approx(towards(1.4))
    assert (found.low, found.high) == pytest.approx((1.4 / 10.5, 10.0))
    assert re.fullmatch(
        r"the loss falls from 1 to 0\.\d+ and still does at 10, but hardly any net trains beyond 10; "
        r"1cycle does best at about 0\.14 of that with SGD, "
        r"times 0\.67 towards 0\.1, near which most nets train best with SGD",
        found.reason,
    )
    assert curve.suggest(use="constant").value == pytest.approx(0.7)
    # What is beyond ten adds nothing, and passes over the data count.
    x = np.geomspace(1e-6, 1000, 701)
    far = Curve(x, 1 / (1 + x), settings={"trial": {**facts, "steps_per_epoch": 700 / 8}}).suggest()
    assert far.value == pytest.approx(towards(1.4 * 8**-0.5))
    assert far.high == pytest.approx(14.7 * 8**-0.5)
    assert far.reason.endswith(
        "still does at 1e+03, but hardly any net trains beyond 10; 1cycle does best at about 0.14 of that "
        "with SGD, times 0.35 for going over the data 8 times, times 0.67 towards 0.1, near which most nets "
        "train best with SGD"
    )
    # Short of ten the way out is a higher end, and other optimizers do not tell.
    for end, optimizer in ((1, "SGD"), (10, "AdamW"), (1000, "Adam")):
        x = np.geomspace(1e-6, end, 701)
        with pytest.raises(
            Inconclusive, match=f"^the loss still falls at the highest rate, {end:.3g}:".replace("+", r"\+")
        ):
            Curve(x, 1 / (0.01 + x), settings={"trial": {"optimizer": optimizer}}).suggest()


@pytest.mark.parametrize("facts", [{}, {"optimizer": "Adam"}, {"optimizer": "SGD+Adam"}])
def test_a_loss_that_never_falls_tells_nothing_of_another_optimizer(facts: Any) -> None:
    with pytest.raises(Inconclusive, match=r"^the loss only rises, from 2\.3 to "):
        Curve(X, waiting(), settings={"trial": facts}).suggest()


@pytest.mark.parametrize(
    ("value", "loss", "reason"),
    [
        (X[:150], waiting(rise=2e-5)[:150], "^the loss only rises, from"),  # hardly flat before
        (X, X, "^the loss only rises, from"),
        (X, np.full(X.size, 2.3), "^the loss is flat at 2.3"),
        (X, np.random.default_rng(0).normal(2.3, 0.1, X.size), "^the loss is too noisy"),
        (X[::-1], waiting()[::-1], "^the rate goes down at step 1, so this is no range test"),
        (X[:5], waiting()[:5], "^only 5 usable points"),
        (X, np.full(X.size, NAN), "^none of the 701 losses is a finite number"),
    ],
)
def test_with_sgd_a_curve_without_an_edge_above_a_flat_stretch_is_refused(
    value: Any, loss: Any, reason: str
) -> None:
    with pytest.raises(Inconclusive, match=reason):
        Curve(value, loss, settings={"trial": {"optimizer": "SGD"}}).suggest()


def test_a_cycle_goes_from_where_the_loss_begins_to_fall_to_where_it_flattens() -> None:
    curve = Curve(X, bowl())
    seen = anchors(curve)
    cycle = curve.suggest(use="cyclical")
    assert (cycle.base_lr, cycle.value, cycle.use) == (seen.onset, seen.floor, "cyclical")
    assert cycle.base_lr == pytest.approx(0.01 / 3, rel=0.05)
    assert cycle.max_lr == pytest.approx(0.03, rel=0.05)
    assert cycle.reason.endswith("the maximum is where it flattens, the base where it begins to fall")
    assert curve.suggest().base_lr is None


def test_a_fall_under_way_gives_a_base_of_a_fourth_of_the_maximum() -> None:
    late = np.geomspace(0.02, 10, 300)
    cycle = Curve(late, bowl(late)).suggest(use="cyclical")
    assert anchors(Curve(late, bowl(late))).onset is None
    assert cycle.base_lr == pytest.approx(cycle.value / 4)
    assert cycle.reason.endswith("the base a 4th of that, as it does not begin to fall below")


def test_a_fall_that_flattens_late_gives_a_maximum_no_higher_than_for_1cycle() -> None:
    # Steep from 0.3 on, and diverging at once.
    curve = Curve(X, np.where(X < 1, 2 - (X / 1) ** 2, X**4), settings={"trial": {"steps_per_epoch": 70}})
    seen = anchors(curve)
    cycle = curve.suggest(use="cyclical")
    assert seen.floor is not None
    assert cycle.value < seen.floor
    assert cycle.value == pytest.approx(curve.suggest().value)
    assert ", times 0.32 for going over the data 10 times, before it flattens, the base " in cycle.reason


def test_a_constant_rate_is_below_the_peak_of_1cycle() -> None:
    curve = Curve(X, bowl())
    constant = curve.suggest(use="constant")
    assert constant.value == pytest.approx(0.5 * curve.suggest().value)
    assert (constant.use, constant.base_lr) == ("constant", None)
    assert constant.reason.endswith("as the trough is wide, times 0.5 for a rate that does not fall")
    # Momentum stays what it was in the test, whatever it was; passes over the data count as for 1cycle.
    facts = {"optimizer": "SGD", "momentum": 0.0}
    assert Curve(X, bowl(), settings={"trial": facts}).suggest(use="constant").value == pytest.approx(
        0.5 * EDGE
    )
    passes = 700 / 70
    small = Curve(X, bowl(), settings={"trial": {"steps_per_epoch": 70}}).suggest(use="constant")
    assert small.value == pytest.approx(constant.value * passes ** (-1 / 2))


@pytest.mark.parametrize(
    ("hyper", "rule", "use", "message"),
    [
        ("lr", None, "linear", "^use must be one of one_cycle, cyclical, constant, got 'linear'$"),
        (
            "lr",
            "valley",
            "constant",
            "^rule 'valley' does not tell uses apart, got use='constant': leave out",
        ),
        ("momentum", None, "cyclical", "^use is of learning rates, got 'cyclical' for a sweep of momentum"),
    ],
)
def test_a_use_that_cannot_be_read_is_named(hyper: str, rule: Any, use: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Curve(X, bowl(), hyper=hyper).suggest(rule, use=use)


@settings(max_examples=40, deadline=None)
@given(curve=curves)
def test_each_use_gives_a_suggestion_or_a_refusal(curve: Any) -> None:
    for use in USES:
        with contextlib.suppress(Inconclusive):
            found = Curve(*curve).suggest(use=use)
            assert found.use == use
            assert found.low <= found.value <= found.high


def trained(**facts: Any) -> Suggestion:
    return Curve(X, bowl(), settings={"trial": facts}).suggest()


SEEN = anchors(Curve(X, bowl()))
PLAIN = 0.5 * 5 * (SEEN.floor or 0.0)
EDGE = 0.14 * (SEEN.divergence or 0.0)


def test_with_sgd_a_share_of_the_rate_of_divergence_is_read() -> None:
    suggestion = trained(optimizer="SGD")
    assert suggestion.value == pytest.approx(towards(EDGE))
    assert suggestion.reason.endswith(
        "has diverged at 2.89; 1cycle does best at about 0.14 of that with SGD, "
        "times 0.67 towards 0.1, near which most nets train best with SGD"
    )
    # The interval is that of what was read.
    assert (suggestion.low, suggestion.high) == pytest.approx((EDGE / 7, EDGE * 7))
    # Without one, the trough, and without that the least loss.
    flat = Curve(X, bowl(rise=11), settings={"trial": {"optimizer": "SGD"}})
    assert anchors(flat).divergence is None
    assert flat.suggest().value == pytest.approx(towards(2.5 * (anchors(flat).floor or 0.0)))
    level = np.interp(np.log10(X), [-1, -0.5, -0.2, 0.2], [1, 0, 0, 0.05])
    suggestion = Curve(X, level, settings={"trial": {"optimizer": "SGD"}}).suggest()
    assert anchors(Curve(X, level)).trough is None
    assert suggestion.value == pytest.approx(towards(0.5 * (anchors(Curve(X, level)).minimum or 0.0)))
    assert "0.5 of the rate with the least loss, times" in suggestion.reason


@pytest.mark.parametrize(
    ("edge", "factor"),
    [(0.7, 1.02), (0.14, 1.5), (1.0, 0.714), (7.0, 1 / 1.5)],
)
def test_with_sgd_the_rate_lies_between_what_is_read_and_what_most_nets_want(
    edge: float, factor: float
) -> None:
    scale = edge / (SEEN.divergence or 0.0)
    curve = Curve(X * scale, bowl(), settings={"trial": {"optimizer": "SGD"}})
    assert curve.suggest().value / (0.14 * edge) == pytest.approx(factor, abs=0.005)
    # Of another value than the rate nothing is known beforehand.
    other = Curve(X * scale, bowl(), hyper="weight_decay", settings={"trial": {"optimizer": "SGD"}})
    assert other.suggest("onecycle").value == pytest.approx(0.14 * edge)
    falling = Curve(X, 1 / (1 + X), hyper="weight_decay", settings={"trial": {"optimizer": "SGD"}})
    with pytest.raises(Inconclusive, match="the loss still falls at the highest weight_decay, 10"):
        falling.suggest("onecycle")


@pytest.mark.parametrize(
    ("optimizer", "momentum", "factor"),
    [
        ("SGD", 0.0, (1 - 0.85**2) ** 0.5),
        ("RMSprop", 0.0, (1 - 0.85**2) ** 0.5),
        ("SGD", 0.5, ((1 - 0.85**2) / (1 - 0.25)) ** 0.5),
        ("SGD", 0.85, 1),
        ("SGD", 0.9, 1),
        ("Adam", 0.0, 1),
        ("SGD+Adam", 0.0, 1),
        ("SGD", None, 1),
        ("SGD", "0", 1),
        ("SGD", NAN, 1),
        ("SGD", -1, 1),
    ],
)
def test_momentum_that_1cycle_switches_on_asks_for_a_lower_rate(
    optimizer: str, momentum: Any, factor: float
) -> None:
    suggestion = trained(optimizer=optimizer, momentum=momentum)
    read = (EDGE if optimizer == "SGD" else PLAIN) * factor
    assert suggestion.value == pytest.approx(towards(read) if optimizer == "SGD" else read)
    assert ("for a momentum that was" in suggestion.reason) == (factor < 1)
    if momentum == 0 and factor < 1:
        usual = ", times 0.67 towards 0.1, near which most nets train best with SGD"
        end = ", times 0.53 for a momentum that was 0 and becomes 0.85"
        assert suggestion.reason.endswith(end + usual * (optimizer == "SGD"))


@pytest.mark.parametrize(
    ("per_epoch", "passes"),
    [(700, 1), (1000, 1), (87.5, 8), (70, 10), (None, 1), (0, 1), ("7", 1), (math.inf, 1)],
)
def test_going_over_the_data_again_asks_for_a_lower_rate(per_epoch: Any, passes: float) -> None:
    suggestion = trained(steps_per_epoch=per_epoch)
    assert suggestion.value == pytest.approx(PLAIN * passes**-0.5)
    assert ("for going over the data" in suggestion.reason) == (passes > 1)
    with_sgd = trained(steps_per_epoch=per_epoch, optimizer="SGD", momentum=0.9)
    assert with_sgd.value == pytest.approx(towards(EDGE * passes**-0.5))
    if per_epoch == 87.5:
        assert suggestion.reason.endswith(", times 0.35 for going over the data 8 times")
        assert ", times 0.35 for going over the data 8 times, times 0.7 towards 0.1" in with_sgd.reason


@pytest.mark.parametrize("trial", [None, 3, "SGD", [], {}])
def test_settings_of_any_kind_are_read(trial: Any) -> None:
    assert Curve(X, bowl(), settings={"trial": trial}).suggest().value == pytest.approx(PLAIN)


@settings(max_examples=40, deadline=None)
@given(curve=curves, a=st.floats(0.01, 100), b=st.floats(-100, 100), c=st.floats(1e-2, 1e2))
def test_the_suggestion_does_not_depend_on_units_and_stays_below_the_middle_of_the_trough(
    curve: Any, a: float, b: float, c: float
) -> None:
    x, y = curve
    plain = Curve(x, y).suggest()
    trough = anchors(Curve(x, y)).trough
    assert trough is not None
    assert plain.value < trough
    assert plain.low < plain.value < plain.high
    moved = Curve(x * c, a * y + b).suggest()
    assert [moved.value, moved.low, moved.high] == pytest.approx(
        [c * v for v in (plain.value, plain.low, plain.high)]
    )


@pytest.mark.parametrize(
    ("rule", "expect"),
    [
        ("argmin", lambda _s, m, _d: m),
        ("argmin/2", lambda _s, m, _d: m / 2),
        ("divergence/4", lambda _s, _m, d: d / 4),
        ("midway", lambda s, m, _d: math.sqrt(s * m)),
        ("steepest", lambda s, _m, _d: s),
    ],
)  # fmt: skip
def test_single_anchors_are_rules_without_interval(rule: str, expect: Any) -> None:
    curve = Curve(X, bowl())
    seen, steepest, minimum = read(curve)
    suggestion = curve.suggest(rule)
    assert suggestion.value == pytest.approx(expect(steepest, minimum, seen.divergence))
    assert (suggestion.low, suggestion.high, suggestion.rule) == (suggestion.value, suggestion.value, rule)
    assert suggestion.reason.startswith("the loss falls from 2.3 to 0.3")
    assert suggestion.reason.endswith("; one anchor gives no interval")


def test_momentum_is_read_at_the_least_loss() -> None:
    momentum = np.linspace(0.7, 0.99, 200)
    curve = Curve(momentum, (momentum - 0.9) ** 2, hyper="momentum", sweep="linear")
    assert default_rule(curve) == "argmin"
    suggestion = curve.suggest()
    assert suggestion.value == pytest.approx(0.9, abs=0.003)
    assert (suggestion.hyper, suggestion.rule) == ("momentum", "argmin")
    assert (
        curve.suggest("steepest").hyper
        == curve.suggest("onecycle").hyper
        == curve.suggest("steep").hyper
        == "momentum"
    )
    with pytest.raises(
        Inconclusive, match=r"the loss still falls at the highest momentum, 0\.99: sweep to a higher end$"
    ):
        Curve(momentum, 1 - momentum, hyper="momentum").suggest()


def test_unknown_rules_are_answered_with_the_known() -> None:
    with pytest.raises(
        ValueError,
        match=r"rule must be one of onecycle, divergence/4, argmin/2, midway, .*valley.*, got 'best'",
    ):
        Curve(X, bowl()).suggest("best")
    assert list(RULES) == [
        "onecycle", "divergence/4", "argmin/2", "midway", "argmin", "steepest", "minimum", "steep", "valley",
        "slide", "torch-lr-finder", "ignite", "lightning", "lightning-2.5.2",
    ]  # fmt: skip


# Refusals -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("curve", "reason"),
    [
        (Curve([], []), "the curve holds no point: run a range test first"),
        (
            Curve(X[:20], np.full(20, NAN)),
            "none of the 20 losses is a finite number: start the sweep lower, or look at the data",
        ),
        (
            Curve(X, np.r_[bowl()[:9], np.full(692, NAN)]),
            "only 9 usable points (rate above 0, before the first non-finite loss), 10 are needed: "
            "take more steps or start lower",
        ),
        (Curve(np.r_[0, X[:9]], np.ones(10)), "only 9 usable points"),
        (Curve(X[::80], bowl(X[::80]), hyper="momentum"), "only 9 usable points (momentum above 0"),
        (
            Curve(X, np.full(701, 2.3)),
            "the loss is flat at 2.3 from rate 1e-06 to 10: sweep to a higher end, or check that the updates "
            "reach the weights",
        ),
        (Curve(X, 1.0 + X), "the loss only rises, from 1 to 10.9: start the sweep lower"),
        (
            Curve(X, np.where(X > 1, NAN, 1.0)),
            "the loss is not finite from rate 1.02 on and never fell: start the sweep lower",
        ),
        (
            Curve(X, 1 / (1 + X)),
            "the loss still falls at the highest rate, 10: sweep to a higher end, such as 100",
        ),
        (
            Curve(np.full(20, 0.35), np.linspace(2, 1, 20)),
            "the rate is 0.35 at every point: sweep it over a range",
        ),
        (
            Curve(np.r_[X[:400], X[300:]], np.r_[bowl()[:400], bowl()[300:]], step=7 * np.arange(801)),
            "the rate goes down at step 2800, so this is no range test: sweep it upwards only",
        ),
        (
            Curve(X, np.random.default_rng(1).normal(1, 0.1, 701)),
            "the loss is too noisy: its fall of 0.0",
        ),
    ],
)
def test_refusals_say_what_lacks(curve: Any, reason: str) -> None:
    with pytest.raises(Inconclusive) as caught:
        curve.suggest()
    assert caught.value.reason.startswith(reason)
    assert str(caught.value) == caught.value.reason


def test_noise_is_told_in_numbers() -> None:
    rng = np.random.default_rng(1)
    curve = Curve(X, rng.normal(1, 0.1, 701))
    with pytest.raises(
        Inconclusive,
        match=r"its fall of 0\.\d+ cannot be told from the noise of 0\.098 per step: take more steps, "
        r"repeats or larger batches, or a higher end$",
    ):
        curve.suggest()


def test_ten_points_are_enough() -> None:
    x = np.geomspace(1e-4, 10, 10)
    assert Curve(x, bowl(x)).suggest().value > 0
    # Ten in all repeats together, zero rates not counted.
    few = Curve(np.tile(np.r_[0, x[:5]], 2), np.tile(np.arange(6), 2), seed=np.repeat([0, 1], 6))
    with pytest.raises(Inconclusive, match="only rises"):
        few.suggest()


def test_equal_and_slightly_wavering_values_still_rise() -> None:
    wavering = X.copy()
    wavering[100] = wavering[99] * (1 - 1e-9)
    wavering[201] = wavering[200]
    assert Curve(wavering, bowl()).suggest().value == pytest.approx(
        Curve(X, bowl()).suggest().value, rel=0.02
    )
    # Repeats start anew.
    assert Curve(np.tile(X, 2), np.tile(bowl(), 2), seed=np.repeat([0, 1], 701)).suggest().value > 0


def test_a_small_clear_fall_before_a_high_rise_is_read() -> None:
    loss = 100 + bowl()
    assert Curve(X, np.where(X > 4, 1e9, loss)).suggest().value == pytest.approx(
        Curve(X, bowl()).suggest().value, rel=0.05
    )


# Smith's own range tests ----------------------------------------------------------------------------


@pytest.mark.skipif(not SMITH.is_dir(), reason="Smith's logs are not on this machine")
@pytest.mark.parametrize(
    ("log", "low", "high"), [("0-2-80k", 0.05, 0.2), ("0-3-20k", 0.1, 0.6), ("0-3-5k", 0.3, 1.8)]
)
def test_smiths_range_tests_fall_and_creep_up_without_diverging(log: Any, low: float, high: Any) -> None:
    curve = Curve.read(SMITH / f"resnet56-cifar10-lr-range-{log}.csv")
    assert anchors(curve).divergence is None
    suggestion = curve.suggest()
    assert low < suggestion.value < high


@pytest.mark.parametrize("offset", [1e6, 1e9, 1e11])
def test_a_fall_counts_whatever_is_added_to_the_loss(offset: float) -> None:
    # The drop is 1e-9 of the loss and less, and far above its rounding.
    plain, shifted = Curve(X, bowl()), Curve(X, bowl() + offset)
    assert anchors(shifted).minimum == pytest.approx(anchors(plain).minimum, rel=0.05)
    assert shifted.suggest().value == pytest.approx(plain.suggest().value, rel=0.05)


def test_an_explosion_is_not_called_non_finite() -> None:
    with pytest.raises(Inconclusive, match="the loss explodes at rate 10 and never clearly fell"):
        Curve(X, bowl() + 5e13).suggest()  # rounding hides the fall


HUGE = 1.7e308


@pytest.mark.parametrize(
    ("loss", "reason"),
    [
        (np.full(701, HUGE), "none of the 701 losses is a finite number up to 1e+300"),
        (HUGE * (-1.0) ** np.arange(701), "none of the 701 losses is a finite number up to 1e+300"),
        (np.where(X > 1, HUGE, 1.0), "the loss is beyond 1e+300 from rate 1.02 on and never fell"),
        (np.where(X > 1, np.where(X > 2, NAN, HUGE), 1.0), "the loss is beyond 1e+300 from rate 1.02 on"),
    ],
)
def test_losses_too_large_for_arithmetic_are_refused_without_a_warning(loss: Any, reason: str) -> None:
    curve = Curve(X, loss)
    curve.smooth()
    for rule in RULES:
        with contextlib.suppress(Inconclusive):
            curve.suggest(rule)
    with pytest.raises(Inconclusive, match=re.escape(reason)):
        curve.suggest()


def test_a_run_ends_where_its_loss_gets_too_large_for_arithmetic() -> None:
    lost = Curve(X, np.where(X > 5, NAN, bowl())).suggest()
    assert Curve(X, np.where(X > 5, HUGE, bowl())).suggest() == lost


def test_a_suggestion_fits_a_float() -> None:
    with pytest.raises(ValueError, match="low <= value <= high < infinity"):
        Suggestion(1, 1, 10**400, "r", "s")
