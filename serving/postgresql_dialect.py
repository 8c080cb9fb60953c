"""PostgreSQL for SQLAlchemy through the Arrow driver that the project has already: `postgresql+adbc://`.

Only what short parameterised statements need. It knows no types beyond text, whole and broken numbers and booleans.
"""

from types import ModuleType
from typing import Any

from sqlalchemy.dialects import registry
from sqlalchemy.dialects.postgresql.base import PGDialect
from sqlalchemy.engine.interfaces import ConnectArgsType
from sqlalchemy.engine.url import URL

DRIVER = "postgresql+adbc"
_LIMITS = {
    "connect_timeout": "5",
    # A server that vanished is noticed, and does not hold a thread for the hours that TCP would.
    "tcp_user_timeout": "10000",
    "keepalives_idle": "5",
    "keepalives_interval": "2",
    "keepalives_count": "3",
}
"""libpq's parameters; what the address says of them goes first."""


class AdbcPostgresqlDialect(PGDialect):
    """The dialect of DRIVER."""

    driver = "adbc"
    supports_statement_cache = True

    def __init__(self, **options: Any) -> None:
        super().__init__(**({"paramstyle": "numeric_dollar"} | options))  # type: ignore[no-untyped-call]

    @classmethod
    def import_dbapi(cls) -> ModuleType:
        """The driver."""
        from adbc_driver_postgresql import dbapi  # type: ignore[import-untyped]

        return dbapi  # type: ignore[no-any-return]

    def create_connect_args(self, url: URL) -> ConnectArgsType:
        """The address of `url` in libpq's words."""
        address = url.set(drivername="postgresql").update_query_dict(_LIMITS | dict(url.query))
        return [address.render_as_string(hide_password=False)], {}

    def do_execute(self, cursor: Any, statement: str, parameters: Any, context: Any = None) -> None:  # noqa: ARG002
        """Run a statement as it is: the driver would wrap it into COPY, which SHOW and others do not allow."""
        cursor.adbc_statement.set_options(**{"adbc.postgresql.use_copy": "false"})
        cursor.execute(statement, parameters or None)

    def get_isolation_level(self, dbapi_connection: Any) -> Any:  # noqa: ARG002 - the signature is SQLAlchemy's
        """Nobody sets another than PostgreSQL's own."""
        return "READ COMMITTED"


def register() -> None:
    """Make DRIVER known to SQLAlchemy."""
    registry.register("postgresql.adbc", __name__, AdbcPostgresqlDialect.__name__)
