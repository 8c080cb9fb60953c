"""What each task asks of a product's file, and in which words a file that contradicts itself is refused."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from configs.errors import ConfigError
from configs.gates import PromotionGate
from configs.load import PROJECT_ROOT, load_project
from mlway_assets.declarations import check_declarations
from mlway_assets.declared_tables import curated_tables

Content = dict[str, Any]
WRONG: dict[str, tuple[str, Callable[[Content], object], str, str]] = {
    "interval of a classifier": (
        "flight_delay",
        lambda product: product.update(interval={"lower": 0.1, "upper": 0.9}),
        "interval",
        "only the task regression has an interval",
    ),
    "interval upside down": (
        "arrival_delay",
        lambda product: product.update(interval={"lower": 0.9, "upper": 0.1}),
        "interval",
        "lower < upper must hold",
    ),
    "ranking without queries": (
        "flight_ranking",
        lambda product: product.pop("ranking"),
        "ranking",
        "needs `ranking` with `groups` and `relevance`",
    ),
    "queries of a regression": (
        "arrival_delay",
        lambda product: product.update(ranking={"groups": ["dest"], "relevance": "label"}),
        "ranking",
        "no other task has it",
    ),
    "metric of another task": (
        "arrival_delay",
        lambda product: product.update(gate={"metric": "roc_auc", "minimum": 0.7}),
        "gate",
        "use one of mae, rmse",
    ),
    "minimum where less is better": (
        "arrival_delay",
        lambda product: product.update(gate={"metric": "mae", "minimum": 20}),
        "gate",
        "less mae is better: give `maximum`",
    ),
    "no k": (
        "flight_ranking",
        lambda product: product["gate"].pop("k"),
        "gate",
        "`k` goes with the metric ndcg_at_k",
    ),
    "coverage of no interval": (
        "flight_delay",
        lambda product: product["gate"].update(coverage={"minimum": 0.7, "maximum": 0.9}),
        "gate",
        "declare `interval`, or take it out",
    ),
    "coverage upside down": (
        "arrival_delay",
        lambda product: product["gate"].update(coverage={"minimum": 0.9, "maximum": 0.7}),
        "gate.coverage",
        "minimum <= maximum must hold",
    ),
    "objective of another task": (
        "flight_ranking",
        lambda product: product["training"].update(objective="l2"),
        "training",
        "use one of lambdarank",
    ),
    "a parameter that contradicts the interval": (
        "arrival_delay",
        lambda product: product["training"]["algorithms"]["lightgbm"].update(alpha=0.3),
        "training",
        "must not hold 'alpha': say it in interval",
    ),
    "a logistic regression of minutes": (
        "arrival_delay",
        lambda product: product["training"]["algorithms"].update(logistic_regression={}),
        "training",
        "`algorithms.logistic_regression` cannot learn the task regression: use lightgbm, histogram_boosting",
    ),
    "histogram boosting of an order": (
        "flight_ranking",
        lambda product: product["training"].update(algorithms={"histogram_boosting": {}}),
        "training",
        "cannot learn the task ranking: use lightgbm",
    ),
    "no algorithm": (
        "flight_delay",
        lambda product: product["training"].update(algorithms={}),
        "training.algorithms",
        "name one at least: lightgbm, histogram_boosting, logistic_regression",
    ),
    "a search without what it is for": (
        "flight_delay",
        lambda product: product["training"].update(
            algorithms={"logistic_regression": {}},
            search={"trials": 2, "space": {"num_leaves": {"kind": "int", "low": 4, "high": 64}}},
        ),
        "training",
        "`search` tries parameters of LightGBM",
    ),
    "a parameter that the algorithm does not have": (
        "flight_delay",
        lambda product: product["training"]["algorithms"].update(histogram_boosting={"num_leaves": 31}),
        "training.algorithms.histogram_boosting.num_leaves",
        "",
    ),
    "a rate above one": (
        "flight_delay",
        lambda product: product.update(baseline={"score": 3}),
        "baseline",
        "must lie between 0 and 1",
    ),
    "no baseline value": (
        "arrival_delay",
        lambda product: product["baseline"].pop("score"),
        "baseline",
        "`score` is missing",
    ),
    "a baseline without the interval": (
        "arrival_delay",
        lambda product: product.update(baseline={"score": 1}),
        "baseline",
        "`lower` and `upper` go with `interval`",
    ),
    "a baseline outside its interval": (
        "arrival_delay",
        lambda product: product["baseline"].update(score=900),
        "baseline",
        "lower <= score <= upper must hold",
    ),
    "an order by text": (
        "flight_ranking",
        lambda product: product.update(baseline={"order_by": "carrier"}),
        "baseline",
        "must name a number or timestamp among population.request",
    ),
    "a field called like what is predicted": (
        "flight_delay",
        lambda product: product["population"]["request"].update(rank="int64"),
        "population.request",
        "'rank' is a column of training sets or predictions",
    ),
    "an unknown task": ("flight_ranking", lambda product: product.update(task="clustering"), "task", "'ranking'"),
    "a label that is no number": (
        "arrival_delay",
        lambda product: product["label"].update(expression="dest"),
        "label.expression",
        "a regression learns a number",
    ),
    "a query by an unknown column": (
        "flight_ranking",
        lambda product: product["ranking"].update(groups=["airport"]),
        "ranking.groups.0",
        "airport is not among the columns",
    ),
    "a query that looks at other rows": (
        "flight_ranking",
        lambda product: product["ranking"].update(groups=["MAX(flight)"]),
        "ranking.groups.0",
        "looks at more than one row",
    ),
    "relevance that is no whole number": (
        "flight_ranking",
        lambda product: product["ranking"].update(relevance="label / 7.0"),
        "ranking.relevance",
        "give grades such as 0, 1 and 2",
    ),
    "relevance of another column": (
        "flight_ranking",
        lambda product: product["ranking"].update(relevance="flight"),
        "ranking.relevance",
        "flight is not among the columns label",
    ),
    "queries of one hour of every day": (
        "flight_ranking",
        lambda product: product["ranking"].update(groups=["date_part('hour', scheduled_departure)"]),
        "ranking.groups",
        "make one query of rows of several days",
    ),
    "one query": (
        "flight_ranking",
        lambda product: product["ranking"].update(groups=["1"]),
        "ranking.groups",
        "add 'event_day'",
    ),
    "queries of a table without days": (
        "flight_ranking",
        lambda product: (
            product["population"].update(table="dim_airport"),
            product["label"].update(expression="1"),
            product["ranking"].update(groups=["1"]),
        ),
        "population.table",
        "has no 'event_day'",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_file_that_contradicts_its_task_is_refused_with_field_and_remedy(case: str, tmp_path: Path) -> None:
    name, change, field, words = WRONG[case]
    ignored = shutil.ignore_patterns("*.py", "__pycache__")
    folder = Path(shutil.copytree(PROJECT_ROOT / "configs", tmp_path / "configs", ignore=ignored))
    file = folder / "products" / f"{name}.yaml"
    content = yaml.safe_load(file.read_text(encoding="utf-8"))
    change(content)
    file.write_text(yaml.safe_dump(content), encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        load_and_check(folder)
    assert error.value.field == field
    assert words in str(error.value)
    assert "Hint: " in str(error.value)


def load_and_check(folder: Path) -> None:
    project = load_project(folder)
    check_declarations(project, curated_tables(project))


@pytest.mark.parametrize(
    "groups", [["event_day"], ["scheduled_departure"], ["dest"], ["CAST(scheduled_departure AS DATE)", "dest"]]
)
def test_queries_that_may_keep_to_their_days_are_left_to_the_training_set(groups: list[str]) -> None:
    project = load_project()
    product = project.products["flight_ranking"]
    assert product.ranking is not None
    ranking = product.ranking.model_copy(update={"groups": tuple(groups)})
    products = {product.name: product.model_copy(update={"ranking": ranking})}
    check_declarations(replace(project, products=products), curated_tables(project))


def test_a_gate_says_its_limit_and_its_metric_with_k() -> None:
    gate = PromotionGate(metric="ndcg_at_k", k=5, minimum=0.7)
    assert (gate.metric_name, gate.limit, gate.is_lower_better) == ("ndcg_at_5", 0.7, False)
    gate = PromotionGate(metric="mae", maximum=25)
    assert (gate.metric_name, gate.limit, gate.is_lower_better) == ("mae", 25, True)
