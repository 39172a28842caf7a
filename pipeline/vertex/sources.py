"""The hash of this project's sources, by which an image that holds others than a spec was compiled from is refused."""

import hashlib
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PACKAGES = ("data", "components", "pipeline")


def make_sources_hash(root: Path = ROOT) -> str:
    """Returns the hexadecimal SHA-256 of the names and contents of all Python files of the project's packages."""
    digest = hashlib.sha256()
    for package in PACKAGES:
        for path in sorted((root / package).rglob("*.py")):
            name = path.relative_to(root).as_posix()
            digest.update(f"{name} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return digest.hexdigest()


if __name__ == "__main__":  # for the image's label
    print(make_sources_hash())
