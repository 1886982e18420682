"""The bundle: a folder of engines with a manifest, in the folder layout that Optimum and diffusers use."""

from dataclasses import dataclass
from pathlib import Path
from typing import Self

from ..errors import BundleError
from .integrity import LARGE, REBUILD, Inspection, check_files
from .manifest import MANIFEST, EngineSpec, Manifest


@dataclass(frozen=True)
class Bundle:
    """A bundle whose manifest was read.

    Attributes:
        path: the folder of the bundle.
        manifest: the content of its ``bundle.json``.
    """

    path: Path
    manifest: Manifest

    @classmethod
    def open(cls, path: str | Path, *, checksum: bool = True) -> Self:
        """Return the bundle in a folder, after all its files were checked.

        Args:
            path: the folder of the bundle.
            checksum: whether to compare the sha256 of the files as well as their sizes.

        Raises:
            BundleError: there is no bundle, or one of its files is missing or was changed.
        """
        bundle = cls.read(path)
        bundle.check(checksum=checksum).finish()
        return bundle

    @classmethod
    def read(cls, path: str | Path) -> Self:
        """Return the bundle in a folder, after only its manifest was read; `check` checks the other files.

        Args:
            path: the folder of the bundle.

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
        """Compare the files with the manifest.

        Sizes and the sha256 of small files are compared before this method returns. Large files are hashed on a thread,
        which is still running then.

        Args:
            checksum: whether to compare the sha256 of the files as well as their sizes.

        Returns:
            The inspection of the large files. The caller must call its `finish` before it hands out a result.

        Raises:
            BundleError: a file is missing or was changed.
        """
        files = self.manifest.files if checksum else {}
        large = {name: record for name, record in files.items() if record.size >= LARGE}
        check_files(self.path, self.manifest.files, checksum=False)
        check_files(self.path, {name: record for name, record in files.items() if name not in large})
        return Inspection(self.path, large)

    def engine_path(self, role: str) -> Path:
        """Return the path of the file of an engine.

        Args:
            role: the role of the engine, such as ``unet``.

        Raises:
            BundleError: the bundle has no engine for this role.
        """
        return self.path / self.spec(role).path

    def spec(self, role: str) -> EngineSpec:
        """Return the manifest's entry for an engine.

        Args:
            role: the role of the engine, such as ``unet``.

        Raises:
            BundleError: the bundle has no engine for this role.
        """
        try:
            return self.manifest.engines[role]
        except KeyError:
            fixes = {
                "face": "use another bundle, or build it with `anon-export build --faces`",
                "second_face": "use another bundle, or build it where both face detectors can be built",
                "unet_": "build it with `anon-export build --deepcache`",
            }
            fix = next((fix for start, fix in fixes.items() if role.startswith(start)), REBUILD)
            raise BundleError(f"bundle {self.path}", f"it has no {role} engine", fix) from None
