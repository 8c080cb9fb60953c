"""Keep the records of API keys in a database. Never the keys: a copy of the database opens nothing.

Checking a request's key is not here: access.py does it from a snapshot, without a database.
"""

import re
import time
from collections.abc import Sequence
from contextlib import contextmanager
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from pyarrow import ArrowException
from sqlalchemy import BigInteger, Column, Float, MetaData, String, Table, Text, create_engine, inspect, select
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import NullPool
from sqlalchemy.schema import CreateTable

from configs.environments import Environment
from configs.errors import MlwayError
from configs.secrets import resolve_secret
from serving.api_keys import KeyRecord, RateLimit, digest_of, key_text, new_key
from serving.postgresql_dialect import DRIVER, register

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sqlalchemy.engine import URL, Connection, Engine

_KEYS = Table(
    "mlway_api_keys",
    MetaData(),
    Column("id", String(16), primary_key=True),
    Column("name", String(100), nullable=False),
    Column("digest", String(64), nullable=False),
    Column("scopes", Text, nullable=False),
    Column("created_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger),
    Column("revoked_at", BigInteger),
    Column("requests_per_second", Float),
    Column("burst", BigInteger),
)
_NAME = re.compile(r"[A-Za-z0-9](?:[\w .@/-]{0,98}[\w.@/-])?", re.ASCII)


class KeyStoreError(MlwayError):
    """The store of keys cannot be read or written now."""


class KeyRequestError(MlwayError):
    """A key that cannot be made, or that there is none of."""


class KeyStore:
    """The table of keys in one database. Nothing is opened before it is used."""

    def __init__(self, url: "URL", timeout_seconds: float = 5) -> None:
        self._url = url
        self._engine = _engine(url, timeout_seconds)
        self._seen_rows: Sequence[Any] = ()
        self._seen: dict[str, KeyRecord] = {}
        self._file = Path(url.database or "") if self._engine.dialect.name == "sqlite" else None

    def create(
        self,
        name: str,
        scopes: Sequence[str],
        *,
        expires_at: float | None = None,
        rate: RateLimit | None = None,
        now: float | None = None,
    ) -> tuple[KeyRecord, str]:
        """Make a key, and the table if need be: its record, and its text, which nobody can get a second time.

        Raises KeyRequestError, KeyStoreError.
        """
        _check_request(name, scopes)
        key_id, secret = new_key()
        created = int(time.time() if now is None else now)
        expires = None if expires_at is None else int(expires_at)
        record = KeyRecord(
            key_id, name, digest_of(secret), tuple(scopes), created, expires_at=expires, revoked_at=None, rate=rate
        )
        with self._connect(makes_file=True) as connection:
            if not inspect(connection).has_table(_KEYS.name):  # then the right to make tables is not needed
                connection.execute(CreateTable(_KEYS, if_not_exists=True))
            connection.execute(_KEYS.insert().values(_row(record)))
        return record, key_text(key_id, secret)

    def records(self) -> list[KeyRecord]:
        """Every key that was ever made, oldest first; none where there is no store yet. Raises KeyStoreError."""
        if self._file is not None and not self._file.exists():
            return []
        with self._connect(makes_file=False) as connection:
            if not inspect(connection).has_table(_KEYS.name):
                return []
            rows = connection.execute(select(_KEYS).order_by(_KEYS.c.created_at, _KEYS.c.id)).all()
        return [_record(row._asdict()) for row in rows]

    def revoke(self, key_id: str, *, now: float | None = None) -> KeyRecord:
        """End a key for good; one that has ended already stays as it is. Raises KeyRequestError, KeyStoreError."""
        known = {record.id: record for record in self.records()}
        if key_id not in known:
            raise KeyRequestError(f"There is no key {key_id!r}.\nHint: `mlway key list` shows those there are.")
        moment = int(time.time() if now is None else now)
        with self._connect(makes_file=False) as connection:
            still_valid = (_KEYS.c.id == key_id) & _KEYS.c.revoked_at.is_(None)
            connection.execute(_KEYS.update().where(still_valid).values(revoked_at=moment))
            row = connection.execute(select(_KEYS).where(_KEYS.c.id == key_id)).one()
        return _record(row._asdict())

    def snapshot(self) -> dict[str, KeyRecord]:
        """Every key that is not revoked, by id. What was seen before is the same object, the whole or a record.

        Only reads: replicas need no right to write. Raises KeyStoreError.
        """
        with self._connect(makes_file=False) as connection:
            rows = connection.execute(select(_KEYS).where(_KEYS.c.revoked_at.is_(None)).order_by(_KEYS.c.id)).all()
        if rows != self._seen_rows:
            known = dict(zip(self._seen_rows, self._seen.values(), strict=True))
            self._seen = {row.id: known.get(row) or _record(row._asdict()) for row in rows}
            self._seen_rows = rows
        return self._seen

    @contextmanager
    def _connect(self, *, makes_file: bool) -> "Iterator[Connection]":
        """A transaction."""
        if self._file is not None and makes_file:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            self._file.touch(mode=0o600)  # who writes it can let anybody in
        elif self._file is not None and not self._file.exists():  # or SQLite would make an empty one
            raise KeyStoreError(f"There is no {self._file}.\nHint: make the first key: `mlway key create`.")
        try:
            with self._engine.begin() as connection:
                yield connection
        except (SQLAlchemyError, ArrowException, OSError) as error:  # the last two from rows that fail on the way
            place = self._url.render_as_string(hide_password=True)
            raise KeyStoreError(
                f"The store of keys, {place}, does not answer: {_words(error, self._url)}.\n"
                "Hint: check `access.database` of the environment, the database, and its table mlway_api_keys."
            ) from None


def open_key_store(environment: Environment) -> KeyStore:
    """The environment's store of keys. Raises KeyStoreError, MissingSecretError."""
    secret = environment.access.password_secret
    password = resolve_secret(secret) if secret else None  # None leaves the address's own
    try:
        return KeyStore(make_url(environment.access_database).set(password=password))
    except (ArgumentError, ValueError, ImportError) as error:  # the last where the address names another driver
        raise KeyStoreError(
            f"`access.database` of the environment is no usable SQLAlchemy address: {type(error).__name__}.\n"
            "Hint: sqlite:////folder/access.db or postgresql://user@host/database, with the password in a secret."
        ) from None


def _engine(url: "URL", timeout_seconds: float) -> "Engine":
    register()
    if url.get_backend_name() == "sqlite":  # a kept connection would go on reading a file that was replaced
        return create_engine(url, poolclass=NullPool, connect_args={"timeout": timeout_seconds}, hide_parameters=True)
    driver = DRIVER if url.drivername == "postgresql" else url.drivername
    options: dict[str, Any] = {
        "pool_size": 1,
        "max_overflow": 1,
        "pool_timeout": timeout_seconds,
        "pool_pre_ping": True,
    }
    return create_engine(url.set(drivername=driver), hide_parameters=True, **options)


def _words(error: Exception, url: "URL") -> str:
    """What the database says, in a line, without the password: drivers repeat the address that they were given."""
    line = (str(getattr(error, "orig", None) or error).strip() or type(error).__name__).splitlines()[0]
    password = str(url.password or "")
    for secret in filter(None, (password, quote(password, safe=""))):
        line = line.replace(secret, "***")
    return "".join(sign if sign.isprintable() else "?" for sign in line)


def _check_request(name: str, scopes: Sequence[str]) -> None:
    if not _NAME.fullmatch(name):
        raise KeyRequestError(
            f"{name!r} cannot be a key's name.\n"
            "Hint: up to 100 letters, digits, spaces and .@/_- that say whose key it is."
        )
    if not scopes:
        raise KeyRequestError("A key without a scope may do nothing.\nHint: --scope PRODUCT:ACTION.")


def _row(record: KeyRecord) -> dict[str, Any]:
    row = {
        "id": record.id,
        "name": record.name,
        "digest": record.digest,
        "scopes": " ".join(record.scopes),
        "created_at": record.created_at,
        "expires_at": record.expires_at,
        "revoked_at": record.revoked_at,
        "requests_per_second": record.rate.requests_per_second if record.rate else None,
        "burst": record.rate.burst if record.rate else None,
    }
    return {name: value for name, value in row.items() if value is not None}


def _record(row: dict[str, Any]) -> KeyRecord:
    rate, burst = row.pop("requests_per_second"), row.pop("burst")
    limit = None if rate is None else RateLimit(rate, burst or max(1, ceil(rate)))
    return KeyRecord(**(row | {"scopes": tuple(row["scopes"].split()), "rate": limit}))
