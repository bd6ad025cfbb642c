"""What the commands of ``cache`` share: where it is, and opening it."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from claude_force.assembly.layers import build_store
from claude_force.assembly.lookup import cache_folder, find_settings
from claude_force.cli.options import apply, config_option, json_option
from claude_force.config.environment import read_environment
from claude_force.domain.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from claude_force.cache.store import CacheStore

where_options = apply(
    config_option,
    click.option(
        "--dir",
        "folder",
        type=click.Path(path_type=Path),
        help="A cache folder, in place of the user's own.",
    ),
    click.option("--simulated", is_flag=True, help="The cache of --simulate, which lies apart."),
    json_option,
)
shared_option = click.option(
    "--redis",
    "shared",
    is_flag=True,
    help="Also the answers in Redis (CLAUDE_FORCE_REDIS_URL), which other machines use.",
)


@contextmanager
def open_cache(
    config: Path | None,
    folder: Path | None,
    simulated: bool,
    *,
    may_be_new: bool = False,
    shared: bool = False,
) -> Iterator[tuple[CacheStore, Path]]:
    """The cache and its place, with Redis where ``shared``; nothing is made there by looking.

    Raises:
        InputError: the user names a folder that is not there (their own is only empty so far), or Redis, and no
            server is set.
    """
    from claude_force.cli.logs import show_warnings

    show_warnings()
    environment = read_environment()
    settings = find_settings(config, environment).cache
    place = folder or cache_folder(environment, simulated=simulated)
    if folder is not None and not may_be_new and not folder.is_dir():
        raise InputError(
            f"There is no cache at {str(place)!r} yet; it is made by the first answer."
        )
    if shared and environment.redis_url is None:
        raise InputError("No Redis server is set; name one in CLAUDE_FORCE_REDIS_URL.")
    store = build_store(
        settings,
        folder=place,
        secret=environment.cache_secret,
        redis_url=environment.redis_url if shared else None,
    )
    try:
        yield store, place
    finally:
        store.close()
