"""The manifest of a finished bundle, replaced in one step."""

from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import MANIFEST, Manifest
from anon_runtime.errors import BundleError
from anon_runtime.folder.writer import write_file


def replace_manifest(bundle: Bundle, changed: Manifest) -> None:
    """Replace the manifest of a bundle by one with a new measurement in it.

    The manifest holds no record of itself, so that the bundle's other files are checked as before.

    Args:
        bundle: as it was when the measurement began.
        changed: the new manifest.

    Raises:
        BundleError: the bundle was built again after it was opened, so that the measurement may not fit it.
        OutputError: the manifest cannot be written.
    """
    if Bundle.read(bundle.path).manifest != bundle.manifest:
        raise BundleError(f"bundle {bundle.path}", "it was changed during the measurement", "run the command again")
    write_file(bundle.path / MANIFEST, changed.to_json().encode())
