"""What answers with a run on a store, and warns of what makes the answers worse."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ovps.cache.reader import Store
from pipelines.evaluate import evaluate
from pipelines.export import export
from pipelines.options import ExportOptions, QueryOptions, ViewOptions
from pipelines.predict import predict
from pipelines.query import query
from pipelines.view import write_html
from tests.pipelines.untrained import LOOSE


def queried(run: Path, cache: Path, out: Path) -> Sequence[str]:
    like = f"{Store.open(cache).frames[0].token}:objects:1"
    options = {"cache": cache, "run": run, "like": like, "html": out / "q.html", "index": out / "index"}
    return query(QueryOptions.asked(**options)).warnings


# warnings by run, store and a folder to write to
READERS: dict[str, Callable[[Path, Path, Path], Sequence[str]]] = {
    "eval": lambda run, cache, out: evaluate(run, cache, out=out, merge=LOOSE).warnings,
    "predict": lambda run, cache, out: predict(run, cache, out).warnings,
    "export": lambda run, cache, out: export(ExportOptions(cache=cache, run=run, out=out, npz=True)).warnings,
    "view": lambda run, cache, out: write_html(ViewOptions(cache=cache, run=run), out / "v.html").warnings,
    "query": queried,
}
