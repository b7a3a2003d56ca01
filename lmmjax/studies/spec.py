"""A power study from a small TOML or JSON file."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lmmjax.design import Design
from lmmjax.errors import LmmError
from lmmjax.simulation.design import simulate_design
from lmmjax.simulation.parameters import TrueParameters
from lmmjax.studies.curve import PowerCurve, power_curve
from lmmjax.studies.study import PowerResult, power
from lmmjax.table_files import reason_of

#: What a file may hold, by table.
TOP = ("formula", "test", "design", "truth", "study", "along")
DESIGN = ("groups", "per_group", "within", "between", "crossed", "nested", "dropout", "seed")
TRUTH = ("fixed", "sd", "correlation", "covariance", "sigma")
STUDY = ("alpha", "nsim", "ddf", "method", "key", "stop_width")


def read_spec(path: str) -> dict[str, Any]:
    """The file's content, its names checked.

    Raises
    ------
    LmmError
        It cannot be read, or holds a name that means nothing.
    """
    file = Path(path)
    try:
        text = file.read_text(encoding="utf-8-sig")
    except UnicodeError as error:
        raise LmmError(f"{path} is no text in UTF-8: {error}") from error
    except (OSError, ValueError) as error:
        raise LmmError(f"cannot read {path}: {reason_of(error)}") from error
    try:
        if file.suffix == ".json":
            spec = json.loads(text)
        else:
            import tomllib

            spec = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        kind = "JSON" if file.suffix == ".json" else "TOML"
        raise LmmError(f"{path} is no {kind}: {error}") from error
    if not isinstance(spec, dict):
        raise LmmError(f"{path} must hold a table with {', '.join(TOP)}")
    _check(spec, TOP, path)
    for table, names in (("design", DESIGN), ("truth", TRUTH), ("study", STUDY)):
        _check(spec.get(table, {}), names, f"{path}, [{table}]")
    for needed in ("formula", "design", "truth"):
        if needed not in spec:
            raise LmmError(f"{path} lacks {needed!r}")
    if "sigma" not in spec["truth"]:
        raise LmmError(f"{path}, [truth] lacks 'sigma', the residual standard deviation")
    return spec


def run_spec(
    spec: dict[str, Any], *, progress: bool = False, checkpoint: str | None = None
) -> PowerResult | PowerCurve:
    """Run the study that a file describes.

    Parameters
    ----------
    spec : dict
        From :func:`read_spec`: ``formula``, ``test``; ``design`` and ``truth`` as the arguments of
        :func:`lmmjax.simulate_design` and ``lj.TrueParameters.for_design``; ``study`` as those of
        :func:`lmmjax.power`; ``along`` for a curve, over ``effect`` and the design's own names.
    progress, checkpoint
        As in :func:`lmmjax.power`.
    """
    sizes = dict(spec["design"])
    groups = sizes.pop("groups", 50)
    truth = dict(spec["truth"])
    sigma = truth.pop("sigma")
    options = dict(spec.get("study", {}), progress=progress)

    def design(**changed: Any) -> Design:
        unknown = [name for name in changed if name not in DESIGN]
        if unknown:
            raise LmmError(f"along knows effect, {', '.join(DESIGN)}, not {unknown[0]!r}")
        asked = {**sizes, **changed}
        count = asked.pop("groups", groups)
        if isinstance(groups, dict) and groups and not isinstance(count, dict):
            count = {next(iter(groups)): count}
        frame = simulate_design(count, **asked)
        return Design.from_formula(spec["formula"], frame)

    def parameters(made: Design) -> TrueParameters:
        return TrueParameters.for_design(made, **truth, sigma=sigma)

    test = spec.get("test")
    if "along" in spec:
        return power_curve(
            design, parameters, test, along=spec["along"], checkpoint=checkpoint, **options
        )
    made = design()
    return power(made, parameters(made), test, checkpoint=checkpoint, **options)


def _check(table: Any, names: tuple[str, ...], where: str) -> None:
    if not isinstance(table, dict):
        raise LmmError(f"{where} must be a table")
    for name in table:
        if name not in names:
            raise LmmError(f"{where} has {name!r}, which means nothing: {', '.join(names)}")
