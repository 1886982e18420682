from pathlib import Path

import numpy as np
import pytest

from anon_runtime.errors import UsageError
from benchmarks.evaluate.labels import Labels, age_bands, make_groups, read_names
from benchmarks.evaluate.pairs import ImageFile

IMAGES = [ImageFile(name, Path(f"{name}.jpg")) for name in ("a", "b", "sub/c")]


def write(folder: Path, text: str) -> Path:
    path = folder / "labels.csv"
    path.write_text(text)
    return path


def test_labels_follow_the_originals(tmp_path: Path) -> None:
    path = write(tmp_path, "file,Male,ethnicity,age\nsub/c.jpg,1,white,34.5\na.png,0,,\nz.jpg,1,black,3\n")
    labels = Labels.read(path, IMAGES)
    np.testing.assert_array_equal(labels.numbers("Male"), [0, np.nan, 1])
    np.testing.assert_array_equal(labels.numbers("age"), [np.nan, np.nan, 34.5])
    assert labels.text("ethnicity") == ["", "", "white"]
    assert np.isnan(labels.numbers("Smiling")).all(), "the column does not exist"


@pytest.mark.parametrize(
    ("text", "why"),
    [("name,Male\na.jpg,1\n", "column 'file'"), ("file,Male\nz.jpg,1\n", "no row"), ("file,Male\na.jpg,yes\n", "Male")],
)
def test_labels_that_cannot_be_used_are_refused(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        Labels.read(write(tmp_path, text), IMAGES)
    with pytest.raises(UsageError, match="No such file"):
        Labels.read(tmp_path / "nowhere.csv", IMAGES)


def test_a_list_of_names(tmp_path: Path) -> None:
    path = tmp_path / "list"
    path.write_text("sub/c\n\nb.png\nunknown\n")
    assert read_names(path, IMAGES).tolist() == [False, True, True]
    path.write_text("unknown\n")
    with pytest.raises(UsageError, match="names no original"):
        read_names(path, IMAGES)
    with pytest.raises(UsageError, match="No such file"):
        read_names(tmp_path / "nowhere", IMAGES)


def test_groups() -> None:
    ethnicity, sex = ["white", "asian", "", "white"], ["man", "woman", "", "woman"]
    groups = make_groups(ethnicity, sex, np.array([19.9, 20, np.nan, 80]))
    assert {name: mask.nonzero()[0].tolist() for name, mask in groups.items()} == {
        "ethnicity: asian": [1],
        "ethnicity: white": [0, 3],
        "sex: woman": [1, 3],
        "sex: man": [0],
        "age: 0 to 19": [0],
        "age: 20 to 39": [1],
        "age: 60 and over": [3],
    }
    assert age_bands(np.array([19.9, 20, np.nan, 80])) == ["age: 0 to 19", "age: 20 to 39", "", "age: 60 and over"]
