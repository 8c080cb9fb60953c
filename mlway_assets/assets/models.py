"""Trained models: the training set, the candidate behind its gate, the registered version."""

from collections.abc import Iterator, Mapping

import dagster as dg

from configs.catalogue import declared_features
from configs.load import Project
from configs.products import ModelProduct
from feature_repo.column_types import POLARS_TYPES
from feature_repo.windows import EVENT_TIMESTAMP
from mlway_assets.asset_keys import (
    candidate_key,
    curated_key,
    feature_registry_key,
    features_key,
    registered_version_key,
    training_set_key,
)
from mlway_assets.assets.raw import LAKE_POOL
from mlway_assets.assets.training_set_checks import build_training_set_checks
from mlway_assets.checks import gate_checks, gate_name
from mlway_assets.column_lineage import training_set_origins
from mlway_assets.compute.gate import Subject, subjects
from mlway_assets.compute.plots import candidate_plots
from mlway_assets.compute.population import LABEL, LABEL_KNOWN_AT, query_columns
from mlway_assets.compute.search import Study
from mlway_assets.compute.search_plots import HISTORY, history_plot
from mlway_assets.declared_tables import curated_tables
from mlway_assets.explanation import PLOT
from mlway_assets.expressions import row_type
from mlway_assets.metadata import algorithms_table, column_metadata, key_lineage, picture, table_metadata
from mlway_assets.model_card import PAGE_FILE
from mlway_assets.models import LoggedCandidate, judge, register_candidate, train_candidate
from mlway_assets.registry import ModelVersion
from mlway_assets.resources import Platform
from mlway_assets.retraining import AS_OF, LABELLED_ROWS, REASON_TAG, labelled_rows
from mlway_assets.training_sets import TrainingSetRecord, build_training_set, write_training_set

RUN_ID = "mlflow_run_id"
DATA_VERSIONS = "data_versions"
_GATE_CHECKS: Mapping[Subject, str] = {
    "limit": "The gate's metric keeps to its limit.",
    "baseline": "It is better than the product's baseline by the margin.",
    "champion": "On the same rows it is better than the champion, as the gate asks.",
    "coverage": "The interval holds as many values as it should.",
    "slices": "No part of the rows is served much worse than by the champion.",
    "calibration": "Probabilities are rates.",
    "fairness": "No group is served much worse than the others.",
    "importance": "Scores are made of much the same as the champion's.",
    "behaviour": "Scores move as they must, and known cases get what they should.",
    "cost": "It is small and fast enough for the endpoint.",
    "plausible": "It is not too good to be true.",
}


def build_models(project: Project) -> dg.Definitions:
    """The assets of every product, from its training set to its registered version."""
    products = project.products.values()
    return dg.Definitions(
        assets=[
            asset
            for product in products
            for asset in (_training_set(product, project), _candidate(product), _registered_version(product))
        ],
        asset_checks=[check for product in products for check in (*build_training_set_checks(product), _gate(product))],
    )


def _training_set(product: ModelProduct, project: Project) -> dg.AssetsDefinition:
    groups = [features_key(group.name) for group in project.table_groups(product)]

    @dg.asset(
        key=training_set_key(product.name),
        deps=[*groups, feature_registry_key(), curated_key(product.population.table)],
        group_name="models",
        owners=[product.owner],
        description=f"Labelled rows of {product.name} with every feature as known at the horizon.",
        kinds={"feast", "polars", "deltalake"},
        pool=LAKE_POOL,
        metadata=_columns(product, project),
    )
    def training_set(platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        built = build_training_set(product, platform)
        version = write_training_set(product, platform, built)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(built.record.sha256),
            metadata=table_metadata(built.record.rows, version)
            | _record_metadata(built.record)
            | {AS_OF: platform.clock.now().isoformat(), LABELLED_ROWS: labelled_rows(product, platform)},
        )

    return training_set


def _candidate(product: ModelProduct) -> dg.AssetsDefinition:
    @dg.asset(
        key=candidate_key(product.name),
        deps=[training_set_key(product.name)],
        group_name="models",
        owners=[product.owner],
        description=f"A trained model of {product.name}, logged in MLflow, that has yet to pass the gate.",
        kinds={"lightgbm", "mlflow"},
        pool=f"train_{product.name}",
    )
    def candidate(context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]) -> dg.MaterializeResult:
        reason = context.run.tags.get(REASON_TAG, "by hand, in Dagster")
        return _candidate_result(train_candidate(product, platform, reason), reason)

    return candidate


def _gate(product: ModelProduct) -> dg.AssetChecksDefinition:
    asked = subjects(product.gate)

    @dg.multi_asset_check(
        name=f"models__{product.name}__candidate_gate",
        specs=[
            dg.AssetCheckSpec(
                gate_name(subject), asset=candidate_key(product.name), blocking=True, description=_GATE_CHECKS[subject]
            )
            for subject in asked
        ],
    )
    def gate(
        context: dg.AssetCheckExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> Iterator[dg.AssetCheckResult]:
        yield from gate_checks(asked, judge(product, platform, _candidate_run(context.instance, product)))

    return gate


def _registered_version(product: ModelProduct) -> dg.AssetsDefinition:
    @dg.asset(
        key=registered_version_key(product.name),
        deps=[candidate_key(product.name)],
        group_name="models",
        owners=[product.owner],
        description=f"The candidate of {product.name} in the model registry, once it has passed the gate.",
        kinds={"mlflow"},
        pool=f"train_{product.name}",
    )
    def registered_version(
        context: dg.AssetExecutionContext, platform: dg.ResourceParam[Platform]
    ) -> dg.MaterializeResult:
        version = register_candidate(product, platform, _candidate_run(context.instance, product))
        return dg.MaterializeResult(
            metadata={
                "version": version.version,
                "digest": version.digest,
                RUN_ID: version.run_id,
                **_card_link(product, platform, version),
            }
        )

    return registered_version


def _candidate_result(logged: LoggedCandidate, reason: str) -> dg.MaterializeResult:
    figures = candidate_plots(logged.candidate) | {PLOT: logged.explanation.figure}
    metrics = logged.candidate.metrics | logged.explanation.summary.metrics
    return dg.MaterializeResult(
        metadata={
            RUN_ID: dg.MetadataValue.text(logged.run_id),
            "reason": dg.MetadataValue.text(reason),
            "rounds": dg.MetadataValue.int(logged.candidate.rounds),
            "algorithm": dg.MetadataValue.text(logged.candidate.algorithm),
            "algorithms": dg.MetadataValue.md(algorithms_table(logged.candidate)),
            **{name: dg.MetadataValue.float(value) for name, value in metrics.items()},
            **{name: picture(figure) for name, figure in figures.items()},
            **({} if logged.study is None else _study_metadata(logged.study)),
        }
    )


def _study_metadata(study: Study) -> Mapping[str, dg.MetadataValue]:
    """The search's figures, its best parameters, and how its best value came to be."""
    return {
        "search_trials": dg.MetadataValue.int(len(study.trials)),
        "search_pruned": dg.MetadataValue.int(study.count("pruned")),
        "search_failed": dg.MetadataValue.int(study.count("failed")),
        "search_best_trial": dg.MetadataValue.int(study.best.number),
        f"search_{study.metric}": dg.MetadataValue.float(study.best.value),
        "search_parameters": dg.MetadataValue.json(dict(study.best.parameters)),
        HISTORY: picture(history_plot(study)),
    }


def _card_link(product: ModelProduct, platform: Platform, version: ModelVersion) -> dict[str, dg.MetadataValue]:
    """Where the model card is: in MLflow, with the version's run, and by which command."""
    experiment = platform.registry.client.get_run(version.run_id).info.experiment_id
    server = f"http://127.0.0.1:{platform.environment.ports.mlflow}"
    return {
        "card": dg.MetadataValue.url(
            f"{server}/#/experiments/{experiment}/runs/{version.run_id}/artifacts/{PAGE_FILE}"
        ),
        "card_command": dg.MetadataValue.text(f"mlway card {product.name} {version.version}"),
    }


def _candidate_run(instance: dg.DagsterInstance, product: ModelProduct) -> str:
    return str(_latest_metadata(instance, candidate_key(product.name))[RUN_ID].value)


def _latest_metadata(instance: dg.DagsterInstance, key: dg.AssetKey) -> Mapping[str, dg.MetadataValue]:
    event = instance.get_latest_materialization_event(key)
    if event is None or event.asset_materialization is None:
        raise dg.Failure(f"{key.to_user_string()} has never been materialized. Materialize it first.")
    return event.asset_materialization.metadata


def _columns(product: ModelProduct, project: Project) -> Mapping[str, dg.MetadataValue]:
    """Schema and lineage of the training set."""
    features = {
        name: feature
        for group in product.features
        for name, feature in declared_features(project, project.features[group]).items()
    }
    types = {EVENT_TIMESTAMP: "timestamp", **dict.fromkeys(query_columns(product), "string")}
    types |= {LABEL: _label_type(product, project), LABEL_KNOWN_AT: "timestamp"}
    types |= {**product.population.request, **{name: feature.type for name, feature in features.items()}}
    return column_metadata(types, key_lineage(training_set_origins(project, product)), features)


def _label_type(product: ModelProduct, project: Project) -> str:
    columns = curated_tables(project)[product.population.table].columns
    file = f"products/{product.name}.yaml"
    found = row_type(file, "label.expression", product.label.expression, columns)
    return next((name for name, kind in POLARS_TYPES.items() if kind == found), str(found).lower())


def _record_metadata(record: TrainingSetRecord) -> dict[str, dg.MetadataValue]:
    return {
        "sha256": dg.MetadataValue.text(record.sha256),
        DATA_VERSIONS: dg.MetadataValue.json(record.inputs),
        "feature_definitions": dg.MetadataValue.text(record.feature_definitions),
        "features": dg.MetadataValue.json(list(record.features)),
        "code_version": dg.MetadataValue.text(record.code_version),
    }
