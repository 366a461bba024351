"""Makes a smaller copy of ICU's data, which is two fifths of a program with Swift's runtime inside.

    smaller_icu.py ARCHIVE OUTPUT        ARCHIVE: Swift's lib_FoundationICU.a; OUTPUT: an assembler's source

The data is 34 MB: every language's names of languages, regions, currencies, units and zones, its sorting order, dictionaries for
breaking lines, code pages of old systems. The program speaks English to people, and UTF-8 to files. What is left is ICU's root,
English, and what belongs to no language. In any other locale ICU falls back to the root.
"""

from __future__ import annotations

import pathlib
import re
import struct
import subprocess
import sys

# Kinds of files that go whole: code pages, dictionaries, tables against look-alike names, transliterations, spelled numbers.
KINDS = re.compile(r"\.(cnv|dict|spp|cfu)$|^[^/]+/(translit|rbnf)/")
# A file of one language: its code, and perhaps a script, a region or a variant.
LANGUAGE = re.compile(r"/([a-z]{2,3})(_\w+)?\.(res|brk)$")


def is_kept(name: str) -> bool:
    """Whether a file of the data stays."""
    if KINDS.search(name):
        return False
    language = LANGUAGE.search(name)
    return language is None or language[1] == "en"


def smaller(data: bytes) -> bytes:
    """The data with fewer files: a header, a table of names and places (relative to the table), and the files."""
    header_size = struct.unpack_from("<H", data)[0]
    if data[2:4] != b"\xda\x27" or data[12:16] != b"CmnD":
        raise SystemExit("smaller_icu: this is no package of ICU's data")
    table = data[header_size:]
    count = struct.unpack_from("<I", table)[0]
    entries = [struct.unpack_from("<II", table, 4 + 8 * index) for index in range(count)]
    ends = [entry[1] for entry in entries[1:]] + [len(table)]
    files = []
    for (name_at, start), end in zip(entries, ends, strict=True):
        name = table[name_at : table.index(b"\0", name_at)]
        if is_kept(name.decode()):
            files.append((name, table[start:end]))

    names = bytearray()
    contents = bytearray()
    places = []
    names_at = 4 + 8 * len(files)
    contents_at = names_at + sum(len(name) + 1 for name, _ in files)
    contents_at += -contents_at % 16
    for name, content in files:
        places.append(struct.pack("<II", names_at + len(names), contents_at + len(contents)))
        names += name + b"\0"
        contents += content + bytes(-len(content) % 16)
    start_of_contents = bytes(contents_at - names_at - len(names))
    return data[:header_size] + struct.pack("<I", len(files)) + b"".join(places) + names + start_of_contents + contents


def main(archive: str, output: str) -> None:
    """Takes the data out of the archive, and writes it as the source of an object that defines the same symbol."""
    symbols = subprocess.run(["nm", "-A", archive], capture_output=True, text=True).stdout
    found = re.search(r":([^:\n]+):\w+ R (icudt\d+_dat)$", symbols, re.MULTILINE)
    if not found:
        raise SystemExit(f"smaller_icu: {archive} has no data")
    folder = pathlib.Path(output).parent
    member, symbol = found[1], found[2]
    subprocess.run(["ar", "x", "--output", str(folder), archive, member], check=True)
    whole = folder / "icu-whole.dat"
    subprocess.run(["objcopy", "-O", "binary", "-j", ".rodata", str(folder / member), str(whole)], check=True)
    data = folder / "icu.dat"
    data.write_bytes(smaller(whole.read_bytes()))
    pathlib.Path(output).write_text(
        f'.section .rodata\n.balign 16\n.globl {symbol}\n{symbol}:\n.incbin "{data}"\n.section .note.GNU-stack,"",%progbits\n'
    )


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
