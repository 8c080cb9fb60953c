"""Who made which version champion: kept as tags of the version, since an alias says neither who moved it nor when."""

from configs.errors import MlwayError
from mlway_assets.compute.card import Approval
from mlway_assets.registry import ModelVersion, Registry

_TAG = "mlway.approval."
MOST_NOTE = 1_000
"""Letters of a note: it is kept in a tag."""
UNRECORDED = Approval(at=None, by=None, note="The alias was moved in the registry; by whom and when is not recorded.")


class LongNoteError(MlwayError):
    """An approval's note is too long to be kept."""

    def __init__(self, letters: int) -> None:
        super().__init__(
            f"The note has {letters} letters; at most {MOST_NOTE} are kept, and nothing was approved.\n"
            "Hint: write it where it belongs, and give its address."
        )


def approve(registry: Registry, version: ModelVersion, approval: Approval) -> None:
    """Record the approval, then make the version champion.

    In this order, so that no champion is without one: an approval without effect can be given again.
    Raises LongNoteError.
    """
    if len(approval.note or "") > MOST_NOTE:
        raise LongNoteError(len(approval.note or ""))
    number = len(_recorded(registry, version.product).get(version.version, ()))
    tag = f"{_TAG}{number + 1:04d}"
    registry.client.set_model_version_tag(version.product, str(version.version), tag, approval.model_dump_json())
    registry.promote(version.product, version.version)


def approvals_of(registry: Registry, version: ModelVersion) -> tuple[Approval, ...]:
    """Every approval of a version, oldest first; the last is UNRECORDED where the alias was moved past all of them."""
    recorded = _recorded(registry, version.product)
    own = tuple(recorded.get(version.version, ()))
    champion = registry.champion(version.product)
    if champion is None or champion.version != version.version:
        return own
    moments = {number: each[-1].at for number, each in recorded.items()}
    newest = max(moments, key=lambda number: str(moments[number]), default=None)
    return own if newest == version.version else (*own, UNRECORDED)


def _recorded(registry: Registry, product: str) -> dict[int, list[Approval]]:
    found: dict[int, list[Approval]] = {}
    for version in registry.client.search_model_versions(f"name='{product}'"):
        texts = [text for tag, text in sorted(version.tags.items()) if tag.startswith(_TAG)]
        if texts:
            found[int(version.version)] = [Approval.model_validate_json(text) for text in texts]
    return found
