"""
The previous release, built from the history of this repository.
"""

import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path

RELEASE = "0.1.0"
COMMIT = "810f1b68e6320ed967bc5ecb2a9096225bcc8cb6"

VARIABLE = "DCOUNTER_PREVIOUS"
"""
Names a directory with the source of that release, where there is no history.
"""


class NoPreviousRelease(Exception):
    """
    There is nothing to upgrade from.
    """


def previous_release(root: Path, environment: Mapping[str, str], place: Path) -> Path:
    """
    A directory that holds the package of the previous release.

    :param root: of the source of this version.
    :param place: an empty directory to build it in.
    :raises NoPreviousRelease: it is nowhere to be had.
    """
    given = environment.get(VARIABLE)
    if given:
        return _checked(Path(given))
    command = ["git", f"--git-dir={root / '.git'}", "archive", COMMIT, "dcounter", "twisted"]
    try:
        made = subprocess.run(command, capture_output=True, check=True, timeout=60)
    except (OSError, subprocess.CalledProcessError) as error:
        said = getattr(error, "stderr", b"").decode(errors="replace").strip() or error
        raise NoPreviousRelease(
            f"release {RELEASE}, to upgrade from, is commit {COMMIT[:7]}, which is not here: {said}. "
            "This needs a clone with its whole history. In a source archive or a shallow clone, let "
            f"{VARIABLE} name a directory with the source of that release, or leave these tests out with "
            "--ignore=tests/e2e/test_upgrade.py"
        ) from error
    with tarfile.open(fileobj=BytesIO(made.stdout)) as archive:
        archive.extractall(place, filter="data")
    return _checked(place)


def _checked(place: Path) -> Path:
    version = place / "dcounter" / "__init__.py"
    if not version.is_file() or f'__version__ = "{RELEASE}"' not in version.read_text():
        raise NoPreviousRelease(f"{place} does not hold release {RELEASE}")
    return place
