"""Keys that are hard to hide, and the spellings in which servers and libraries repeat them."""

from __future__ import annotations

import base64
import html
import json
import sqlite3
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

from PIL import Image

UGLY = (
    "sk-proj/with/slashes+and==",
    "  sk-spaces-around-it \n",
    "sk-\"double\"-and-'single'",
    "sk-100%25-per%2Fcent%",
    "sk-back\\slash\\\\n\\u0041",
    "<sk&html;entities&amp;>",
    "$(sk)|{regex}[a-z]*.+?^",
    "8letters",
)
"""Keys that are taken, without the white space around them."""

REFUSED = ("sk-new\nline-inside-it", "sk-with space", "sk-ключ-unicode", "sk-\x07bell-inside", "sk-1234", "x", " \n")
"""What is refused: no header carries it, or it is too short."""


def spellings(key: str) -> dict[str, str]:
    """Name to text."""
    percent = "".join(f"%{byte:02x}" for byte in key.encode())
    return {
        "plain": key,
        "upper case": key.upper(),
        "repr": repr(f"Bearer {key}\n")[1:-1],
        "repr of repr": repr(repr(key))[1:-1],
        "JSON": json.dumps(key)[1:-1],
        "JSON in JSON": json.dumps(json.dumps(key))[1:-1],
        "slashes escaped": key.replace("\\", "\\\\").replace("/", "\\/"),
        "escaped": "".join(f"\\u{ord(char):04x}" for char in key),
        "hex escapes": "".join(f"\\x{ord(char):02x}" for char in key),
        "percent": quote(key, safe=""),
        "percent throughout": percent,
        "percent twice": quote(percent, safe=""),
        "HTML": html.escape(key),
        "HTML numbers": "".join(f"&#{ord(char)};" for char in key),
        "lines": "\n".join(key[start : start + 5] for start in range(0, len(key), 5)),
        "spaces": " ".join(key),
        "escaped line break": f"{key[:4]}\\n{key[4:]}",
        "no-break and zero-width": f"{key[:4]}\u00a0{key[4:6]}\u200b{key[6:]}",
        "base64": base64.b64encode(key.encode()).decode(),
        "basic": base64.b64encode(f"user:{key}".encode()).decode(),
        "basic without a name": base64.urlsafe_b64encode(f":{key}".encode()).decode(),
        "hex": key.encode().hex(),
    }


def everything_in(folder: Path) -> bytes:
    """The bytes of all files, with the rows of SQLite databases (whose pages tear long values apart) and the text in
    pictures, each once more without white space."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        data = path.read_bytes()
        found += [str(path).encode(), data]
        if data.startswith(b"SQLite format 3"):
            with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as database:
                for (table,) in database.execute("select name from sqlite_master where type = 'table'").fetchall():
                    for row in database.execute(f'select * from "{table}"'):
                        found += [v if isinstance(v, bytes) else str(v).encode() for v in row]
        elif path.suffix == ".png":
            with Image.open(path) as picture:
                found.append(repr(picture.info).encode())
    return b"\n".join(found)


def leaks(key: str, written: bytes) -> list[str]:
    """The spellings of `key` that `written` holds, also split by white space."""
    squeezed = b"".join(written.split())
    found = []
    for name, spelling in spellings(key.strip()).items():
        data = spelling.encode()
        if data in written or b"".join(data.split()) in squeezed:
            found.append(name)
    return found
