"""Methods as text: what the help lists is what text can set."""

import pytest

from selection.method_text import describe_methods, parse_method


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
