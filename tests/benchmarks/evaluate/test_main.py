"""The command, from two folders to a report."""

import json
import shutil
from pathlib import Path
from typing import NoReturn

import pytest
from huggingface_hub import constants
from PIL import Image, ImageEnhance

from benchmarks.evaluate.encoders import ENCODERS, Dlib
from benchmarks.evaluate.report import paper_tables
from benchmarks.evaluate.report.markdown import lines

pytestmark = pytest.mark.packages
pytest.importorskip("matplotlib")
from benchmarks.evaluate.__main__ import main  # noqa: E402 - it imports matplotlib

FACES = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, astronaut: Path) -> Path:
    """``photos``: twelve images of one face; ``same``: copies; ``shuffled``: copies under each other's names."""
    root = tmp_path_factory.mktemp("evaluate")
    for name in ("photos", "same", "shuffled"):
        (root / name).mkdir()
    rows = ["file,ethnicity,Male,age"]
    with Image.open(astronaut) as photo:
        face = photo.convert("RGB").crop((70, 0, 430, 360)).resize((160, 160))
    for i in range(FACES):
        ImageEnhance.Color(face.rotate(2 * i - 12)).enhance(0.2 * i).save(root / "photos" / f"{i:02}.png")
        rows.append(f"{i:02}.png,white,0,{30 + i}")
    for i in range(FACES):
        shutil.copy(root / "photos" / f"{i:02}.png", root / "same" / f"{i:02}.png")
        shutil.copy(root / "photos" / f"{i:02}.png", root / "shuffled" / f"{(i + 5) % FACES:02}.png")
    (root / "shuffled" / "03.png").unlink()
    (root / "photos" / "damaged.png").write_bytes(b"no image")
    (root / "labels.csv").write_text("\n".join(rows))
    (root / "held-out").write_text("\n".join(f"{i:02}" for i in range(10)))
    return root


@pytest.fixture(autouse=True)
def nothing_downloaded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))


@pytest.fixture(scope="module")
def out(folders: Path, demo_bundle: Path) -> Path:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(constants, "HF_HUB_CACHE", str(folders))
        patch.setenv("TORCH_HOME", str(folders))
        patch.setenv("HOME", str(folders))
        assert main(arguments(folders, demo_bundle)) == 0
    return folders / "report"


def arguments(folders: Path, bundle: Path) -> list[str]:
    return [
        *(str(folders / "photos"), f"same={folders / 'same'}", f"shuffled={folders / 'shuffled'}"),
        *("--labels", str(folders / "labels.csv"), "--held-out", str(folders / "held-out")),
        *("--training-set", str(folders / "photos"), "--identity", str(folders / "labels.csv")),
        *("--baselines", "mask", "--engines", str(bundle), "-o", str(folders / "report")),
    ]


def test_the_report_has_every_row_or_names_what_is_missing(out: Path) -> None:
    figures = json.loads((out / "report.json").read_text())
    for name in (*ENCODERS, "DeepFace", "HSEmotion", "FID (clean-fid)", "FID (torch-fidelity)", "Visual DNA"):
        table = next(figures[table] for table in ("reid", "utility", "quality") if name in figures[table])
        assert "methods" in table[name] or "missing: " in table[name]["missing"]
    text = (out / "report.md").read_text()
    assert all(f"| {name} |" in text for name in ENCODERS), "Table I"
    assert all(title in text for title in (*paper_tables.UTILITY, *paper_tables.QUALITY)), "Tables II and III"
    assert "hf download openai/clip-vit-base-patch32" in text
    assert "enet_b0_8_va_mtl.onnx" in text
    assert "Inner face, 21 attributes: 5_o_Clock_Shadow, " in text
    assert "Outer face, 17 attributes: Bald, " in text
    assert f"{FACES} originals" in text
    assert "damaged cannot be read and is left out: not an image" in text
    assert "guessing, ethnicity, sex and age band known (held out)" in text
    assert "there is no image of it" in text
    assert "Labels were given for Male, age, ethnicity" in text


def test_copies_are_re_identified_and_strangers_pairs_are_not(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())["reid"]["dlib ResNet"]["methods"]
    assert found["same"]["all"]["Re-ID@1"]["value"] == 1
    assert found["shuffled"]["all"]["Re-ID@1"]["value"] == 0
    assert found["shuffled"]["all"]["Re-ID@1"]["of"] == FACES - 1
    assert found["mask"]["no face"] == FACES
    assert found["same"]["groups"]["held out"]["mAP@50"]["of"] == 10
    assert found["same"]["cmc"]["all"] == found["same"]["cmc"]["held out"] == [1] * 50
    assert sum(found["same"]["different"]) == FACES * (FACES - 1)
    assert sum(found["same"]["same"]) == FACES


def test_other_networks_have_rows(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())["reid"]
    assert found["SFace, of the guard"]["methods"]["same"]["all"]["Re-ID@1"]["value"] == 1
    assert "onnx cannot load it" in found["own network, labels.csv"]["missing"]


def test_copies_of_the_training_set_are_known_as_such(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())["memorisation"]
    assert found["originals in the training set"] == found["training pictures"] == FACES
    assert found["encoders"]["pixels"]["methods"]["same"]["all"]["near copies"]["value"] == 1
    assert found["encoders"]["dlib ResNet"]["methods"]["same"]["all"]["quantiles"]["images"] == pytest.approx([1] * 5)


def test_utility_of_copies_is_the_originals(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())["utility"]["face engines"]
    assert found["same"]["all"] == found["originals"]["all"]
    assert found["mask"]["no face"] == FACES
    assert found["mask"]["all"]["gender accuracy"]["value"] == 0


def test_emotions_are_read_by_the_network_of_a_package(out: Path) -> None:
    found = json.loads((out / "report.json").read_text())["utility"]["fer"]
    assert found["same"] == found["originals"]
    assert found["mask"]["no face"] == FACES
    assert "emotion AUC, fer" in (out / "report.md").read_text()


def test_the_files(out: Path) -> None:
    names = {path.name for path in out.iterdir()}
    assert names == {
        "report.md",
        "report.html",
        "attackers.png",
        "report.json",
        "contact-sheet.html",
        "cache",
        "baselines",
        "cmc-dlib-resnet.png",
        "cmc-sface-of-the-guard.png",
        "similarities-dlib-resnet.png",
        "similarities-sface-of-the-guard.png",
        "attributes.png",
        "k-anonymity.png",
    }
    assert (out / "contact-sheet.html").read_text().count("<img") == 2 * FACES + FACES - 1


def test_a_second_run_embeds_nothing(
    out: Path, folders: Path, demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> NoReturn:
        raise AssertionError("it is in the cache")

    monkeypatch.setattr(Dlib, "embed", refuse)
    monkeypatch.setattr(Dlib, "locate", refuse)
    before = json.loads((out / "report.json").read_text())
    assert main([*arguments(folders, demo_bundle), "--show-originals"]) == 0
    after = json.loads((out / "report.json").read_text())
    assert after["reid"]["dlib ResNet"] == before["reid"]["dlib ResNet"]
    assert after["attributes"] == before["attributes"]
    assert (out / "contact-sheet.html").read_text().count("<img") == 3 * FACES + FACES - 1


@pytest.mark.parametrize(
    ("more", "why"),
    [
        ([], "no method is named"),
        (["same"], "not NAME=FOLDER"),
        (["a=nowhere"], "no such folder"),
        (["a={photos}", "--training-set", "nowhere"], "no such folder"),
        (["a={photos}", "--identity", "nowhere.onnx"], "no such file"),
        (["--tables", "reid,fid", "--baselines", "mask"], "unknown: fid"),
        (["--baselines", "hat"], "unknown: hat"),
        (["{photos}={photos}", "{photos}={photos}"], "the name is taken"),
        (["a={photos}", "--labels", "nowhere.csv"], "No such file"),
        (["--baselines", "mask", "--engines", "nowhere"], "nowhere"),
    ],
)
def test_mistakes_are_one_line(
    folders: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], more: list[str], why: str
) -> None:
    filled = [text.replace("{photos}", str(folders / "photos")) for text in more]
    assert main([str(folders / "photos"), *filled, "-o", str(tmp_path / "out")]) in (1, 2)
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("evaluate: error: ")
    assert why in error


def test_without_a_bundle_the_other_rows_run(folders: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    options = ["--engines", str(tmp_path / "nowhere"), "--tables", "reid,utility,attributes", "-o", str(out)]
    assert main([str(folders / "photos"), f"same={folders / 'same'}", *options]) == 0
    figures = json.loads((out / "report.json").read_text())
    assert figures["reid"]["dlib ResNet"]["methods"]["same"]["all"]["Re-ID@1"]["value"] == 1
    assert "nowhere" in figures["utility"]["face engines"]["missing"]
    assert "missing" in figures["attributes"]
    assert "nowhere" in (out / "report.md").read_text()


def test_help_has_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(word in text for word in ("NAME=ANONYMIZED", "--rename hash", "biometric", "examples:", "--held-out"))


def test_bars_do_not_break_a_table() -> None:
    assert lines(["a", "b"], [["x|y", "two\nlines"]])[-1] == "| x\\|y | two lines |"
