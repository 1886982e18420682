"""The manifest of a bundle that has been measured."""

from dataclasses import replace
from pathlib import Path

import pytest

from anon_export.manifest_file import replace_manifest
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Choice
from anon_runtime.errors import BundleError

from ..conftest import edit_manifest


def test_a_manifest_is_replaced_and_the_bundle_stays_whole(own_bundle: Path) -> None:
    opened = Bundle.open(own_bundle)
    changed = replace(opened.manifest, choice=Choice("onnxruntime", "a processor", {"onnxruntime fp32": 1.0}))
    files = set(own_bundle.rglob("*"))
    replace_manifest(opened, changed)
    assert Bundle.open(own_bundle).manifest == changed
    assert set(own_bundle.rglob("*")) == files


def test_a_bundle_that_was_built_again_keeps_its_manifest(own_bundle: Path) -> None:
    opened = Bundle.open(own_bundle)
    edit_manifest(own_bundle, key="another")
    with pytest.raises(BundleError, match="changed during the measurement; run the command again"):
        replace_manifest(opened, replace(opened.manifest, name="mine"))
    assert Bundle.open(own_bundle).manifest == replace(opened.manifest, key="another")
