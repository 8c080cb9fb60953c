"""The production online store: Redis, in Feast's layout, a hash for each entity.

A write is a Lua script over some entities, which Redis runs without anything in between. All keys of a script must lie
on one server: a Redis Cluster is not supported.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Any

import polars as pl

from configs.environments import RedisOnlineStore
from configs.secrets import resolve_secret
from feature_repo.online_layout import (
    FEAST_PROJECT,
    NEVER,
    EntityKeys,
    OnlineStoreError,
    OnlineStoreUnavailableError,
    OnlineView,
    redis_field,
    redis_key,
    redis_timestamp_field,
)
from feature_repo.online_messages import encode_timestamp, encode_values
from feature_repo.online_rows import RowLayout
from feature_repo.windows import EVENT_TIMESTAMP

if TYPE_CHECKING:
    import redis
    import redis.asyncio

_ENTITIES = 100
"""Entities of a script: others wait for Redis no longer than these take, well under a millisecond."""
_SCRIPTS = 20
"""Scripts of a round trip."""

# Messages end in: definition, as-of moment, microseconds (online_messages.encode_timestamp). Numbers of 64 bits are
# compared as two halves, because a Lua number holds 53. A message without them is Feast's own.
_LUA_MESSAGES = """
local MOST = 4000 -- Lua unpacks just under 8000 at once
local function number(message, behind)
  local low, high = struct.unpack('<I4i4', message, #message - behind - 7)
  return {high, low}
end
local function less(a, b)
  return a[1] < b[1] or (a[1] == b[1] and a[2] < b[2])
end
local function is_ours(message) return #message > 17 end
local function definition(message) return message:sub(#message - 25, #message - 18) end
local function as_of(message) return number(message, 9) end
local function is_never(moment) return moment[1] == -2147483648 and moment[2] == 0 end
local function time(message)
  if is_ours(message) then return number(message, 0) end
  local part, at = {[8] = 0, [16] = 0}, 1
  while at <= #message do
    local tag, value, scale, first = message:byte(at), 0, 1, at
    repeat
      at = at + 1
      value = value + message:byte(at) % 128 * scale
      scale = scale * 128
    until message:byte(at) < 128
    if at - first == 10 then return {-2147483648, 0} end -- before 1970
    part[tag] = value
    at = at + 1
  end
  local micros = part[8] * 1000000 + math.floor(part[16] / 1000)
  return {math.floor(micros / 4294967296), micros % 4294967296}
end
"""
_LUA_WRITE = (
    _LUA_MESSAGES
    + """
local function replaces(new, old)
  if not old then return true end
  local is_newer, moment = not less(time(new), time(old)), as_of(new)
  if is_never(moment) or not is_ours(old) then return is_newer end
  if definition(old) ~= definition(new) then return true end
  local before = as_of(old)
  if is_never(before) then return is_newer end
  return not less(moment, before)
end
local field, count = ARGV[1], tonumber(ARGV[2])
local written, at = 0, 3 + count
for _, key in ipairs(KEYS) do
  if replaces(ARGV[at], redis.call('HGET', key, field)) then
    local hash = {field, ARGV[at]}
    for feature = 1, count do
      hash[#hash + 1] = ARGV[2 + feature]
      hash[#hash + 1] = ARGV[at + feature]
    end
    for first = 1, #hash, MOST do
      redis.call('HSET', key, unpack(hash, first, math.min(first + MOST - 1, #hash)))
    end
    written = written + 1
  end
  at = at + count + 1
end
return written
"""
)
_LUA_PRUNE = (
    _LUA_MESSAGES
    + """
local field, limit = ARGV[1], ARGV[2]
local function is_outdated(message)
  if less(time(message), number(limit, 0)) then return true end
  if not is_ours(message) then return false end
  if definition(message) ~= definition(limit) then return true end
  local before = as_of(message)
  return not is_never(before) and not less(as_of(limit), before)
end
local deleted = 0
for _, key in ipairs(KEYS) do
  local message = redis.call('HGET', key, field)
  if message and is_outdated(message) then
    redis.call('HDEL', key, field)
    for first = 3, #ARGV, MOST do
      redis.call('HDEL', key, unpack(ARGV, first, math.min(first + MOST - 1, #ARGV)))
    end
    deleted = deleted + 1
  end
end
return deleted
"""
)


class RedisWriter:
    """Writes one Redis server. Its client keeps a pool of connections, so threads may share the writer."""

    def __init__(self, address: RedisOnlineStore) -> None:
        self._address = address
        self._client: redis.Redis | None = None

    def prepare(self, view: OnlineView) -> None:
        """Nothing: a hash takes any field."""

    def write(self, view: OnlineView, rows: pl.DataFrame, as_of: int = NEVER) -> int:
        """Store the rows, unless newer ones are stored; see OnlineWriter."""
        fields = [redis_field(view.name, feature) for feature in view.features]
        head = [redis_timestamp_field(view.name), len(fields), *fields]
        values = [encode_values(rows[name], kind) for name, kind in view.features.items()]
        whole = RowLayout(view).encode(rows, rows[EVENT_TIMESTAMP].to_list(), as_of)
        stored = zip(_keys_of(view, rows), whole, *values, strict=True)
        calls = []
        while part := list(islice(stored, _ENTITIES)):
            arguments: list[Any] = [*head]
            for _, *messages in part:
                arguments += messages
            calls.append((_LUA_WRITE, len(part), *(row[0] for row in part), *arguments))
        return self._run(calls)

    def prune(self, view: OnlineView, keep: pl.DataFrame, as_of: int, alive_since: int) -> int:
        """Delete what a full materialization did not find; see OnlineWriter. Walks over every key of the database."""
        limit = encode_timestamp(alive_since, view.definition, as_of)
        fields = [redis_field(view.name, feature) for feature in view.features]
        arguments = [redis_timestamp_field(view.name), limit, *fields]
        stored = set(_keys_of(view, keep))
        others = (key for key in self._keys(view) if key not in stored)
        deleted = 0
        while part := list(islice(others, _ENTITIES)):
            deleted += self._run([(_LUA_PRUNE, len(part), *part, *arguments)])
        return deleted

    def drop(self, view: OnlineView) -> None:
        """Delete the view's values. Walks over every key of the database."""
        fields = [redis_timestamp_field(view.name), *(redis_field(view.name, feature) for feature in view.features)]
        keys = self._keys(view)
        while part := list(islice(keys, _ENTITIES * _SCRIPTS)):
            self._execute([("HDEL", key, *fields) for key in part])

    def _keys(self, view: OnlineView) -> Iterator[bytes]:
        pattern = _escaped(EntityKeys(view.join_keys).prefix) + b"*" + FEAST_PROJECT.encode()
        cursor = 0
        while True:
            [[cursor, keys]] = self._execute([("SCAN", cursor, "MATCH", pattern, "COUNT", 2_000)])
            yield from keys
            if cursor == 0:
                return

    def _run(self, calls: Sequence[tuple[Any, ...]]) -> int:
        total = 0
        for start in range(0, len(calls), _SCRIPTS):
            total += sum(self._execute([("EVAL", *call) for call in calls[start : start + _SCRIPTS]]))
        return total

    def _execute(self, commands: Sequence[tuple[Any, ...]]) -> list[Any]:
        import redis

        if self._client is None:
            self._client = connect(self._address)
        try:
            pipeline = self._client.pipeline(transaction=False)
            for command in commands:
                pipeline.execute_command(*command)  # type: ignore[no-untyped-call]
            return list(pipeline.execute())
        except (redis.ConnectionError, redis.TimeoutError) as error:
            raise OnlineStoreUnavailableError(
                f"Redis at {self._address.host}:{self._address.port} cannot be written: {error}.\n"
                "Hint: look whether it runs, and at `feature_store.online` of the environment."
            ) from error
        except redis.RedisError as error:
            raise OnlineStoreError(
                f"Redis at {self._address.host}:{self._address.port} refuses a write: {error}.\n"
                "Hint: its log says more; a replica and a full server take no writes."
            ) from error


def _keys_of(view: OnlineView, rows: pl.DataFrame) -> list[bytes]:
    keys = EntityKeys(view.join_keys).encode({name: rows[name].to_list() for name in view.join_keys})
    return [redis_key(key) for key in keys if key is not None]


def connect(address: RedisOnlineStore) -> "redis.Redis":
    """A client that tries a command `attempts` times: what is written twice is stored once."""
    import redis
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    return redis.Redis(**_settings(address), retry=Retry(NoBackoff(), address.attempts - 1))


def connect_async(address: RedisOnlineStore) -> "redis.asyncio.Redis":
    """As `connect`, for coroutines."""
    import redis.asyncio
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    return redis.asyncio.Redis(**_settings(address), retry=Retry(NoBackoff(), address.attempts - 1))


def _settings(address: RedisOnlineStore) -> dict[str, Any]:
    seconds = address.timeout_milliseconds / 1_000
    certificates: dict[str, Any] = {"ssl_ca_certs": address.ca_file} if address.tls else {}
    return certificates | {
        "host": address.host,
        "port": address.port,
        "db": address.database,
        "ssl": address.tls,
        "username": address.username,
        "password": resolve_secret(address.password_secret) if address.password_secret else None,
        "socket_connect_timeout": seconds,
        "socket_timeout": 40 * seconds,
    }


def _escaped(prefix: bytes) -> bytes:
    """A prefix of keys as a pattern that matches it alone."""
    return b"".join(b"\\" + bytes([byte]) if byte in b"*?[]\\^-" else bytes([byte]) for byte in prefix)
