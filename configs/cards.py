"""What people must know of a product's models beside their figures: the declared part of every model card."""

from pydantic import Field

from configs.schema import Frozen


class Card(Frozen):
    """What a model is for, what not, and where it is known to be weak. Each registered version's card says it."""

    intended_use: str | None = Field(default=None, description="What scores are for, and who acts on them.")
    out_of_scope: tuple[str, ...] = Field(default=(), description="Uses that the product was not made for.")
    limitations: tuple[str, ...] = Field(default=(), description="Where scores are known to be weak.")
    slices: tuple[str, ...] = Field(
        default=(),
        description="Fields of the request or features: metrics are shown for each value. Left out, those of the gate.",
    )
    minimum_rows: int = Field(default=500, ge=2, description="Smaller slices say nothing, and are left out.")
