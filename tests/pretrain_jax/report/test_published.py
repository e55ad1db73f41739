"""The paper's numbers against rows copied from its text."""

from pathlib import Path

import numpy as np
import pytest

from pretrain_jax.report.published import DATASETS, FIGURE_6, TABLES

REFERENCE = Path(__file__).parents[2] / "reference" / "optidel_tables.txt"


def printed(number: int) -> tuple[list[str], list[list[str]]]:
    """Methods in the order of their columns, and rows, of a table in the paper's text."""
    text = REFERENCE.read_text().split("# Table ")[number]
    lines = [[cell.strip() for cell in line.split("|")] for line in text.splitlines()[1:]]
    heads = next(line for line in lines if "OptiDEL" in line)
    return [head for head in heads if head], [line for line in lines if line[0] in DATASETS]


@pytest.mark.parametrize("number", [1, 2])
def test_tables_are_as_printed(number: int) -> None:
    table = TABLES[number - 1]
    heads, rows = printed(number)
    names = {"Baseline": "all"}
    assert [names.get(head, head.lower()) for head in heads] == [name for name, _ in table.columns]
    assert [row[0] for row in rows] == list(DATASETS)
    assert [[float(x) for x in row[1:] if x] for row in rows] == table.miou.tolist()


def test_storage_of_the_columns() -> None:
    """All data alone, then three methods at each of the four volumes of the heading."""
    volumes = [5.0] * 3 + [10.0] * 3 + [25.0] * 3 + [50.0] * 3
    assert [storage for _, storage in TABLES[0].columns] == [100.0, *volumes]
    assert [storage for _, storage in TABLES[1].columns] == volumes


def test_normdel_of_the_tables() -> None:
    """sigmoid(x) = (1 + tanh(x/2))/2."""
    for table in TABLES:
        storage = np.array([percent for _, percent in table.columns]) / 100
        expected = (1 + np.tanh(table.miou / 100 * np.exp(-storage) / 2)) / 2
        np.testing.assert_allclose(table.normdel, expected, rtol=1e-14)


def test_figure_6_is_drawn_from_table_1() -> None:
    """The row of ETIS, read off the text by eye."""
    assert FIGURE_6 == ("meddel", "optidel")
    storage = [5.0, 10.0, 25.0, 50.0, 100.0]
    assert TABLES[0].curve("ETIS", "meddel") == (storage, [53.05, 54.40, 57.58, 52.13, 51.64])
    assert TABLES[0].curve("ETIS", "optidel") == (storage, [56.48, 57.87, 64.23, 56.13, 51.64])
    with pytest.raises(ValueError, match="dataset = 'MNIST' is not one of Kvasir-Instrument"):
        TABLES[0].curve("MNIST", "optidel")
