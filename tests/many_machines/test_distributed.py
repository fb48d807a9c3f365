"""Who is who in a run of several processes; what they do together is tested in many_machines."""

import pytest
import torch

from pyws import distributed
from pyws.cli import main


@pytest.mark.parametrize("rank", range(3))
def test_a_process_has_the_rank_that_torchrun_gave_it(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Results are gathered by torch's rank, and dealt by the group's: if the two differ, they come in a wrong order."""
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", str(rank))
    for name in ("MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.delenv(name, raising=False)
    met = []
    monkeypatch.setattr(distributed, "_meet", met.append)  # nobody waits for the other two
    monkeypatch.setattr(torch.distributed, "destroy_process_group", lambda: met.append("parted"))
    with distributed.processes(torch.device("cpu")) as group:
        assert (group.rank, group.world, group.first) == (rank, 3, rank == 0)
        assert list(range(7))[group.rank :: group.world] == [place for place in range(7) if place % 3 == rank]
    assert met == ["gloo", "parted"]


@pytest.mark.parametrize(
    ("name", "value"), [("WORLD_SIZE", "two"), ("WORLD_SIZE", "-1"), ("WORLD_SIZE", "0"), ("RANK", "1.5")]
)
def test_variables_of_torchrun_that_are_no_places_are_named(name, value, monkeypatch, tmp_path, capsys) -> None:
    for each, usual in {"WORLD_SIZE": "1", "RANK": "0", name: value}.items():
        monkeypatch.setenv(each, usual)
    with pytest.raises(ValueError, match=f"^{name}|^RANK of {name}"), distributed.processes(torch.device("cpu")):
        pass
    # A command that parts nothing says so as well, before it works.
    assert main(["data", "synthesize", f"{tmp_path}/made", "--training", "1", "--test", "1", "--quiet"]) == 1
    assert name in capsys.readouterr().err
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("rank", [-1, 3])
def test_a_rank_that_is_none_of_the_world_is_refused(rank: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "3")
    monkeypatch.setenv("RANK", str(rank))
    with (
        pytest.raises(ValueError, match=rf"^RANK.*: must be .*{rank}"),
        distributed.processes(torch.device("cpu")),
    ):
        pass
