"""The log of a run: what a line holds, what resuming removes, and the rates."""

import json
import time
import zlib
from pathlib import Path

import numpy as np
import pytest

from pretrain_jax.train.logging import LOG_NAME, Progress, RunLog, read_log


def test_resuming_removes_later_steps_and_a_line_that_was_cut_off(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0)
    for step in range(1, 5):
        log.scalars(step, {"loss": 1.0 / step, "mfu": None, "other": float("nan")})
    log.picture(4, "picture", np.zeros((4, 4, 3), np.uint8))
    log.close()
    with (tmp_path / LOG_NAME).open("a") as file:
        file.write('{"step": 5, "lo')
    assert [line["step"] for line in read_log(tmp_path / LOG_NAME)] == [1, 2, 3, 4]
    again = RunLog(tmp_path, 2)
    again.scalars(3, {"loss": 7.0})
    again.close()
    lines = [json.loads(line) for line in (tmp_path / LOG_NAME).read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    # CRC-32 of the text before it, by zlib.
    text = '{"step": 1, "loss": 1.0, "mfu": null, "other": null}'
    crc = f"{zlib.crc32(text.encode()):08x}"
    assert lines[0] == {"step": 1, "loss": 1.0, "mfu": None, "other": None, "crc32": crc}
    assert read_log(tmp_path / LOG_NAME)[2] == {"step": 3, "loss": 7.0}
    assert list((tmp_path / "tensorboard").iterdir())


def test_a_line_that_changed_is_told_and_left_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every single bit of the first of two lines, and of the last one but its end."""
    log = RunLog(tmp_path, 0)
    log.scalars(1, {"loss": 0.5})
    log.scalars(2, {"loss": 0.25})
    log.close()
    path = tmp_path / LOG_NAME
    content = path.read_bytes()
    known = read_log(path)
    assert capsys.readouterr().err == ""
    for place in range(8 * (len(content) - 1)):
        changed = bytearray(content)
        changed[place // 8] ^= 1 << place % 8
        path.write_bytes(changed)
        left = read_log(path)
        assert left != known and all(line in known for line in left)
        assert "have changed since and are left out" in capsys.readouterr().err


def test_one_host_writes(tmp_path: Path) -> None:
    log = RunLog(tmp_path, 0, enabled=False)
    log.scalars(1, {"loss": 1.0})
    log.flush()
    log.close()
    assert not list(tmp_path.iterdir())


def test_rates_and_utilisation() -> None:
    """20 images in at least 50 ms at 1 TFLOP an image on 10 PFLOP/s."""
    progress = Progress(10, 0, batch_size=4, image_flops=1e12, peak=1e16, shown=False)
    time.sleep(0.05)
    rates = progress.advance(5, 0.5)
    progress.close()
    assert rates["images_per_second"] is not None and 0 < rates["images_per_second"] <= 400
    assert rates["mfu"] == pytest.approx(rates["images_per_second"] * 1e-4)
    unknown = Progress(10, 0, batch_size=4, image_flops=1e12, peak=None, shown=False)
    assert unknown.advance(1, 0.5)["mfu"] is None
    unknown.close()
