"""The stages of pyws label one after the other, within a budget, and how far they are."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

from pyws.commands.label.calibration import calibrated
from pyws.commands.label.plan import STAGES, Choices, Costs, fitted
from pyws.commands.label.prepare import Prepared
from pyws.commands.label.stages import RUNS, MaskConfig
from pyws.errors import DataError
from pyws.files import made_of
from pyws.run_manifest import MANIFEST, RunManifest


@dataclass(frozen=True)
class State:
    """What the manifest keeps of a run.

    Parameters
    ----------
    choices, costs, mask_config : what was chosen, by which costs, and which stages of masks can run
    seconds : what the stages took so far
    begun : stages that have begun
    notes : what people are told
    """

    choices: Choices
    costs: Costs
    mask_config: MaskConfig
    seconds: dict[str, float]
    begun: list[str]
    notes: list[str]


def begun(prepared: Prepared, minutes: float | None) -> dict[str, Any]:
    """Choices of a run that begins, as the manifest keeps them.

    Raises
    ------
    ValueError : not even the coarsest choices fit the minutes
    """
    costs, choices = calibrated(prepared.job, prepared.work, prepared.choices, prepared.network), prepared.choices
    if minutes is not None:
        choices, needed = fitted(minutes, prepared.work, choices, costs)
        if needed > minutes:
            raise ValueError(f"--budget: {minutes:g} minutes are too few, {needed:.2g} are needed at least")
    return {
        "choices": asdict(choices), "costs": asdict(costs), "mask_config": asdict(prepared.job.mask_config),
        "seconds": {}, "begun": [], "notes": list(prepared.job.mask_config.missing),
    }  # fmt: skip


def resumed(prepared: Prepared, state: dict[str, Any]) -> tuple[Prepared, Choices, Costs]:
    """What a run goes on with: its own choices and stages of masks, whatever today's calibration would say."""
    known = made_of(prepared.job.out / MANIFEST, "state", State, state)
    job = replace(prepared.job, mask_config=known.mask_config)
    work = replace(prepared.work, steps=job.mask_config.steps)
    return replace(prepared, job=job, work=work), known.choices, known.costs


def run_stages(prepared: Prepared, minutes: float | None, manifest: RunManifest) -> dict[str, Any]:
    """Run what there is to do; returns what each stage's command returned.

    A stage that took longer than planned leaves less for the others: what has not begun is chosen anew.
    """
    state, done = manifest.document["state"], dict[str, Any]()
    prepared, choices, costs = resumed(prepared, state)
    job, work = prepared.job, prepared.work
    for stage in STAGES:
        if minutes is not None and stage not in state["begun"]:
            left = minutes - sum(state["seconds"].values()) / 60
            choices, _ = fitted(left, work, choices, costs, state["begun"])
        if not work.units(choices)[stage] or stage in done:
            continue
        state["begun"] = sorted({*state["begun"], stage})
        state["choices"] = asdict(choices)
        manifest.flush()
        start = time.perf_counter()
        try:
            done[stage] = RUNS[stage](job, choices)
        except DataError as error:
            if stage != "trained masks":
                raise
            # With few or poor masks no frame may be good enough to learn from; the masks before are the result then.
            note = f"masks were not trained: {error.rule}"
            job.common.say(note)
            state["notes"] = list(dict.fromkeys([*state["notes"], note]))
            work = replace(work, steps=[one for one in work.steps if one not in (stage, "predicted masks")])
        finally:
            state["seconds"][stage] = state["seconds"].get(stage, 0.0) + time.perf_counter() - start
            manifest.flush()
    return done
