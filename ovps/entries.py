"""The entries of a vocabulary, and how people write them: on a command line, or in a file."""

from __future__ import annotations

import codecs
import re
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ovps.errors import VocabularyError
from ovps.shortage import faults
from ovps.taxonomy import Kind, name_key

NO_ENTRY = -1  # where a row of a vocabulary's entries is due: nothing was predicted
SHOWN = 60  # characters of a name in a message
# of the columns of a table, by `name_key`: as classes they would take points from others
_HEADINGS = {
    *("name", "class", "class name", "label", "label name", "category", "category name", "synonym"),
    *("names", "classes", "labels", "categories", "synonyms", "id", "class id", "label id", "type"),
}
_TABLE = "Write one class a line, name[:thing|stuff][=synonym|synonym], such as car=automobile"

# UTF-32's mark begins with UTF-16's
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    *((mark, "utf-32") for mark in (codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)),
    *((mark, "utf-16") for mark in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)),
)
_NO_TEXT = bytes([*range(9), *range(14, 32)])  # of any encoding that ends a line with one byte
_JOINERS = "\u200c\u200d"
# what people elsewhere separate, quote and list with: here it would silently become part of a name
_SIGN = re.compile(
    '["|:\t;\uff0c\uff1b\u3001\u060c\u061b\uff1a\uff1d\uff5c\u201c\u201d\u201e]'
    "|^['\u2018\u2019\u00ab\\[{]"
    "|^[-*\u2022] "
)
_STOP = re.compile(r"(^|\s)\.(\s|$)")  # between names, as prompts of detectors have it: "car . bus . tree ."
_FILE = re.compile(
    r"(\.{0,2}|~)/.*|\.{1,2}|[^,=|\"\n]*(/|\S\.("
    r"txt|csv|tsv|names|list|ya?ml|json|safetensors|md|pdf|docx?|xlsx?|zip|t?gz|npy|npz|parquet|png|jpe?g))",
    re.IGNORECASE,
)


@dataclass(frozen=True)
class Entry:
    """One class of a vocabulary: `name[:thing|stuff][=synonym|synonym]`, by default a thing, its own synonym."""

    name: str
    kind: Kind
    synonyms: tuple[str, ...]


def read_entries(names: str) -> tuple[Entry, ...]:
    """Read entries from text, or from a file if the text is the path of one.

    The file is UTF-8, or any Unicode encoding with a byte order mark.

    Raises:
        VocabularyError: no such file, not text, a table of several columns (*.csv), or not entries; see
            `parse_entries`.
    """
    path = Path(names)
    if not _is(path.is_file):
        if _FILE.fullmatch(names):  # it would become a class of its own
            folder = _is(path.is_dir)
            raise VocabularyError(
                "a folder, not a file of class names" if folder else "no such file of class names",
                path=names,
                remedy="Give the file that lists the names, or for pictures: ovps vocab build --images NAME=FOLDER"
                if folder
                else "Mend the path, or give the names",
            )
        return _without_folders(parse_entries(names))
    try:
        text = _decode(path.read_bytes())
        if path.suffix.casefold() == ".csv":
            _check_one_column(text)
        return parse_entries(text)
    except faults(OSError) as error:
        raise VocabularyError(f"cannot read: {error.strerror}", path=path, remedy="Make it readable") from error
    except UnicodeDecodeError as error:
        raise VocabularyError(
            f"not {error.encoding} at byte {error.start}",
            path=path,
            remedy="Save it as UTF-8, for example: iconv -f latin1 -t utf-8 OLD > NEW",
        ) from error
    except VocabularyError as error:
        raise VocabularyError(error.message, path=path, remedy=error.remedy) from error


def parse_entries(text: str) -> tuple[Entry, ...]:
    """Read entries, separated by commas or line ends; `#` starts a comment; in double quotes no sign means anything.

    Names are taken as they are written, in Unicode's composed form (NFC) and without invisible characters. Two that
    differ in nothing that `name_key` looks at are one name.

    >>> parse_entries('car, road:stuff=road|"street, paved"')[1]
    Entry(name='road', kind='stuff', synonyms=('road', 'street, paved'))

    Raises:
        VocabularyError: empty, the headings of a table above the names, a name twice, a kind other than thing and
            stuff, quotes that do not close, or signs that separate nothing here.
    """
    lines: list[list[Entry]] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            if items := _items(line):
                lines.append([_parse_entry(item) for item in items])
        except VocabularyError as error:
            raise VocabularyError(f"line {number}: {error.message}", remedy=error.remedy) from None
    if not lines:
        raise VocabularyError("no class names given", remedy='Write for example "car, bus, road:stuff=road|street"')
    headings = [entry.name for entry in lines[0] if name_key(entry.name) in _HEADINGS]
    if headings and len(lines) > 1:
        raise VocabularyError(
            f"the first line is the heading of a table, and {shown(headings[0])} would become a class",
            remedy=f"Leave that line out. {_TABLE}; a class that is called so may stand on a later line",
        )
    entries = [entry for line in lines for entry in line]
    first: dict[str, str] = {}
    for entry in entries:
        if other := first.get(key := name_key(entry.name)):
            twice = f"{shown(entry.name)} is named twice"
            raise VocabularyError(
                twice if other == entry.name else f"{shown(other)} and {shown(entry.name)} are one name",
                remedy="Leave one out: case, underscores and the Unicode form of a name make no other class of it",
            )
        first[key] = entry.name
    return tuple(entries)


def odd_names(entries: Sequence[Entry]) -> list[str]:
    """Warn of what CLIP would be asked for and nobody means: numbers of a list, and sentences about pictures.

    >>> odd_names(parse_entries("1 car, 2 bus"))
    ['every name begins with a number: those of a list do not belong to the names']
    """
    names = [entry.name for entry in entries]
    if len(names) > 1 and all(re.match(r"\d+\W", name) for name in names):
        return ["every name begins with a number: those of a list do not belong to the names"]
    texts = [(entry, text) for entry in entries for text in entry.synonyms]
    if len(texts) == 1 and re.search(r"[^\W\d]\.\s*[^\W\d]", texts[0][1]):
        return [f"{said(*texts[0])} is one name, with a full stop in it: commas separate names"]
    return [
        *(f"{said(*one)} has no letter: CLIP knows things by their words" for one in texts if not _letters(one[1])),
        *(
            f"{said(*one)} is put into sentences such as `a photo of a ...` anyway: give the name alone"
            for one in texts
            if re.search(r"\b(photo|picture|image)s? of\b", one[1], re.IGNORECASE)
        ),
    ]


def _without_folders(entries: tuple[Entry, ...]) -> tuple[Entry, ...]:
    """Raise VocabularyError if a synonym is a folder: of pictures, whose name CLIP would be asked for."""
    for entry in entries:
        for text in entry.synonyms:
            if "/" in text and _is(Path(text).is_dir):
                raise VocabularyError(
                    f"{said(entry, text)} is a folder, not a word",
                    path=text,
                    remedy="For a class by pictures: ovps vocab build --images NAME=FOLDER",
                )
    return entries


def _items(line: str) -> list[str]:
    """The entries of a line, as they are written."""
    return [item for item in split_unquoted(split_unquoted(line, "#")[0], ",") if _visible(item)]


def _check_one_column(text: str) -> None:
    """Raise VocabularyError for a table whose further columns, such as synonyms, would become classes of their own."""
    lines = [items for line in text.splitlines() if (items := _items(line))]
    if len(lines) > 1 and (columns := max(map(len, lines))) > 1:
        raise VocabularyError(
            f"a table of {columns} columns, of which each cell would become a class",
            remedy=f"{_TABLE}; a list with several names a line is a .txt file",
        )


def _letters(text: str) -> bool:
    return any(character.isalpha() for character in text)


def no_text(text: str) -> str | None:
    """Find a character that is none of a text: a control character, or a byte that is not of its encoding.

    >>> no_text("caf\u00e9") is None
    True
    """
    return next((c for c in text if unicodedata.category(c) in ("Cc", "Cs")), None)


def shown(name: str) -> str:
    """Cut a name that is too long for a message."""
    return name if len(name) <= SHOWN else f"{name[: SHOWN - 3]}..."


def said(entry: Entry, synonym: str) -> str:
    """Name an entry in a message, and which of its synonyms is meant.

    >>> said(Entry("bus", "thing", ("bus", "coach")), "coach")
    "bus (as 'coach')"
    """
    return shown(entry.name) + (f" (as {shown(synonym)!r})" if synonym != entry.name else "")


def _parse_entry(item: str) -> Entry:
    if item.count('"') % 2:
        raise _unreadable(item, "a quote that does not close")
    head, *tail = split_unquoted(item, "=")
    head, *kinds = split_unquoted(head, ":")
    kind = kinds[0].strip().casefold() if kinds else "thing"
    if len(tail) > 1 or len(kinds) > 1 or kind not in ("thing", "stuff"):
        raise _unreadable(item, "more than one =" if len(tail) > 1 else "the kind is thing or stuff")
    if head.strip().casefold() in ("thing", "stuff"):  # a table of names and kinds
        raise _unreadable(item, "a kind without a name; it stands behind a colon, as in tree:stuff")
    name = _word(head, item)
    synonyms = tuple(_word(s, item) for t in tail for s in split_unquoted(t, "|") if _visible(s))
    if not name_key(name) or not all(map(name_key, synonyms)):
        raise _unreadable(item, "a name without a letter")
    if tail and not synonyms:
        raise _unreadable(item, "no synonyms behind =")
    return Entry(name, "stuff" if kind == "stuff" else "thing", synonyms or (name.replace("_", " "),))


def split_unquoted(text: str, sign: str) -> list[str]:
    """Parts of a text between the signs that stand outside double quotes; the quotes stay.

    >>> split_unquoted('"a, b", c', ",")
    ['"a, b"', ' c']
    """
    if '"' not in text:
        return text.split(sign)
    parts, start, quoted = [], 0, False
    for place, character in enumerate(text):
        quoted ^= character == '"'
        if character == sign and not quoted:
            parts.append(text[start:place])
            start = place + 1
    return [*parts, text[start:]]


def _word(part: str, item: str) -> str:
    """A name or synonym, out of its quotes."""
    part = _visible(part)
    inner = part[1:-1].replace('""', "")
    if len(part) > 1 and part[0] == part[-1] == '"' and '"' not in inner:
        part = _visible(part[1:-1].replace('""', '"'))
    elif found := _SIGN.search(part):
        raise _unreadable(item, f"{found[0]!r} in a name without quotes")
    elif _STOP.search(part):
        raise _unreadable(item, "a full stop in a name without quotes, and commas separate names")
    if odd := no_text(part):
        raise _unreadable(item, f"a character that is no text, {odd!a}")
    return part


def quoted(part: str) -> str:
    """Put a part into double quotes where it holds a comma, so that it is one of a list."""
    return f'"{part}"' if "," in part else part


def unquoted(part: str) -> str:
    """Take a part out of its quotes, and the spaces around it away.

    >>> unquoted(' "a, b"')
    'a, b'
    """
    part = part.strip()
    return part[1:-1] if len(part) > 1 and part[0] == part[-1] == '"' else part


def _visible(text: str) -> str:
    """NFC, trimmed, without the characters of no width; joiners stay, some scripts are spelt with them."""
    kept = "".join(c for c in text if c in _JOINERS or unicodedata.category(c) != "Cf")
    return unicodedata.normalize("NFC", kept).strip()


def _unreadable(item: str, reason: str) -> VocabularyError:
    return VocabularyError(
        f"cannot read the vocabulary entry {shown(item.strip())!r}: {reason}",
        remedy='Write name[:thing|stuff][=synonym|synonym], and names with signs in straight double quotes ("a, b")',
    )


def _decode(content: bytes) -> str:
    """Text of a file; a byte order mark says how it is encoded."""
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            return content.decode(encoding)
    if any(byte in content for byte in _NO_TEXT):
        if not any(map(_reads_as, (content, content), ("utf-16-le", "utf-16-be"))):
            raise VocabularyError("not a text file", remedy="Give a text file with one name a line, or the names")
        raise VocabularyError(
            "not UTF-8, perhaps UTF-16 without a byte order mark",
            remedy="Save it as UTF-8, for example: iconv -f UTF-16LE -t UTF-8 OLD > NEW",
        )
    return content.decode("utf-8")


def _reads_as(content: bytes, encoding: str) -> bool:
    try:
        return all(c.isprintable() or c.isspace() for c in content.decode(encoding))
    except UnicodeDecodeError:
        return False


def _is(ask: Callable[[], bool]) -> bool:
    """Ask the disk about a path, which may be no path at all."""
    try:
        return ask()
    except faults(OSError, ValueError):  # a long list of names is no file name
        return False
