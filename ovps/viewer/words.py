"""Words to vectors, with a text tower that is loaded when it is first asked for, and in the background."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ovps.entries import no_text
from ovps.errors import VocabularyError
from ovps.taxonomy import name_key
from ovps.viewer.relevance import NEGATIVES
from ovps.viewer.view import Question

LONGEST = 1000  # characters of a query; what CLIP reads is shorter by far


class TextTower(Protocol):
    """The text tower of the store's CLIP, which embeds words.

    Attributes:
        temperature: that its cosines are divided by.
    """

    @property
    def temperature(self) -> float: ...

    def embed(self, names: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of names through the prompt templates, (T, C) unit rows.

        Raises:
            VocabularyError: a name in which the tower finds nothing to read.
        """
        ...

    def warnings(self, name: str) -> list[str]:
        """Tell what of a name the tower does not get to see."""
        ...


@dataclass(eq=False)
class Words:
    """Questions from words.

    Attributes:
        load: makes the tower; called once, off the caller's thread.
    """

    load: Callable[[], TextTower]
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _tower: Future[TextTower] | None = None
    _known: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def start(self) -> Future[TextTower]:
        """Begin to load the tower, unless that was begun; one that failed is tried again."""
        with self._lock:
            failed = self._tower is not None and self._tower.done() and self._tower.exception() is not None
            if self._tower is None or failed:
                future: Future[TextTower] = Future()
                self._tower = future
                threading.Thread(target=self._load, args=(future,), daemon=True).start()
            return self._tower

    @property
    def ready(self) -> bool:
        """Say whether the tower is there, so that a question takes no longer than its words."""
        return self._tower is not None and self._tower.done() and self._tower.exception() is None

    def ask(self, text: str, negatives: Sequence[str]) -> tuple[Question, list[str]]:
        """A question, and warnings of what of it CLIP does not see; waits for the tower.

        A usual negative in which the tower finds nothing to read is left out: nobody has written it. So is the query
        itself among the negatives, which nothing could be nearer to.

        Raises:
            VocabularyError: nothing to read in the text or in another negative, or far too much.
            OvpsError: the tower could not be loaded.
        """
        text = checked(text)
        others = [name for name in map(checked, negatives) if name_key(name) != name_key(text)]
        tower = self.start().result()
        query = self._embed(tower, text)
        found, unread = [query[:0]], []
        for name in others:
            try:
                found.append(self._embed(tower, name))
            except VocabularyError as error:
                if name not in NEGATIVES:
                    raise VocabularyError(
                        f"of the words that the query is held against (--against): {error.message}",
                        remedy="Write another word there, or leave it out",
                    ) from error
                unread.append(name)
        warnings = tower.warnings(text)
        if len(others) < len(negatives):
            warnings = [*warnings, "the query is not held against itself (--against)"]
        if unread:
            left = f"the query is not held against {', '.join(unread)} (--against): CLIP reads nothing there"
            warnings = [*warnings, left]
        return Question(text, query, np.concatenate(found), tower.temperature), warnings

    def _embed(self, tower: TextTower, name: str) -> NDArray[np.float32]:
        with self._lock:
            if name not in self._known:
                self._known[name] = tower.embed([name])
            return self._known[name]

    def _load(self, future: Future[TextTower]) -> None:
        try:
            future.set_result(self.load())
        except BaseException as error:
            future.set_exception(error)


def checked(text: str) -> str:
    """A query without white space around it.

    Raises:
        VocabularyError: empty, too long to be one, or no text.
    """
    text = " ".join(text.split())
    if not text:
        raise VocabularyError("an empty query", remedy="Write what to look for")
    if len(text) > LONGEST:
        raise VocabularyError(
            f"a query of {len(text):,} characters", remedy=f"Write a few words, at most {LONGEST:,} characters"
        )
    if odd := no_text(text):
        raise VocabularyError(
            f"a query with a character that is no text, {odd!a}",
            remedy="Write it in a terminal whose text is UTF-8 (locale charmap)",
        )
    return text


def split_words(text: str) -> tuple[str, ...]:
    """Words of a comma-separated list, each once."""
    return tuple(dict.fromkeys(word for part in text.split(",") if (word := " ".join(part.split()))))
