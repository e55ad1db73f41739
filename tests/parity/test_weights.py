"""Files that torch itself wrote, of every format and type, against what torch reads."""

import argparse
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from pretrain_jax.weights import read_state


@pytest.mark.parametrize("zipped", [True, False])
def test_files_of_torch(tmp_path: Path, zipped: bool) -> None:
    """Types, strides, shared storages, parameters, an optimiser and arguments beside them."""
    generator = torch.Generator().manual_seed(0)
    base = torch.randn((4, 6), generator=generator)
    types = (torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.uint8, torch.bool)
    state = OrderedDict(
        base=base,
        transposed=base.t(),
        part=base[1:, ::2],
        scalar=torch.tensor(2.5),
        empty=torch.zeros((0, 3)),
        parameter=torch.nn.Parameter(base.clone()),
        **{str(kind): (10 * base).to(kind) for kind in types},
    )
    layer = torch.nn.Linear(3, 2)
    optimizer = torch.optim.AdamW(layer.parameters())
    layer(torch.ones(3)).sum().backward()
    optimizer.step()
    content = {
        "model": state,
        "optimizer": optimizer.state_dict(),
        "epoch": 3,
        "args": argparse.Namespace(lr=1e-3, device=torch.device("cpu"), output=Path("x")),
    }
    path = tmp_path / "checkpoint.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    read = read_state(path)
    assert set(read) == set(state)
    for name, expected in state.items():
        assert str(read[name].dtype) == str(expected.dtype).removeprefix("torch.")
        wide = expected.detach().to(torch.float64).numpy()
        np.testing.assert_array_equal(read[name].astype(np.float64), wide)


def test_state_dict_of_a_module(tmp_path: Path) -> None:
    """A state_dict carries attributes, which are not needed; a whole module is refused."""
    module = torch.nn.Sequential(torch.nn.Linear(3, 2), torch.nn.BatchNorm1d(2))
    torch.save(module.state_dict(), tmp_path / "a.pt")
    read = read_state(tmp_path / "a.pt")
    for name, expected in module.state_dict().items():
        np.testing.assert_array_equal(read[name], expected.numpy())
    torch.save(module, tmp_path / "b.pt")
    with pytest.raises(ValueError, match="saved again as its state_dict"):
        read_state(tmp_path / "b.pt")
