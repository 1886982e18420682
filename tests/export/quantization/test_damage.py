from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from anon_export.quantization.damage import check_damage, measure_damage
from anon_export.quantization.recording import generate_images, record_calls, write_requests
from anon_runtime import Anonymizer
from anon_runtime.bundle.manifest import Damage
from anon_runtime.errors import AnonError
from anon_runtime.types import Array, Arrays

pytestmark = pytest.mark.usefixtures("export_packages")
FINE = Damage(16, ((900.0, 0.01), (10.0, 0.05)), 30.0, 20.0, 0.98, 1.0, ("conv",))


def test_an_exact_unet_has_none_and_a_bad_one_is_measured(anonymizer: Anonymizer) -> None:
    bundle, unet = anonymizer.engines.bundle, anonymizer.engines["unet"]

    def worse(inputs: Mapping[str, Array], /) -> Arrays:
        return {"out_sample": np.asarray(unet(inputs)["out_sample"], np.float32) * np.float32(0.9)}

    requests = write_requests(3, seed=2)
    calls = record_calls(bundle, unet, requests[:1], lambda _: None)
    exact, bad = (generate_images(bundle, engine, requests, lambda _: None) for engine in (unet, worse))
    none = measure_damage(bundle, unet, calls, exact, exact, ["conv"])
    assert max(error for _, error in none.rms) < 1e-5
    assert (none.images, none.psnr, none.agreement, none.one_face) == (3, 999.0, 1.0, 1.0)
    assert [timestep for timestep, _ in none.rms] == sorted({call.timestep for call in calls}, reverse=True)
    some = measure_damage(bundle, worse, calls, bad, exact, [])
    assert [error for _, error in some.rms] == pytest.approx([0.1] * len(some.rms), rel=1e-4)
    assert some.worst_psnr <= some.psnr < 40
    assert some.agreement is not None
    assert some.agreement < 1
    black = measure_damage(bundle, unet, calls, [np.zeros_like(image) for image in exact], exact, [])
    assert (black.agreement, black.one_face) == (0.0, 0.0)
    faceless = replace(bundle, manifest=replace(bundle.manifest, engines={}))
    assert measure_damage(faceless, unet, calls, exact, exact, []).agreement is None


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"rms": ((900.0, 0.01), (10.0, 0.36))}, "its outputs differ by 0.36 of their size"),
        ({"rms": ((900.0, 0.01), (10.0, np.nan))}, "its outputs differ by nan of their size"),
        ({"psnr": 14.9}, r"PSNR 14.9 dB"),
        ({"psnr": np.nan}, r"PSNR nan dB"),
        ({"agreement": 0.89}, "0.890 of the attributes of its images are the same"),
    ],
)
def test_a_unet_that_costs_too_much_is_refused(change: dict[str, Any], why: str) -> None:
    check_damage(FINE, "int8")
    check_damage(replace(FINE, agreement=None), "int8")
    with pytest.raises(AnonError, match=f"the UNet in int8: .*{why}.*build with `precision` fp32"):
        check_damage(replace(FINE, **change), "int8")
