"""Writes the tables of prompt cleaning from what Python knows: engine/model/entities.inc (HTML5 names) and
engine/model/unicode.inc (canonical composition, full-width forms). Run it in the root of the repository.

    python3 scripts/make_text_tables.py
"""
import html
import html.entities
import unicodedata

NOTE = "/* Made by scripts/make_text_tables.py from Python's {}: do not edit. */\n"


def quoted(text):
    """C string of UTF-8 bytes; octal escapes cannot swallow what follows."""
    out = "".join(chr(b) if 0x20 <= b < 0x7F and chr(b) not in '"\\?' else f"\\{b:03o}" for b in text.encode())
    return f'"{out}"'


def rows(items, width=100):
    line, lines = "", []
    for item in items:
        if line and len(line) + 1 + len(item) > width:
            lines.append(line)
            line = ""
        line = f"{line} {item}" if line else item
    return "\n".join(lines + [line]) + "\n"


def entities(f):
    names = html.entities.html5
    f.write(NOTE.format("html.entities"))
    f.write("/* ENTITY(name, text), sorted by name. */\n")
    f.write(rows(f"ENTITY({quoted(k)}, {quoted(v)})" for k, v in sorted(names.items())))
    f.write("/* UPPER(name, text): what an all-capitals spelling of a lower-case name stands for, where that is not the same text. */\n")
    upper = []
    for k, v in sorted(names.items()):
        if k.endswith(";") and k == k.lower() and html.unescape("&" + k.upper()) == "&" + k.upper() and v.upper() != v:
            upper.append(f"UPPER({quoted(k)}, {quoted(v.upper())})")
    f.write(rows(upper))


def composition(f):
    f.write(NOTE.format(f"unicodedata, Unicode {unicodedata.unidata_version}"))
    f.write("/* DECOMPOSE(code, first, second, composes): canonical decompositions, sorted by code; second 0 when there is one part. */\n")
    out = []
    for c in range(0x110000):
        d = unicodedata.decomposition(chr(c))
        if not d or d.startswith("<"):
            continue
        parts = [int(x, 16) for x in d.split()] + [0]
        composes = int(parts[1] != 0 and unicodedata.normalize("NFC", chr(parts[0]) + chr(parts[1])) == chr(c))
        out.append(f"DECOMPOSE(0x{c:x}, 0x{parts[0]:x}, 0x{parts[1]:x}, {composes})")
    f.write(rows(out))
    f.write("/* CLASS(first, last, combining class), sorted; what is not listed has class 0. */\n")
    out, run = [], None
    for c in range(0x110001):
        k = unicodedata.combining(chr(c)) if c < 0x110000 else 0
        if run and (k != run[2]):
            out.append(f"CLASS(0x{run[0]:x}, 0x{run[1]:x}, {run[2]})")
            run = None
        if k:
            run = (run[0] if run else c, c, k)
    f.write(rows(out))


def width(f):
    f.write("/* WIDTH(code): the usual form of U+FF01 to U+FFEF, in order; 0 where there is none or, U+FFE3, where it "
            "has two characters. */\n")
    out = []
    for c in range(0xFF01, 0xFFF0):
        s = unicodedata.normalize("NFKC", chr(c))
        out.append(f"WIDTH(0x{ord(s):x})" if s != chr(c) and len(s) == 1 else "WIDTH(0)")
    f.write(rows(out))


with open("engine/model/entities.inc", "w") as out:
    entities(out)
with open("engine/model/unicode.inc", "w") as out:
    composition(out)
    width(out)
