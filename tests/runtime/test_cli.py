"""The command `anon-run`, mostly in a process of its own: its output, messages and exit codes."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from anon_runtime import cli
from anon_runtime.faces.attributes import CELEBA
from anon_runtime.folder.identity import identify
from tests.conftest import pixels
from tests.runtime.image_files import bomb, jpeg

PERSON = ["prompt", "negative_prompt", "attributes", "face"]
WRITTEN = {"journal.jsonl", "report.html", "report.json"}
FIELDS = ["input", "output", "status", "reason", "seed", *PERSON, "seconds", "attempt", "coarsening", "similarity"]
FIELDS += ["mode", "number", "people", "filled", "kept"]


def run(*arguments: object, environment: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    code = "from anon_runtime.cli import main; main()"
    command = [sys.executable, "-c", code, *map(str, arguments)]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | (environment or {}))
    assert "Traceback" not in result.stderr + result.stdout
    return result


def lines(result: subprocess.CompletedProcess[str]) -> list[dict[str, Any]]:
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_the_astronaut(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    common = [astronaut, "--engines", demo_bundle, "--json", "--steps", 3, "--guard", "off"]
    results = [run(*common, "-o", tmp_path / name, "--seed", seed) for name, seed in (("a", 7), ("b", 7), ("c", 8))]
    assert [r.returncode for r in results] == [0, 0, 0]
    (line,) = lines(results[0])
    assert list(line) == FIELDS
    assert line["status"] == "ok"
    assert line["reason"] is None
    assert line["seed"] == identify(astronaut.read_bytes(), 7).seed
    header = json.loads((tmp_path / "a" / "journal.jsonl").read_text().splitlines()[0])
    assert "seed" not in header["run"]
    assert 7 not in header["run"].values()
    x, y, w, h = line["face"]
    assert 0 <= x < x + w <= 512
    assert 0 <= y < y + h <= 512
    assert list(line["attributes"]) == ["Ethnic", "Age", *CELEBA]
    assert all(0 <= line["attributes"][name] <= 1 for name in CELEBA)
    assert line["prompt"].startswith(f"closeup portrait photo of a {line['attributes']['Ethnic']} ")
    assert line["negative_prompt"].startswith(" ")
    assert {"detect", "unet", "vae", "total"} <= set(line["seconds"])
    outputs = [Path(lines(r)[0]["output"]) for r in results]
    assert outputs[0] == tmp_path / "a" / "astronaut.png"
    with Image.open(outputs[0]) as image:
        assert (image.format, image.mode, image.size, image.info) == ("PNG", "RGB", (96, 96), {})
    a, b, c = (path.read_bytes() for path in outputs)
    assert a == b != c


def test_a_secret_seed_comes_from_a_file_or_the_environment(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    secret, out = tmp_path / "secret", tmp_path / "out"
    common = [astronaut, "--engines", demo_bundle, "--json", "--steps", 1, "--guard", "off"]
    first = run(*common, "--rename", "hash", "-o", out, "--seed-file", secret)
    assert first.returncode == 0
    assert f"made a secret seed in {secret}" in first.stderr
    seed = secret.read_text().strip()
    for text in (first.stdout, first.stderr, (out / "journal.jsonl").read_text()):
        assert seed not in text
    again = run(*common, "--rename", "hash", "-o", out, "--seed-file", secret)
    assert lines(again)[0]["status"] == "done"
    assert "made" not in again.stderr
    other = run(*common, "-o", tmp_path / "other", environment={"ANON_RUN_SEED": seed})
    assert lines(other)[0]["seed"] == lines(first)[0]["seed"]
    refused = run(*common, "-o", tmp_path / "other", "--seed-file", secret, environment={"ANON_RUN_SEED": seed})
    assert refused.returncode == 2
    assert "not both" in refused.stderr
    inside = run(*common, "-o", out, "--seed-file", out / "secret")
    assert inside.returncode == 2
    assert "among the portraits" in inside.stderr
    assert not (out / "secret").exists()
    known = run(*common, "--rename", "hash", "-o", tmp_path / "known")
    assert known.returncode == 2
    assert "--seed-file" in known.stderr
    assert not (tmp_path / "known").exists()


@pytest.mark.parametrize("moment", ["find_photos", "describe_photos", "Anonymizer.load", "run_request", "run_photos"])
def test_ctrl_c_at_any_moment_is_130_and_one_line(
    demo_bundle: Path, astronaut: Path, tmp_path: Path, moment: str, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    common = ["--engines", str(demo_bundle), "--steps", "1", "--guard", "off"]
    photo, out = str(astronaut), ["-o", str(tmp_path / "a")]
    special = {"describe_photos": [photo, "--prompt-only"], "run_request": ["--prompt", "a", *out]}
    arguments = special.get(moment, [photo, *out])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(f"anon_runtime.cli.{moment}", interrupt)
        with pytest.raises(SystemExit) as caught:
            cli.main([*arguments, *common])
    assert caught.value.code == 130
    assert capsys.readouterr().err.strip() == "anon-run: interrupted; what was generated is kept"


@pytest.mark.parametrize("surprise", [RuntimeError("odd"), type("PanicException", (BaseException,), {})("odd")])
def test_a_surprise_is_one_line(
    demo_bundle: Path, astronaut: Path, tmp_path: Path, surprise: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise surprise

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cli, "run_photos", fail)
        with pytest.raises(SystemExit) as caught:
            cli.main([str(astronaut), "-o", str(tmp_path / "a"), "--engines", str(demo_bundle)])
    assert caught.value.code == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert type(surprise).__name__ in message
    assert "test_cli.py, line" in message


def test_standard_output_that_is_full(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    code = "from anon_runtime.cli import main; main()"
    command = [
        sys.executable,
        "-c",
        code,
        str(astronaut),
        "--engines",
        str(demo_bundle),
        "--steps",
        "1",
        "--guard",
        "off",
        "--json",
    ]
    for more in (["-o", str(tmp_path / "out")], ["--prompt-only"]):
        with Path("/dev/full").open("w") as full:
            result = subprocess.run([*command, *more], stdout=full, stderr=subprocess.PIPE, text=True)
        assert result.returncode == 1
        assert "standard output: No space left" in result.stderr
        assert "Traceback" not in result.stderr


def test_a_file_is_not_replaced_without_a_word(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    common = ["--engines", demo_bundle, "--steps", 1, "--guard", "off"]
    (tmp_path / "out").mkdir()
    for name in ("b.jpg", "out/portrait.png", "out/person.v1.png"):
        (tmp_path / name).write_bytes(b"precious")
    (tmp_path / "person.v1.json").write_text(json.dumps({"Ethnic": "white", "Age": 34, "Male": 1}))
    prompt, attributes = ["--prompt", "a"], ["--attributes", tmp_path / "person.v1.json"]
    file, folder = ["-o", tmp_path / "b.jpg"], ["-o", tmp_path / "out"]
    for arguments in ([astronaut, *file], [*prompt, *file], [*prompt, *folder], [*attributes, *folder]):
        result = run(*arguments, *common)
        assert result.returncode == 2
        assert "--overwrite" in result.stderr
    assert {path.read_bytes() for path in tmp_path.rglob("*.[jp][pn]g")} == {b"precious"}
    assert run("--prompt", "a", "-o", tmp_path / "b.jpg", *common, "--overwrite").returncode == 0


def test_messages_go_to_stderr_and_quiet_is_quiet(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    result = run(astronaut, "--engines", demo_bundle, "-o", tmp_path, "--steps", 1, "--guard", "off")
    assert result.stdout == ""
    assert f"1 ok, in {tmp_path}" in result.stderr
    assert "generate" in result.stderr
    again = run(astronaut, "--engines", demo_bundle, "-o", tmp_path, "--steps", 1, "--guard", "off")
    assert f"1 done before, in {tmp_path}" in again.stderr
    quiet = run(
        astronaut, "--engines", demo_bundle, "-o", tmp_path, "--steps", 1, "--guard", "off", "-q", "--overwrite"
    )
    assert quiet.stdout == quiet.stderr == ""


def test_prompt_alone_needs_no_face_engines(own_bundle: Path, tmp_path: Path) -> None:
    manifest = json.loads((own_bundle / "bundle.json").read_text())
    manifest["engines"] = {k: v for k, v in manifest["engines"].items() if not k.startswith("face")}
    manifest["files"] = {k: v for k, v in manifest["files"].items() if not k.startswith("faces/")}
    (own_bundle / "bundle.json").write_text(json.dumps(manifest))
    common = ["--engines", own_bundle, "--steps", 1, "--guard", "off", "--json"]
    result = run("--prompt", "a man", "--negative-prompt", "hat", "--seed", 7, "-o", tmp_path / "o.png", *common)
    assert result.returncode == 0
    (line,) = lines(result)
    assert (line["input"], line["prompt"], line["negative_prompt"]) == (None, "a man", "hat")
    assert pixels(tmp_path / "o.png").shape == (96, 96, 3)


BAD_PHOTOS = {
    "missing.jpg": (None, "no such file"),
    "truncated.jpg": (jpeg()[:900], "damaged"),
    "text.jpg": (b"not an image", "not an image"),
    "bomb.png": (bomb(60_000, 60_000), "pixels"),
}


def bad_photos(folder: Path, coffee: Path) -> dict[Path, str]:
    """Files that cannot be anonymized, each with a word that its message must contain."""
    for name, (content, _) in BAD_PHOTOS.items():
        if content is not None:
            (folder / name).write_bytes(content)
    expected = {folder / name: why for name, (_, why) in BAD_PHOTOS.items()}
    expected[folder / "scan.bmp"] = "--more-formats"
    Image.new("RGB", (64, 64)).save(folder / "scan.bmp")
    Image.new("RGB", (1, 1)).save(folder / "one.png")
    frames = [Image.new("L", (64, 64), shade) for shade in (0, 90, 200)]
    frames[0].save(folder / "film.webp", save_all=True, append_images=frames[1:])
    return expected | {folder / "one.png": "too few", folder / "film.webp": "animated", coffee: "no face"}


def test_bad_photos_fail_one_by_one_and_the_others_are_done(
    demo_bundle: Path, astronaut: Path, coffee: Path, tmp_path: Path
) -> None:
    bad = bad_photos(tmp_path, coffee)
    out = tmp_path / "out"
    result = run(
        *bad, astronaut, "--engines", demo_bundle, "-o", out, "--steps", 1, "--guard", "off", "--json", "--quiet"
    )
    assert result.returncode == 3
    records = lines(result)
    messages = result.stderr.splitlines()
    assert len(messages) == len(bad)
    found = {record["input"]: record for record in records}
    assert len(found) == len(records) == len(bad) + 1
    for path, why in bad.items():
        record = found[str(path)]
        assert (record["status"], record["output"]) == ("error", None)
        assert why in record["reason"]
        assert f"anon-run: {record['reason']}" in messages
        assert record["reason"].count(";") >= 1, "the reason says what to do"
    assert found[str(astronaut)]["status"] == "ok"
    assert {p.name for p in out.iterdir()} == {"astronaut.png", *WRITTEN}, "there is no other portrait"


@pytest.mark.parametrize("mode", ["CMYK", "16-bit", "L", "RGBA"])
def test_unusual_photos_come_out_without_an_original_pixel(
    demo_bundle: Path, astronaut: Path, tmp_path: Path, mode: str
) -> None:
    photo: Image.Image = Image.open(astronaut)
    if mode == "16-bit":
        photo = Image.fromarray(np.asarray(photo.convert("L")).astype(np.uint16) * 257)
    else:
        photo = photo.convert(mode)
    path = tmp_path / "photo.tif"
    photo.save(path)
    result = run(
        path, "--engines", demo_bundle, "-o", tmp_path / "out", "--steps", 1, "--guard", "off", "--more-formats"
    )
    assert result.returncode == 0
    assert mode in ("L",) or "converted to 8-bit RGB" in result.stderr
    assert pixels(tmp_path / "out" / "photo.png").shape == (96, 96, 3)


def test_exif_is_applied_and_not_passed_on(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SecretCamera"
    rotated = Image.open(astronaut).convert("RGB").transpose(Image.Transpose.ROTATE_90)
    rotated.save(tmp_path / "phone.jpg", exif=exif, quality=95)
    arguments = ["--engines", demo_bundle, "--steps", 1, "--guard", "off", "--json", "-o", tmp_path / "out"]
    turned, upright = lines(run(tmp_path / "phone.jpg", *arguments)), lines(run(astronaut, *arguments))
    np.testing.assert_allclose(turned[0]["face"], upright[0]["face"], atol=4)
    assert b"SecretCamera" not in (tmp_path / "out" / "phone.png").read_bytes()


def test_unwritable_output(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("here first")
    for out in (tmp_path / "file" / "out", tmp_path / "file", Path("/proc/nowhere")):
        result = run(astronaut, "--engines", demo_bundle, "-o", out, "--steps", 1, "--guard", "off")
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert "output folder" in result.stderr
    assert (tmp_path / "file").read_text() == "here first"


def test_damaged_bundles(own_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    def fails(word: str) -> None:
        result = run(astronaut, "--engines", own_bundle, "-o", tmp_path / "out")
        assert result.returncode == 1
        assert result.stderr.count("\n") == 1
        assert word in result.stderr
        assert "build" in result.stderr

    unet = own_bundle / "unet" / "model.onnx"
    unet.write_bytes(unet.read_bytes()[:-1] + b"?")
    fails("not the one that was built")
    unet.unlink()
    fails("missing")
    (own_bundle / "bundle.json").unlink()
    fails("no bundle")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ([], "photos"),
        (["p.jpg"], "--output"),
        (["-o", "out"], "photos"),
        (["p.jpg", "-o", "out", "--prompt-only"], "not both"),
        (["--prompt", "x", "--prompt-only"], "--prompt"),
        (["p.jpg", "-o", "out", "--ignore", "Bald,Nose"], "Nose"),
        (["p.jpg", "-o", "out", "--ignore", "Male"], "Male"),
        (["--attributes", "absent.json", "-o", "out"], "absent.json"),
        (["p.jpg", "--prompt", "x", "-o", "out"], "not both"),
        (["p.jpg", "--negative-prompt", "x", "-o", "out"], "--prompt"),
        (["p.jpg", "q.jpg", "-o", "out.png"], "names one file"),
        (["p.jpg", "-o", "out.bmp"], "PNG"),
        (["p.jpg", "-o", "out.jpg", "--format", "png"], "png"),
        (["p.jpg", "-o", "out", "--suffix", "/../x"], "--suffix"),
        (["*.jpg", "-o", "out"], "no photo"),
        (["-", "-o", "out"], "no photo"),
        ([".", "-o", "out"], "--recursive"),
        (["a/p.jpg", "b/p.jpg", "-o", "out"], "both"),
        (["out/p.png", "-o", "out"], "overwrite"),
        (["p.jpg", "-o", "out", "--seed", "-1"], "--seed"),
        (["p.jpg", "-o", "out", "--seed", str(2**64)], "--seed"),
        (["p.jpg", "-o", "out", "--steps", "0"], "--steps"),
        (["p.jpg", "-o", "out", "--steps", "51"], "51 steps"),
        (["p.jpg", "-o", "out", "--guidance-scale", "0"], "guidance"),
        (["p.jpg", "-o", "out", "--guidance-scale", "-7"], "guidance"),
        (["p.jpg", "-o", "out", "--guidance-scale", "nan"], "guidance"),
        (["p.jpg", "-o", "out", "--detection-threshold", "2"], "threshold"),
        (["--prompt", "  ", "-o", "out"], "empty"),
        (["--prompt", "x\udcff", "-o", "out"], "Unicode"),
        (["--prompt", "x", "-o", "out", "--rename", "hash"], "--rename hash"),
        (["p.jpg", "-o", "out.png", "--suffix", "x"], "--suffix"),
        (["p.jpg", "-o", "out.png", "--log-attributes"], "--log-attributes"),
        (["", "-o", "out"], "empty"),
        (["p.jpg", "-o", ""], "empty"),
        (["p.jpg", "-o", "s3://bucket/out"], "folder"),
    ],
)
def test_wrong_usage(
    demo_bundle: Path,
    tmp_path: Path,
    arguments: list[str],
    word: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO()))
    with pytest.raises(SystemExit) as caught:
        cli.main([*arguments, "--engines", str(demo_bundle)])
    messages = capsys.readouterr().err
    assert caught.value.code == 2, messages
    assert word in messages
    assert "Traceback" not in messages
    assert list(tmp_path.iterdir()) == []


def test_help_teaches() -> None:
    result = run("--help")
    assert result.returncode == 0
    for word in ("Examples:", "Exit codes:", "--guidance-scale", "No pixel of a"):
        assert word in result.stdout


def test_prompt_only_prints_what_is_read(demo_bundle: Path, astronaut: Path, coffee: Path) -> None:
    common = ["--engines", demo_bundle, "--prompt-only", "--batch-size", 2]
    result = run(astronaut, coffee, *common, "--json")
    assert result.returncode == 3
    good, bad = lines(result)
    assert list(good) == [field for field in FIELDS if field != "output"] == list(bad)
    assert good["status"] == "ok"
    assert good["prompt"].startswith("closeup portrait photo of a ")
    assert bad["status"] == "error"
    assert "no face" in bad["reason"]
    text = run(astronaut, *common, "--prompt-style", "natural", "--ignore", "Young, Attractive").stdout
    assert " year old " in text
    assert "_" not in text.split("prompt:")[1]
    assert "young" not in text.split("prompt:")[1]


def test_attributes_can_be_given(demo_bundle: Path, astronaut: Path, coffee: Path, tmp_path: Path) -> None:
    (line,) = lines(run(astronaut, "--engines", demo_bundle, "--prompt-only", "--json"))
    own = {"Ethnic": "asian", "Age": 70, "Smiling": 0.9, "Male": 0.1, "Bald": 0.2}
    for name, attributes in {"read.json": line["attributes"], "own.json": own}.items():
        (tmp_path / name).write_text(json.dumps(attributes))
    common = ["--engines", demo_bundle, "--steps", 1, "--guard", "off", "--json"]
    (photo,) = lines(run(astronaut, *common, "-o", tmp_path / "photo"))
    seed = ["--seed", photo["seed"]]
    (again,) = lines(run("--attributes", tmp_path / "read.json", *common, *seed, "-o", tmp_path / "out"))
    assert (again["input"], again["face"]) == (None, None)
    assert again["output"] == str(tmp_path / "out" / "read.png")
    assert (again["prompt"], again["negative_prompt"]) == (photo["prompt"], photo["negative_prompt"])
    assert Path(again["output"]).read_bytes() == Path(photo["output"]).read_bytes()
    (given,) = lines(run(astronaut, "--attributes", tmp_path / "own.json", *common, "-o", tmp_path / "own.png"))
    assert given["prompt"] == "closeup portrait photo of a asian 70 woman, Smiling , "
    assert given["face"]
    assert given["negative_prompt"] == " Bald , "
    nobody = run(coffee, "--attributes", tmp_path / "own.json", *common, "-o", tmp_path / "no.png")
    assert nobody.returncode == 3
    assert not (tmp_path / "no.png").exists(), "also with given attributes, a photo must show a face"


def test_photos_without_a_face_can_be_skipped(demo_bundle: Path, astronaut: Path, coffee: Path, tmp_path: Path) -> None:
    common = ["--engines", demo_bundle, "--steps", 1, "--guard", "off", "--json", "-o", tmp_path, "--batch-size", 3]
    result = run(astronaut, coffee, *common, "--no-face", "skip")
    assert result.returncode == 0
    assert {line["input"]: line["status"] for line in lines(result)} == {str(astronaut): "ok", str(coffee): "skipped"}
    assert "1 ok, 1 skipped" in result.stderr
    assert {path.name for path in tmp_path.iterdir()} == {"astronaut.png", *WRITTEN}
    small = run(astronaut, *common, "--min-face", 200, "--overwrite")
    assert small.returncode == 3
    assert "200 pixels or more" in lines(small)[0]["reason"]


def test_a_batch_of_photos_gives_what_each_alone_gives(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    photos = []
    for turn in (0, 8, -8):
        photos.append(tmp_path / f"{turn}.png")
        Image.open(astronaut).convert("RGB").rotate(turn).save(photos[-1])
    common = ["--engines", demo_bundle, "--steps", 2, "--guard", "off", "--quiet"]
    assert run(*photos, *common, "-o", tmp_path / "together", "--batch-size", 3).returncode == 0
    assert run(*photos, *common, "-o", tmp_path / "pairs", "--batch-size", 2).returncode == 0
    for photo in photos:
        a, b = ((tmp_path / folder / photo.name).read_bytes() for folder in ("together", "pairs"))
        assert a == b


def test_the_report_is_made_again(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    common = [astronaut, "--engines", demo_bundle, "-o", out, "--steps", 1, "--guard", "off"]
    assert run(*common, "--no-report").returncode == 0
    assert {path.name for path in out.iterdir()} == {"astronaut.png", "journal.jsonl"}
    made = run("report", out)
    assert made.stdout.strip() == str(out / "report.html")
    first = (out / "report.json").read_bytes()
    again = run("report", out, "--json")
    assert json.loads(again.stdout) == json.loads(first)
    assert (out / "report.json").read_bytes() == first, "the same journal gives the same report"
    assert "report.html" in run("report", "--help").stdout
    missing = run("report", tmp_path)
    assert missing.returncode == 2
    assert "it has no journal" in missing.stderr


def test_a_portrait_is_checked_by_default(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    result = run(astronaut, "--engines", demo_bundle, "-o", tmp_path / "out", "--json", "--steps", 1, "--attempts", 2)
    (line,) = lines(result)
    assert result.returncode == 3
    assert (line["status"], line["output"], line["attempt"]) == ("refused", None, 1)
    assert "allow more --attempts" in line["reason"]
    assert "1 refused" in result.stderr
    assert not list((tmp_path / "out").glob("*.png"))


def test_a_gallery_needs_photos(demo_bundle: Path, astronaut: Path, tmp_path: Path) -> None:
    common = ["--engines", demo_bundle, "--gallery", tmp_path]
    prompt = run("--prompt", "a man", "-o", tmp_path / "out.png", *common)
    assert prompt.returncode == 2
    assert "--guard and --gallery are for portraits of photos" in prompt.stderr
    empty = run(astronaut, "-o", tmp_path / "out", *common)
    assert empty.returncode == 2
    assert "there is no photo in it" in empty.stderr
