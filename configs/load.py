"""Read the YAML files, and check them one by one. Against each other: agreement.py."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from configs.agreement import check_agreement
from configs.environments import Environment, Ports, ReplayClock, SqliteOnlineStore, SystemClock
from configs.errors import ConfigError
from configs.features import FeatureGroup, RequestFeatures, TableFeatures
from configs.products import ModelProduct
from configs.sources import Source

PROJECT_ROOT = Path(__file__).parent.parent
FILE_KINDS: dict[str, TypeAdapter[Any]] = {
    "sources": TypeAdapter(Source),
    "features": TypeAdapter(FeatureGroup),
    "products": TypeAdapter(ModelProduct),
    "environments": TypeAdapter(Environment),
}


@dataclass(frozen=True)
class Project:
    """Everything declared: sources, feature groups and products by name."""

    sources: Mapping[str, Source]
    features: Mapping[str, FeatureGroup]
    products: Mapping[str, ModelProduct]

    def table_groups(self, product: ModelProduct) -> list[TableFeatures]:
        """The product's feature groups that are read from tables, in the order declared."""
        groups = (self.features[name] for name in product.features)
        return [group for group in groups if not isinstance(group, RequestFeatures)]

    def request_groups(self, product: ModelProduct) -> list[RequestFeatures]:
        """The product's feature groups that are computed from the request, in the order declared."""
        groups = (self.features[name] for name in product.features)
        return [group for group in groups if isinstance(group, RequestFeatures)]

    def model_features(self, product: ModelProduct) -> dict[str, str]:
        """Name and type of each feature that the product's model sees, in the model's order."""
        return {
            name: kind
            for group in product.features
            for name, kind in self.features[group].types.items()
            if name not in product.exclude
        }


def configs_folder() -> Path:
    """The folder of the YAML files: MLWAY_CONFIGS, else this package."""
    return Path(os.environ.get("MLWAY_CONFIGS") or Path(__file__).parent)


def load_project(folder: Path | None = None) -> Project:
    """Read `sources/`, `features/` and `products/` under `folder`, by default `configs_folder()`.

    Raises ConfigError naming the file, the field and the remedy.
    """
    folder = folder or configs_folder()
    project = Project(
        sources=_load_kind(folder, "sources"),
        features=_load_kind(folder, "features"),
        products=_load_kind(folder, "products"),
    )
    check_agreement(project)
    return project


def load_environment(name: str | None = None, folder: Path | None = None) -> Environment:
    """The environment called `name`, or at the path `name`; by default the one in MLWAY_ENVIRONMENT, else `local`.

    MLWAY_STATE, where set, moves the state folder; MLWAY_PORTS, as `dagster=3001,serve=8001`, moves ports.
    Raises ConfigError.
    """
    folder = folder or configs_folder()
    name = name or os.environ.get("MLWAY_ENVIRONMENT") or "local"
    path = Path(name) if name.endswith(".yaml") else folder / "environments" / f"{name}.yaml"
    if not path.is_file():
        known = sorted(file.stem for file in (folder / "environments").glob("*.yaml"))
        raise ConfigError(
            str(path),
            "",
            f"there is no environment {name!r}. Known: {', '.join(known)}.",
            "set MLWAY_ENVIRONMENT to one of these, or to the path of a .yaml file.",
        )
    content = _read_yaml(path)
    state = PROJECT_ROOT / (os.environ.get("MLWAY_STATE") or str(content.get("state", ".mlway")))
    content = _substitute(content, {"{state}": str(state), "{project}": str(PROJECT_ROOT)})
    content["state"] = str(state)
    if ports := _ports(os.environ.get("MLWAY_PORTS", "")):
        content["ports"] = {**(content.get("ports") or {}), **ports}
    environment: Environment = _validate(FILE_KINDS["environments"], content, path)
    return _with_whole_paths(environment)


def _with_whole_paths(environment: Environment) -> Environment:
    """The same for every process, wherever it was started."""
    folder = PROJECT_ROOT / environment.decisions_folder
    decisions = environment.decisions.model_copy(update={"folder": str(folder)})
    requests = str(PROJECT_ROOT / environment.training_requests_folder)
    environment = environment.model_copy(
        update={"decisions": decisions, "clock": _with_state(environment), "training_requests": requests}
    )
    store = environment.feature_store
    if not isinstance(store.online, SqliteOnlineStore):
        return environment
    online = store.online.model_copy(update={"path": str(PROJECT_ROOT / store.online.path)})
    return environment.model_copy(update={"feature_store": store.model_copy(update={"online": online})})


def _with_state(environment: Environment) -> SystemClock | ReplayClock:
    """The clock; where its file is left to the default, that is in the state folder."""
    clock = environment.clock
    if not isinstance(clock, ReplayClock):
        return clock
    moved = clock.moved.replace("{state}", str(environment.state))
    return clock.model_copy(update={"moved": str(PROJECT_ROOT / moved)})


def _ports(text: str) -> dict[str, int]:
    ports: dict[str, int] = {}
    for part in filter(None, text.split(",")):
        name, _, number = part.partition("=")
        if name not in Ports.model_fields or not number.isdecimal() or not 0 < int(number) < 65_536:
            known = ", ".join(Ports.model_fields)
            raise ConfigError(
                "MLWAY_PORTS", part, "is not NAME=NUMBER", f"names are {known}; for example dagster=3001."
            )
        ports[name] = int(number)
    return ports


def _substitute(value: Any, replacements: Mapping[str, str]) -> Any:
    if isinstance(value, str):
        for placeholder, text in replacements.items():
            value = value.replace(placeholder, text)
        return value
    if isinstance(value, dict):
        return {key: _substitute(item, replacements) for key, item in value.items()}
    return value


def _load_kind(folder: Path, kind: str) -> dict[str, Any]:
    loaded: dict[str, Any] = {}
    for path in sorted((folder / kind).glob("*.yaml")):
        item = _validate(FILE_KINDS[kind], _read_yaml(path), path)
        if item.name != path.stem:
            raise ConfigError(
                str(path), "name", f"is {item.name!r}", f"a file is called after its content: {path.stem}."
            )
        loaded[item.name] = item
    return loaded


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(str(path), "", f"not valid YAML: {error}", "mend the syntax at that line.") from error
    if not isinstance(content, dict):
        raise ConfigError(str(path), "", "holds no fields", "write `field: value` lines; see configs/schemas/.")
    return content


def _validate(adapter: TypeAdapter[Any], content: dict[str, Any], path: Path) -> Any:
    try:
        return adapter.validate_python(content)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise ConfigError(str(path), field, first["msg"], _hint(first["type"], path)) from error


def _hint(error_type: str, path: Path) -> str:
    schema = f"configs/schemas/{path.parent.name}.schema.json"
    if error_type == "extra_forbidden":
        return f"remove the field or mend its spelling; the known fields are in {schema}."
    if error_type == "missing":
        return f"add the field; {schema} describes it."
    return f"{schema} describes what the field takes."
