"""Coverage-guided fuzzing of one parser by atheris: any bytes give a value or an error that names the file.

python tests/fuzz/parsers.py PARSER -max_total_time=10    (options of libFuzzer; .ci/fuzz runs all)
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["pyws"]):
    from pyws.checkpoint import read_tensors
    from pyws.data.annotations.activitynet import read_detections, read_truth
    from pyws.data.annotations.corrections import read_corrections
    from pyws.data.annotations.other_forms import read_annotations
    from pyws.data.annotations.pickle_index import index_npy
    from pyws.data.features.files import stored_file
    from pyws.data.tagged.tags_table import read_tags_table
    from pyws.errors import DataError
    from pyws.exchange.brush_rle import decode_brush
    from pyws.exchange.readers.formats import read_review
    from pyws.settings import read_toml


def of_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes], object]:
    path = Path(tempfile.mkdtemp(prefix="pyws-fuzz-")) / name

    def run(data: bytes) -> object:
        path.write_bytes(data)
        return read(path)

    return run


PARSERS: dict[str, Callable[[bytes], object]] = {
    "truth": of_file("truth.json", read_truth),
    "detections": of_file("found.json", read_detections),
    "annotations": of_file("other.csv", read_annotations),
    "corrections": of_file("corrections.json", read_corrections),
    "tags": of_file("tags.csv", read_tags_table),
    "pickle": of_file("names.npy", index_npy),
    "npy": of_file("features.npy", lambda path: stored_file(path).shape()),
    "safetensors": of_file("features.safetensors", lambda path: stored_file(path).shape()),
    "checkpoint": of_file("last.safetensors", read_tensors),
    "review": of_file("review.json", read_review),
    "segments": of_file("review.csv", read_review),
    "brush": lambda data: decode_brush(list(data), (8, 8)),
    "settings": of_file("run.toml", lambda path: read_toml(str(path))),
}


def main() -> None:
    name = sys.argv[1]
    parser = PARSERS[name]

    def one(data: bytes) -> None:
        try:
            parser(data)
        except DataError:
            pass
        except ValueError:
            if name != "brush":  # which is given no file that its errors could name
                raise

    atheris.Setup([sys.argv[0], *sys.argv[2:]], one)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
