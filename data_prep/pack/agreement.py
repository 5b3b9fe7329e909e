"""What a command would take from finished shards: said with numbers, and done only where ``repack=true`` agrees."""

from collections.abc import Collection, Iterable
from pathlib import Path

from data_prep.pack.plan_file import ShardPlan
from data_prep.pack.shard_plan import Changes, is_all_anew
from zoomldm.errors import ConfigError, counted

MAX_LISTED = 6


def agree_to_repack(root: Path, plan: ShardPlan, changes: Changes, *, unnamed: Collection[str], repack: bool) -> None:
    """Say which shards would be made anew and why, and refuse unless ``repack`` agrees.

    unnamed: packed slides that this command does not name; with ``repack`` they go.

    Raises:
        ConfigError: ``repack`` does not agree; nothing has been changed.
    """
    if not changes.batches:
        return
    paths = None
    if not is_all_anew(plan, changes):
        paths = {path for number in changes.batches for path in (plan.shards or [])[number]}
    tars = [tar for tar in (root / "shards").rglob("*.tar") if paths is None or _path_of(root, tar) in paths]
    if not tars:
        return
    reasons = list(changes.reasons)
    if unnamed and not repack:
        told = counted(len(unnamed), "packed slide")
        reasons.append(f"with it, {told} that slides= does not name ({listed(unnamed)}) would go")
    agree(root, tars, why="; ".join(reasons[:MAX_LISTED]) + _more(reasons), repack=repack)


def agree(root: Path, tars: Collection[Path], *, why: str, repack: bool) -> None:
    """Say which finished tars would be made anew and why, and refuse unless ``repack`` agrees.

    Raises:
        ConfigError: ``repack`` does not agree; nothing has been changed.
    """
    what = f"{words_of(root, tars)}, because of: {why}"
    if repack:
        print(f"{root}: {what.replace('would be', 'are')}; the old ones stay until the new ones are whole")
        return
    raise ConfigError(
        f"{root}: {what}. Nothing has been changed. repack=true agrees to it; otherwise undo the change, or choose "
        "another data.root"
    )


def words_of(root: Path, tars: Collection[Path]) -> str:
    """Return how many shards and bytes some tars are, and what was added to them."""
    shards = {_path_of(root, tar) for tar in tars}
    columns = [tar.name.split(".")[1] for tar in tars]
    added = ", ".join(f"{columns.count(name)} of {name}" for name in ("latent", "variants") if name in columns)
    num_bytes = sum(tar.stat().st_size for tar in tars)
    size = f"{num_bytes / 1e9:,.1f} GB" if num_bytes >= 1e8 else f"{num_bytes / 1e6:,.1f} MB"
    of_which = f" ({added})" if added else ""
    return f"{len(tars)} finished tars of {len(shards)} shards{of_which}, {size}, would be made anew"


def listed(names: Iterable[str]) -> str:
    """Return the first few names, and how many more there are."""
    names = sorted(names)
    return ", ".join(names[:MAX_LISTED]) + _more(names)


def _more(items: Collection[str]) -> str:
    return f" and {len(items) - MAX_LISTED} more" if len(items) > MAX_LISTED else ""


def _path_of(root: Path, tar: Path) -> str:
    return str(tar.relative_to(root).parent / tar.name.split(".", 1)[0])
