"""Reading the embedded online store where its file is odd: its name, its width, another one in its place."""

from pathlib import Path

import pytest
from online_support import GROUPS, NOON, PLACE, STATE, OnlineStoreUnderTest, car, frame

from configs.features import LatestFeatures
from feature_repo.online_writing import push_values
from serving.online_features import OnlineStoreError


def store_at(path: Path) -> OnlineStoreUnderTest:
    return OnlineStoreUnderTest(path.parent, {"kind": "sqlite", "path": str(path)})


@pytest.mark.parametrize("folder", ["a#b", "a?b", "a%41b", "a b", "ä"])
def test_the_path_of_the_file_is_taken_as_it_is(tmp_path: Path, folder: str) -> None:
    online = store_at(tmp_path / folder / "online.db")
    push_values(online.writer, STATE, car("A1", NOON, 7))
    assert online.reader(STATE).read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]


@pytest.mark.parametrize(("views", "width"), [(3, 900), (70, 1), (2, 1_990)])
def test_views_of_more_columns_than_a_statement_gives_are_read(tmp_path: Path, views: int, width: int) -> None:
    online = store_at(tmp_path / "online.db")
    online.groups = [
        LatestFeatures.model_validate(
            STATE.model_dump()
            | {"name": f"wide_{view}"}
            | {"features": {f"f{view}_{n}": {"expression": "x", "type": "int64"} for n in range(width)}}
        )
        for view in range(views)
    ]
    for view, group in enumerate(online.groups):
        push_values(online.writer, group, frame(group, ["A1", NOON, *range(view, view + width)]))
    values = online.reader().read({"plate": ["A1"]}, NOON).values
    assert [column[0] for column in values.values()] == [view + n for view in range(views) for n in range(width)]


def test_several_statements_see_one_state_of_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    online = store_at(tmp_path / "online.db")
    plates = [f"P{number}" for number in range(1_100)]
    values = [frame(STATE, *([plate, NOON, 0.0, number, None, None] for plate in plates)) for number in range(2)]
    push_values(online.writer, STATE, values[0])
    reader = online.reader(STATE)
    build = reader._build_statement  # type: ignore[attr-defined]

    def write_between(part: int, size: int) -> str:
        if size < 512:  # the last of three
            push_values(online.writer, STATE, values[1])
        return str(build(part, size))

    monkeypatch.setattr(reader, "_statement", write_between)
    assert set(reader.read({"plate": plates}, NOON).values["kilometres"]) == {0}
    assert set(reader.read({"plate": plates}, NOON).values["kilometres"]) == {1}


def test_a_file_that_takes_the_place_of_another_is_read(tmp_path: Path) -> None:
    path, other = tmp_path / "online.db", tmp_path / "other.db"
    online, restored = store_at(path), store_at(other)
    push_values(online.writer, STATE, car("A1", NOON, 7))
    push_values(restored.writer, STATE, car("A1", NOON, 8))
    reader = online.reader(STATE)
    assert reader.read({"plate": ["A1"]}, NOON).values["kilometres"] == [7]
    for file in tmp_path.glob("online.db*"):
        file.unlink()
    with pytest.raises(OnlineStoreError, match="mlway materialize"):
        reader.read({"plate": ["A1"]}, NOON)
    other.rename(path)
    assert reader.read({"plate": ["A1"]}, NOON).values["kilometres"] == [8]


@pytest.mark.parametrize(
    ("group", "asked"),
    [(STATE, {"plate": [7]}), (PLACE, {"town": ["Rom"], "number": ["1"]}), (PLACE, {"town": ["Rom"], "number": [1.5]})],
)
def test_a_join_key_of_another_type_is_the_same_error_from_every_store(
    online: OnlineStoreUnderTest, group: LatestFeatures, asked: dict[str, list[object]]
) -> None:
    assert group in GROUPS
    with pytest.raises(OnlineStoreError, match=r"(?s)join key .* has the wrong type: .*Hint: give .* as"):
        online.reader(group).read(asked, NOON)
