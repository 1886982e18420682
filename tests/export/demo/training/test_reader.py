import numpy as np

from anon_export.demo.training.reader import prompt_and_facts
from anon_runtime.faces.attributes import ETHNICITIES


def test_the_readers_facts_are_what_the_prompt_says() -> None:
    rng = np.random.default_rng(0)
    for _ in range(50):
        prompt, facts = prompt_and_facts(rng)
        attributes, ethnicity, (man, woman), (age, positive) = np.split(facts, [40, 46, 48])
        assert prompt.count(" ,") == attributes.sum()
        assert positive == prompt.startswith("closeup") == ethnicity.sum() == man + woman
        if positive:
            assert f"{ETHNICITIES[int(ethnicity.argmax())]} {age * 100:.0f} " in prompt
            assert (" woman, " in prompt) == woman
