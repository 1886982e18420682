from pathlib import Path

import numpy as np
import pytest

from anon_export.quantization.recording import generate_images, record_calls, write_requests
from anon_runtime import Anonymizer, Settings
from anon_runtime.bundle.bundle import Bundle

pytestmark = pytest.mark.usefixtures("export_packages")


def test_requests_are_of_different_people_and_the_same_in_every_build() -> None:
    requests = write_requests(6, seed=1)
    assert requests == write_requests(6, seed=1)
    assert len({request.prompt for request in requests}) == 6
    assert len({request.seed for request in (*requests, *write_requests(6, seed=2))}) == 12
    assert not {r.prompt for r in requests} & {r.prompt for r in write_requests(6, seed=2)}
    assert all("closeup portrait photo of a" in request.prompt for request in requests)


def test_all_noise_levels_and_both_prompts_are_recorded(anonymizer: Anonymizer) -> None:
    bundle, unet, said = anonymizer.engines.bundle, anonymizer.engines["unet"], list[str]()
    requests = write_requests(2, seed=1)
    calls = record_calls(bundle, unet, requests, said.append)
    levels = anonymizer.using(Settings(guard="off")).generator.schedule.timesteps
    assert [call.timestep for call in calls] == [*np.repeat(levels.astype(np.float32), 2)] * 2
    assert {len(call.inputs["sample"]) for call in calls} == {1}
    prompts = [call.inputs["encoder_hidden_states"] for call in calls[:4]]
    assert (prompts[0] != prompts[1]).any()
    np.testing.assert_array_equal(prompts[0], prompts[2])
    assert said == ["recording image 1 of 2", "recording image 2 of 2"]
    for call in (calls[0], calls[-1]):
        alone = np.asarray(unet(call.inputs)["out_sample"], np.float32)
        np.testing.assert_allclose(alone, call.output, atol=1e-4)


def test_images_are_those_of_the_bundle_with_another_unet(demo_bundle: Path, anonymizer: Anonymizer) -> None:
    bundle, requests, said = Bundle.read(demo_bundle), write_requests(1, seed=2), list[str]()
    image = generate_images(bundle, anonymizer.engines["unet"], requests, said.append)[0]
    np.testing.assert_array_equal(image, np.asarray(anonymizer.generate(requests)[0].image))
    assert said == ["image 1 of 1"]
