"""What the doctor asks the online store."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import redis

from tapeline.core.settings import Settings
from tapeline.storage.redis import redis_url
from tapeline.storage.redis_address import RedisAddress
from tapeline.storage.servers.checks import Check, is_local, megabytes

_MEMORY_WARN = 0.8


def examine_online_store(client: redis.Redis, settings: Settings) -> Iterator[Check]:
    """All checks of an online store that answers."""
    info: dict[str, Any] = client.info()
    name = "valkey" if "valkey_version" in info else "redis"
    version = str(info.get("valkey_version") or info["redis_version"])
    yield Check("online store", "ok", f"{name} {version}, {megabytes(int(info['used_memory']))}")
    yield _transport(settings)
    yield _eviction(info)
    yield _memory(info)
    yield _durability(info)


def _transport(settings: Settings) -> Check:
    address = RedisAddress.parse(redis_url(settings))
    remote = [host for host, _ in address.nodes if not is_local(host)]
    if address.tls or not remote:
        return Check("online store transport", "ok", "TLS" if address.tls else "stays on this machine")
    return Check(
        "online store transport",
        "warn",
        f"values and password go to {', '.join(remote)} in the clear",
        "Use rediss:// in TAPELINE_REDIS_URL",
    )


def _eviction(info: dict[str, Any]) -> Check:
    policy = str(info.get("maxmemory_policy", "unknown"))
    if policy == "noeviction":
        return Check("eviction", "ok", "noeviction: a full store refuses writes, it forgets nothing")
    return Check(
        "eviction",
        "warn",
        f"maxmemory-policy is {policy}: a full store drops feature values and kernel states",
        "CONFIG SET maxmemory-policy noeviction, and give it memory enough",
    )


def _memory(info: dict[str, Any]) -> Check:
    used, limit = int(info["used_memory"]), int(info.get("maxmemory", 0))
    if not limit:
        return Check(
            "online store memory",
            "warn",
            f"{megabytes(used)}, no limit: it may grow until the system kills it",
            "CONFIG SET maxmemory to what the machine can spare",
        )
    if used > _MEMORY_WARN * limit:
        return Check(
            "online store memory",
            "warn",
            f"{megabytes(used)} of {megabytes(limit)}",
            "Raise maxmemory, or materialize fewer views: at the limit writes are refused",
        )
    return Check("online store memory", "ok", f"{megabytes(used)} of {megabytes(limit)}")


def _durability(info: dict[str, Any]) -> Check:
    if info.get("loading"):
        return Check("online store durability", "warn", "it is still loading its data", "Wait")
    for field, what in (("aof_last_write_status", "append-only file"), ("rdb_last_bgsave_status", "snapshot")):
        if info.get(field, "ok") != "ok":
            return Check(
                "online store durability",
                "fail",
                f"its last write to the {what} failed",
                "See its log; is the disk full?",
            )
    if int(info.get("aof_enabled", 0)):
        return Check("online store durability", "ok", "append-only file")
    return Check(
        "online store durability",
        "warn",
        "no append-only file: after a restart the newest values are missing",
        "CONFIG SET appendonly yes; or run tapeline materialize after each restart",
    )
