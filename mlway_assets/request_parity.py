"""Hold request features as an endpoint computes them against those that training gets, bit for bit.

Training computes them for a frame of many rows (feature_repo/request_features.py), an endpoint for the rows of a
request (feature_repo/request_rows.py): here one at a time. Table features are held together in parity.py.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import polars as pl

from configs.features import RequestFeatures
from configs.products import ModelProduct
from feature_repo.request_features import request_features
from feature_repo.request_rows import RequestRows
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.compute.differences import Compared, Difference, differences, typed
from mlway_assets.compute.population import labelled_rows
from mlway_assets.resources import Platform

if TYPE_CHECKING:
    from feast import FeatureStore

ROWS = 200
PATH = "request rows"


def compare_request_rows(group: RequestFeatures, store: "FeatureStore", platform: Platform, seed: int) -> Compared:
    """Compare the group's features for a sample of rows of each population that it is computed for.

    Beside them, for each thing that an expression may read, a row that lacks it: a sample may hold no such row.
    """
    used = {name: platform.project.features[other].types[name] for other, names in group.uses.items() for name in names}
    rows = RequestRows(group, {**group.fields, **used})
    count = 0
    found: list[Difference] = []
    for product in _products(group, platform):
        inputs = _with_gaps(_sample(group, product, store, platform, seed).select(*group.fields, *used))
        one, differs = differences(
            PATH, group, inputs, request_features(group, inputs), _one_by_one(group, rows, inputs)
        )
        count, found = count + one, found + differs
    return count, found


def _products(group: RequestFeatures, platform: Platform) -> Iterator[ModelProduct]:
    """One of the products that use the group for each of their populations."""
    seen = []
    for product in platform.project.products.values():
        if group.name in product.features and product.population not in seen:
            seen.append(product.population)
            yield product


def _sample(
    group: RequestFeatures, product: ModelProduct, store: "FeatureStore", platform: Platform, seed: int
) -> pl.DataFrame:
    """Some rows that the product learns from, half of them the newest, with the features that the group uses."""
    table = platform.lake.scan("curated", product.population.table)
    known = labelled_rows(product, table).filter(pl.col(EVENT_TIMESTAMP) <= platform.clock.now())
    rows = known.select(*product.population.request, EVENT_TIMESTAMP).sort(EVENT_TIMESTAMP).collect()
    newest, others = rows.tail(ROWS // 2), rows.head(-(ROWS // 2))
    some = pl.concat([newest, others.sample(min(len(others), ROWS // 2), seed=seed)])
    references = [f"{other}:{name}" for other, names in group.uses.items() for name in names]
    if not references:
        return some
    job: Any = store.get_historical_features(entity_df=some, features=references)
    joined: pl.DataFrame = job.to_polars()
    return joined


def _with_gaps(inputs: pl.DataFrame) -> pl.DataFrame:
    """The rows, and the first again without each of its values in turn."""
    gaps = [inputs.head(1).with_columns(pl.lit(None, kind).alias(name)) for name, kind in inputs.schema.items()]
    return pl.concat([inputs, *gaps])


def _one_by_one(group: RequestFeatures, rows: RequestRows, inputs: pl.DataFrame) -> pl.DataFrame:
    """Each row's features as an endpoint that is asked for it alone computes them."""
    computed = [rows.values({name: [value] for name, value in row.items()}) for row in inputs.iter_rows(named=True)]
    return pl.DataFrame(
        {name: typed([value for row in computed for value in row[name]], kind) for name, kind in group.types.items()}
    )
