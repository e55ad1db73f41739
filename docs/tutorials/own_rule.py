# %% [markdown]
# # Check your own pruning rule against theory and simulation
#
# You have a rule that says which examples of a data set to keep, and you want to know whether
# it is any good before you train a large model with it. Here you write the rule down in one
# line, get its exact error in a simple model of learning, and check that error by brute force.
# No large model is trained, and you need no physics.

# %%
import shlex
import subprocess
import sys
import tempfile
from pathlib import Path

import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np

import replica
import sims
from hardset.compilation import use_cache
from theory import (
    ERM,
    Custom,
    FixedAngle,
    Flip,
    Hard,
    PerceptronProblem,
    Random,
)

use_cache()  # keep compiled programs: the second run of this page is much faster
plt.rcParams.update(
    {"figure.figsize": (5, 3.3), "figure.constrained_layout.use": True}
)

# %% [markdown]
# ## The toy model
#
# Four characters play a part. All examples are points in a space of many dimensions, scattered
# evenly around the origin.
#
# - The [teacher](../glossary.md#teacher) is a plane through the origin. It gives every example
#   its label: plus on one side, minus on the other.
# - The [probe](../glossary.md#probe) is a second plane, close to the teacher but not the same.
#   It plays the part of a model that you trained earlier, and by which you judge your examples.
#   The angle between the two planes says how bad the probe is.
# - The [policy](../glossary.md#policy) is the rule that says which examples are kept. It looks
#   at the distance of an example from the probe's plane, with a sign that says on which side it
#   is. This number is called the probe's [field](../glossary.md#field), \(z\). An example with
#   a small \(|z|\) is hard: the probe is unsure of it.
# - The [student](../glossary.md#student) is trained from scratch on what is kept. Its
#   [error](../glossary.md#error) is the chance that it gives a new example another label than
#   the teacher does.
#
# The picture shows the two directions in which teacher and probe differ. All the other
# dimensions, of which there are many, stand at right angles to it.

# %% alt="Two crossing lines, and a band of kept points along one of them."
angle_deg = 20
rng = np.random.default_rng(0)
points = rng.standard_normal(
    (600, 2)
)  # the first coordinate is the teacher's field
probe = np.array(
    [np.cos(np.deg2rad(angle_deg)), np.sin(np.deg2rad(angle_deg))]
)
size = np.abs(points @ probe)  # the distance from the probe's line
kept = size < np.quantile(size, 0.3)

figure, axes = plt.subplots(figsize=(4.2, 4.6))
axes.scatter(*points[~kept].T, s=8, color="0.8", label="left out")
axes.scatter(
    *points[kept].T, s=8, color="tab:orange", label="kept: the hardest 30 %"
)
axes.axline((0, 0), (0, 1), color="black", label="teacher's boundary")
axes.axline(
    (0, 0), (-probe[1], probe[0]), color="tab:blue", label="probe's boundary"
)
axes.set(
    xlabel="direction of the teacher",
    ylabel="direction across it",
    aspect="equal",
)
axes.set(xlim=(-3, 3), ylim=(-3, 3))
figure.legend(loc="outside upper center", ncols=2, fontsize=8)
plt.show()

# %% [markdown]
# ## One point, solved and simulated
#
# A [problem](../glossary.md#problem) says how many examples there are, which fraction is kept,
# what ranked them, and by which policy. The number of examples is counted per dimension, since
# only this ratio matters: ten examples per dimension are `alpha_total=10`. `Hard` keeps the
# examples with the smallest \(|z|\), as in the picture.

# %%
point = PerceptronProblem(
    alpha_total=10.0,
    keep_fraction=0.3,
    probe=FixedAngle.degrees(angle_deg),
    policy=Hard(),
)
solution = replica.solve(point)
print(f"the student's error is {float(solution.error):.6f}")
print(replica.Status(int(solution.status)).sentence)
print(f"left over in the first form: {float(solution.residual_gordon):.0e}")
print(f"left over in the second form: {float(solution.residual_saddle):.0e}")

# %% tags=["remove-cell"]
assert solution.residual_gordon < 1e-9 and solution.residual_saddle < 1e-9

# %% [markdown]
# Where does this number come from, if nothing was trained? With very many dimensions, chance
# averages out: any two students trained on such data have the same error. A few equations have
# this error as their solution. There are two derivations of them, which share no step:
#
# - The first form is a small convex problem, whose solution is the student ([Gordon
#   form](../glossary.md#gordon-form)). This is what the solver solves.
# - The second form is a set of equations from statistical physics ([saddle-point
#   equations](../glossary.md#saddle-point-equations), found by the *replica* method that the
#   package is named after). The solution is put into them.
#
# What is left over is called a [residual](../glossary.md#residual). If both are as small as
# rounding allows, the two forms agree; this is the answer's
# [certificate](../glossary.md#certificate). It proves that the equations were solved. It does
# not prove that the equations describe a student. For that we train some: `sims.run` draws data
# in `dim` dimensions, prunes them, trains a student and measures its error, again and again.
# Each repetition is a [draw](../glossary.md#draw).

# %%
measured = sims.run(point, dim=160, draws=40)
mean, bar = measured["error_mean"].item(), measured["error_stderr"].item()
away = (mean - float(solution.error)) / bar
print(f"measured: {mean:.4f} +- {bar:.4f}")
print(
    f"theory:   {float(solution.error):.4f}, {abs(away):.1f} standard errors away"
)

# %% [markdown]
# A standard error says how far a mean over few draws is likely to be from the mean over all
# draws. In two cases of three a correct theory is less than one standard error away, and in
# nineteen of twenty less than two.
#
# ## Your own rule
#
# Let us take a rule that the package does not have. `Hard` cuts sharply: below the threshold an
# example is kept, above it is not. Ours is soft. It keeps an example with a chance that falls
# smoothly with its distance from the probe's plane, and `width` says how quickly.
#
# A rule is a function that takes the field \(z\) and returns the chance of being kept, between
# 0 and 1, written with `jax.numpy`. Numbers that you want to vary are further arguments.


# %%
def soft(z, width):
    return jnp.exp(-((z / width) ** 2) / 2)


# %% [markdown]
# What fraction does it keep? That is the average chance over all examples. `mass` computes it.
# For this rule it can also be worked out by hand, and counted on random numbers. All three
# should agree.

# %%
width = 0.5
rule = Custom(soft, parameters=(width,))
fields = rng.standard_normal(100_000)
chosen = rng.uniform(size=fields.size) < np.asarray(rule.weight(fields))
print(f"fraction kept: {float(rule.mass()):.6f}")
print(f"by hand:       {width / np.sqrt(1 + width**2):.6f}")
print(f"counted:       {chosen.mean():.3f}")

# %% tags=["remove-cell"]
by_hand = width / np.sqrt(1 + width**2)
assert abs(rule.mass() - by_hand) < 1e-9
assert abs(chosen.mean() - by_hand) < 4 * np.sqrt(0.25 / fields.size)

# %% alt="The chance of being kept against the field, and a histogram of the kept examples."
grid = np.linspace(-3, 3, 201)
density = np.exp(-(grid**2) / 2) / np.sqrt(2 * np.pi)
figure, axes = plt.subplots()
bins = np.linspace(-3, 3, 61)
share = np.full(chosen.sum(), 1 / (fields.size * (bins[1] - bins[0])))
axes.hist(fields[chosen], bins, weights=share, color="0.8")
axes.plot(grid, rule.weight(grid), label="chance of being kept")
axes.plot(
    grid,
    density,
    color="black",
    linestyle="--",
    label="density of all examples",
)
axes.plot(
    grid,
    density * rule.weight(grid),
    color="tab:orange",
    label="density of kept examples",
)
axes.set(xlabel="probe's field z", ylim=(0, 1.45))
axes.legend(loc="upper left", fontsize=8)
plt.show()

# %% [markdown]
# The grey bars are counted: the random numbers that were kept. They fill the orange curve,
# which is the product of the other two.
#
# ## Its error, solved and simulated
#
# To compare rules we let the kept fraction vary. For each fraction we need the width that keeps
# it, which follows from the formula by hand. Arrays are welcome everywhere: one problem holds
# all points.

# %%
fraction = np.array([0.25, 0.3, 0.4, 0.6, 0.8])
soft_rule = Custom(soft, parameters=(fraction / np.sqrt(1 - fraction**2),))


def problem(policy, **others):
    probe = FixedAngle.degrees(angle_deg)
    return PerceptronProblem(
        10.0, fraction, probe=probe, policy=policy, **others
    )


theory = replica.solve(problem(soft_rule))
print("error:", np.round(theory.error, 4))
print(
    f"points that failed: {theory.failed}, largest residual: {np.max(theory.residual):.0e}"
)

# %% [markdown]
# Now the brute force, once in few dimensions and once in more. `run_many` gives several rules
# the same random data, so that they can be compared closely. The last line says how far theory
# and simulation are apart, in standard errors.

# %%
dims, draws = (40, 160), (160, 40)
runs = {}
for dim, count in zip(dims, draws, strict=True):
    runs[dim] = sims.run_many(
        [problem(soft_rule), problem(Hard())], dim=dim, draws=count
    )
    mean, bar = (
        runs[dim][0][name].values for name in ("error_mean", "error_stderr")
    )
    print(f"{dim} dimensions: {np.round(mean, 4)}")
    print(
        "  standard errors from theory:",
        np.round((mean - theory.error) / bar, 1),
    )

# %% tags=["remove-cell"]
assert (runs[dims[0]][0]["error_mean"] < theory.error).all()

# %% [markdown]
# In few dimensions all the differences have one sign. The theory holds for infinitely many
# dimensions, and a small space is a little different. To leading order this difference is
# proportional to one over the dimension. Two dimensions are therefore enough to remove it:
# continue the straight line through both results to the point where one over the dimension is
# zero.

# %%
small, large = (runs[dim][0] for dim in dims)
step = 1 / (dims[1] / dims[0] - 1)
limit = large["error_mean"] + step * (
    large["error_mean"] - small["error_mean"]
)
bar = np.hypot(
    (1 + step) * large["error_stderr"], step * small["error_stderr"]
)
away = (limit - np.asarray(theory.error)) / bar
print("continued to infinity:", np.round(limit.values, 4))
print("standard errors from theory:", np.round(away.values, 1))
print(f"the largest of {away.size}: {float(np.abs(away).max()):.1f}")

# %% tags=["remove-cell"]
assert np.abs(away).max() < 4

# %% alt="Error against kept fraction: three curves of theory and simulated points on two of them."
curves = {"soft": theory, "Hard": replica.solve(problem(Hard()))}
curves["Random"] = replica.solve(problem(Random()))
colours = {"soft": "tab:orange", "Hard": "tab:blue", "Random": "0.5"}
figure, axes = plt.subplots()
for name, curve in curves.items():
    axes.plot(
        fraction, curve.error, color=colours[name], label=f"{name}, theory"
    )
for name, run in zip(("soft", "Hard"), runs[dims[1]], strict=True):
    bars = {
        "yerr": run["error_stderr"],
        "color": colours[name],
        "label": f"{name}, simulated",
    }
    axes.errorbar(fraction, run["error_mean"], fmt="o", capsize=3, **bars)
axes.set(xlabel="kept fraction", ylabel="error of the student", yscale="log")
axes.set_yticks([0.05, 0.1, 0.2, 0.3], ["0.05", "0.1", "0.2", "0.3"])
axes.minorticks_off()
axes.legend(fontsize=8)
plt.show()

# %% [markdown]
# ## Where it wins, and where it does not
#
# Theory names the best rule at each fraction. Simulation must confirm it on the same random
# data: for each draw, take the error of `soft` minus that of `Hard`. The chance that both share
# cancels, so that the standard error of this difference is small. Negative means that `soft` is
# better.


# %%
def compare(theories, pair):
    gap = theories["soft"].error - theories["Hard"].error
    drawn = pair[0]["error"] - pair[1]["error"]
    bar = drawn.std("draw", ddof=1) / np.sqrt(drawn.sizes["draw"])
    for k, f in enumerate(fraction):
        best = min(theories, key=lambda name: theories[name].error[k])
        seen = f"{drawn.mean('draw').values[k]:+.3f} +- {bar.values[k]:.3f}"
        print(
            f"keep {f:.0%}: soft - Hard {gap[k]:+.3f}, simulated {seen}; best: {best}"
        )


compare(curves, runs[dims[1]])


# %% tags=["remove-cell"]
def confirmed(theories, pair):
    """Say that soft is better at the two small fractions, Hard elsewhere, in both."""
    gaps = (
        theories["soft"].error - theories["Hard"].error,
        pair[0]["error_mean"].values - pair[1]["error_mean"].values,
    )
    return all(np.array_equal(gap < 0, fraction <= 0.3) for gap in gaps)


assert confirmed(curves, runs[dims[1]])
assert curves["Random"].error[0] < curves["soft"].error[0]
assert (curves["Random"].error[1:] > curves["soft"].error[1:]).all()

# %% [markdown]
# The verdict depends on the fraction. Where much is kept, `Hard` is better: the examples near
# the boundary say most about where it lies, and `soft` spends a part of its budget on others.
# Where less is kept, `soft` is better. Our probe is not the teacher, and the hardest examples
# by its judgement all lie along its own, slightly wrong, plane. A student that sees nothing
# else learns little of the teacher's. A rule that keeps some others, too, is hedged against a
# bad probe. Where still less is kept, the best of the three is to choose at random.
#
# ## Does the verdict survive wrong labels?
#
# In real data some labels are wrong. `Flip(0.1)` makes every tenth label wrong at random, in
# theory and simulation. Then no plane may separate the kept examples. So we also take a student
# that tolerates mistakes: it minimises a sum of losses over the examples, here the squared
# distance from the label, plus a penalty on large weights of the strength `lam` ([regularised
# student](../glossary.md#regularised-student)).

# %%
noisy = {"student": ERM("square", lam=0.1), "labels": Flip(0.1)}
policies = {"soft": soft_rule, "Hard": Hard(), "Random": Random()}
noisy_curves = {
    name: replica.solve(problem(one, **noisy))
    for name, one in policies.items()
}
noisy_pair = sims.run_many(
    [problem(soft_rule, **noisy), problem(Hard(), **noisy)],
    dim=dims[0],
    draws=draws[0],
)
print(
    "points that failed:",
    sum(curve.failed for curve in noisy_curves.values()),
)
compare(noisy_curves, noisy_pair)

# %% tags=["remove-cell"]
assert confirmed(noisy_curves, noisy_pair)

# %% [markdown]
# The numbers are others, but the picture is the same: of the two, `soft` is better where little
# is kept, and `Hard` where much is.
#
# ## Three mistakes, made on purpose
#
# A rule has to be a chance, and the problem has to know which fraction it keeps. The package
# checks both before it computes anything.


# %%
def attempt(make):
    try:
        make()
    except ValueError as error:
        print(f"ValueError: {error}\n")


attempt(
    lambda: problem(Custom(lambda z: 2 * jnp.exp(-(z**2))))
)  # more than certain
attempt(
    lambda: problem(rule)
)  # one width, which keeps one fraction, for five fractions

# %% [markdown]
# A rule must not look at the teacher. Who knows the teacher needs no data. Your rule sees
# \(z\), or with `variable="yz"` the product of \(z\) and the label that came with the example.
# Nothing else is handed to it.

# %%
attempt(lambda: Custom(soft, variable="teacher", parameters=(width,)))
attempt(
    lambda: Custom(
        lambda z, teacher_field: jnp.exp(-(teacher_field**2))
    ).mass()
)

# %% [markdown]
# A rule that jumps, as a threshold does, must say where: integrals over a jump that nobody
# announced would be slightly wrong.


# %%
def threshold(z):
    return jnp.where(jnp.abs(z) < 0.5, 1.0, 0.0)


attempt(lambda: problem(Custom(threshold)))
print(
    f"with its jump named it keeps {float(Custom(threshold, breakpoints=[0.5]).mass()):.6f}"
)

# %% [markdown]
# ## Into a paper
#
# Save the numbers beside the picture. `to_dataset` labels them, and says for which problem they
# are.

# %%
folder = Path(tempfile.mkdtemp())
theory.to_dataset(problem(soft_rule)).to_netcdf(
    folder / "soft.nc", engine="h5netcdf"
)
figure.savefig(folder / "soft.pdf")
print(sorted(path.name for path in folder.iterdir()))

# %% [markdown]
# For the rules that have a name, a command computes the data file and draws it. Whoever has the
# file can draw the picture again, in another format, and nothing is computed anew.


# %%
def hardset(line):
    print(f"$ hardset {line}")
    command = [sys.executable, "-m", "hardset", *shlex.split(line)]
    done = subprocess.run(
        command, cwd=folder, check=True, capture_output=True, text=True
    )
    print(done.stdout)


hardset(
    "figures policies --policy hard random --alpha-total 10 --theta-deg 20 "
    "--keep-fraction 0.2 0.4 0.8 --dim 40 --draws 20 --out out"
)
hardset(
    "figures policies --from-data out/policies.nc --format pdf --out redrawn"
)

# %% [markdown]
# ## What is assumed
#
# - Examples are scattered evenly, without clusters, and teacher and student are planes. A deep
#   network on real images is neither. The model says which effects exist and what they depend
#   on; it does not predict the error of your network. [Test your rule on your own
#   data](how_much.md), too.
# - The probe has not seen the examples that it judges. For one that was trained on them see
#   [in-sample probes](../in-sample.md).
# - Theory is exact for infinitely many dimensions. At a finite number the difference was
#   measured above.
# - Two rules were compared at one angle and one number of examples per dimension. Both are
#   arguments: change them at the top, and run the page again.
#
# Next: [Theory](../theory.md) has the equations, [Noise, losses, spectra](../erm.md) the
# students that tolerate mistakes, and [How much to keep](../optimal.md) the best rule there is.
