import ast
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from anon_export.build import cache_keys
from anon_export.build.cache_keys import ENGINE_CODE, EXPORT, RUNTIME, bundle_code

# What modules that make engines import, and why it does not decide what an engine looks like.
DECIDES_NO_ENGINE = {
    "anon_runtime/backends/openvino": "imports OpenVINO without its telemetry, and runs engines",
    "anon_export/extras": "explains imports that fail",
    "anon_export/demo/generator": "writes the demo's model, whose files have a sha256 each",
    "anon_export/models/model": "names files, whose sha256 are part of the material",
    "anon_export/models/sources": "finds files, whose sha256 are part of the material",
    "anon_runtime/backends/base": "runs engines",
    "anon_runtime/backends/cuda": "runs engines",
    "anon_runtime/backends/tensorrt": "runs engines",
    "anon_runtime/bundle/integrity": "sha256",
    "anon_runtime/diffusion/device_loop": "the names of roles and columns, which are part of the material",
    "anon_runtime/diffusion/schedule": "the number of evaluations of a sampler, which is diffusers' own",
    "anon_runtime/bundle/manifest": "a manifest in another layout has another schema version, and is not read",
    "anon_runtime/errors": "writes messages",
    "anon_runtime/faces/detection": "finds faces with engines",
    "anon_runtime/faces/geometry": "cuts faces out of photos",
    "anon_runtime/types": "names of types",
    "anon_runtime/faces/prompt": "the demo's weights name the tokens that they know",
    "anon_runtime/diffusion/text_encoder": "one number, CLIP's 77",
}


@pytest.fixture
def edited(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of both packages, below a folder whose name is one of the excluded ones."""
    root = tmp_path / "training"
    for name, package in (("EXPORT", EXPORT), ("RUNTIME", RUNTIME)):
        shutil.copytree(package, root / package.name, ignore=shutil.ignore_patterns("*.safetensors", "__pycache__"))
        monkeypatch.setattr(cache_keys, name, root / package.name)
    return root


@pytest.mark.parametrize(
    ("module", "changed"),
    [
        ("anon_export/graphs/export.py", {"engine", "bundle"}),
        ("anon_export/graphs/reference_outputs.py", {"engine", "bundle"}),
        ("anon_export/targets/tensorrt.py", {"engine", "bundle"}),
        ("anon_export/demo/networks.py", {"engine", "bundle"}),
        ("anon_runtime/faces/attributes.py", {"engine", "bundle"}),
        ("anon_export/tables.py", {"image", "bundle"}),
        ("anon_export/build/reference.py", {"image", "bundle"}),
        ("anon_export/build/verify.py", {"bundle"}),
        ("anon_export/build/builder.py", {"bundle"}),
        ("anon_export/build/autotune.py", {"bundle"}),
        ("anon_runtime/anonymizer.py", {"bundle"}),
        ("anon_runtime/backends/onnxruntime.py", {"bundle"}),
        ("anon_export/console.py", set()),
        ("anon_export/demo/training/loop.py", set()),
        ("anon_runtime/cli.py", set()),
    ],
)
def test_an_edit_changes_what_depends_on_it(edited: Path, module: str, changed: set[str]) -> None:
    def digests() -> dict[str, str]:
        return {
            "engine": cache_keys.engine_code(),
            "image": cache_keys.image_code(),
            "bundle": bundle_code(),
        }

    before = digests()
    assert before == digests()
    path = edited / module
    path.write_text(path.read_text() + "# edited\n")
    after = digests()
    assert {name for name in before if before[name] != after[name]} == changed


def test_a_new_module_counts(edited: Path) -> None:
    before = bundle_code()
    (edited / "anon_export" / "new.py").write_text("")
    assert bundle_code() != before


def imports(path: Path) -> Iterator[Path]:
    """The modules of this project that a module imports, anywhere in its code."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom):
            base = path.parents[node.level - 1] if node.level else EXPORT.parent
            package = base.joinpath(*(node.module or "").split("."))
            if not node.level and package.parts[len(base.parts)] == RUNTIME.name:
                package = RUNTIME.joinpath(*package.parts[len(base.parts) + 1 :])
            candidates = [package.with_suffix(".py"), package / "__init__.py"]
            candidates += [package / f"{alias.name}.py" for alias in node.names]
            yield from (found for found in candidates if found.is_file())


def test_all_code_that_makes_engines_is_in_their_keys() -> None:
    """Every module that code in `ENGINE_CODE` imports is listed there as well, or here with a reason."""
    listed = [EXPORT / name for name in ENGINE_CODE] + [RUNTIME / "faces" / "attributes.py"]
    modules = {file for path in listed for file in (path.rglob("*.py") if path.is_dir() else [path])}
    assert all(module.is_file() for module in modules)
    imported = {found for module in modules for found in imports(module)} - modules
    assert {RUNTIME / "bundle" / "manifest.py", EXPORT / "extras.py"} <= imported, "the walk finds something"

    def name(path: Path) -> str:
        root = EXPORT if path.is_relative_to(EXPORT) else RUNTIME
        return path.relative_to(root.parent).with_suffix("").as_posix().removesuffix("/__init__")

    assert {name(path) for path in imported} == DECIDES_NO_ENGINE.keys()
