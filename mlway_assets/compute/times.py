"""Clock times on the wall to moments in UTC."""

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")


def local_moment(date: pl.Expr, clock: pl.Expr, zone: pl.Expr, zones: list[str]) -> pl.Expr:
    """The moment at which clocks in `zone` show `clock` on `date`, in UTC microseconds.

    `date` is a Date, `clock` an integer HHMM (2400 is the midnight that ends the day), `zone` one of `zones`.
    Null for a time that the spring change skips; the first of two moments for a time that the autumn change repeats.
    """
    naive = date.cast(pl.Datetime("us")) + pl.duration(hours=clock // 100, minutes=clock % 100)
    return pl.coalesce(
        pl.when(zone == name).then(
            naive.dt.replace_time_zone(name, ambiguous="earliest", non_existent="null").dt.convert_time_zone("UTC")
        )
        for name in zones
    )


def clock_at(moment: pl.Expr, zone: pl.Expr, zones: list[str]) -> pl.Expr:
    """What clocks in `zone` show at `moment`: an integer HHMM from 0 to 2359."""
    return pl.coalesce(
        pl.when(zone == name).then(
            moment.dt.convert_time_zone(name).dt.hour().cast(pl.Int64) * 100
            + moment.dt.convert_time_zone(name).dt.minute().cast(pl.Int64)
        )
        for name in zones
    )
