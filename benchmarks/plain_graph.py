"""What the graph does, as a plain script: the same functions in the same order, without an orchestrator."""

from configs.features import RequestFeatures
from configs.load import load_environment, load_project
from feature_repo.store import materialize_group, register_features
from mlway_assets.batch_scoring import score_days
from mlway_assets.curation import CURATED_TABLES, curate
from mlway_assets.feature_tables import write_group
from mlway_assets.ingest import ingest_days, ingest_snapshot
from mlway_assets.models import judge, register_candidate, train_candidate
from mlway_assets.partitions import every_day
from mlway_assets.resources import Platform
from mlway_assets.sources.build import build_reader
from mlway_assets.training_sets import build_training_set, write_training_set

CURATION_ORDER = ("dim_carrier", "dim_airport", "dim_aircraft", "fact_weather", "fact_flights")


def main() -> None:
    platform = Platform(load_project(), load_environment())
    project, lake, now = platform.project, platform.lake, platform.clock.now()
    days = list(every_day(platform))
    for source in project.sources.values():
        for name, table in source.tables.items():
            reader = build_reader(source, name)
            if table.is_partitioned:
                ingest_days(reader, lake, name, days, now)
            else:
                ingest_snapshot(reader, lake, name, now)
    for name in CURATION_ORDER:
        curate(CURATED_TABLES[name], lake, days)
    groups = [group for group in project.features.values() if not isinstance(group, RequestFeatures)]
    for group in groups:
        write_group(group, lake, now)
    store = register_features(platform.environment, project)
    for group in groups:
        materialize_group(store, group, now)
    for product in project.products.values():
        write_training_set(product, platform, build_training_set(product, platform))
        run_id = train_candidate(product, platform, "a benchmark").run_id
        judge(product, platform, run_id)
        register_candidate(product, platform, run_id)
        score_days(product, platform, [now.date()])


if __name__ == "__main__":
    main()
