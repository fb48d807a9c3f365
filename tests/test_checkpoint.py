"""States of runs: nothing lost, nothing damaged read, nothing mixed up."""

import json
import os

import pytest
import torch
from safetensors.torch import save_file

import pyws.checkpoint as checkpoint
from pyws import DataError
from pyws.checkpoint import (
    load_into,
    load_optimizer,
    optimizer_tensors,
    read_checkpoint,
    read_facts,
    read_latest,
    read_tensors,
    remove_checkpoint,
    write_checkpoint,
)

KIND = "pyws test"


@pytest.fixture
def path(tmp_path):
    return tmp_path / "state.safetensors"


def write(path, epoch, **options):
    tensors = {
        "model": {"b": torch.arange(3.0), "a": torch.ones(2, 2, dtype=torch.bfloat16)},
        "step": torch.tensor(epoch),
    }
    write_checkpoint(path, KIND, tensors, {"epoch": epoch, "name": "é"}, **options)


def test_tensors_come_back_bit_for_bit_and_in_order(path):
    write(path, 1)
    saved = read_checkpoint(path, KIND, {"epoch": int, "name": str})
    assert list(saved.tensors) == ["model.b", "model.a", "step"]
    assert saved.part("model")["a"].dtype == torch.bfloat16
    assert saved.part("model")["b"].tolist() == [0.0, 1.0, 2.0]
    assert saved.tensors["step"].item() == 1
    assert saved.facts == {"epoch": 1, "name": "é"}


def test_the_same_state_is_the_same_bytes(path, tmp_path):
    write(path, 1)
    write(tmp_path / "other", 1)
    assert path.read_bytes() == (tmp_path / "other").read_bytes()


def test_every_flipped_bit_is_an_error_that_names_the_file(path):
    write(path, 1)
    whole = path.read_bytes()
    for byte in range(len(whole)):
        path.write_bytes(whole[:byte] + bytes([whole[byte] ^ 1 << byte % 8]) + whole[byte + 1 :])
        with pytest.raises(DataError, match=r"state\.safetensors: "):
            read_checkpoint(path, KIND)
    path.write_bytes(whole)
    read_checkpoint(path, KIND)


@pytest.mark.parametrize("length", [0, 7, 100, -1])
def test_what_is_cut_off_is_said_with_what_to_do(path, length):
    write(path, 1)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(
        DataError, match=r"is truncated, damaged or not safetensors .*; restore it from a copy, or remove"
    ):
        read_checkpoint(path, KIND)


def test_a_damaged_state_falls_back_to_the_one_before(path):
    for epoch in (1, 2, 3):
        write(path, epoch, keep_previous=True)
    assert sorted(os.listdir(path.parent)) == ["state.previous.safetensors", "state.safetensors"]
    assert read_latest(path, KIND).facts["epoch"] == 3
    raw = bytearray(path.read_bytes())
    raw[-1] ^= 1
    path.write_bytes(raw)
    with pytest.warns(UserWarning, match=r"checksum .* Going on from the state before it, state.previous.safetensors"):
        assert read_latest(path, KIND).facts["epoch"] == 2
    path.unlink()  # as after a kill between two names
    with pytest.warns(UserWarning, match="is missing"):
        assert read_latest(path, KIND).facts["epoch"] == 2
    (path.parent / "state.previous.safetensors").write_bytes(b"")
    path.write_bytes(raw)
    with pytest.raises(DataError, match=r"state\.safetensors: is damaged"):
        read_latest(path, KIND)
    remove_checkpoint(path)
    assert read_latest(path, KIND) is None


def test_a_full_disk_loses_nothing(path, monkeypatch):
    write(path, 1, keep_previous=True)

    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write(path, 2, keep_previous=True)
    monkeypatch.undo()
    assert os.listdir(path.parent) == ["state.safetensors"]
    assert read_latest(path, KIND).facts["epoch"] == 1


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "other"}, "must be a pyws test, but its header says kind 'other'"),
        ({"version": 99}, "must be of version 3 of the format, but its header says version 99"),
        ({"version": None}, "must have kind, version, sha256, order, facts of their types"),
        ({"facts": []}, "must have kind, version, sha256, order, facts of their types"),
        ({"order": ["no"]}, "must list its tensors"),
        ({"facts": {"name": "x"}}, "must say its epoch, got name"),
        ({"facts": {"epoch": "1", "name": "x"}}, "epoch must be of type int, got '1'"),
    ],
)
def test_headers_are_validated(path, changes, message):
    """Even where the checksum fits, as in a file that another version or program made."""
    write(path, 1)
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    header["__metadata__"]["pyws"] = json.dumps(
        {**json.loads(header["__metadata__"]["pyws"]), **changes, "sha256": checkpoint._UNSEALED}
    )
    text = json.dumps(header).encode()
    unsealed = len(text).to_bytes(8, "little") + text + raw[8 + size :]
    digest = checkpoint.sha256(unsealed).hexdigest().encode()
    path.write_bytes(unsealed.replace(checkpoint._UNSEALED.encode(), digest, 1))
    with pytest.raises(DataError, match=message):
        read_checkpoint(path, KIND, {"epoch": int, "name": str})


def test_files_of_other_programs(tmp_path):

    save_file({"w": torch.ones(1)}, tmp_path / "a.safetensors", {"format": "pt"})
    tensors, header = read_tensors(tmp_path / "a.safetensors")
    assert (list(tensors), header) == (["w"], {})
    with pytest.raises(DataError, match="must be a pyws test, but its header says no kind"):
        read_checkpoint(tmp_path / "a.safetensors", KIND)
    save_file({"w": torch.ones(1)}, tmp_path / "b.safetensors", {"pyws": "[]"})
    with pytest.raises(DataError, match="header does not say so"):
        read_tensors(tmp_path / "b.safetensors")
    with pytest.raises(DataError, match="must be a regular file, found a folder"):
        read_tensors(tmp_path)


@pytest.mark.parametrize("kind", ["sgd", "adam", "adamw"])
def test_an_optimizer_goes_on_as_if_it_had_not_stopped(path, kind):
    makers = {
        "sgd": lambda weights: torch.optim.SGD(weights, lr=0.1, momentum=0.9),
        "adam": lambda weights: torch.optim.Adam(weights, lr=0.1),
        "adamw": lambda weights: torch.optim.AdamW(weights, lr=0.1, weight_decay=0.1),
    }

    def step(model, optimizer, number):
        optimizer.zero_grad()
        torch.manual_seed(number)
        model(torch.rand(5, 4)).square().sum().backward()
        optimizer.step()

    def begin():
        torch.manual_seed(0)
        model = torch.nn.Linear(4, 2)
        return model, makers[kind](model.parameters())

    whole = begin()
    for number in range(4):
        step(*whole, number)
        if number == 1:
            write_checkpoint(path, KIND, {"model": whole[0].state_dict(), "optimizer": optimizer_tensors(whole[1])})
    model, optimizer = begin()
    saved = read_checkpoint(path, KIND)
    load_into(model, saved)
    load_optimizer(optimizer, saved.part("optimizer"))
    for number in (2, 3):
        step(model, optimizer, number)
    assert torch.equal(model.weight, whole[0].weight)
    other = torch.nn.Linear(4, 3)
    with pytest.raises(DataError, match=r"weight 'weight' must have shape \(3, 4\), got \(2, 4\)"):
        load_into(other, saved)


def test_tensors_of_other_programs_are_in_the_order_of_their_names(tmp_path):
    """Files have them by size and name."""
    save_file({"c": torch.zeros(1), "b": torch.zeros(1).double(), "a": torch.zeros(1).half()}, tmp_path / "x")
    assert list(read_tensors(tmp_path / "x")[0]) == ["a", "b", "c"]


def test_the_name_of_a_new_state_is_durable(path, monkeypatch):
    synced, fsync = [], os.fsync
    monkeypatch.setattr(
        os, "fsync", lambda descriptor: (synced.append(os.path.isdir(f"/dev/fd/{descriptor}")), fsync(descriptor))
    )
    write(path, 1)
    assert synced == [False, True]  # the file, then its folder


def test_nothing_is_kept_beside_a_file_unless_it_is_asked_for(tmp_path):
    for epoch in (1, 2):
        write(tmp_path / "a.pt", epoch)
    assert [path.name for path in tmp_path.iterdir()] == ["a.pt"]
    write(tmp_path / "a.pt", 3, keep_previous=True)
    assert len(list(tmp_path.iterdir())) == 2


def test_files_that_cannot_be_read_are_named(tmp_path):
    (tmp_path / "a").write_bytes(b"no header")
    with pytest.raises(DataError, match=r"a: cannot be read: .*(header|Header)"):
        read_facts(tmp_path / "a")
    with pytest.raises(DataError, match=r"a/b: cannot be read: Not a directory"):
        read_tensors(tmp_path / "a" / "b")
