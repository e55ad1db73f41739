"""Picks mini-batches whose examples are learnable together, for contrastive losses: JEST."""

from dataclasses import dataclass, replace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

from hardset.checks import check_integer
from selection.arrays import Floats, Integers
from selection.online.selector import ModelFunctions, OnlineSelector, OnlineState
from selection.selector import check_seed, generator
from selection.subset import Subset


def sigmoid_pair_losses(images: Any, texts: Any, scale: Any, bias: Any) -> Any:
    """Compute the sigmoid-contrastive loss of every pair of an image and a text.

    It is log(1 + exp(-y_ij (scale images_i.texts_j + bias))), where y_ij is 1 for i = j and -1
    elsewhere. The loss of a batch is the sum of its pairs over its number of examples.

    Args:
        images: unit vectors, shape (m, d).
        texts: unit vectors of what belongs to the images, shape (m, d).
        scale: inverse temperature.
        bias: added to every logit.

    Returns:
        The losses, shape (m, m), a JAX array.

    Source: Zhai et al., SigLIP, ICCV 2023, arXiv:2303.15343, algorithm 1.
    """
    signs = 2 * jnp.eye(len(images)) - 1
    return jax.nn.softplus(-signs * (scale * jnp.asarray(images) @ jnp.asarray(texts).T + bias))


def jointly_sample(scores: Floats, size: int, chunks: int, rng: np.random.Generator) -> Integers:
    """Sample a sub-batch chunk by chunk, with probabilities that look at what is in it.

    With the score s(B) = sum of scores_ij over i and j in B, each chunk is sampled without
    replacement by p(i) ~ exp(s(B + i) - s(B)), where B is what earlier chunks hold. The first one
    has B empty, so p(i) ~ exp(scores_ii).

    Args:
        scores: of all pairs of m examples, shape (m, m), finite.
        size: examples in the sub-batch, 1 to m.
        chunks: number of chunks, 1 to `size`; their sizes differ by one at most.
        rng: of all random choices.

    Returns:
        Positions in the order in which they were sampled, shape (size,).

    Source: Evans et al., JEST, NeurIPS 2024, arXiv:2406.17711: joint example selection for
    the sigmoid loss. There, too, the sums are not divided by the number of their terms.
    """
    logits = np.diag(scores).copy()
    picks = np.empty(0, dtype=np.int64)
    for start in np.array_split(np.arange(size), chunks):
        # The largest of logits with Gumbel noise are a sample without replacement.
        noisy = logits + rng.gumbel(size=len(logits))
        noisy[picks] = -np.inf
        chunk = np.argsort(-noisy, kind="stable")[: len(start)]
        logits += np.sum(scores[chunk], axis=0) + np.sum(scores[:, chunk], axis=1)
        picks = np.concatenate([picks, chunk])
    return picks


@dataclass(frozen=True)
class JEST(OnlineSelector[OnlineState]):
    """Samples, before every step, a learnable mini-batch from a larger random one.

    The learnability of a mini-batch is its loss under the model that is trained, less its loss
    under a reference model that was trained on data of high quality. A contrastive loss is a sum
    over pairs, so examples are not learnable by themselves but together. The loss must be such a
    sum, as the sigmoid-contrastive one is; the softmax-contrastive one of CLIP is not.

    Args:
        batch_size: size of the mini-batch.
        random_size: examples in the random super-batch; the paper's filter ratio is
            1 - batch_size / random_size, 0.8 by default.
        chunks: the mini-batch is sampled in so many chunks, 1 to `batch_size`.

    Memory: 40 r^2 + n bytes, r examples in the random batch; and what the model functions take.

    Source: Evans et al., data curation via joint example selection further accelerates multimodal
    learning, NeurIPS 2024, arXiv:2406.17711: s_learn = l(B | theta) - l(B | theta*), sampled by
    `jointly_sample`.
    """

    batch_size: int = 128
    random_size: int = 640
    chunks: int = 16

    name: ClassVar[str] = "jest"

    def __post_init__(self) -> None:
        check_integer("batch_size", self.batch_size, 1, 2**31)
        check_integer("random_size", self.random_size, self.batch_size, 2**31)
        check_integer("chunks", self.chunks, 1, self.batch_size)

    def init(self, n: int, labels: Integers | None = None) -> OnlineState:
        """Begin with a selection due, as before every step."""
        check_integer("random_size", self.random_size, 1, n)
        return OnlineState(np.ones(n, dtype=bool), labels)

    def select(
        self, state: OnlineState, model: ModelFunctions, seed: int
    ) -> tuple[OnlineState, tuple[Subset, ...]]:
        """Choose one mini-batch; its objective is its learnability, a mean over its examples.

        Raises:
            ValueError: losses of pairs are missing, not finite or not of shape (r, r).
        """
        check_seed(seed)
        rng = generator(seed, state.selections)
        rows = rng.choice(len(state), self.random_size, replace=False)
        scores = _pairs(model, "pair_losses", rows) - _pairs(model, "reference_pair_losses", rows)
        picks = jointly_sample(scores, self.batch_size, self.chunks, rng)
        subset = Subset.of(
            rows[picks],
            requested=self.batch_size,
            objective=float(np.sum(scores[np.ix_(picks, picks)]) / len(picks)),
        )
        return replace(state, due=False, selections=state.selections + 1), (subset,)

    def update(self, state: OnlineState, model: ModelFunctions) -> OnlineState:
        """Count one step, after which a selection is due again."""
        return replace(state, step=state.step + 1, due=True)


def _pairs(model: ModelFunctions, name: str, rows: Integers) -> Floats:
    found = model.value(name, rows)
    if found.shape != (len(rows), len(rows)):
        raise ValueError(
            f"the model function {name} returned the shape {found.shape}, which is not "
            f"({len(rows)}, {len(rows)}): one loss for each pair of rows"
        )
    return found
