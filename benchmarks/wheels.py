"""Ends a benchmark with one line where a package is missing that a machine made for PyTorch seldom has."""

import sys
from importlib.util import find_spec

NEEDED = ("pydantic", "pydantic_core", "annotated_types", "typing_inspection", "pycocotools")

if missing := [name for name in NEEDED if find_spec(name) is None]:
    sys.exit(f"{sys.argv[0]}: bring these wheels along: {' '.join(missing)}")
