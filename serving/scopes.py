"""What a caller may do: scopes such as `flight_delay:predict`, in keys and tokens. Who the caller is: access.py."""

from collections.abc import Iterable

from configs.errors import MlwayError

PREDICT, EXPLAIN, READ_DECISIONS = "predict", "explain", "decisions:read"
TRAIN, ADMIN = "train", "admin"
ACTIONS = (PREDICT, EXPLAIN, READ_DECISIONS, TRAIN, ADMIN)
EVERY_PRODUCT = "*"
Grants = frozenset[tuple[str, str]]
"""Pairs of a product, or EVERY_PRODUCT, and an action."""


class ScopeError(MlwayError):
    """A scope that means nothing."""


def check_scope(scope: str, products: Iterable[str]) -> str:
    """The scope, if there are such a product and such an action. Raises ScopeError naming those there are."""
    product, _, action = scope.partition(":")
    known = [*sorted(products), EVERY_PRODUCT]
    if product not in known:
        raise ScopeError(
            f"The scope {scope!r} is of no product. Known: {', '.join(known)}.\n"
            f"Hint: write PRODUCT:ACTION, for example {known[0]}:{PREDICT}; {EVERY_PRODUCT} stands for every product."
        )
    if action not in ACTIONS:
        raise ScopeError(
            f"The scope {scope!r} is of no action. Known: {', '.join(ACTIONS)}.\n"
            f"Hint: write PRODUCT:ACTION, for example {product}:{PREDICT}; {ADMIN} may do everything."
        )
    return scope


def read_grants(scopes: Iterable[str]) -> Grants:
    """What the scopes allow. ADMIN implies every action of its product; a scope of something else allows nothing."""
    pairs = {(product, action) for product, _, action in (scope.partition(":") for scope in scopes)}
    admins = {product for product, action in pairs if action == ADMIN}
    implied = {(product, action) for product in admins for action in ACTIONS}
    return frozenset((product, action) for product, action in pairs | implied if product and action in ACTIONS)
