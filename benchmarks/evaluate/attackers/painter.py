"""Portraits of photos as ``anon-run`` paints them, for any seed and any attempt of the guard.

They are made by the runtime's own classes, in its batches. On the same kind of machine they are therefore equal, byte
by byte, to the portraits of a run; see ``docs/folders.md``, "When the bytes are equal".
"""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from tqdm import tqdm

from anon_runtime import Anonymizer
from anon_runtime.diffusion.generator import TokenizedRequest
from anon_runtime.faces.decoding import read_file
from anon_runtime.folder.identity import identify
from anon_runtime.folder.steps import Steps
from anon_runtime.folder.writer import Output, encode, write_file
from anon_runtime.guard.trial import FIRST, Attempt
from anon_runtime.guard.words import DECADE, NOBODY
from anon_runtime.jobs import Job
from anon_runtime.types import Description, Portrait

from ..pairs import ImageFile


class Wanted(NamedTuple):
    """A painting.

    Attributes:
        photo: the index of the photo.
        seed: the run's seed.
        attempt: the attempt of the guard.
    """

    photo: int
    seed: int
    attempt: Attempt = FIRST


def paint(
    anonymizer: Anonymizer,
    facts: Mapping[str, Any],
    originals: Sequence[ImageFile],
    wanted: Sequence[Wanted],
    folder: Path,
) -> dict[Wanted, ImageFile]:
    """Paint photos as a run does, unless their paintings are in the folder.

    An attempt whose words leave attributes out depends on how many of the people have each attribute. The people are
    those of the originals here; a gallery of the run is not known.

    Args:
        anonymizer: of the run's bundle, with the run's settings.
        facts: what the paintings depend on, besides photos and seed, in types that JSON has: ``batched``, ``format``
            and ``quality`` as in a journal's header, and the bundle and the settings.
        originals: all photos.
        wanted: what to paint.
        folder: for the paintings, PNG files.

    Returns:
        The paintings. A photo in which no face is found has none.

    Raises:
        BackendError: an engine cannot be loaded or run.
    """
    common = [facts, anonymizer.engines.device, anonymizer.engines.threads]
    paths = {one: folder / f"{_key(originals, one, common)}.png" for one in wanted}
    output = Output(folder, format=facts["format"], quality=facts["quality"])
    size = max(2, anonymizer.engines.bundle.manifest.defaults.batch_size) if facts["batched"] else 1
    missing = [one for one in paths if not paths[one].is_file()]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    for one, painted in _paint(anonymizer, originals, missing, size):
        write_file(paths[one], encode(Image.fromarray(output.shown(painted.image))))
    return {one: ImageFile(path.stem, path) for one, path in paths.items() if path.is_file()}


def _key(originals: Sequence[ImageFile], wanted: Wanted, common: Sequence[object]) -> str:
    attempt = wanted.attempt
    crowd = sorted(original.digest for original in originals) if attempt.coarsening > DECADE else []
    parts = [*common, wanted.seed, originals[wanted.photo].digest, attempt.number, attempt.coarsening, crowd]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:32]


def _paint(
    anonymizer: Anonymizer, originals: Sequence[ImageFile], wanted: Sequence[Wanted], size: int
) -> Iterator[tuple[Wanted, Portrait]]:
    steps = Steps(size)
    everybody = any(one.attempt.coarsening > DECADE for one in wanted)
    numbers = list(range(len(originals))) if everybody else sorted({one.photo for one in wanted})
    people = _describe(anonymizer, originals, numbers, steps, size)
    crowd = anonymizer.gather(list(people.values()))
    frequencies = NOBODY if crowd is None else crowd.frequencies
    kinds: dict[tuple[int, bool], list[tuple[Wanted, TokenizedRequest]]] = {}
    for one in wanted:
        if one.photo in people:
            own = identify(read_file(originals[one.photo].path), one.seed).seed
            job = Job([people[one.photo]], own, anonymizer.guard, one.attempt)
            request, _ = job.request(job.sitters[0], anonymizer.reader, frequencies)
            tokenized = anonymizer.generator.tokenize(request)
            kinds.setdefault(tokenized.kind, []).append((one, tokenized))
    batches = [some[start : start + size] for some in kinds.values() for start in range(0, len(some), size)]
    for batch in tqdm(batches, desc="repainting: portraits", unit="batch", disable=not batches):
        results = steps.each("generate", [tokenized for _, tokenized in batch], anonymizer.generator.generate)
        for (one, _), result in zip(batch, results, strict=True):
            if isinstance(result, Portrait):
                yield one, result


def _describe(
    anonymizer: Anonymizer, originals: Sequence[ImageFile], numbers: Sequence[int], steps: Steps, size: int
) -> dict[int, Description]:
    """Describe photos; those without a face are left out."""
    batches = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    people: dict[int, Description] = {}
    for batch in tqdm(batches, desc="repainting: photos", unit="batch", disable=not batches):
        paths = [originals[number].path for number in batch]
        results = steps.each("describe", paths, anonymizer.reader.describe_all)
        people |= {n: found for n, found in zip(batch, results, strict=True) if isinstance(found, Description)}
    return people
