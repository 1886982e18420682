"""The price of the levels of fast mode: on the demo, and with generators that take as long as a test says."""

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from anon_export import measure_levels
from anon_export.cli import main
from anon_runtime import Portrait, Request
from anon_runtime.backends.engines import Engines
from anon_runtime.bundle.bundle import Bundle
from anon_runtime.fast_help import describe_levels

Generate = Callable[[Sequence[Request]], list[Portrait]]


class Painter:
    """A generator whose images are noise of their seed, and darker by its level; it takes the seconds that it gets."""

    def __init__(self, level: int, seconds: Sequence[float]) -> None:
        self.level, self.seconds, self.calls = level, list(seconds), list[Request]()

    def generate(self, requests: Sequence[Request]) -> list[Portrait]:
        (request,) = requests
        self.calls.append(request)
        noise = np.random.default_rng(request.seed).integers(50, 200, (96, 96, 3), np.uint8)
        image = Image.fromarray(noise - np.uint8(self.level))
        seconds = {"unet": self.seconds.pop(0), "vae": 9.0}
        return [Portrait(image, request.prompt, request.negative_prompt, request.seed, seconds=seconds)]


def test_a_level_is_compared_with_the_exact_image_of_the_same_request(
    demo_bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The exact painter is called twice in each turn; the second image has another seed."""
    painters = {"0": Painter(0, [8, 4, 6, 3, 90, 9]), "1": Painter(3, [4, 2, 10]), "2": Painter(7, [2, 1, 30])}
    monkeypatch.setattr(measure_levels, "_load_generators", lambda _: painters)
    said: list[tuple[int, int]] = []
    with Engines(Bundle.read(demo_bundle)) as engines:
        costs = measure_levels.measure(engines, 3, lambda *counts: said.append(counts))
    assert said == [(done, 12) for done in range(13)]
    assert costs.images == 3
    speeds = {level: cost.speed for level, cost in costs.levels.items()}
    assert speeds == {"1": 3.0, "2": 4.0}  # medians of 8/4, 6/2, 90/10, and of 8/2, 6/1, 90/30
    assert costs.other_seeds.speed == 2.0  # the median of 8/4, 6/3, 90/9
    near = {level: cost.psnr for level, cost in costs.levels.items()}
    assert near == {"1": pytest.approx(20 * np.log10(255 / 3)), "2": pytest.approx(20 * np.log10(255 / 7))}
    assert costs.other_seeds.psnr < 20
    assert costs.other_seeds.agreement is None  # noise shows no face
    exact = painters["0"].calls
    assert painters["1"].calls == painters["2"].calls == exact[::2]
    assert [(own.prompt, own.negative_prompt) for own in exact[::2]] == [
        (other.prompt, other.negative_prompt) for other in exact[1::2]
    ]
    assert len({request.seed for request in exact}) == 6


def test_the_command_writes_the_price_into_the_bundle(own_bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The demo bundle is not built for DeepCache, and has level 1 only."""
    before = Bundle.open(own_bundle).manifest
    with pytest.raises(SystemExit, match="0"):
        main(["measure-levels", str(own_bundle), "--images", "2"])
    shown = capsys.readouterr()
    costs = Bundle.open(own_bundle).manifest.levels
    assert costs is not None
    assert before.levels is None
    assert set(costs.levels) == {"1"}
    level, others = costs.levels["1"], costs.other_seeds
    assert costs.images == 2
    assert level.speed > 0
    assert level.psnr > others.psnr > 5
    for cost in (level, others):
        assert cost.agreement is not None
        assert 0.5 < cost.agreement < 1
    table = shown.out.splitlines()
    assert table[0].startswith("2 images of each, on ")
    assert [line.split()[0] for line in table[1:]] == ["--fast", "1", "other"]
    assert f"{level.psnr:.1f} dB" in table[2]
    assert "the bundle lacks what levels 2, 3 need; build it with --deepcache" in shown.err
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(own_bundle)])
    assert f"levels:     {describe_levels(costs)}" in capsys.readouterr().out
