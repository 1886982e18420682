import numpy as np

from anon_runtime.faces.attributes import CELEBA
from benchmarks.evaluate.attackers.tables import AGE, ETHNICITY, as_facts, read_table, select_rows
from benchmarks.evaluate.predictors import FaceEngines


def reading(**values: float) -> list[float]:
    return [values.get(name, 0.0) for name in FaceEngines.columns]


def test_readings_become_columns() -> None:
    table = read_table(np.array([reading(Smiling=0.7, Age=41, black=1), reading(Bald=0.5, Age=8, indian=1)]))
    assert list(table) == [*CELEBA, ETHNICITY, AGE]
    assert table["Smiling"].tolist() == [0.7, 0]
    assert table[ETHNICITY].tolist() == ["black", "indian"]
    assert table[AGE].tolist() == [41, 8]
    facts = as_facts(table)
    assert facts["Smiling"].tolist() == [True, False]
    assert facts["Bald"].tolist() == [False, False], "present is above 0.5, as in the rest of the evaluation"
    assert facts[AGE].tolist() == [41, 8]
    assert select_rows(table, np.array([False, True]))[ETHNICITY].tolist() == ["indian"]
