"""Who may ask the endpoints: keys, and tokens that an identity provider signs."""

from typing import Self
from urllib.parse import urlsplit

from pydantic import Field, field_validator, model_validator

from configs.schema import Frozen, SecretName


class IdentityProvider(Frozen):
    """Who signs the JSON Web Tokens that endpoints accept beside keys."""

    issuer: str = Field(min_length=1, description="What the tokens' `iss` says, to the letter.")
    audience: str = Field(min_length=1, description="What must be in the tokens' `aud`.")
    jwks_url: str = Field(description="Where the provider publishes its signing keys: https, or http on loopback.")
    leeway_seconds: int = Field(default=60, ge=0, le=600, description="How far the provider's clock may be off.")
    scope_claim: str = Field(
        default="scope", min_length=1, description="The claim with the scopes: a text with spaces, or a list."
    )
    refresh_seconds: float = Field(default=300, gt=0, description="How often the signing keys are fetched.")
    stale_seconds: float = Field(
        default=86_400, gt=0, description="How long the last fetched keys count while the provider does not answer."
    )
    requests_per_second: float | None = Field(
        default=None, gt=0, description="What one subject may ask of one replica; by default as much as it likes."
    )
    burst: int | None = Field(default=None, ge=1, description="How many at once; by default one second's.")

    @field_validator("jwks_url")
    @classmethod
    def _cannot_be_forged_on_the_way(cls, url: str) -> str:
        parts = urlsplit(url)
        is_local = parts.scheme == "http" and parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not (parts.scheme == "https" and parts.hostname) and not is_local:
            raise ValueError("signing keys come by https: who can change them on the way can sign any token")
        return url

    @model_validator(mode="after")
    def _burst_needs_a_rate(self) -> Self:
        if self.burst is not None and self.requests_per_second is None:
            raise ValueError("`burst` says nothing without `requests_per_second`")
        return self


class EndpointAccess(Frozen):
    """Who may ask the endpoints."""

    required: bool = Field(default=True, description="false: a request without a key or token may do everything.")
    database: str = Field(
        default="sqlite:///{state}/access.db",
        pattern=r"^(sqlite:///|postgresql(\+\w+)?://)",
        description="SQLAlchemy address of the store of API keys: a SQLite file, or PostgreSQL.",
    )
    password_secret: SecretName | None = Field(default=None, description="The secret with the database's password.")
    refresh_seconds: float = Field(
        default=2, gt=0, le=60, description="How soon every replica sees a key that was made or revoked."
    )
    stale_seconds: float = Field(
        default=300, gt=0, description="How long the keys last read count while the database does not answer."
    )
    identity_provider: IdentityProvider | None = None

    @model_validator(mode="after")
    def _is_not_stale_between_two_looks(self) -> Self:
        if self.stale_seconds <= self.refresh_seconds:
            raise ValueError("`stale_seconds` must be more than `refresh_seconds`")
        return self
