"""Labelled rows."""

import polars as pl

from configs.load import load_project
from mlway_assets.compute.population import LABEL, labelled_rows

EXPRESSION = "arrival_delay_minutes / 49.0"


def test_a_label_is_the_same_in_a_frame_of_one_row_as_in_many() -> None:
    product = load_project().products["flight_delay"]
    product = product.model_copy(update={"label": product.label.model_copy(update={"expression": EXPRESSION})})
    moment = pl.datetime(2013, 3, 1, time_zone="UTC", time_unit="us")
    columns = {name: pl.lit("x") for name in product.population.request}
    columns |= {product.population.event_time: moment, product.label.known_at: moment}
    table = pl.DataFrame({"arrival_delay_minutes": [float(n) for n in range(1, 200)]}).with_columns(**columns)
    together = labelled_rows(product, table.lazy()).collect()[LABEL].to_list()
    alone = [labelled_rows(product, one.lazy()).collect()[LABEL].item() for one in table.iter_slices(1)]
    assert alone == together == [n / 49.0 for n in range(1, 200)]
