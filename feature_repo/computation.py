"""What decides a group's values beside the rows of its table."""

import hashlib
from functools import cache
from pathlib import Path

import polars as pl

from configs.features import TableFeatures
from feature_repo.services import group_digest


def computation_digest(group: TableFeatures) -> str:
    """SHA-256 over the group's declaration, the code that evaluates it, and the version of Polars.

    Values that were computed under the same digest from the same rows are the same to the last bit.
    """
    return hashlib.sha256(f"{group_digest(group)} {_code_digest()} {pl.__version__}".encode()).hexdigest()


@cache
def _code_digest() -> str:
    found = hashlib.sha256()
    for file in sorted(Path(__file__).parent.glob("*.py")):
        found.update(file.read_bytes())
    return found.hexdigest()
