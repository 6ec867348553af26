"""Remedies for a damaged store: they depend on what can make its features anew."""

from __future__ import annotations

from cache_schemas import Provenance
from ovps.cache.layout import manifest_key
from ovps.cache.storage import Storage
from ovps.errors import command

PRECOMPUTE = "ovps precompute"


def maker_of(provenance: Provenance) -> str:
    """The command that makes the features of a store. Where it is not precompute, CLIP cannot make them anew.

    Of stores made of others, whose provenance is the same, it is the one that first had these features.
    """
    if provenance.converted_from:
        return "ovps cache convert"
    if provenance.cameras == ():  # no image was looked at
        return "ovps cache import"
    return PRECOMPUTE


def same_again(provenance: Provenance) -> str:
    """The command that writes partitions which a store lacks, as a part of a sentence."""
    maker = maker_of(provenance)
    if maker == PRECOMPUTE:
        return f"the same `{maker}` again"
    others = [f"`{name}`" for name in _OTHERS if not maker.endswith(name)]
    return f"the same `{maker}` again, or that of {', '.join(others[:-1])} or {others[-1]} that wrote this store"


def relabelling(provenance: Provenance) -> str:
    """The command for labels that have come to the data set, as a part of a sentence."""
    return "`ovps cache labels`" if maker_of(provenance) == "ovps cache convert" else same_again(provenance)


def again(storage: Storage, partition: str, provenance: Provenance) -> str:
    """The remedy for a damaged partition."""
    delete = f"Delete {storage.at(manifest_key(partition))} and run {same_again(provenance)}"
    if maker_of(provenance) == PRECOMPUTE:
        return f"{delete}, or run `{repairing(storage)}`: both make this partition anew"
    return f"{delete}: it makes this partition anew"


def again_lost(storage: Storage, provenance: Provenance) -> str:
    """The remedy for a partition that has lost its manifest, or whose frames are still to be made."""
    if maker_of(provenance) == PRECOMPUTE:
        return f"run {same_again(provenance)}, or `{repairing(storage)}`: both make this partition anew"
    return f"run {same_again(provenance)}: it makes this partition anew"


def repairing(storage: Storage) -> str:
    """The command that repairs a store. Where its data set lies a store does not know."""
    return command("ovps", "cache", "repair", storage.at(), "--dataroot", "FOLDER-OF-THE-DATA-SET")


_OTHERS = ("convert", "subset", "merge")  # commands that copy the features of a store into another
