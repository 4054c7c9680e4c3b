"""The training of the network in the box, where PyTorch is; elsewhere skipped."""

import sys
from pathlib import Path

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="training needs PyTorch; the suite does not")
timm = pytest.importorskip("timm", reason="training needs timm; the suite does not")
pytest.importorskip("sklearn", reason="training needs scikit-learn; the suite does not")
sys.path.insert(0, str(Path(__file__).parents[1] / "training"))

import agc  # noqa: E402
import model  # noqa: E402
import train  # noqa: E402

from fixtures.accuracy import digits  # noqa: E402
from fixtures.nfnet.variants import variant  # noqa: E402

CLIP, FLOOR = 0.02, 1e-3


def clipped_by_definition(weight, gradient):
    """Equation 3 of arXiv:2102.06171, unit by unit, in float64."""
    result = np.array(gradient, np.float64)
    units = range(len(weight)) if np.squeeze(weight).ndim > 1 else [...]
    for unit in units:
        allowed = CLIP * max(np.linalg.norm(np.float64(weight[unit])), FLOOR)
        found = np.linalg.norm(result[unit])
        if found > allowed:
            result[unit] *= allowed / found
    return result


@pytest.mark.parametrize("shape", [(6, 5, 3, 3), (4, 7), (9,), (), (8, 1, 1, 1), (1, 1, 3)])
@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
def test_clipping_is_that_of_the_paper(shape, size):
    """Rows of convolutions and linear layers, vectors and scalars, gradients small and large, a row of zeros."""
    draw = np.random.default_rng(1)
    weight, gradient = draw.normal(size=shape), np.asarray(draw.normal(size=shape)) * size
    if len(shape) > 1:
        weight[0] = 0
        gradient[-1] = 0
    parameter = torch.nn.Parameter(torch.tensor(weight, dtype=torch.float64))
    parameter.grad = torch.tensor(gradient, dtype=torch.float64)
    agc.clip_gradients([parameter], CLIP, FLOOR)
    np.testing.assert_allclose(parameter.grad.numpy(), clipped_by_definition(weight, gradient), rtol=1e-12)


def test_what_has_no_gradient_is_left_alone():
    """A frozen parameter is no error."""
    frozen = torch.nn.Parameter(torch.ones(3), requires_grad=False)
    agc.clip_gradients([frozen], CLIP)
    assert frozen.grad is None


def test_classifier_and_skip_init_gains_are_not_clipped():
    """All parameters but the last layer's two and the scalars that start at zero."""
    training = train.Training(train.Recipe(), *train.data().train)
    left = {
        name for name, value in training.model.named_parameters() if all(value is not one for one in training.clipped)
    }
    gains = {name for name in left if name.endswith("skipinit_gain")}
    assert left - gains == {"head.fc.weight", "head.fc.bias"}
    assert len(gains) == sum(variant(digits.VARIANT).architecture.depths)


def test_three_steps_are_the_same_twice():
    """The seed decides everything; another one makes other losses."""
    first, again, other = (losses(train.Recipe(seed=seed)) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def losses(recipe):
    """Of three steps."""
    steps = train.Training(recipe, *train.data().train).steps()
    return [next(steps) for _ in range(3)]


def test_the_command_looks_and_writes_nothing(capsys):
    """``--steps`` prints the losses."""
    before = digits.WEIGHTS.stat().st_mtime_ns
    assert train.main(["--steps", "2"]) == 0
    assert len([float(word) for word in capsys.readouterr().out.split()]) == 2
    assert digits.WEIGHTS.stat().st_mtime_ns == before


def test_the_held_out_images_are_those_that_training_left():
    """The shipped file is every fifth image, and no other was trained on."""
    split = train.data()
    images, labels = digits.held_out()
    np.testing.assert_array_equal(images, split.held_out[0])
    np.testing.assert_array_equal(labels, split.held_out[1])
    assert len(split.train[1]) + len(labels) == 1797


@pytest.mark.parametrize("name", ["digits_nfnet", "test_nfnet", "nf_regnet_b1"])
def test_a_row_becomes_timms_network(name):
    """Where timm has the variant too, its own configuration says the same."""
    built = model.timm_network(variant(name))
    assert sum(value.numel() for value in built.parameters()) == variant(name).parameters
    if timm.is_model(name):
        with torch.device("meta"):
            theirs = timm.create_model(name)
        assert {key: value.shape for key, value in built.state_dict().items()} == {
            key: value.shape for key, value in theirs.state_dict().items()
        }
