"""Methods as text: what the help lists is what text can set."""

import pytest

from selection.method_text import describe_methods, named_method, named_score, parse_method
from selection.names import METHOD_NAMES, SCORE_NAMES
from selection.registry import SCORES, SELECTORS


def test_the_names_say_what_the_methods_and_scores_take() -> None:
    """The tables that help is made of, against the classes and functions themselves."""
    assert {name: named_method(kind) for name, kind in SELECTORS.items()} == METHOD_NAMES
    assert {name: named_score(function) for name, function in SCORES.items()} == SCORE_NAMES
    assert list(METHOD_NAMES) == list(SELECTORS) and list(SCORE_NAMES) == list(SCORES)
    assert all(METHOD_NAMES[name].load() is kind for name, kind in SELECTORS.items())
    assert all(SCORE_NAMES[name].load() is function for name, function in SCORES.items())


def test_every_listed_option_can_be_set() -> None:
    for line in describe_methods().splitlines():
        name, *options = line.split()
        required = ["alpha_total=4"] if "alpha_total" in options else []
        defaults = [one for one in options if "=" in one] + required
        assert parse_method(f"{name}:{','.join(defaults)}") == parse_method(
            f"{name}:{','.join(required)}"
        )
    for name in ("curvature", "layer", "validation=", "targets"):
        assert name not in describe_methods()
    sentence = "method 'glister': layer takes no text; set it from Python"
    with pytest.raises(ValueError, match=sentence):
        parse_method("glister:layer=1")
    with pytest.raises(ValueError, match=r"it has mode, neighbours, per_class, damping$"):
        parse_method("adacore:curve=1")
