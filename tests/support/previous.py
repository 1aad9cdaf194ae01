"""
The previous release: from the history of this repository, or from a copy where there is no history.
"""

import subprocess
import tarfile
from io import BytesIO
from pathlib import Path

RELEASE = "0.1.0"
COMMIT = "810f1b68e6320ed967bc5ecb2a9096225bcc8cb6"

# Made by: git archive COMMIT dcounter twisted | gzip -9n
COPY = Path(__file__).with_name(f"dcounter-{RELEASE}.tar.gz")


def previous_release(root: Path, place: Path) -> Path:
    """
    A directory that holds the packages of the previous release.

    :param root: of the source of this version.
    :param place: an empty directory to unpack it in.
    """
    source = from_history(root) or COPY.read_bytes()
    with tarfile.open(fileobj=BytesIO(source)) as archive:
        archive.extractall(place, filter="data")
    version = (place / "dcounter" / "__init__.py").read_text()
    assert f'__version__ = "{RELEASE}"' in version, version
    return place


def from_history(root: Path) -> bytes | None:
    """
    An archive of the previous release, made from its commit; `None` in a source archive or a shallow clone.
    """
    command = ["git", f"--git-dir={root / '.git'}", "archive", COMMIT, "dcounter", "twisted"]
    try:
        return subprocess.run(command, capture_output=True, check=True, timeout=60).stdout
    except (OSError, subprocess.CalledProcessError):
        return None
