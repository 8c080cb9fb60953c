"""Clock times on the wall, text and nanoseconds to moments in UTC microseconds."""

import polars as pl

UTC_MICROSECONDS = pl.Datetime("us", "UTC")
_SHORTEST_WITH_NANOSECONDS = len("2013-10-01T12:00:00.0000001")


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


def moments_in_text(text: pl.Series, *, strict: bool = True) -> pl.Series:
    """ISO 8601 text with an offset as UTC microseconds; what is finer is cut, see `finer_digits`.

    Text that is something else is null or, where `strict`, raises PolarsError.
    """
    return text.str.to_datetime("%+", time_unit="us", time_zone="UTC", strict=strict)


def finer_digits(text: pl.Series) -> pl.Series:
    """A microsecond, to be added to what was cut, for each text that says a fraction of one."""
    if not (text.str.len_bytes() >= _SHORTEST_WITH_NANOSECONDS).any():
        return pl.repeat(0, len(text), dtype=pl.Duration("us"), eager=True)
    has_more = text.str.contains(r"\.\d{6}0*[1-9]").fill_null(value=False)
    return has_more.cast(pl.Int64).cast(pl.Duration("us"))


def rounded_up(moments: pl.Series) -> pl.Series:
    """Timestamps of any precision in microseconds; nanoseconds are rounded up."""
    dtype = moments.dtype
    if not isinstance(dtype, pl.Datetime) or dtype.time_unit != "ns":
        return moments.dt.cast_time_unit("us")
    return (-(-moments.to_physical() // 1_000)).cast(pl.Datetime("us", dtype.time_zone))
