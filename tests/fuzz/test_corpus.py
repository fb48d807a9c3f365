"""Every input that fuzzing has kept, without a fuzzer: a value, or an error that names the file."""

import tempfile
from pathlib import Path

import pytest
from fuzzing import CORPUS, unpacked
from parsers import PARSERS, parse


@pytest.mark.parametrize("name", PARSERS)
def test_kept_inputs_give_a_value_or_an_error_that_names_the_file(name: str, tmp_path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        inputs = [path.read_bytes() for path in unpacked(CORPUS / name, Path(folder)).iterdir()]
    assert inputs, f"tests/fuzz/corpus/{name} must hold a file that the parser reads"
    for data in inputs:
        parse(name, data, tmp_path)
