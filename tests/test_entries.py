"""How people write class names, and what must not pass in silence."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ovps.entries import Entry, odd_names, parse_entries, read_entries
from ovps.errors import VocabularyError
from ovps.taxonomy import name_key


@pytest.mark.parametrize(
    ("text", "entries"),
    [
        ("car", [("car", "thing", ("car",))]),
        ("traffic_cone", [("traffic_cone", "thing", ("traffic cone",))]),
        ("car, bus:thing", [("car", "thing", ("car",)), ("bus", "thing", ("bus",))]),
        ("road:stuff = road | street", [("road", "stuff", ("road", "street"))]),
        (
            "# classes\ncar # a comment, with a comma\n\n bus ,",
            [("car", "thing", ("car",)), ("bus", "thing", ("bus",))],
        ),
        ("fire engine:thing=fire truck|", [("fire engine", "thing", ("fire truck",))]),
        ("road: Stuff, car:THING", [("road", "stuff", ("road",)), ("car", "thing", ("car",))]),
        ('"car, red", bus', [("car, red", "thing", ("car, red",)), ("bus", "thing", ("bus",))]),
        ('bus = "bus, red" | "a: b|c=d #5"', [("bus", "thing", ("bus, red", "a: b|c=d #5"))]),
        ('"5"" pipe":stuff', [('5" pipe', "stuff", ('5" pipe',))]),
        ("driver's cab, U-Bahn", [("driver's cab", "thing", ("driver's cab",)), ("U-Bahn", "thing", ("U-Bahn",))]),
        ("car\r\nbus\u2028van\x85tram", [(n, "thing", (n,)) for n in ("car", "bus", "van", "tram")]),
        (
            "\ufeffcar, b\u200bus, \u200f\u05d0\u05d5\u05d8\u05d5\u200f",
            [(n, "thing", (n,)) for n in ("car", "bus", "\u05d0\u05d5\u05d8\u05d5")],
        ),
        ("cafe\u0301", [("caf\u00e9", "thing", ("caf\u00e9",))]),
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
            [
                (
                    "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",
                    "thing",
                    ("\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645",),
                )
            ],
        ),  # spelt with a joiner
    ],
)
def test_entries_as_text(text, entries):
    assert parse_entries(text) == tuple(Entry(*e) for e in entries)


@pytest.mark.parametrize(
    "text",
    [
        *("", " ,, \n#x", "\ufeff", "\u200b, \u200b", "_", '""', "car:animal", ":stuff", "=word", "car:stuff:thing"),
        *("car,thing\ntree,stuff", "Stuff", "car, stuff:thing"),
        *("car=", "car=|", "car=a=b", "car=van:stuff", "car|van", "car=_"),
        *('"car, bus', 'car "big, red"', '"a" b', '"'),
        *("car;bus", "car\tbus", "car\uff0cbus", "car\u3001bus", "سيارة، حافلة", "car\uff1astuff"),
        *("car . bus . tree .", "car .", ". car", "car, bus . tree", "car=van . bus"),
        *("name\ncar\ntree", "\n# mine\nClass_Name, colour\ncar, red", 'id,"label"\n1,car'),
        *("\u201ccar\u201d", "'car, red'", '["car", "bus"]', "[car]", "- car\n- bus", "ca\0r", "caf\udce9"),
    ],
    ids=ascii,
)
def test_entries_that_cannot_be_read(text):
    with pytest.raises(VocabularyError) as caught:
        parse_entries(text)
    assert caught.value.remedy
    assert caught.value.exit_code == 7


def test_an_error_names_the_line():
    with pytest.raises(VocabularyError, match=r"line 3: .*'bus:flying'"):
        parse_entries("car\n# more\nbus:flying")


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("car", "car"),
        ("a", "a"),
        ("car", "Car"),
        ("caf\u00e9", "cafe\u0301"),
        ("traffic_cone", "traffic cone"),
        ("traffic cone", "Traffic  Cone"),
        ("traffic cone", "traffic\u00a0cone"),
        ("car", "c\u200bar"),
        ("car", "\uff43\uff41\uff52"),
        ("Stra\u00dfe", "STRASSE"),
    ],
    ids=ascii,
)
def test_two_spellings_of_one_name_are_refused(first, second):
    assert name_key(first) == name_key(second)
    with pytest.raises(VocabularyError, match=r"named twice|are one name"):
        parse_entries(f"{first}, bus, {second}:stuff=x")


@pytest.mark.parametrize(("first", "second"), [("car", "cars"), ("resume", "r\u00e9sum\u00e9"), ("e-bike", "ebike")])
def test_different_names_stay_different(first, second):
    assert [e.name for e in parse_entries(f"{first}, {second}")] == [first, second]


@given(st.text(max_size=8))
def test_a_key_is_its_own_key_and_forgets_the_unicode_form(name):
    key = name_key(name)
    assert name_key(key) == key
    assert all(name_key(unicodedata.normalize(form, name)) == key for form in ("NFC", "NFD", "NFKC", "NFKD"))


words = st.text('abc é-:,|=#";', min_size=1).map(str.strip).filter(name_key)


@given(st.lists(st.tuples(words, st.sampled_from(["thing", "stuff"]), st.lists(words, min_size=1)), min_size=1))
def test_any_entries_written_as_text_are_read_back(items):
    def quoted(word):
        return '"' + word.replace('"', '""') + '"'

    entries = {name_key(name): Entry(name, kind, tuple(synonyms)) for name, kind, synonyms in items}
    text = "\n".join(f"{quoted(e.name)}:{e.kind}={'|'.join(map(quoted, e.synonyms))}" for e in entries.values())
    assert parse_entries(text) == tuple(entries.values())


def test_ten_thousand_names_and_a_long_one():
    names = [f"thing {i}" for i in range(10_000)] + ["long" * 250]
    assert [e.name for e in parse_entries(", ".join(names))] == names
    with pytest.raises(VocabularyError, match="thing 9999 and Thing_9999") as caught:
        parse_entries("\n".join([*names, "Thing_9999"]))
    with pytest.raises(VocabularyError) as caught:
        parse_entries(f"{names[-1]}, {names[-1]}")
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_files_of_names_in_unicode(tmp_path, encoding):
    (tmp_path / "names.txt").write_text("stra\u00dfe:stuff\r\ncar\r\n", encoding=encoding)
    assert [e.name for e in read_entries(str(tmp_path / "names.txt"))] == ["stra\u00dfe", "car"]


def test_a_big_endian_file(tmp_path):
    (tmp_path / "names.txt").write_bytes(b"\xfe\xff" + "car".encode("utf-16-be"))
    assert read_entries(str(tmp_path / "names.txt"))[0].name == "car"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("café".encode("latin1"), "iconv -f latin1"),
        ("car".encode("utf-16-le"), "iconv -f UTF-16LE"),
        (b"\xff\xfec", "not utf-16"),
        (b"car:flying", "line 1: .*car:flying"),
        (b"", "no class names"),
    ],
)
def test_files_that_cannot_be_read_are_named(tmp_path, content, reason):
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(VocabularyError, match=reason) as caught:
        read_entries(str(path))
    assert caught.value.path == str(path)


@pytest.mark.parametrize(
    "names", ["classes.txt", "my classes.csv", "./classes", "/no/such/folder/classes", "v.safetensors"]
)
def test_a_path_that_leads_nowhere_is_no_class(names, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(VocabularyError, match="no such file") as caught:
        read_entries(names)
    assert caught.value.path == names


@pytest.mark.parametrize(
    ("name", "content"),
    [("a.csv", "car,bus,class\n"), ("b.csv", "car,\nbus,,\nclass\n"), ("c.txt", "car, bus\nclass\n")],
)
def test_lists_of_names_that_are_no_table(tmp_path, name, content):
    (tmp_path / name).write_text(content)
    assert [e.name for e in read_entries(str(tmp_path / name))] == ["car", "bus", "class"]


@pytest.mark.parametrize("names", ["car/van", "No. 5", "a.k.a", "ca" * 5000])
def test_names_that_are_no_path(names):
    assert [e.name for e in read_entries(names)] == [names]


@pytest.mark.parametrize(
    ("name", "content", "message", "remedy"),
    [
        ("folder/", None, "a folder, not a file of class names", "--images NAME=FOLDER"),
        ("car, bus=folder/", None, r"bus \(as 'folder/'\) is a folder", "--images NAME=FOLDER"),
        ("a/" * 3000, None, "no such file", "Mend the path"),
        ("photo.png", None, "no such file", "Mend the path"),
        ("photo.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\1\0", "not a text file", "one name a line"),
        ("names.zip", b"PK\3\4\x14\0\0\0\x08\0\x9b\x7c\xff\xd8\xd9\xda", "not a text file", "one name a line"),
        ("names.txt", "car\nbus\n".encode("utf-16-le"), "UTF-16 without a byte order mark", "iconv"),
        ("names.csv", b"name\ncar\ntree\n", "the heading of a table, and name would become a class", "on a later line"),
        ("names.CSV", b"car,automobile\ntree,\n", "a table of 2 columns", "such as car=automobile"),
        ("names.csv", b"name,synonyms\ncar,red\nbus,red\n", "a table of 2 columns", "such as car=automobile"),
    ],
)
def test_what_is_no_list_of_names_is_told_as_what_it_is(tmp_path, monkeypatch, name, content, message, remedy):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(VocabularyError, match=message) as caught:
        read_entries(name)
    assert name.rpartition("=")[2].rstrip("/") in caught.value.path
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("car, bus, traffic cone:stuff=cone|pylon", None),
        ("18 wheeler, car", None),
        ("18 wheeler", None),
        ("photograph, imagery", None),
        ("1 car, 2 bus", "every name begins with a number"),
        ("1. car\n2. bus", "every name begins with a number"),
        ("car, 7", "7 has no letter"),
        ("car=car|--, bus", "car (as '--') has no letter"),
        ("a photo of a car, bus", "a photo of a car is put into sentences"),
        ("自転車, велосипед", None),
        ("car. bus. tree", "car. bus. tree is one name, with a full stop in it: commas separate names"),
        ("car.bus.tree", "car.bus.tree is one name"),
        ("car, St. Bernard, No. 5, a.k.a", None),
        ("3.5 t truck", None),
    ],
)
def test_names_that_nobody_means_are_told(text, said):
    warnings = odd_names(parse_entries(text))
    assert len(warnings) == (said is not None), warnings
    assert all(warning.startswith(said) for warning in warnings)
