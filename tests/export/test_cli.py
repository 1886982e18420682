import ast
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import click
import pytest

import anon_export
from anon_export.build import builder
from anon_export.build.options import BuildOptions
from anon_export.cli import FLAGS, build_command, main
from anon_export.targets.shapes import Range
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.bundle.manifest import Choice, Manifest
from anon_runtime.diffusion.acceleration import FAST_LEVELS
from anon_runtime.errors import in_flags


def call(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, str]:
    with pytest.raises(SystemExit) as caught:
        main([str(a) for a in arguments])
    return int(caught.value.code or 0), capsys.readouterr().err


def test_a_folder_that_is_no_model(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, message = call(capsys, "build", tmp_path, "--output", tmp_path / "out", "--faces", "none", "-q")
    assert code == 1
    assert "model_index.json" in message
    assert message.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_names_cannot_lead_out_of_the_output(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for name in ("..", "../x", "a/b", "/x", ".", ".hidden"):
        code, message = call(capsys, "build", "demo", "--name", name, "--output", tmp_path)
        assert code == 2
        assert "--name" in message
    code, message = call(capsys, "build", "/", "--output", tmp_path)  # a folder without a name
    assert code == 2
    assert "--name" in message


def test_the_command_passes_all_options(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    given = []

    def build(options: BuildOptions, report: builder.Report) -> Bundle:
        given.append(options)
        report("text_encoder", "unchanged")
        report("unet", "exporting")
        return Bundle.open(demo_bundle)

    monkeypatch.setattr(builder, "build", build)
    flags = ("--timestep-spacing", "trailing", "--vae", "a/b", "--precision", "fp16", "--batch-size", "1:2:8")
    code, message = call(capsys, "build", tmp_path, "--output", tmp_path, *flags, "--target", "tensorrt")
    assert code == 0
    assert "96 x 96" in message
    assert "spacing leading" in message
    assert "unet: exporting" in message
    assert "unchanged and not built again: text_encoder" in message
    assert given == [
        BuildOptions(
            str(tmp_path),
            output=tmp_path,
            target="tensorrt",
            precision="fp16",
            timestep_spacing="trailing",
            vae="a/b",
            batch_size=Range(1, 2, 8),
        )
    ]
    assert given[0].folder == tmp_path / tmp_path.name
    assert given[0].face_networks == "facer+deepface"
    assert call(capsys, "--help")[0] == 0
    code, message = call(capsys, "build", "demo", "--batch-size", "3:2:1")
    assert code == 2
    assert "--batch-size 3:2:1" in message


@pytest.mark.parametrize(
    ("flags", "target", "precision"),
    [
        ([], "onnxruntime", "fp32"),
        (["--device", "cpu"], "onnxruntime", "fp32"),
        (["--device", "cuda"], "cuda", "fp16"),
        (["--device", "cuda", "--precision", "fp32"], "cuda", "fp32"),
    ],
)
def test_a_device_stands_for_a_target(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    demo_bundle: Path,
    flags: list[str],
    target: str,
    precision: str,
) -> None:
    built: list[BuildOptions] = []

    def build(options: BuildOptions, _report: builder.Report) -> Bundle:
        built.append(options)
        return Bundle.open(demo_bundle)

    monkeypatch.setattr(builder, "build", build)
    assert call(capsys, "build", "demo", "-q", *flags)[0] == 0
    assert [(options.target, options.precision) for options in built] == [(target, precision)]


def test_a_device_beside_a_target_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    code, message = call(capsys, "build", "demo", "--device", "cuda", "--target", "tensorrt")
    assert code == 2
    assert "--target tensorrt says already what the engines are for; leave one out" in message


def test_a_target_is_chosen_where_the_user_wants_that(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, demo_bundle: Path
) -> None:
    chosen: list[BuildOptions] = []

    def choose(options: BuildOptions, _report: builder.Report) -> BuildOptions:
        return replace(options, target="openvino", choice=Choice("openvino", "here", {}))

    def build(options: BuildOptions, _report: builder.Report) -> Bundle:
        chosen.append(options)
        return Bundle.open(demo_bundle)

    monkeypatch.setattr("anon_export.build.choice.choose_target", choose)
    monkeypatch.setattr(builder, "build", build)
    for target in ("auto", "onnxruntime"):
        assert call(capsys, "build", "demo", "--target", target, "-q")[0] == 0
    assert [options.target for options in chosen] == ["openvino", "onnxruntime"]
    assert [options.choice is None for options in chosen] == [False, True]


def test_a_dry_run_builds_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(output: Path, *options: str) -> str:
        with pytest.raises(SystemExit) as caught:
            main(["build", "demo", "--output", str(output), "--dry-run", *options])
        assert caught.value.code == 0
        return capsys.readouterr().out

    fresh = run(tmp_path / "new")
    assert fresh.count("  build ") == 8
    assert "to write" in fresh
    assert "free" in fresh
    assert not (tmp_path / "new").exists()
    assert "nothing to do" in run(demo_bundle.parent)
    plan = json.loads(run(demo_bundle.parent, "--vae-precision", "fp16", "--json"))
    actions = {name: component["action"] for name, component in plan["components"].items()}
    assert actions.pop("vae_encoder") == actions.pop("vae_decoder") == "build"
    assert set(actions.values()) == {"keep"}
    assert plan["bytes"] == sum(plan["components"][role]["bytes"] for role in ("vae_encoder", "vae_decoder")) > 0
    assert not plan["unchanged"]


def test_results_as_json(capsys: pytest.CaptureFixture[str], demo_bundle: Path) -> None:
    with pytest.raises(SystemExit):
        main(["build", "demo", "--output", str(demo_bundle.parent), "--json", "-q"])
    result = json.loads(capsys.readouterr().out)
    assert result["components"] == {"bundle": "unchanged"}
    assert result["verification"]["image_psnr"] >= 60
    with pytest.raises(SystemExit):
        main(["verify", str(demo_bundle), "--json"])
    assert json.loads(capsys.readouterr().out)["engines"].keys() == result["verification"]["engines"].keys()
    with pytest.raises(SystemExit):
        main(["verify", str(demo_bundle)])
    table = capsys.readouterr().out
    assert "99.9 %" in table
    assert "face_detector" in table
    assert "dB" in table


@pytest.mark.parametrize(
    ("number", "code", "moment"), [(signal.SIGTERM, 143, "text_encoder"), (signal.SIGINT, 130, "tables")]
)
def test_a_build_that_is_told_to_stop_clears_up(tmp_path: Path, number: signal.Signals, code: int, moment: str) -> None:
    for name in ("temporary", "place"):
        (tmp_path / name).mkdir()
    program = "import sys; from anon_export.cli import main; main(sys.argv[1:])"
    output = tmp_path / "place" / "engines"
    command = [sys.executable, "-c", program, "build", "demo", "--output", str(output), "--faces", "none"]
    environment = os.environ | {"TMPDIR": str(tmp_path / "temporary")}
    said = []
    with subprocess.Popen(
        command,
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env=environment,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background jobs ignore it
    ) as process:
        assert process.stderr is not None
        assert process.stdout is not None
        for line in process.stderr:
            said.append(line)
            if moment in line:
                assert list(output.iterdir())
                process.send_signal(number)
        assert process.stdout.read() == ""
    assert process.returncode == code
    assert said[-1] == "anon-export: interrupted\n"
    assert "Traceback" not in "".join(said)
    # torch and onnxruntime keep caches of their own there, unless the environment names another place.
    left = [path.name for path in (tmp_path / "temporary").iterdir()]
    assert [name for name in left if not name.startswith((".ses", "torchinductor_"))] == []
    assert list((tmp_path / "place").iterdir()) == []


def test_signals_are_given_back(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    call(capsys, "inspect", tmp_path)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_choices_that_would_be_ignored_are_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for arguments in (("demo", "--revision", "v9"), ("realistic-vision", "--revision", "v9", "--faces", "none")):
        code, message = call(capsys, "build", *arguments, "--output", tmp_path / "out", "--dry-run")
        assert code == 2
        assert "--revision v9" in message
        assert message.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_the_old_name_of_deepcache_works_with_a_note(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    shown = {}
    for flags, notes in (((), 0), (("--deepcache",), 0), (("--deep-reuse",), 1)):
        with pytest.raises(SystemExit) as caught:
            main(["build", "demo", "--output", str(tmp_path), *flags, "--dry-run", "--json"])
        out, err = capsys.readouterr()
        shown[flags] = {name: value for name, value in json.loads(out).items() if name != "free_bytes"}
        assert caught.value.code == 0
        assert err.count("--deep-reuse is called --deepcache now") == notes
    assert shown["--deepcache",] == shown["--deep-reuse",] != shown[()]


def test_the_help_names_the_levels_that_need_deepcache() -> None:
    option = next(option for option in build_command.params if option.name == "deepcache")
    first, second = (number for number, acceleration in enumerate(FAST_LEVELS) if acceleration.cache_interval > 1)
    assert isinstance(option, click.Option)
    assert f"`anon-run --fast {first}` and {second} need" in str(option.help)


def test_inspect_shows_what_a_bundle_holds(capsys: pytest.CaptureFixture[str], demo_bundle: Path) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["inspect", str(demo_bundle)])
    text = capsys.readouterr().out
    assert caught.value.code == 0
    for word in ("96 x 96", "dpmpp_sde, 15 steps", "spacing leading", "centerface", "dB from diffusers", "torch "):
        assert word in text
    with pytest.raises(SystemExit):
        main(["inspect", str(demo_bundle), "--json"])
    manifest = Bundle.open(demo_bundle).manifest
    assert Manifest.from_json(capsys.readouterr().out, "here") == manifest


def test_inspect_refuses_what_is_no_bundle(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    code, message = call(capsys, "inspect", tmp_path)
    assert code == 1
    assert "no bundle" in message
    assert message.count("\n") == 1


def messages(path: Path) -> Iterator[str]:
    """The strings of a module that are not docstrings."""
    tree = ast.parse(path.read_text())
    documented = [n for n in ast.walk(tree) if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    docstrings = {id(n.body[0].value) for n in documented if n.body and isinstance(n.body[0], ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
            yield node.value


def test_messages_of_the_library_name_settings_and_the_command_shows_them_as_options() -> None:
    named = set[str]()
    for path in Path(anon_export.__file__).parent.rglob("*.py"):
        if path.name in ("cli.py", "console.py", "contact_sheet.py") or "training" in path.parts:
            continue  # commands
        for message in messages(path):
            assert not re.search(r"(^|[\s`])--[a-z]", message), f"{path}: {message}"
            named |= set(re.findall(r"`(\w+)`", message))
    assert named <= FLAGS.keys()
    assert {"faces", "output", "revision"} <= named
    assert in_flags("`batch_size` 3:2:1 and `as_json`", FLAGS) == "--batch-size 3:2:1 and --json"
