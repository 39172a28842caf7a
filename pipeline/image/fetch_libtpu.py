"""Fetches libtpu for the image of the TPU: TensorFlow 2.16's is on a page of its own, on no package index.

python fetch_libtpu.py --url URL --sha256 HASH --symbol NAME --output FILE
"""

import argparse
import hashlib
import io
import sys
import urllib.request
import zipfile
from collections.abc import Sequence
from pathlib import Path

RELEASES = "https://storage.googleapis.com/libtpu-tf-releases/index.html"
MEMBER = "libtpu/libtpu.so"
"""Where a wheel holds the library."""


def read_library(content: bytes, symbol: str) -> bytes:
    """Returns the library of a release, which is the shared object itself or a wheel that holds it.

    Raises:
        ValueError: it is neither, or lacks the symbol, without which TensorFlow aborts when it is imported.
    """
    library = content
    if not content.startswith(b"\x7fELF"):
        try:
            with zipfile.ZipFile(io.BytesIO(content)) as wheel:
                library = wheel.read(MEMBER)
        except (zipfile.BadZipFile, KeyError) as error:
            raise ValueError(f"is neither a shared object nor a wheel with {MEMBER}") from error
    if symbol.encode() not in library:
        raise ValueError(f"is not libtpu for this TensorFlow: it lacks {symbol}; choose from {RELEASES}")
    return library


def main(argv: Sequence[str] | None = None) -> int:
    """Fetches it, compares its hash and writes the library.

    Returns:
        The exit status: 2 where something is missing or other than announced, said in one line.
    """
    parser = argparse.ArgumentParser(description="Fetches libtpu.")
    parser.add_argument("--url", required=True, help="a wheel or shared object of libtpu")
    parser.add_argument("--sha256", required=True, help="of what the URL gives")
    parser.add_argument("--symbol", required=True, help="what TensorFlow looks up in it (locks/LANE/libtpu-symbol.txt)")
    parser.add_argument("--output", required=True, type=Path, help="the library's place")
    args = parser.parse_args(argv)
    if not (args.url and args.sha256):
        missing = "LIBTPU_SHA256" if args.url else "LIBTPU_URL"
        print(
            f"error: {missing} is not given; choose libtpu for this TensorFlow from {RELEASES} and pass "
            "LIBTPU_URL=... LIBTPU_SHA256=... to make image",
            file=sys.stderr,
        )
        return 2
    try:
        with urllib.request.urlopen(args.url) as response:
            content = response.read()
        found = hashlib.sha256(content).hexdigest()
        if found != args.sha256.lower():
            raise ValueError(f"has the SHA-256 {found}, not {args.sha256}")
        library = read_library(content, args.symbol)
    except (OSError, ValueError) as error:
        print(f"error: LIBTPU_URL {args.url}: {error}", file=sys.stderr)
        return 2
    args.output.write_bytes(library)
    args.output.chmod(0o755)
    return 0


if __name__ == "__main__":
    sys.exit(main())
