"""Makes the description that a package index shows; all else is in pyproject.toml."""

import re
from pathlib import Path

from setuptools import setup

# Pictures and pages that lie beside the README in the source are not there on an index.
BESIDE = r"\((?!https?://)[^)\s]*\)"
text = Path(__file__).with_name("README.md").read_text(encoding="utf-8")
text = re.sub(rf"!\[[^]]*\]{BESIDE}\n*", "", text)
text = re.sub(rf"\[([^]]+)\]{BESIDE}", r"\1", text)

setup(long_description=text, long_description_content_type="text/markdown")
