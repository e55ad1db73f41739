"""Validation, pytree behaviour and shapes of problems and probes; range checks."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from hardset.checks import check_integer, check_range
from theory import (
    Custom,
    DownstreamShift,
    Easy,
    FixedAngle,
    Hard,
    Independent,
    InSample,
    Mixture,
    PerceptronProblem,
    Steps,
    Window,
)

BAD = [
    (lambda: PerceptronProblem(0.0), r"alpha_total = 0 .*\(0, inf\)"),
    (lambda: PerceptronProblem(np.nan), r"alpha_total = nan is not a number in .*\(0, inf\)"),
    (
        lambda: PerceptronProblem(True, 0.3),
        r"alpha_total = True is a truth value; a number is needed",
    ),
    (
        lambda: PerceptronProblem(2.0, np.array([True])),
        r"keep_fraction = \[ True\] is a truth value",
    ),
    (lambda: PerceptronProblem(2j), r"alpha_total = 2j is complex; a real number is needed"),
    (lambda: PerceptronProblem(1.0, probe=Independent([1j])), r"alpha_probe = .*1j.* not a number"),
    (lambda: FixedAngle(np.array([0.1j])), r"theta = array\(\[0.\+0.1j\]\) is complex"),
    (
        lambda: PerceptronProblem(np.ones(3), np.full((4, 2), 0.1), policy=Window(np.zeros(2))),
        r"broadcast .*: alpha_total \(3,\), keep_fraction \(4, 2\), lo \(2,\); .*grid",
    ),
    (lambda: PerceptronProblem([1.0, -2.0]), r"alpha_total = -2 at index \(1,\)"),
    (lambda: PerceptronProblem("many"), r"alpha_total = 'many' is not a number"),
    (lambda: PerceptronProblem(1.0, 0.0), r"keep_fraction = 0 .*\(0, 1\]"),
    (lambda: PerceptronProblem(1.0, 1.5), r"keep_fraction = 1.5 .*\(0, 1\]"),
    (lambda: PerceptronProblem(1.0, redundancy=0.5), r"redundancy = 0.5 .*\[1, inf\)"),
    (lambda: PerceptronProblem(1.0, probe=0.3), r"probe = 0.3 is not a FixedAngle"),
    (lambda: PerceptronProblem(1.0, policy="hard"), r"policy = 'hard' is not a Policy"),
    (
        lambda: PerceptronProblem(1.0, policy=[Hard(), Window()]),
        r"policy = \[Hard.* is not a Policy.*: a problem has one policy; make one problem for each",
    ),
    (lambda: PerceptronProblem(1.0, policy=Hard), r"it is a class, call it, Hard\(\.\.\.\)"),
    (
        lambda: PerceptronProblem(1.0, probe=[FixedAngle(0.1)]),
        r"probe = .* give one probe whose own numbers are arrays",
    ),
    (lambda: PerceptronProblem(1.0, downstream=(0.5,)), r"downstream = \(0.5,\) is not a Downstr"),
    (
        lambda: PerceptronProblem(np.ones(2), 0.1, policy=Custom(jnp.exp, parameters=np.ones(3))),
        r"broadcast .*: alpha_total \(2,\), policy.* \(3,\); ",
    ),
    (lambda: PerceptronProblem(1.0, 0.5, policy=Window(0.6)), r"lo \+ keep_fraction = 1.1"),
    (lambda: PerceptronProblem(1.0, 0.5, policy=Window(-0.1)), r"lo = -0.1 .*\[0, 1\]"),
    (lambda: PerceptronProblem(1.0, 0.5, policy=Mixture(2.0)), r"w = 2 .*\[0, 1\]"),
    (lambda: FixedAngle(-0.1), r"theta = -0.1 .*rad"),
    (lambda: FixedAngle(2.0), r"theta = 2 .*\[0, 1.5708\] rad"),
    (lambda: FixedAngle(np.pi / 2 + 1e-7), r"theta = 1.5707964.* 1.5707963267948966\] rad"),
    (lambda: FixedAngle.degrees(91), r"theta_deg = 91 .*\[0, 90\] degrees"),
    (lambda: Independent(0.0), r"alpha_probe = 0 .*\(0, inf\)"),
    (lambda: DownstreamShift(-1.0), r"delta = -1 .*\[0, inf\)"),
    (lambda: DownstreamShift(1.0, along_teacher=2.0), r"along_teacher = 2 "),
    (lambda: DownstreamShift(1.0, along_plane=-2.0), r"along_plane = -2 "),
    (lambda: DownstreamShift(1.0, 0.9, 0.9), r"norm of \(along_teacher, along_plane\) = 1.27"),
    (lambda: DownstreamShift.degrees(90), r"downstream_deg = 90 .*\[0, 90\) degrees"),
    (lambda: PerceptronProblem.grid(alpha_total=np.ones((2, 2))), r"alpha_total has 2 dimensions"),
]


@pytest.mark.parametrize(("build", "message"), BAD, ids=[message for _, message in BAD])
def test_bad_arguments(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (2, r"x = 2 is outside the valid range \(0, 1\) cm"),
        (0, r"x = 0 is outside the valid range \(0, 1\) cm"),
        (1, r"x = 1 is outside the valid range \(0, 1\) cm"),
        ([0.5, np.inf], r"x = inf at index \(1,\) is outside the valid range \(0, 1\) cm"),
        (["a"], r"x = \['a'\] is not a number"),
        ({0.5}, r"x = \{0\.5\} is not a number"),
        (np.datetime64("2020"), r"x = .*2020.* is a time"),
    ],
)
def test_check_range(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_range("x", value, 0, 1, open_low=True, open_high=True, unit="cm")


def test_right_angles_in_single_precision():
    assert float(np.float32(np.pi / 2)) > np.pi / 2
    assert float(FixedAngle(np.float32(np.pi / 2)).theta) == np.pi / 2
    assert float(FixedAngle.degrees(np.float32(90)).theta) == np.pi / 2
    np.testing.assert_array_equal(
        FixedAngle(jax.numpy.array([0.5, np.pi / 2], "float32")).theta, [0.5, np.pi / 2]
    )


@pytest.mark.parametrize("value", [7, 7.0, np.int32(7), np.float64(7)])
def test_check_integer(value):
    check_integer("dim", value, 2, np.inf)


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        (15.5, "dim = 15.5 is not a whole number"),
        (True, "dim = True is not a whole number"),
        ([3], r"dim = \[3\] is not a whole number"),
        (1, r"dim = 1 is outside the valid range \[2, inf\)"),
        (np.inf, "dim = inf is outside"),
        (np.nan, "dim = nan is not a number in"),
        ("3", "dim = '3' is not a number"),
    ],
)
def test_check_integer_refuses(value, sentence):
    with pytest.raises(ValueError, match=sentence):
        check_integer("dim", value, 2, np.inf)


def test_check_range_lets_numbers_and_tracers_pass():
    check_range("x", [0.0, 1.0], 0, 1)
    assert jax.eval_shape(lambda x: (check_range("x", x, 0, 1), x)[1], 7.0).shape == ()


def test_pytree_round_trip():
    problem = PerceptronProblem(
        20.0,
        [0.1, 0.1],
        FixedAngle(0.3),
        Custom(lambda z: 0.1 + 0 * z, "yz", (0.5,)),
        3.0,
        DownstreamShift(0.1),
        dims=("keep_fraction",),
    )
    leaves, structure = jax.tree.flatten(problem)
    again = jax.tree.unflatten(structure, leaves)
    assert structure == jax.tree.structure(again)
    assert leaves == jax.tree.leaves(again)
    assert again.dims == ("keep_fraction",)
    assert again.policy.variable == "yz"
    assert again.policy.breakpoints == (0.5,)
    with pytest.raises(AttributeError):
        problem.alpha_total = 1.0


def test_lists_are_axes_not_branches():
    problem = PerceptronProblem([1, 2.0], [0.5, 1.0], FixedAngle([0.0, 0.1]), Window([0.1, 0.0]))
    assert problem.shape == (2,)
    with pytest.raises(ValueError, match=r"alpha_total = \[\[1\], \[1, 2\]\] is not a number"):
        PerceptronProblem([[1], [1, 2]])


def test_problems_pass_through_jit_and_vmap():
    def doubled(problem):
        return 2 * problem.alpha_total + problem.probe.theta

    problem = PerceptronProblem(np.array([1.0, 2.0]), 0.5, FixedAngle(np.array([0.0, 0.25])))
    axes = jax.tree.map(lambda leaf: 0 if np.ndim(leaf) else None, problem)
    np.testing.assert_allclose(jax.jit(doubled)(problem), [2, 4.25])
    np.testing.assert_allclose(jax.vmap(doubled, in_axes=(axes,))(problem), [2, 4.25])


def test_grid_is_an_outer_product():
    problem = PerceptronProblem.grid(alpha_total=[1, 2, 3], keep_fraction=0.5, theta=[0.0, 0.1])
    assert problem.dims == ("alpha_total", "theta")
    assert problem.shape == (3, 2)
    np.testing.assert_array_equal(np.ravel(problem.alpha_total), [1, 2, 3])
    assert isinstance(problem.policy, Hard)


def test_shape_of_a_point_and_of_broadcast_arrays():
    assert PerceptronProblem(1.0).shape == ()
    assert PerceptronProblem(np.ones((4, 1)), np.full(3, 0.5)).shape == (4, 3)
    assert PerceptronProblem(1.0, probe=InSample()).shape == ()


def test_degrees():
    assert float(FixedAngle.degrees(90).theta) == pytest.approx(np.pi / 2)
    assert float(DownstreamShift.degrees(45).delta) == pytest.approx(1.0)


def test_problems_with_the_same_numbers_are_equal():
    one = PerceptronProblem(5, 0.3)
    assert one == PerceptronProblem(np.float64(5.0), 0.3)
    assert hash(one) == hash(PerceptronProblem(5.0, np.asarray(0.3)))
    assert one != PerceptronProblem(5, 0.31) and one != PerceptronProblem([5], 0.3)
    assert one != PerceptronProblem(5, 0.3, policy=Window()) and one != 5
    assert one != PerceptronProblem(5, 0.3, dims=())
    assert len({one, PerceptronProblem(5.0, 0.3), PerceptronProblem(6.0, 0.3)}) == 2
    grid = PerceptronProblem([5, 6.0], 0.3, policy=Window([0.1, 0.2]))
    assert grid == PerceptronProblem(np.array([5.0, 6.0]), 0.3, policy=Window((0.1, 0.2)))
    assert grid != PerceptronProblem(np.array([5.0, 6.0]), 0.3, policy=Window((0.1, 0.3)))


def test_policies_and_probes_with_the_same_numbers_are_equal():
    assert Hard() == Hard() and Hard() != Easy() and Window(0.1) == Window(np.float64(0.1))
    assert FixedAngle(0.1) == FixedAngle(0.1) and InSample() == InSample()
    assert Independent(3) == Independent(3.0) != Independent(4.0)
    assert Steps([0, 1], [0.5]) == Steps(np.array([0.0, 1.0]), [0.5]) != Steps([0, 1], [0.4])
    assert Custom(jnp.exp, parameters=1) == Custom(jnp.exp, parameters=[1.0])
    assert Custom(jnp.exp, parameters=1) != Custom(jnp.exp, parameters=2)
    assert Custom(jnp.exp, "yz") != Custom(jnp.exp) != Custom(jnp.sin)
    assert hash(Steps([0, 1], [0.5])) == hash(Steps([0, 1], [0.5]))


def test_tracers_are_equal_to_themselves_alone():
    def compare(x):
        same = PerceptronProblem(x) == PerceptronProblem(x)
        return x * (same and PerceptronProblem(x) != PerceptronProblem(2 * x))

    assert jax.jit(compare)(3.0) == 3.0
