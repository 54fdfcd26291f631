"""Static files: Plotly's bundle from its wheel, and compression that a first start can wait for."""

from collections.abc import Iterable, Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Final

import brotli
from django.contrib.staticfiles.finders import BaseFinder
from django.core.files.storage import FileSystemStorage
from whitenoise.compress import Compressor
from whitenoise.storage import CompressedManifestStaticFilesStorage

BUNDLE: Final = "plotly.min.js"
PREFIX: Final = "plotly"


class PlotlyBundleFinder(BaseFinder):
    """Serves `plotly/plotly.min.js`."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        # The package itself is slow to import and not needed to find its files.
        spec = find_spec("plotly")
        origin = "" if spec is None or spec.origin is None else spec.origin
        self.folder = Path(origin).parent / "package_data"

    def find(self, path: str, *_: Any, find_all: bool = False, **__: Any) -> Any:
        found = [str(self.folder / BUNDLE)] if path == f"{PREFIX}/{BUNDLE}" else []
        return found if find_all else next(iter(found), [])

    def list(
        self, ignore_patterns: Iterable[str] | None
    ) -> Iterator[tuple[str, FileSystemStorage]]:
        storage = FileSystemStorage(location=self.folder)
        storage.prefix = PREFIX  # type: ignore[attr-defined]  # as Django's own finders do
        yield BUNDLE, storage


class StaticStorage(CompressedManifestStaticFilesStorage):  # type: ignore[misc]  # untyped base
    """WhiteNoise's storage of hashed and compressed files."""

    def create_compressor(self, **kwargs: Any) -> Compressor:
        return QuickCompressor(**kwargs)


class QuickCompressor(Compressor):  # type: ignore[misc]  # untyped base
    # Plotly's bundle: 1.23 MB in 1 s, where the default of 11 takes 15 s to reach 1.11 MB.
    BROTLI_QUALITY: Final = 9

    @staticmethod
    def compress_brotli(data: bytes) -> bytes:
        return bytes(brotli.compress(data, quality=QuickCompressor.BROTLI_QUALITY))
