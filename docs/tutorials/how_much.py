# %% [markdown]
# # How much of my data set do I need?
#
# You have labelled data, and training on all of them costs time or money. Ten minutes from here
# you know how many of your rows would do, which ones, and how far you can trust that answer. You
# need `hardset` with its extra `selection`, Jupyter for the pictures, and to have trained a
# classifier before; no theory.
#
# The example is real: pictures of handwritten digits, eight by eight pixels each, that come with
# scikit-learn. The task is to tell odd digits from even ones.

# %% [markdown]
# ## Your data, in two files
#
# The command reads two files: the features, one row an example, and the labels. A third of the
# rows is put aside first. No advice below sees these; they tell whether it was good. Everything
# is written to a new temporary folder.

# %%
import os
import shlex
import subprocess
import sys
import tempfile

import numpy as np
import pyarrow.parquet as parquet
from IPython.display import Image, display
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import cross_val_predict, train_test_split
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC

import selection

os.chdir(tempfile.mkdtemp())

pixels, digits = load_digits(return_X_y=True)
labels = np.where(digits % 2 == 1, "odd", "even")
x, x_new, y, y_new = train_test_split(
    pixels, labels, test_size=1 / 3, stratify=digits, random_state=0
)

np.save("x.npy", x)
np.save("y.npy", y)
print(f"{len(x)} rows of {x.shape[1]} pixels, and {len(x_new)} put aside")

# %% [markdown]
# ## Ask
#
# One command asks the question. In a terminal it is
#
# ```bash
# hardset selection recommend --features x.npy --labels y.npy \
#     --out kept.parquet --plot advice.png
# ```
#
# This page runs it by a small function:


# %%
def shell(command: str) -> str:
    """Run a command line of hardset, and return what it prints."""
    words = [sys.executable, "-m", *shlex.split(command)]
    done = subprocess.run(words, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr)
    return done.stdout


first = shell(
    "hardset selection recommend --features x.npy --labels y.npy"
    " --out kept.parquet --plot advice.png"
)
print(first)

# %% [markdown]
# ## Read the answer
#
# **The first line is the answer**: how many rows to keep, which ones, and what that does to the
# error, the share of wrong predictions. It was *tried out*. The command trained a plain
# classifier on all rows, and another one on the part, and compared them on rows that neither had
# seen. Both errors are in the line.
#
# **"At most ... by the bound where ... is accepted"** is the test. A measured change is
# uncertain, since the rows are few. The *bound* is how large the true change may be in view of
# that. The *tolerance* is how much worse you are ready to get: a tenth of the error, but at least
# half a point and at most two, unless you say `--tolerance`. A part passes if its bound is below
# the tolerance.
#
# Then come the details:
#
# | line | what it says |
# |---|---|
# | `score` | how rows are ranked: near the boundary between the classes is hard |
# | `tolerance`, `failure` | accepted rise of the error, and chance that the advice breaks it |
# | `last check` | the model of the kept rows, tried on the rows that you would throw away |
# | `student` | the classifier that was trained for the test: a logistic regression |
# | `cross validation` | how often the data were cut into rows to train on and rows to test on |
# | `theory` | what the theory makes of these data; `flip` is an estimate of wrong labels |
# | table, `hard` | the hardest rows are kept, fewer and fewer, until a part fails |
# | table, `mixture` | the same, but half of what is kept is random |
# | table, `random` | for comparison: as many rows, chosen blindly |
# | `class` | how many rows of each class are left |

# %% [markdown]
# The picture shows the same table. Further left is fewer rows, higher is worse. A point is a
# measured change of the error, and its bar ends at the bound. A part passes if its bar ends
# inside the green band. The circle is the advice. The grey line is random choice. The dashed
# lines are theory, and have no say.

# %% alt="Change of the error against the share of rows kept, with bars up to the bound."
display(Image("advice.png", width=600))

# %% tags=["remove-cell"]
kept = parquet.read_table("kept.parquet")["index"].to_numpy()
assert first.startswith("keep ") and "last check        passed" in first
assert 0.3 * len(x) < len(kept) < 0.8 * len(x)
assert all(
    line in first
    for line in ("score ", "tolerance ", "student ", "theory ", "class ")
)

# %% [markdown]
# ## What is promised, and what not
#
# Promised: **if new rows come from where these came from, the true error of such a classifier
# rises by more than the tolerance with a chance of about one in twenty**. That is the `failure`
# above, and it is approximate: [the measurements](../advice.md#what-is-promised) are documented.
#
# Not promised:
#
# - that *another* model does as well on these rows. Below, one does not;
# - that the rows are the fewest possible. With more rows the test sees more, and may go further
#   down. On another sample of the same size it may stop one step earlier or later;
# - anything about rows that will change, or that are near-copies of each other. If several rows
#   belong to one patient, one video or one customer, name that in a file and add `--groups
#   FILE`.

# %% [markdown]
# ## Check it yourself
#
# `kept.parquet` has the numbers of the rows to keep. Here are three models that you might use.
# Each is trained on all rows, on the kept ones, and on as many random ones (the mean of ten
# draws), and tried on the rows that were put aside. The error bar is one standard error of the
# change. It counts the rows on which two models differ, since both are tried on the same rows.

# %%
kept = parquet.read_table("kept.parquet")["index"].to_numpy()
chance = np.random.default_rng(0)


def wrong(model, rows):
    """Return on which new rows the model errs, trained on these rows."""
    return model.fit(x[rows], y[rows]).predict(x_new) != y_new


def compare(name, model, kept):
    """Compare models of all rows, the kept ones and random ones."""
    everything, part = wrong(model, np.arange(len(x))), wrong(model, kept)
    draws = [
        wrong(model, chance.permutation(len(x))[: len(kept)]).mean()
        for _ in range(10)
    ]
    worse, better = sum(part & ~everything), sum(everything & ~part)
    n = len(part)
    change = (worse - better) / n
    # Without the 1 the bar would be zero where no row differs.
    bar = np.sqrt(worse + better + 1 - n * change**2) / n
    print(
        f"{name:20}{len(kept):5} rows"
        f"{everything.mean():7.1%}{part.mean():7.1%}{np.mean(draws):7.1%}"
        f"{100 * change:+8.1f} +- {100 * bar:.1f} points"
    )
    return change, bar, np.mean(draws) - everything.mean()


HEAD = f"{'wrong new rows':30}{'all':>7}{'kept':>7}{'random':>7}{'change':>8}"
models = {
    "logistic regression": make_pipeline(
        StandardScaler(), LogisticRegression(max_iter=1000)
    ),
    "support vectors": SVC(),
    "nearest neighbours": KNeighborsClassifier(),
}
print(HEAD)
changes = {name: compare(name, model, kept) for name, model in models.items()}

# %% tags=["remove-cell"]
change, bar, blind = changes["logistic regression"]
assert change < bar < blind
change, bar, _ = changes["nearest neighbours"]
assert change > 2 * bar

# %% [markdown]
# The logistic regression, for which the rows were tested, loses nothing that can be measured, and
# does better than with random rows. The nearest neighbours do worse by more than two error bars.
# They need the easy rows, too, and nobody had asked about them.
#
# All of this is one cut into rows to train on and new rows. With another `random_state` at the
# top the errors move by about an error bar, so that kept and random rows may do equally well, and
# the advice may be a step larger or "keep all". Try a few in the notebook.

# %% [markdown]
# ## Ask about your own model
#
# In Python the same question takes your own model as `student`: anything with `fit` and `predict`
# as in scikit-learn, and `decision_function` or `predict_proba` to rank by. Without `student` it
# is the command above. `explain=False` leaves out the theory, which takes seconds.

# %%
again = selection.recommend(x, y, explain=False)
print(f"as on the command line: {len(again.indices)} rows")

advices = {}
for name in ("support vectors", "nearest neighbours"):
    advices[name] = selection.recommend(
        x, y, student=models[name], explain=False
    )
    print(f"\n{name}: {advices[name].sentence()}")
print(f"rows needed for a first step: {advices[name].rows_needed}")

# %%
print(HEAD)
name = "support vectors"
changes[name] = compare(name, models[name], advices[name].indices)

# %% tags=["remove-cell"]
assert np.array_equal(np.sort(again.indices), np.sort(kept))
assert advices["support vectors"].keep_fraction < 0.6
assert advices["nearest neighbours"].keep_fraction == 1
assert advices["nearest neighbours"].rows_needed > 3 * len(x)
change, bar, blind = changes["support vectors"]
assert change < bar < blind

# %% [markdown]
# The two models get different advice. The support vectors get rows of their own, and lose nothing
# that can be measured. The nearest neighbours are told to keep everything: no part passed, and to
# let the first step pass would take many times the rows that there are.

# %% [markdown]
# ## When the answer is "keep all"
#
# "Keep all" is an answer as good as any other: *nothing smaller was shown to be enough*. It does
# not say that every row is needed. Mostly it means that there are too few rows to tell. Take
# scikit-learn's table of breast cancer:

# %%
table, diagnoses = load_breast_cancer(return_X_y=True)
few = selection.recommend(table, diagnoses, explain=False)
print(few.sentence())
print(f"rows: {len(table)}, needed for the first step: {few.rows_needed}")
for point in few.curve:
    print(
        f"{point.policy:8} {point.keep_fraction:.0%} of the rows: "
        f"change {point.increase:+.4f}, bound {point.bound:+.4f}"
    )

# %% tags=["remove-cell"]
assert few.keep_fraction == 1 and few.policy == "all"
assert few.rows_needed > len(table)
assert few.curve[0].increase < few.tolerance / 2
assert few.curve[0].bound > few.tolerance

# %% [markdown]
# The hardest rows alone did not do measurably worse than all. But one row more or less wrong is a
# large share of so few errors, and the bound is above the tolerance. With about `rows_needed`
# rows like these it would pass. You can collect them, keep all, or say that you accept more with
# `--tolerance`.

# %% [markdown]
# ## When labels are wrong
#
# A popular rule is to keep what the model gets *most wrong*. Here it is `hard-signed`: rows on
# the wrong side of the boundary come first. If the labels are right, these rows are informative.
# If some labels are wrong, these are exactly the rows that it keeps. Let us flip one label in
# five on purpose, and ask about both rules, `hard` and `hard-signed`:

# %%
flipped = np.random.default_rng(0).random(len(y)) < 1 / 5
noisy = np.where(flipped, np.where(y == "odd", "even", "odd"), y)
np.save("noisy.npy", noisy)
print(f"{np.mean(flipped):.1%} of the labels are wrong now\n")

answer = shell(
    "hardset selection recommend --features x.npy --labels noisy.npy"
    " --policies hard hard-signed"
)
print(answer)

# %% tags=["remove-cell"]
lines = [
    line for line in answer.splitlines() if line.startswith("hard-signed")
]
assert [line.endswith("passed") for line in lines] == [True, False]
assert float(lines[1].split()[3]) > 0.5
assert "the rows of smallest absolute margin:" in answer.splitlines()[0]
before, after = (
    float(text.partition("flip ")[2].partition(",")[0])
    for text in (first, answer)
)
assert before < 0.02 and abs(after - np.mean(flipped)) < 0.05

# %% [markdown]
# Read the rows of `hard-signed` from top to bottom. At first it goes well. One step further the
# model is worse than a coin: one wrong label in five of all is about two in five of the half that
# is kept, and these are the rows farthest on the wrong side. **The answer shows it twice.** The
# path ended there, since the bound is far above the tolerance: that part is never advised. And
# `flip` in the line `theory` estimates the share of wrong labels. It was near zero in the first
# answer, and is near the share that we flipped in this one. `hard`, the default, ranks by the
# distance from the boundary and not by the label, and is hurt much less.
#
# One thing to beware of: errors are counted with the labels that you have, right or wrong. If a
# share \(\epsilon\) of the labels of two classes is wrong, whichever they are, a true rise is
# \(1/(1-2\epsilon)\) times the measured one.

# %%
factor = 1 / (1 - 2 * np.mean(flipped))
print(f"a true rise is {factor:.1f} times the measured one here")

# %% [markdown]
# ## When you know the number already
#
# `recommend` finds the number. If your budget says it, [`select`](../selection.md) takes it, with
# a score of your own model. The score says how hard each row is, by predictions of models that
# did not train on it:

# %%
model = models["logistic regression"]
logits = cross_val_predict(model, x, y, cv=5, method="predict_log_proba")
np.save("logits.npy", logits)
shell("hardset selection score margin --logits logits.npy --out margin.npy")
report = shell(
    "hardset selection select hard --scores margin.npy --labels y.npy"
    f" --budget {len(kept)} --out selected.parquet"
)
print(report)

selected = parquet.read_table("selected.parquet")["index"].to_numpy()
shared = np.isin(selected, kept).mean()
print(f"{shared:.0%} of them are rows of the advice, too\n")
print(HEAD)
_ = compare("logistic regression", model, selected)

# %% tags=["remove-cell"]
assert shared > 0.8

# %% [markdown]
# That is nearly the advice again, without its test. Prefer `recommend` where you can.

# %% [markdown]
# ## What to do next
#
# Run the first command on your own two files, and read its first line. If you train something
# else than a linear model, ask in Python with your own `student`; [How much of your data to
# keep](../advice.md) says what it costs and how it was tested. Keep a few hundred labelled rows
# aside, as here, and compare on them before you throw anything away.
