"""Quality: how far the anonymized images are, as a set, from the originals (Table III).

FID with clean-fid's resizing, and with torch-fidelity's own network as a cross-check; Visual DNA with the earth mover's
distance, between data sets and between each image and its original. Networks and distances are the packages' own.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from anon_export.faces import Weights

from .cache import Cache, Vector
from .labels import Mask
from .pairs import ImageFile, Method
from .reidentification import bootstrap
from .requirements import Repository, digest, hub_checkpoints, loading, need

Pixels = NDArray[np.uint8]
FEWEST = 50  # images of a group, below which a distance between distributions says nothing


class Inception(Protocol):
    """An Inception network and the Fréchet distance that belongs to it."""

    name: str
    version: str

    def features(self, image: Pixels) -> Vector:
        """Of an image, (2048,)."""

    def distance(self, a: Vector, b: Vector) -> float:
        """Between two sets of features, (n, 2048) and (m, 2048)."""


class CleanFid:
    """FID as clean-fid computes it in its mode ``clean`` (Parmar et al., 2022)."""

    name = "FID (clean-fid)"

    def __init__(self) -> None:
        address = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"
        weights = Weights(("inception-2015-12-05.pt",), 92, address, hub_checkpoints)
        packages, (path,) = need(self.name, "clean-fid", weights=[weights])
        from cleanfid import fid
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import build_resizer

        self.version = f"{packages} {digest(path)}"
        self._distance, self._resize = fid.fid_from_feats, build_resizer("clean")
        with loading(self.name, path):
            # clean-fid itself would look for the file in /tmp, where anybody can put one.
            self._network = InceptionV3W(str(path.parent), download=False).eval()

    def features(self, image: Pixels) -> Vector:
        """See `Inception`."""
        import torch

        resized = torch.from_numpy(self._resize(image).transpose(2, 0, 1).copy())
        with torch.no_grad():
            return np.asarray(self._network(resized[None])[0])

    def distance(self, a: Vector, b: Vector) -> float:
        """See `Inception`."""
        return float(self._distance(a, b))


class TorchFidelity:
    """FID as torch-fidelity computes it (Obukhov et al., 2020)."""

    name = "FID (torch-fidelity)"

    def __init__(self) -> None:
        address = "https://github.com/toshas/torch-fidelity/releases/download/v0.2.0"
        weights = Weights(("weights-inception-2015-12-05-6726825d.pth",), 91, address, hub_checkpoints)
        packages, (path,) = need(self.name, "torch-fidelity", weights=[weights])
        from torch_fidelity import metric_fid
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

        self.version, self._metric = f"{packages} {digest(path)}", metric_fid
        with loading(self.name, path):
            self._network = FeatureExtractorInceptionV3("inception-v3-compat", ["2048"], str(path))

    def features(self, image: Pixels) -> Vector:
        """See `Inception`."""
        import torch

        with torch.no_grad():
            return np.asarray(self._network(torch.from_numpy(image.transpose(2, 0, 1).copy())[None])[0][0])

    def distance(self, a: Vector, b: Vector) -> float:
        """See `Inception`."""
        import torch

        sets = (self._metric.fid_features_to_statistics(torch.from_numpy(features)) for features in (a, b))
        return float(self._metric.fid_statistics_to_metric(*sets, False)[self._metric.KEY_METRIC_FID])


INCEPTIONS: dict[str, Callable[[], Inception]] = {CleanFid.name: CleanFid, TorchFidelity.name: TorchFidelity}


def measure_fid(
    network: Inception,
    cache: Cache,
    originals: Sequence[ImageFile],
    methods: Sequence[Method],
    groups: Mapping[str, Mask],
) -> dict[str, Any]:
    """FID of every method and group, by method; None where a group has fewer than `FEWEST` images."""

    def features(images: Sequence[ImageFile], what: str) -> Vector:
        bar = tqdm(images, desc=f"{network.name}: {what}", unit="image")
        found = [cache.get(image.digest, lambda p=image: network.features(p.pixels())) for image in bar]
        cache.save()
        return np.stack(found)

    gallery, found = features(originals, "originals"), {}
    for method in methods:
        own, made = np.array(list(method.pairs)), features(list(method.pairs.values()), method.name)
        found[method.name] = {
            "all": {"value": network.distance(gallery, made), "of": len(made)},
            "groups": {
                name: {"value": network.distance(gallery[mask], made[mask[own]]), "of": int(mask[own].sum())}
                if mask[own].sum() >= FEWEST
                else None
                for name, mask in tqdm(groups.items(), desc=f"{network.name}: groups of {method.name}", unit="group")
            },
        }
    return found


class VisualDna:
    """Visual DNA of Mugs ViT-B/16 (Ramtoula et al., 2023), by the authors' package."""

    name, extractor, distribution = "Visual DNA", "mugs_vit_base", "histogram-1000"
    repository = Repository(
        "bramtoula/visual-dna-models",
        ((f"Mugs/{extractor}/activation_ranges.json",), (f"Mugs/{extractor}/weights.pth",)),
    )

    def __init__(self) -> None:
        _, paths = need(self.name, "vdna", repository=self.repository)
        import vdna
        from huggingface_hub import hf_hub_download
        from vdna.networks import get_feature_extractor, mugs_vit
        from vdna.utils.settings import DataSettings, ExtractionSettings
        from vdna.vdnas import get_vdna

        settings = ExtractionSettings(device="cpu", num_workers=0, verbose=False, n_sample_images=0)
        self._vdna, self._data, self._empty = vdna, DataSettings, get_vdna
        local = partial(hf_hub_download, local_files_only=True)  # the package would ask the hub for newer ones
        with loading(self.name, *paths), mock.patch.object(mugs_vit, "hf_hub_download", local):
            self._network = get_feature_extractor(self.extractor, settings)

    def describe(self, image: Pixels) -> Any:
        """The Visual DNA of one image: a histogram a neuron."""
        dna = self._empty(self.distribution)
        dna.fill_vdna(self._network, self._data(source=[image], shuffle_files=False))
        return dna

    def add(self, total: Any | None, dna: Any) -> Any:
        """The Visual DNA of a data set is the sum of its images' histograms."""
        if total is None:
            total = self._empty(self.distribution)
            for name in ("feature_extractor_name", "neurons_list", "device"):
                setattr(total, name, getattr(dna, name))
            total.data = {layer: counts.clone() for layer, counts in dna.data.items()}
        else:
            for layer, counts in dna.data.items():
                total.data[layer] += counts
        return total

    def distance(self, a: Any, b: Any) -> float:
        """Earth mover's distance, the mean over all neurons."""
        return float(self._vdna.EMD(a, b))


def measure_dna(
    network: VisualDna, originals: Sequence[ImageFile], methods: Sequence[Method], groups: Mapping[str, Mask]
) -> dict[str, Any]:
    """Distances of every method and group, between data sets and between images and their originals, by method.

    Both data sets consist of the images that are paired.
    """
    found = {}
    for method in methods:
        totals: dict[str, list[Any]] = {name: [None, None] for name in ("all", *groups)}
        apart, own = [], np.array(list(method.pairs))
        for index, image in tqdm(method.pairs.items(), desc=f"{network.name}: {method.name}", unit="pair"):
            dnas = [network.describe(p.pixels()) for p in (originals[index], image)]
            apart.append(network.distance(*dnas))
            for name, sides in totals.items():
                if name == "all" or groups[name][index]:
                    totals[name] = [network.add(side, dna) for side, dna in zip(sides, dnas, strict=True)]
        masks = {"all": np.ones(len(originals), bool)} | dict(groups)

        def of(
            name: str, own: NDArray[np.int64], apart: Vector, sides: Sequence[Any], mask: Mask
        ) -> dict[str, Any] | None:
            chosen = np.asarray(apart)[mask[own]]
            if not len(chosen) or (name != "all" and len(chosen) < FEWEST):
                return None
            interval = bootstrap(chosen)
            return {"data set": network.distance(*sides), "image": interval.value, "of": len(chosen)}

        own_figures = {name: of(name, own, np.array(apart), totals[name], mask) for name, mask in masks.items()}
        found[method.name] = {"all": own_figures.pop("all"), "groups": own_figures}
    return found
