"""Fixed point: codes of small formats, roundings, gradients, learning on rounded weights."""

from __future__ import annotations

import math
from fractions import Fraction

import pytest
import torch
from torch import Tensor
from torch.func import vmap
from torch.nn.functional import cross_entropy

from baselines.init import lsuv_init
from baselines.maml import MAML, MAMLConfig, TaskBatch, adapt, meta_gradient, sgd
from baselines.networks import ConvNet, StackConfig
from baselines.quantization import FORMATS, FixedPoint, QuantizedUpdate, quantized
from metaevents.errors import UsageError


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def task() -> tuple[Tensor, Tensor]:
    """Six samples of three classes, counts [6, 2, 4, 4] and labels [6]."""
    return torch.poisson(torch.full((6, 2, 4, 4), 2.0), generator=generator()), torch.arange(6) % 3


@pytest.fixture
def net(task: tuple[Tensor, Tensor]) -> ConvNet:
    net = ConvNet(StackConfig(frame_shape=(8, 2, 4, 4), ways=3, channels=(4,), kernel=3))
    lsuv_init(net, task[0], generator=generator())
    return net


def on_grid(x: Tensor, format: FixedPoint) -> bool:
    codes = x / format.step
    return bool(
        (codes == codes.round()).all() and x.min() >= format.lowest and x.max() <= format.highest
    )


@pytest.mark.parametrize(
    ("format", "codes", "step"),
    [
        (FixedPoint(2, 1), range(-1, 2), Fraction(1, 2)),
        (FixedPoint(3, 1), range(-3, 4), Fraction(1, 2)),
        (FixedPoint(4, 3), range(-7, 8), Fraction(1, 8)),
        (FixedPoint(4, 0), range(-7, 8), Fraction(1)),
        (FixedPoint(5, 4), range(-16, 16), Fraction(1, 16)),
        (FixedPoint(8, 7), range(-128, 128), Fraction(1, 128)),
    ],
)
def test_every_number_goes_to_the_nearest_code_and_ties_to_the_even_one(
    format: FixedPoint, codes: range, step: Fraction
) -> None:
    inputs = [Fraction(eighth, 8) for eighth in range((codes.start - 3) * 8, (codes.stop + 3) * 8)]
    nearest = [
        min(max(round(x), codes[0]), codes[-1]) for x in inputs
    ]  # Python's round takes ties to the even
    found = format.quantize(torch.tensor([float(x * step) for x in inputs]))
    assert found.tolist() == [float(code * step) for code in nearest]
    assert sorted(set(found.tolist())) == [float(code * step) for code in codes]


def test_the_formats_of_the_paper_have_their_ranges() -> None:
    ranges = {(each.word, each.fraction): (each.lowest, each.highest) for each in FORMATS}
    assert ranges == {
        (16, 15): (-1.0, 1 - 2**-15),
        (8, 7): (-1.0, 1 - 2**-7),
        (4, 3): (-0.875, 0.875),
        (3, 1): (-1.5, 1.5),
        (2, 1): (-0.5, 0.5),
    }


@pytest.mark.parametrize("format", FORMATS, ids=str)
@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
def test_numbers_of_the_format_are_kept_and_larger_ones_saturate(
    format: FixedPoint, rounding: str
) -> None:
    codes = (
        torch.arange(format.lowest / format.step, format.highest / format.step + 1) * format.step
    )
    assert codes.equal(format.quantize(codes, rounding, generator()))  # type: ignore[arg-type]
    beyond = format.quantize(torch.tensor([-1e6, -1.51, 1.51, 1e6]), rounding, generator())  # type: ignore[arg-type]
    assert beyond.tolist() == [format.lowest, format.lowest, format.highest, format.highest]


def test_only_small_formats_are_symmetric() -> None:
    assert [format.symmetric for format in FORMATS] == [False, False, True, True, True]
    for format in FORMATS:
        assert (format.lowest == -format.highest) == format.symmetric


@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_stochastic_rounding_takes_one_of_two_neighbors_and_has_the_right_mean(
    format: FixedPoint,
) -> None:
    draws, share = 100_000, torch.tensor([0.03, 0.25, 0.5, 0.9])
    x = (share - 1) * format.step
    found = format.quantize(x.expand(draws, 4), "stochastic", generator())
    assert ((found == -format.step) | (found == 0)).all()
    deviation = format.step * (share * (1 - share) / draws).sqrt()
    assert ((found.mean(0) - x).abs() < 4.5 * deviation).all()  # fails for one seed in 37,000


def test_stochastic_rounding_follows_its_generator_and_not_the_global_one() -> None:
    x, before = torch.linspace(-1, 1, 1000), torch.get_rng_state()
    once, again, other = (
        FixedPoint(4, 3).quantize(x, "stochastic", generator(seed)) for seed in (1, 1, 2)
    )
    assert once.equal(again)
    assert not once.equal(other)
    assert before.equal(torch.get_rng_state())


@pytest.mark.parametrize("largest", [1e-6, 0.3, 0.875, 0.9, 1.0, 7.3, 1000.0])
@pytest.mark.parametrize("format", FORMATS, ids=str)
def test_a_scale_by_tensor_is_the_smallest_power_of_two_at_which_nothing_saturates(
    format: FixedPoint, largest: float
) -> None:
    x = torch.linspace(-largest, largest, 101)
    scale = 2.0 ** math.ceil(math.log2(x.max().item() / format.highest))
    found = format.quantize(x, scale="tensor")
    assert found.equal(format.quantize(x, scale=scale))
    assert (found - x).abs().max() <= format.step * scale / 2
    assert not format.quantize(x, scale=scale / 2).max() >= largest


def test_zeros_stay_zeros_under_a_scale_by_tensor() -> None:
    assert FixedPoint(8, 7).quantize(torch.zeros(3), scale="tensor").tolist() == [0, 0, 0]


@pytest.mark.parametrize("scale", [1.0, "tensor"])
def test_first_and_second_derivatives_are_those_of_the_identity(scale: float | str) -> None:
    x = torch.tensor([-3.0, -0.4, 0.0, 0.26, 0.7, 2.0], requires_grad=True)
    q = FixedPoint(4, 3).quantize(x, scale=scale)  # type: ignore[arg-type]
    (first,) = torch.autograd.grad((q**3).sum(), x, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), x)
    torch.testing.assert_close(first, 3 * q**2)
    torch.testing.assert_close(second, 6 * q)


def test_under_vmap_tasks_round_as_one_by_one_and_draw_independently() -> None:
    x = torch.randn(3, 50, generator=generator())
    x[1] *= 10
    format = FixedPoint(4, 3)
    together = vmap(lambda each: format.quantize(each, scale="tensor"))(x)
    assert together.equal(torch.stack([format.quantize(each, scale="tensor") for each in x]))
    same, draws = torch.full((2, 50), 0.3), generator()
    drawn = vmap(lambda each: format.quantize(each, "stochastic", draws), randomness="different")(
        same
    )
    assert not drawn[0].equal(drawn[1])


@pytest.mark.parametrize("layers", ["all", "head"])
def test_an_inner_step_leaves_learning_weights_in_the_format_and_frozen_ones_in_float(
    net: ConvNet, task: tuple[Tensor, Tensor], layers: str
) -> None:
    params, format = dict(net.named_parameters()), FixedPoint(4, 3)
    learning = MAML(net, MAMLConfig(layers=layers)).learning  # type: ignore[arg-type]
    after = adapt(
        net.apply_params, params, *task, QuantizedUpdate(sgd(0.1), format), learning=learning
    )
    for name, value in after.items():
        assert on_grid(value, format) if name in learning else value.equal(params[name])


def test_a_change_below_half_a_step_vanishes_unless_rounding_is_stochastic() -> None:
    format, start = FixedPoint(8, 7), {"w": torch.full((100_000,), 0.25)}
    gradients = {"w": torch.full_like(start["w"], 0.1 * format.step)}
    nearest = QuantizedUpdate(sgd(1.0), format)(start, gradients, 0)
    stochastic = QuantizedUpdate(sgd(1.0), format, "stochastic", generator())(start, gradients, 0)
    assert nearest["w"].equal(start["w"])
    # The mean goes down by a tenth of a step; that of 100,000 numbers deviates by less than 0.001
    # of a step.
    assert (start["w"] - stochastic["w"]).mean().item() == pytest.approx(
        0.1 * format.step, abs=0.005 * format.step
    )


@pytest.mark.parametrize("rounding", ["nearest", "stochastic"])
@pytest.mark.parametrize("format", FORMATS[:2], ids=str)
def test_learning_in_fixed_point_lowers_the_loss(
    net: ConvNet, task: tuple[Tensor, Tensor], format: FixedPoint, rounding: str
) -> None:
    update = QuantizedUpdate(sgd(0.05), format, rounding, generator(), scale="tensor")  # type: ignore[arg-type]
    classifier = MAML(net, MAMLConfig(steps=3), update).adapt(*task, 3)
    with torch.no_grad():
        assert cross_entropy(classifier(task[0]), task[1]) < cross_entropy(net(task[0]), task[1])


@pytest.mark.parametrize("tasks_at_once", [1, 2])
def test_with_a_fine_format_meta_training_through_rounding_is_as_without(
    net: ConvNet, task: tuple[Tensor, Tensor], tasks_at_once: int
) -> None:
    x, y = (torch.stack([each, each.flip(0)]) for each in task)
    config = MAMLConfig(inner_lr=0.1, tasks_at_once=tasks_at_once)
    fine = MAML(
        net, config, QuantizedUpdate(sgd(0.1), FixedPoint(24, 23), scale="tensor")
    ).accumulate(TaskBatch(x, y, x, y))
    plain = MAML(net, config).accumulate(TaskBatch(x, y, x, y))
    for name, gradient in fine.gradients.items():
        torch.testing.assert_close(gradient, plain.gradients[name], rtol=1e-3, atol=1e-4)


def test_the_meta_gradient_of_rounded_initial_weights_is_that_at_the_rounded_point(
    net: ConvNet, task: tuple[Tensor, Tensor]
) -> None:
    params, format = dict(net.named_parameters()), FixedPoint(4, 3)

    def plain(start: dict[str, Tensor]) -> dict[str, Tensor]:
        return dict(adapt(net.apply_params, start, *task, sgd(0.1), second_order=True))

    outer = meta_gradient(
        net.apply_params, lambda each: plain(dict(quantized(each, format))), params, *task
    )
    at_rounded = meta_gradient(
        net.apply_params, lambda each: plain(dict(each)), quantized(params, format), *task
    )
    assert outer.loss.equal(at_rounded.loss)
    for name, gradient in outer.gradients.items():
        torch.testing.assert_close(gradient, at_rounded.gradients[name])


def test_all_initial_weights_are_rounded_and_the_float_ones_do_not_change(net: ConvNet) -> None:
    params = dict(net.named_parameters())
    before = {name: value.detach().clone() for name, value in params.items()}
    after = quantized(params, FixedPoint(3, 1))
    assert after.keys() == params.keys()
    assert all(on_grid(value, FixedPoint(3, 1)) for value in after.values())
    assert all(value.equal(before[name]) for name, value in params.items())


@pytest.mark.parametrize(("word", "fraction"), [(1, 0), (25, 24), (4, 4), (4, -1)])
def test_an_impossible_format_is_refused(word: int, fraction: int) -> None:
    with pytest.raises(UsageError, match=f"{word} bits"):
        FixedPoint(word, fraction)


def test_stochastic_rounding_without_a_generator_is_refused_at_once() -> None:
    with pytest.raises(UsageError, match="generator"):
        QuantizedUpdate(sgd(0.1), FixedPoint(8, 7), "stochastic")


def test_an_unknown_rounding_is_refused_with_the_known_ones() -> None:
    with pytest.raises(UsageError, match="nearest, stochastic"):
        FixedPoint(8, 7).quantize(torch.zeros(1), "up")  # type: ignore[arg-type]
