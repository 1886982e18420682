"""The bundle: a folder of engines, in the layout that Optimum and diffusers use, with a manifest."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import BundleError
from .integrity import LARGE, REBUILD, Inspection, check_files
from .manifest import MANIFEST, EngineSpec, Manifest


@dataclass(frozen=True)
class Bundle:
    """A folder whose manifest was read and whose files are what the manifest says."""

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, checksum: bool = True) -> Self:
        """Read and verify a bundle.

        Args:
            path: of the folder.
            checksum: compare the files' sha256, not only their sizes.

        Raises:
            BundleError: there is no bundle, or a file is missing or altered.
        """
        bundle = cls.read(path)
        bundle.check(checksum=checksum).finish()
        return bundle

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Read a bundle's manifest, and look at no other file.

        Raises:
            BundleError: there is no bundle, or its manifest is damaged.
        """
        folder = Path(path)
        where = folder / MANIFEST
        try:
            text = where.read_text(encoding="utf-8")
        except (FileNotFoundError, NotADirectoryError):
            fix = "build one with `anon-export build demo`, or name one with `engines`"
            raise BundleError(f"no bundle in {folder}", f"there is no {MANIFEST}", fix) from None
        except (OSError, UnicodeDecodeError) as error:
            raise BundleError(str(where), f"it cannot be read ({error})", REBUILD) from None
        return cls(folder, Manifest.from_json(text, str(where)))

    def check(self, *, checksum: bool = True) -> Inspection:
        """Compare the files with the manifest: all sizes and, unless it is turned off, every sha256.

        Returns:
            What is still at work on files of weights; nobody may see a result before its `finish`.

        Raises:
            BundleError: a file is missing or altered.
        """
        files = self.manifest.files if checksum else {}
        large = {name: record for name, record in files.items() if record.size >= LARGE}
        check_files(self.path, self.manifest.files, checksum=False)
        check_files(self.path, {name: record for name, record in files.items() if name not in large})
        return Inspection(self.path, large)

    def engine_path(self, role: str) -> Path:
        """The file of an engine."""
        return self.path / self.spec(role).path

    def spec(self, role: str) -> EngineSpec:
        """The description of an engine.

        Raises:
            BundleError: this bundle has no such engine.
        """
        try:
            return self.manifest.engines[role]
        except KeyError:
            fixes = {
                "face": "use another bundle, or build it with `anon-export build --faces`",
                "unet_": "build it with `anon-export build --deepcache`",
            }
            fix = next((fix for start, fix in fixes.items() if role.startswith(start)), REBUILD)
            raise BundleError(f"bundle {self.path}", f"it has no {role} engine", fix) from None
