"""Search a whole store: words, an example in it or a picture, to a contact sheet and a list.

ovps query --cache ./zarr "fire hydrant" --top 50
ovps query --cache ./zarr --like a6b3b69233f295338ffe2eed66955c61:objects:12

`index` keeps the CLIP features of all objects, `question` says what they are compared with, `found` names, draws and
lists the nearest, and `stage` is the whole way.
"""

from pipelines.query.stage import QuerySummary, query

__all__ = ["QuerySummary", "query"]
