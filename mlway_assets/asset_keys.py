"""The only place that spells an asset's key."""

from dagster import AssetKey


def raw_key(table: str) -> AssetKey:
    """A table as received."""
    return AssetKey(["raw", table])


def decisions_key(product: str) -> AssetKey:
    """The answers of a product's endpoint, from the decision log."""
    return raw_key(f"decisions_{product}")


def curated_key(table: str) -> AssetKey:
    """A fact or dimension table."""
    return AssetKey(["curated", table])


def features_key(group: str) -> AssetKey:
    """The values of a feature group over all history."""
    return AssetKey(["features", group])


def feature_registry_key() -> AssetKey:
    """The declared features as Feast knows them."""
    return AssetKey(["features", "registry"])


def online_store_key() -> AssetKey:
    """The values that endpoints read."""
    return AssetKey(["features", "online_store"])


def training_set_key(product: str) -> AssetKey:
    """The point-in-time training frame."""
    return AssetKey(["models", product, "training_set"])


def candidate_key(product: str) -> AssetKey:
    """A trained model that has not passed the gate yet."""
    return AssetKey(["models", product, "candidate"])


def registered_version_key(product: str) -> AssetKey:
    """A version in the model registry."""
    return AssetKey(["models", product, "registered_version"])


def predictions_key(product: str) -> AssetKey:
    """The champion's scores for each day."""
    return AssetKey(["predictions", product])


def input_drift_key(product: str) -> AssetKey:
    """How far each day's features have moved from the training set's."""
    return AssetKey(["monitoring", product, "input_drift"])


def input_drift_report_key(product: str) -> AssetKey:
    """Pages of pictures of the same."""
    return AssetKey(["reports", product, "input_drift"])


def prediction_drift_key(product: str) -> AssetKey:
    """How far each day's scores have moved from those that were learned from."""
    return AssetKey(["monitoring", product, "prediction_drift"])


def quality_key(product: str) -> AssetKey:
    """How good each day's scores were, by the labels that are known."""
    return AssetKey(["monitoring", product, "quality"])


def served_quality_key(product: str) -> AssetKey:
    """How good each day's answers of the endpoint were, by the labels that are known."""
    return AssetKey(["monitoring", product, "served_quality"])


def serving_skew_key(product: str) -> AssetKey:
    """How far what each day's answers were made from lies from what the lake knew then."""
    return AssetKey(["monitoring", product, "serving_skew"])


def feature_freshness_key(product: str) -> AssetKey:
    """How old the feature values of each day's answers were."""
    return AssetKey(["monitoring", product, "feature_freshness"])


def service_health_key(product: str) -> AssetKey:
    """How each day's requests were answered."""
    return AssetKey(["monitoring", product, "service_health"])


MONITORED_KEYS = (
    input_drift_key,
    prediction_drift_key,
    quality_key,
    served_quality_key,
    serving_skew_key,
    feature_freshness_key,
    service_health_key,
)
"""What is monitored of a product, each as a function of its name."""
