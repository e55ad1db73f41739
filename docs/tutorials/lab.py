# %% [markdown]
# # From a folder of images to a smaller one
#
# Your lab has a folder of images, or an archive of scans. Somebody is to look at each of them,
# or a model is to be trained on them, and there are more than you can pay for. Here you go the
# whole way from such a folder to a shorter list that leaves out what is there several times.
# Every step is a command that you can type yourself; at the end they stand together, for your
# own paths. You need `hardset` with its extras `pretrain` and `medical`.

# %%
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas
from pydicom import data as shipped

folder = Path(tempfile.mkdtemp())  # everything below is written here


def hardset(line):
    """Run a command in the folder, and show what you would see in a terminal."""
    print(f"$ hardset {line}")
    command = [sys.executable, "-m", "hardset", *shlex.split(line)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    print(done.stdout)
    if done.returncode:
        raise RuntimeError(done.stderr)


# %% [markdown]
# ## The folder
#
# As an example we take the scans that pydicom, a package that reads medical images, brings
# along for its own tests. They are few, and like a real archive they are a mess: pieces of
# scans, a film of a heart, test patterns, and files that are damaged on purpose. Nothing has to
# be downloaded.

# %%
scans = folder / "scans"
shutil.copytree(Path(shipped.__file__).parent / "test_files", scans)
print(sum(path.is_file() for path in scans.rglob("*")), "files")

# %% [markdown]
# ## Images without names
#
# DICOM, the format of hospital scanners, keeps the patient's name and number in every file. The
# first command makes ordinary PNG images and leaves the identifiers behind. It tells patients
# apart by a code: a hash, which is a kind of fingerprint, of the patient's number and of a
# secret that is called the salt. Who has the salt can test whether a certain patient is among
# the images. So keep it as you would a password, apart from the images.
#
# (You have photographs, or PNG and JPEG files? Then leave this step out: the later commands
# take your folder as it is.)

# %% tags=["remove-cell"]
salt = folder / "project.salt"
# The page has a fixed salt, on which names and the order of images depend, and so all pictures.
# A project has a random one: the command makes it where there is none.
salt.touch(mode=0o600)
salt.write_text("0123456789abcdef" * 4)

# %%
hardset("pretrain_jax import-dicom scans --out images --salt project.salt")

# %% [markdown]
# Read the counts; `ungrouped` are images without a patient's number. What could not be made an
# image is listed by its reason, without a name. Check that nothing is among it that you need:
# here, some files would need a decoder that is not installed. [Scans](../medical.md) explains
# each of these sentences.

# %%
print(sorted(path.name for path in (folder / "images").glob("[!.]*")))
print((folder / "images" / "images.txt").read_text().splitlines()[-1])

# %% [markdown]
# - `images` holds the PNG files, in a folder for each series of a scanner.
# - `images.txt` is the list that the next commands read: in each line an image, a class if
#   there is one, and a group. The group is the patient's code.
# - `spacing.csv` says how many millimetres lie between the rows, columns and slices of each
#   image.
# - `manifest.json` is the [manifest](../glossary.md#manifest): the options, the counts, and a
#   checksum of each file.
# - `stage.json` marks the folder as the work of this command, so that no other one writes into
#   it.
#
# What do the images look like?

# %% alt="Twelve of the images: scans, small details of scans, and test patterns."
lines = (folder / "images" / "images.txt").read_text().splitlines()
names = [line.split("\t")[0] for line in lines]
figure, grid = plt.subplots(2, 6, figsize=(5, 1.8), layout="constrained")
for axes, place in zip(
    grid.flat, np.linspace(0, len(names) - 1, 12).astype(int), strict=True
):
    axes.imshow(plt.imread(folder / "images" / names[place]), cmap="gray")
    axes.set_axis_off()
plt.show()

# %% [markdown]
# ## An encoder
#
# To find images that are alike, we need a description of each by numbers. A neural network that
# was trained on many images gives one: it is called an encoder, and its numbers are the
# *features* of the image. You would take a published encoder, and leave this step out. We have
# none at hand, so we train a tiny one for a few steps, on the images themselves and without
# labels. Parts of each image are hidden, and it learns to fill them in (a masked autoencoder).

# %%
hardset(
    "pretrain_jax pretrain images/images.txt demo --steps 40 --batch-size 32 --out encoder"
)

# %% [markdown]
# The folder `encoder` holds the run: its options, a log of its progress, and the weights.
# Wherever `--weights encoder` stands below, you would write the file of published weights, such
# as `--weights dinov2_vits14_pretrain.pth`. [Weights and other
# layouts](../pretrain.md#weights-and-other-layouts) has the kinds that are read.
#
# ## Features

# %%
hardset(
    "pretrain_jax embed images/images.txt --weights encoder --out features.parquet"
)
parts = sorted((folder / "features.parquet").glob("*.parquet"))
table = pandas.concat(
    [pandas.read_parquet(part) for part in parts], ignore_index=True
)
features = np.stack(table["features"]).astype(np.float64)
print("images and numbers for each:", features.shape)

# %% [markdown]
# The folder `features.parquet` has the features in Parquet files, a common format of tables,
# with the name and the group of each image. For ten million images there would be many such
# files, and the command could be stopped and started again.
#
# Are they of any use? Take an image, and look for those whose features are most alike. The
# usual measure is the cosine of the angle between two rows of features: it is 1 where both
# point the same way.

# %% alt="Three rows; in each an image, followed by the four images with the most similar features."
unit = features / np.linalg.norm(features, axis=1, keepdims=True)
cosine = unit @ unit.T
figure, grid = plt.subplots(3, 5, figsize=(5, 3.2), layout="constrained")
for row, place in zip(
    grid, np.linspace(10, len(table) - 1, 3).astype(int), strict=True
):
    alike = np.argsort(-cosine[place], kind="stable")[:5]
    for axes, other in zip(row, alike, strict=True):
        axes.imshow(
            plt.imread(folder / "images" / table["id"][other]), cmap="gray"
        )
        axes.set_title(f"{cosine[place, other]:.3f}", fontsize=8)
        axes.set_axis_off()
plt.show()

# %% [markdown]
# The first image of each row is the one we asked about; the number is the cosine. An encoder as
# small as ours mostly sees brightness and coarse shape. A published one sees more.
#
# ## What to keep
#
# Three rules work together here.
#
# - `--near 0.98` leaves out an image whose cosine with an earlier one of the same patient is
#   above this number: it is nearly the same picture again.
# - `--per-group 6` keeps at most this many images of a patient, so that no single one fills the
#   list.
# - `--method k-center` chooses among the rest. It begins with one image, and then always takes
#   the one that is least like all that it has, so that few images are far from a kept one.

# %%
hardset(
    "pretrain_jax keep images/images.txt --weights encoder --method k-center "
    "--budget 18 --per-group 6 --near 0.98 --out kept.txt"
)
print(f"kept: {18 / len(table):.0%} of the images")

# %% [markdown]
# The [budget](../glossary.md#budget) is the number of images to keep; `--budget 0.1` would be a
# tenth of them. In the output, `groups` are patients: some may have no image among the kept
# ones. Three files came out:
#
# - `kept.txt` is the list of what is kept, in the order of the picks. Its first line says how
#   it was made. Every command takes it in the place of a folder, and no image was copied or
#   deleted.
# - `kept.png` is a sheet of pictures: what is kept, and some of what is left out.
# - `kept.csv` counts for each patient the images, and those that are kept.
#
# Always look at the sheet.

# %% alt="A sheet of pictures: kept images, which differ, and others, many of them alike."
sheet = plt.imread(folder / "kept.png")
figure, axes = plt.subplots(figsize=(5, 6.2), dpi=180, layout="constrained")
axes.imshow(sheet)
axes.set_axis_off()
plt.show()

# %% [markdown]
# Little of the film of the heart is kept. Most of its pictures are among what is left out, as
# are copies of the test patterns. Three things are for you to decide, and no method does it for
# you:
#
# - Is something kept that is of no use, such as a blank image or a test pattern? A method that
#   looks for variety likes what is odd. Take such lines out of `images.txt`, and run the
#   command again.
# - Is something left out that matters for you, such as a rare finding that looks like its
#   neighbours? Then give a larger `--near`, which leaves out fewer images at once, or a larger
#   budget.
# - Is there writing in the pixels? One of these scans, an ultrasound with orange spots, carries
#   the name of a hospital. Its file did not say so, and `burned in` above counts only files
#   that say it.

# %% alt="Bars: for each patient the number of images, and the smaller number of kept ones."
groups = pandas.read_csv(folder / "kept.csv").sort_values(
    "images", ascending=False
)
places = np.arange(len(groups))
figure, axes = plt.subplots(figsize=(5, 2.8), layout="constrained")
axes.bar(places, groups["images"], color="0.8", label="images")
axes.bar(places, groups["kept"], color="tab:orange", label="kept")
axes.set(
    xlabel="patients (one bar: images without a patient)",
    ylabel="number of images",
    xticks=[],
)
axes.legend()
plt.show()

# %% [markdown]
# ## Is it better than chance?
#
# The simplest other way is to draw as many images at random. Measure for every image how far
# its features are from those of the nearest kept image, and compare.

# %% alt="Two rising curves; that of k-center ends lower than that of random choice."
lines = (folder / "kept.txt").read_text().splitlines()
ids = [
    line.split("\t")[0].removeprefix("images/")
    for line in lines
    if not line.startswith("#")
]
chosen = np.flatnonzero(table["id"].isin(ids))
apart = np.linalg.norm(features[:, None] - features, axis=-1)
ours = np.sort(apart[:, chosen].min(axis=1))
rng = np.random.default_rng(0)
draws = [
    rng.choice(len(table), len(chosen), replace=False) for _ in range(200)
]
chance = np.median(
    [np.sort(apart[:, draw].min(axis=1)) for draw in draws], axis=0
)

figure, axes = plt.subplots(figsize=(5, 3), layout="constrained")
axes.plot(ours, color="tab:orange", label="kept by k-center")
axes.plot(chance, color="0.5", label="random, median of 200 draws")
axes.set(
    xlabel="images, from near to far",
    ylabel="distance to the nearest kept image",
)
axes.legend()
plt.show()
print(
    f"farthest image: {ours[-1]:.2f} by k-center, {chance[-1]:.2f} at random"
)

# %% tags=["remove-cell"]
film = groups.iloc[0]  # the largest group
assert film["kept"] < film["images"] / 10
assert ours[-1] < chance[-1] / 2

# %% [markdown]
# The right end of the curves is what k-center is made for: even the oddest image has a kept one
# that is not too far. In the middle chance may be as good or better. It takes several images of
# the large groups, and so comes close to the others of the same groups. Neither curve proves
# that a model learns better from one of the lists. The proof is to train on both, and to test
# on images that neither has seen. With a hundred images and an encoder that was trained for
# seconds such a test would show nothing but chance, and we leave it out. The example shows how
# the steps fit together; it does not show what you will gain. With labels at hand, [How much of
# my data set do I need?](how_much.md) tests a choice on your own data.
#
# ## Nothing changed behind your back
#
# All files carry checksums. When the folder was copied to another machine, one command says
# whether everything is as it was written.

# %%
hardset("verify images features.parquet kept.txt")

# %% [markdown]
# The two files without a checksum are empty: each is a lock, by which a command keeps others
# out of its folder while it works.
#
# ## Your own data
#
# For scans, three commands. The first is not needed for photographs: put your folder where
# `images/images.txt` stands.
#
# ```bash
# hardset pretrain_jax import-dicom /data/scans --out images --salt ~/project.salt
# hardset pretrain_jax keep images/images.txt --weights dinov2_vits14_pretrain.pth \
#   --method k-center --budget 0.1 --per-group 20 --near 0.98 --out kept.txt
# hardset pretrain_jax pretrain kept.txt mae_vit_base_reference \
#   --full-images 50000 --out model
# ```
#
# `keep` computes the features itself, and leaves them in `features.parquet` for the next time.
# The third command trains a large encoder on what was kept, which needs a graphics processor.
# `--full-images` is the number of images that you chose from: the training then takes as many
# steps as one on all of them would. To compare with chance, make a second list with `--method
# random`, and train on it with the same options.
#
# What next: [Features and keeping](../features.md) has every option of `keep`, for instance
# `--given` for images that are labelled already. [Scans](../medical.md) says what happens to
# grey values, and has a command for NIfTI volumes. [Segmentation](../segmentation.md) goes on
# to masks, and `make lab-demo` goes all of this way by itself.
