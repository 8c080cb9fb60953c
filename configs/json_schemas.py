"""JSON Schema of each kind of file, so that editors complete and check them."""

import json
from pathlib import Path

from configs.load import FILE_KINDS, configs_folder


def json_schemas() -> dict[str, str]:
    """File name to its text, one for each kind of configuration file."""
    return {
        f"{kind}.schema.json": json.dumps(adapter.json_schema(), indent=2, sort_keys=True) + "\n"
        for kind, adapter in FILE_KINDS.items()
    }


def write_json_schemas(folder: Path | None = None) -> list[Path]:
    """Write them all; gives the paths written."""
    folder = folder or configs_folder() / "schemas"
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for name, text in json_schemas().items():
        path = folder / name
        path.write_text(text, encoding="utf-8")
        paths.append(path)
    return paths
