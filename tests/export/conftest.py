"""Fixtures of builds that follow on an earlier build."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from anon_export.build.options import BuildOptions
from anon_export.graphs import stable_diffusion as graphs


@pytest.fixture
def forbid(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Lets only the named exports happen; returns the list of those that did."""

    def allow(*allowed: str) -> list[str]:
        happened: list[str] = []
        for name in ("text_encoder", "unet", "vae_encoder", "vae_decoder"):
            real = getattr(graphs, f"export_{name}")

            def export(*arguments: object, name: str = name, real: Callable[..., object] = real) -> object:
                assert name in allowed, f"{name} was built again"
                happened.append(name)
                return real(*arguments)

            monkeypatch.setattr(graphs, f"export_{name}", export)
        return happened

    return allow


@pytest.fixture
def cached(demo_bundle: Path, tmp_path: Path) -> BuildOptions:
    """The options of the demo bundle, whose output folder holds a copy of it already."""
    shutil.copytree(demo_bundle, tmp_path / "demo")
    return BuildOptions("demo", "demo", tmp_path, "demo")
