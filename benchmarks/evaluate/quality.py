"""Quality: distances between the anonymized images and the originals (Table III).

FID is computed with clean-fid and, as a check, with torch-fidelity. Visual DNA is compared by the earth mover's
distance, between the data sets and between each image and its original. Networks and distances come from packages.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol
from unittest import mock

import numpy as np
from tqdm import tqdm

from anon_export.faces import Weights
from anon_runtime.types import Pixels

from .cache import Cache
from .intervals import bootstrap
from .pairs import ImageFile, Method
from .requirements import Repository, digest, hub_checkpoints, loading, require
from .types import Figures, Mask, Vector

FEWEST = 50  # images that a group needs for a distance between distributions


class Inception(Protocol):
    """An Inception network and the Fréchet distance between its features."""

    @property
    def name(self) -> str:
        """Name of the network's row in the report."""
        ...

    @property
    def version(self) -> str:
        """Packages and weights that the features depend on."""
        ...

    def features(self, image: Pixels) -> Vector:
        """The features (2048,) of an image."""
        ...

    def distance(self, a: Vector, b: Vector) -> float:
        """The distance between two sets of features, (n, 2048) and (m, 2048)."""
        ...


class CleanFid:
    """FID as clean-fid computes it in its mode ``clean`` (Parmar et al., 2022)."""

    name = "FID (clean-fid)"

    def __init__(self) -> None:
        address = "https://nvlabs-fi-cdn.nvidia.com/stylegan2-ada-pytorch/pretrained/metrics"
        weights = Weights(("inception-2015-12-05.pt",), 92, address, hub_checkpoints)
        packages, (path,) = require(self.name, "clean-fid", weights=[weights])
        from cleanfid import fid
        from cleanfid.inception_torchscript import InceptionV3W
        from cleanfid.resize import build_resizer

        self.version = f"{packages} {digest(path)}"
        self._distance, self._resize = fid.fid_from_feats, build_resizer("clean")
        with loading(self.name, path):
            # By default, clean-fid looks for the file in /tmp, where every user of the machine can put one.
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
        packages, (path,) = require(self.name, "torch-fidelity", weights=[weights])
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
) -> Figures:
    """FID by method, of all images and of every group; None where a group has fewer than `FEWEST` images."""

    def compute(image: ImageFile) -> Vector:
        return network.features(image.pixels())

    def features(images: Sequence[ImageFile], what: str) -> Vector:
        bar = tqdm(images, desc=f"{network.name}: {what}", unit="image")
        found = [cache.get(image.digest, partial(compute, image)) for image in bar]
        cache.save()
        return np.stack(found)

    gallery, found = features(originals, "originals"), {}
    for method in methods:
        own, made = np.array(list(method.pairs)), features(list(method.pairs.values()), method.name)
        by_group: Figures = {}
        for group, mask in tqdm(groups.items(), desc=f"{network.name}: groups of {method.name}", unit="group"):
            chosen = mask[own]
            by_group[group] = None
            if chosen.sum() >= FEWEST:
                by_group[group] = {"value": network.distance(gallery[mask], made[chosen]), "of": int(chosen.sum())}
        found[method.name] = {
            "all": {"value": network.distance(gallery, made), "of": len(made)},
            "groups": by_group,
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
        _, paths = require(self.name, "vdna", repository=self.repository)
        import vdna
        from huggingface_hub import hf_hub_download
        from vdna.networks import get_feature_extractor, mugs_vit
        from vdna.utils.settings import DataSettings, ExtractionSettings
        from vdna.vdnas import get_vdna

        settings = ExtractionSettings(device="cpu", num_workers=0, verbose=False, n_sample_images=0)
        self._vdna, self._data, self._empty = vdna, DataSettings, get_vdna
        local = partial(hf_hub_download, local_files_only=True)  # by default, the package asks the hub for newer files
        with loading(self.name, *paths), mock.patch.object(mugs_vit, "hf_hub_download", local):
            self._network = get_feature_extractor(self.extractor, settings)

    def describe(self, image: Pixels) -> Any:
        """The Visual DNA of one image: one histogram for each neuron."""
        dna = self._empty(self.distribution)
        dna.fill_vdna(self._network, self._data(source=[image], shuffle_files=False))
        return dna

    def add(self, total: Any | None, dna: Any) -> Any:
        """Add the histograms of an image to those of a data set, whose Visual DNA is the sum; None is an empty set."""
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
        """The earth mover's distance, the mean over all neurons."""
        return float(self._vdna.EMD(a, b))


def measure_dna(
    network: VisualDna, originals: Sequence[ImageFile], methods: Sequence[Method], groups: Mapping[str, Mask]
) -> Figures:
    """Distances by method, of all images and of every group: between data sets, and between images and originals.

    Both data sets consist of the images that are paired. A group with fewer than `FEWEST` images gives None.
    """
    found = {}
    for method in methods:
        masks = {"all": np.ones(len(originals), bool), **groups}
        totals: dict[str, list[Any]] = {name: [None, None] for name in masks}
        distances = []
        for index, image in tqdm(method.pairs.items(), desc=f"{network.name}: {method.name}", unit="pair"):
            dnas = [network.describe(file.pixels()) for file in (originals[index], image)]
            distances.append(network.distance(*dnas))
            for name, sides in totals.items():
                if masks[name][index]:
                    totals[name] = [network.add(side, dna) for side, dna in zip(sides, dnas, strict=True)]
        own: Figures = {}
        for name, mask in masks.items():
            chosen = np.array(distances)[mask[list(method.pairs)]]
            own[name] = None
            if len(chosen) >= (1 if name == "all" else FEWEST):
                between_sets = network.distance(*totals[name])
                own[name] = {"data set": between_sets, "image": bootstrap(chosen).value, "of": len(chosen)}
        found[method.name] = {"all": own.pop("all"), "groups": own}
    return found
