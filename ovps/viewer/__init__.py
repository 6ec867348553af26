"""Looking at frames and asking about them: colours, segments, queries; the browser's page, offline pages, exports.

CLIP and data sets stay outside: whoever composes (`pipelines/view.py`, `pipelines/query`) passes in what embeds a
text and what reads an image.
"""
