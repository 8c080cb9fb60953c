"""Another company's data: card payments, declared in YAML alone, go from Parquet files to features online.

The configuration folder holds nothing else: no bundled source, no product, no Python.
"""

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from time import perf_counter
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl
import pytest
import yaml
from servers import free_port

from configs.environments import Ports
from configs.load import PROJECT_ROOT
from feature_repo.store import open_store
from mlway_assets.asset_keys import curated_key, online_store_key
from mlway_assets.cli import _print_up
from mlway_assets.definitions import build_definitions
from mlway_assets.local.graph import missing_jobs, plan, run_jobs
from mlway_assets.local.instance import open_instance
from mlway_assets.local.paths import local_paths
from mlway_assets.local.services import prepare
from mlway_assets.local.status import status
from mlway_assets.local.up import _build_missing, _first_prediction, products_in_order
from mlway_assets.resources import Platform, open_platform
from mlway_assets.rollout import desired_versions, open_serve_api, roll_out_code

PARIS = ZoneInfo("Europe/Paris")
DAYS = [date(2024, 3, 1) + timedelta(days=n) for n in range(7)]
NOW = datetime(2024, 3, 8, tzinfo=UTC)
CUSTOMERS, MERCHANTS = range(1001, 1009), ["bakery", "café", "garage"]
Row = dict[str, Any]

PAYMENTS = """
name: card_payments
kind: files
description: Payments by card, a file for each day.
owner: team:payments
tables:
  payments:
    description: One row for each payment.
    path: {inbox}/payments/{{day}}.parquet
    format: parquet
    event_day: [paidAt]
    columns: {{paymentId: int64, cardholder: int64, shop: string, amount: float64, contactless: boolean,
              paidAt: timestamp}}
    curated:
      name: fact_payments
      description: One row for each payment, in cents.
      key: [payment_id]
      columns:
        payment_id: {{expression: paymentId, type: int64}}
        customer_id: {{expression: cardholder, type: int64}}
        merchant: {{expression: shop, type: string}}
        amount_cents: {{expression: ROUND(amount * 100), type: int64}}
        contactless: {{type: boolean}}
        paid_at: {{expression: paidAt, type: timestamp}}
      not_null: [customer_id, merchant, paid_at]
      checks: {{amount_is_positive: amount_cents > 0}}
      maximum_quarantined_share: 0.02
"""
REGISTER = """
name: register
kind: files
description: Customers as they are today, and reviews of merchants as they come, in any number of files.
owner: team:payments
tables:
  customers:
    description: One row for each customer.
    path: {inbox}/customers.parquet
    format: parquet
    columns: {{customer_id: int64, segment: string, limit_euros: float64}}
    curated: {{key: [customer_id]}}
  merchant_reviews:
    description: One row for each review; times are on the wall in Paris.
    path: {inbox}/reviews/*.parquet
    format: parquet
    naive_timestamps: Europe/Paris
    columns: {{review: string, merchant: string, stars: int64, reviewed_at: timestamp}}
    curated: {{key: [review], not_null: [merchant], checks: {{stars_are_stars: stars BETWEEN 1 AND 5}}}}
"""
FEATURES = """
name: customer_payments
kind: windowed
description: What a customer has paid.
owner: team:risk
entity: customer
join_keys: {customer_id: int64}
table: fact_payments
known_at: paid_at
windows: [1d, 7d]
aggregations:
  customer_payments: {function: count}
  customer_cents: {function: sum, of: amount_cents}
  customer_cents_mean: {function: mean, of: amount_cents}
  customer_cents_highest: {function: maximum, of: amount_cents}
  customer_contactless: {function: rate, of: contactless}
---
name: customer_last_payment
kind: latest
description: The newest payment.
owner: team:risk
entity: customer
join_keys: {customer_id: int64}
table: fact_payments
known_at: paid_at
time_to_live: 7d
features:
  last_merchant: {expression: merchant, type: string}
  last_cents: {expression: amount_cents, type: int64}
---
name: customer
kind: static
description: Who the customer is.
owner: team:risk
entity: customer
join_keys: {customer_id: int64}
table: customers
features:
  segment: {expression: segment, type: string}
  limit_euros: {expression: limit_euros, type: float64}
---
name: merchant_stars
kind: windowed
description: How a merchant was reviewed.
owner: team:risk
entity: merchant
join_keys: {merchant: string}
table: merchant_reviews
known_at: reviewed_at
windows: [2d]
aggregations:
  merchant_reviews: {function: count}
  merchant_stars_mean: {function: mean, of: stars}
"""


@dataclass(frozen=True)
class Shop:
    """The platform after its ingest job, and the rows that were put into the files."""

    platform: Platform
    payments: list[Row]
    customers: list[Row]
    reviews: list[Row]


def made_up_rows() -> tuple[list[Row], list[Row], list[Row]]:
    chance = random.Random(2024)
    payments = [
        {
            "paymentId": number,
            "cardholder": chance.choice(CUSTOMERS),
            "shop": chance.choice(MERCHANTS),
            "amount": chance.randrange(100, 90_000) / 100,
            "contactless": chance.random() < 0.5,
            "paidAt": datetime(2024, 3, 1, tzinfo=UTC) + timedelta(microseconds=chance.randrange(7 * 86_400_000_000)),
        }
        for number in range(1, 401)
    ]
    customers = [
        {"customer_id": number, "segment": f"s{number % 3}", "limit_euros": number * 1.5} for number in CUSTOMERS
    ]
    reviews = [
        {
            "review": f"r{number}",
            "merchant": chance.choice(MERCHANTS),
            "stars": chance.randint(1, 5),
            "reviewed_at": datetime(2024, 3, 1, tzinfo=UTC) + timedelta(minutes=chance.randrange(7 * 24 * 60)),
        }
        for number in range(60)
    ]
    return payments, customers, reviews


def write_files(inbox: Path, payments: list[Row], customers: list[Row], reviews: list[Row]) -> None:
    """Payments by day in UTC, with nanoseconds and a zone; reviews in two files, on the wall and without a zone."""
    (inbox / "payments").mkdir(parents=True)
    (inbox / "reviews").mkdir()
    refund = {"paymentId": 9001, "amount": -5.0, "contactless": False} | dict.fromkeys(("cardholder", "shop"))
    bad = refund | {"cardholder": CUSTOMERS[0], "shop": "café", "paidAt": NOW - timedelta(hours=1)}
    schema = {"paidAt": pl.Datetime("ns", "Europe/Paris"), "cardholder": pl.Int32}
    for day in DAYS:
        rows = [row for row in [*payments, payments[0], bad] if row["paidAt"].date() == day]
        frame = pl.DataFrame([row | {"paidAt": row["paidAt"].astimezone(PARIS)} for row in rows])
        frame.cast(schema).write_parquet(inbox / "payments" / f"{day}.parquet")
    pl.DataFrame(customers).write_parquet(inbox / "customers.parquet")
    for name, part in (("a", reviews[:20]), ("b", reviews[20:])):
        on_the_wall = [row | {"reviewed_at": row["reviewed_at"].astimezone(PARIS).replace(tzinfo=None)} for row in part]
        pl.DataFrame(on_the_wall).write_parquet(inbox / "reviews" / f"{name}.parquet")


def write_configs(folder: Path, inbox: Path, state: Path) -> None:
    for kind in ("sources", "features", "environments"):
        (folder / kind).mkdir(parents=True)
    for text in (PAYMENTS, REGISTER):
        content = text.format(inbox=inbox)
        (folder / "sources" / f"{yaml.safe_load(content)['name']}.yaml").write_text(content, encoding="utf-8")
    for content in FEATURES.split("---\n"):
        (folder / "features" / f"{yaml.safe_load(content)['name']}.yaml").write_text(content, encoding="utf-8")
    bundled = (PROJECT_ROOT / "configs" / "environments" / "local.yaml").read_text(encoding="utf-8")
    environment = yaml.safe_load(bundled) | {"state": str(state), "days": {"first": DAYS[0], "last": DAYS[-1]}}
    environment["clock"] = {"kind": "replay", "at": NOW}
    del environment["first_product"]  # one of the bundled ones
    (folder / "environments" / "local.yaml").write_text(yaml.safe_dump(environment), encoding="utf-8")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    root = tmp_path_factory.mktemp("shop")
    rows = made_up_rows()
    write_files(root / "inbox", *rows)
    write_configs(root / "configs", root / "inbox", root / "state")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MLWAY_CONFIGS", str(root / "configs"))
        platform = open_platform()
        instance = open_instance(local_paths(platform.environment))
        assert missing_jobs(platform, instance) == ["ingest"]
        run_jobs(platform, instance, plan(platform, ["ingest"]), lambda *_: None)
        assert missing_jobs(platform, instance) == []
        instance.dispose()
        yield Shop(platform, *rows)


def within(rows: list[Row], known_at: str, window: timedelta, **entity: Any) -> list[Row]:
    """The entity's rows that became known in (NOW - window, NOW], oldest first."""
    kept = [row for row in rows if entity.items() <= row.items() and NOW - window < row[known_at] <= NOW]
    return sorted(kept, key=lambda row: row[known_at])


def read_online(platform: Platform, features: list[str], entity: Row) -> Row:
    answer = open_store(platform.environment).get_online_features(features=features, entity_rows=[entity]).to_dict()
    return {name: values[0] for name, values in answer.items() if name not in entity}


def expected_payments(payments: list[Row], customer: int) -> Mapping[str, Any]:
    expected: Row = {}
    for name, window in (("1d", timedelta(days=1)), ("7d", timedelta(days=7))):
        rows = within(payments, "paidAt", window, cardholder=customer)
        cents = [round(row["amount"] * 100) for row in rows]
        expected |= {
            f"customer_payments_{name}": len(rows),
            f"customer_cents_{name}": sum(cents),
            f"customer_cents_mean_{name}": sum(cents) / len(cents),
            f"customer_cents_highest_{name}": max(cents),
            f"customer_contactless_{name}": sum(row["contactless"] for row in rows) / len(rows),
        }
    return expected


@pytest.mark.parametrize("customer", CUSTOMERS)
def test_windowed_features_online_are_those_computed_by_hand(shop: Shop, customer: int) -> None:
    expected = expected_payments(shop.payments, customer)
    features = [f"customer_payments:{name}" for name in expected]
    assert read_online(shop.platform, features, {"customer_id": customer}) == expected


@pytest.mark.parametrize("customer", CUSTOMERS)
def test_latest_and_static_features_online_are_those_of_the_files(shop: Shop, customer: int) -> None:
    features = [f"customer_last_payment:{name}" for name in ("last_merchant", "last_cents")]
    features += [f"customer:{name}" for name in ("segment", "limit_euros")]
    newest = within(shop.payments, "paidAt", timedelta(days=7), cardholder=customer)[-1]
    known = next(row for row in shop.customers if row["customer_id"] == customer)
    assert read_online(shop.platform, features, {"customer_id": customer}) == {
        "last_merchant": newest["shop"],
        "last_cents": round(newest["amount"] * 100),
        "segment": known["segment"],
        "limit_euros": known["limit_euros"],
    }


@pytest.mark.parametrize("merchant", MERCHANTS)
def test_a_snapshot_of_many_files_feeds_windows(shop: Shop, merchant: str) -> None:
    stars = [row["stars"] for row in within(shop.reviews, "reviewed_at", timedelta(days=2), merchant=merchant)]
    features = [f"merchant_stars:{name}_2d" for name in ("merchant_reviews", "merchant_stars_mean")]
    assert read_online(shop.platform, features, {"merchant": merchant}) == {
        "merchant_reviews_2d": len(stars),
        "merchant_stars_mean_2d": sum(stars) / len(stars),
    }


def test_bad_rows_are_quarantined_with_the_reason_and_what_they_were(shop: Shop) -> None:
    rows = shop.platform.lake.scan("quarantine", "fact_payments").collect().sort("quarantine_reason").to_dicts()
    assert {(row["event_day"], row["quarantine_reason"]) for row in rows} == {
        (shop.payments[0]["paidAt"].date(), "another row is the same in every column"),
        (DAYS[-1], "amount_is_positive does not hold: amount_cents > 0"),
    }
    assert '"amount":-5.0' in rows[0]["original"]
    assert shop.platform.lake.scan("curated", "fact_payments").collect().height == len(shop.payments)


def test_the_declared_tables_are_assets_with_blocking_checks_owners_and_lineage(shop: Shop) -> None:
    graph = build_definitions(shop.platform).resolve_asset_graph()
    node = graph.get(curated_key("fact_payments"))
    assert (node.owners, node.is_partitioned, node.description) == (
        ["team:payments"],
        True,
        "One row for each payment, in cents.",
    )
    lineage = node.metadata["dagster/column_lineage"].value.deps_by_column
    assert [(dep.asset_key.path, dep.column_name) for dep in lineage["amount_cents"]] == [
        (["raw", "payments"], "amount")
    ]
    checks = {key.name: graph.get(key).blocking for key in graph.asset_check_keys if key.asset_key == node.key}
    assert checks == {"contract": True, "quarantined_share": True, "usual_scale": True}
    assert all(graph.get(key).is_materializable for key in graph.get_all_asset_keys())
    assert online_store_key() in graph.get_all_asset_keys()


def test_nothing_of_the_bundled_data_is_in_the_graph(shop: Shop) -> None:
    keys = {key.to_user_string() for key in build_definitions(shop.platform).resolve_asset_graph().get_all_asset_keys()}
    assert keys == {
        *(f"raw/{name}" for name in ("payments", "customers", "merchant_reviews")),
        *(f"curated/{name}" for name in ("fact_payments", "customers", "merchant_reviews")),
        *(f"features/{name}" for name in ("customer_payments", "customer_last_payment", "customer", "merchant_stars")),
        "features/registry",
        "features/online_store",
    }


def test_training_and_predicting_without_a_product_do_nothing(shop: Shop) -> None:
    instance = open_instance(local_paths(shop.platform.environment))
    steps: list[str] = []
    run_jobs(shop.platform, instance, plan(shop.platform, ["train", "predict"]), lambda _, step, __: steps.append(step))
    instance.dispose()
    assert steps == []


def test_without_a_product_nothing_is_declared_to_serve_and_nothing_asked(
    shop: Shop, capsys: pytest.CaptureFixture[str]
) -> None:
    ports = Ports(**{name: free_port() for name in Ports.model_fields})  # nobody listens there: an answer is not needed
    environment = shop.platform.environment.model_copy(update={"ports": ports})
    platform = Platform(shop.platform.project, environment)
    prepare(environment)
    first, rest = products_in_order(platform)
    assert not first
    assert not rest
    assert _build_missing(platform, first, print, lambda *_: None) < 60
    roll_out_code(platform, open_serve_api(platform), desired_versions(platform))
    report = _first_prediction(platform, first, perf_counter(), 1.5)
    assert (report.product, report.request, report.answer, report.graph_seconds) == (None, {}, {}, 1.5)
    assert status(platform)["products"] == {}
    _print_up(report.__dict__, platform, as_json=False)
    said = capsys.readouterr().out
    assert "The graph is complete." in said
    assert "No product is declared: there is nothing to ask. See configs/products/." in said
