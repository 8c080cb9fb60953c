"""What a training set must prove before a model is trained on it."""

import dagster as dg

from configs.products import ModelProduct
from mlway_assets.asset_keys import online_store_key, training_set_key
from mlway_assets.checks import NO_LEAK, ONLINE_SKEW, no_leak_check, online_skew_check
from mlway_assets.leakage import find_leaks
from mlway_assets.online_skew import find_online_skew
from mlway_assets.resources import Platform


def build_training_set_checks(product: ModelProduct) -> list[dg.AssetChecksDefinition]:
    """The blocking checks of one product's training set."""
    return [_no_leak(product), _online_skew(product)]


def _no_leak(product: ModelProduct) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=training_set_key(product.name),
        name=NO_LEAK,
        blocking=True,
        description="Rows stay the same when everything known or written after their moments is poisoned.",
    )
    def no_leak(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        return no_leak_check(find_leaks(product, platform))

    return no_leak


def _online_skew(product: ModelProduct) -> dg.AssetChecksDefinition:
    @dg.asset_check(
        asset=training_set_key(product.name),
        name=ONLINE_SKEW,
        additional_deps=[online_store_key()],
        blocking=True,
        description="The values that endpoints read now lie where those of the training set do.",
    )
    def online_skew(platform: dg.ResourceParam[Platform]) -> dg.AssetCheckResult:
        return online_skew_check(find_online_skew(product, platform))

    return online_skew
