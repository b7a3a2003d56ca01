"""The command line: fit a formula to a file, run the worked example, list the data sets.

Exit status: 0 when the command did what it was asked for, 2 when it could not, with one message on
standard error, 130 when it was interrupted. What a fit warns of goes to standard error too. Files
that are to be written are looked at before anything is computed.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lmmjax.errors import LmmError, LmmWarning
from lmmjax.table_files import check_writable, read_table, writing

if TYPE_CHECKING:
    import pandas as pd

    from lmmjax.result import LinearMixedModelResult

#: Exit status of a command that was stopped by Ctrl-C, as shells have it.
INTERRUPTED = 130
DATA_HELP = "a CSV file (.csv, .tsv, .gz), or Parquet, Excel, Stata; - reads CSV from a pipe"
FORMULA_HELP = "lme4's syntax, in quotes: 'score ~ time + (1 + time | id)'"


class CommandError(Exception):
    """A message for the user of the command line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        By default those of the process.

    Returns
    -------
    int
        Exit status.

    Examples
    --------
    >>> main(["datasets", "nonesuch"])
    2
    """
    options = _parser().parse_args(arguments)
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always", LmmWarning)
            try:
                options.run(options)
            finally:
                _show(caught)
        sys.stdout.flush()
    except (LmmError, CommandError) as error:
        print(f"lmmjax: error: {error}", file=sys.stderr)
        return 2
    except MemoryError as error:
        print(f"lmmjax: error: not enough memory: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(f"\nlmmjax: interrupted{_what_is_kept(options)}", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader went away (`| head`): nothing more to say, and nothing to flush at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0


def _what_is_kept(options: argparse.Namespace) -> str:
    """What a user who stops a power study has to know."""
    if options.run is not _power:
        return ""
    if options.checkpoint:
        return f": {options.checkpoint} has what was done; the same command goes on there"
    return ": nothing was kept; --checkpoint FILE keeps what is done"


def _show(caught: Sequence[warnings.WarningMessage]) -> None:
    for text in dict.fromkeys(str(warning.message) for warning in caught):
        print(f"lmmjax: warning: {text}", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="lmmjax", description="Linear mixed models from a formula and a file."
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    fit = commands.add_parser(
        "fit",
        help="fit a model and print its summary",
        description="Fit a linear mixed model and print its summary.",
        epilog="example: lmmjax fit 'score ~ time + (1 + time | id)' study.csv --plots pictures",
    )
    fit.add_argument("formula", metavar="FORMULA", help=FORMULA_HELP)
    fit.add_argument("data", metavar="DATA", help=DATA_HELP)
    fit.add_argument("--ml", action="store_true", help="maximum likelihood instead of REML")
    fit.add_argument("--weights", metavar="COL", help="column with prior weights")
    fit.add_argument("--offset", metavar="COL", help="column with a known part of the mean")
    fit.add_argument(
        "--factor",
        metavar="COL",
        action="append",
        default=[],
        help="read a column of numbers as a factor (may be repeated)",
    )
    fit.add_argument("--sep", metavar="CHAR", help="separator; by default ',' (tab for .tsv)")
    fit.add_argument("--decimal", metavar="CHAR", default=".", help="',' for decimal commas")
    fit.add_argument("--thousands", metavar="CHAR", help="mark between groups of digits")
    fit.add_argument("--encoding", metavar="NAME", help="latin-1, cp1252, ...; by default UTF-8")
    fit.add_argument(
        "--na-values",
        metavar="TEXT",
        action="append",
        default=[],
        help="what stands for a missing value, as -999 or n/a (may be repeated)",
    )
    fit.add_argument("--plots", metavar="DIR", help="save pictures as PNG files")
    fit.add_argument("--json", metavar="FILE", help="write the estimates; - prints them only")
    fit.set_defaults(run=_fit)

    demo = commands.add_parser(
        "demo",
        help="the worked example: simulate, fit, compare with the truth",
        description="Simulate 50 subjects at 5 times, fit, and compare with the true parameters.",
    )
    demo.add_argument("--plots", metavar="DIR", help="save pictures as PNG files")
    demo.add_argument("--seed", metavar="N", type=_seed, help="another simulated study")
    demo.set_defaults(run=_demo)

    power = commands.add_parser(
        "power",
        help="how often a design would find an effect, by simulation",
        description="Power study from a TOML or JSON file.",
        epilog="example: lmmjax power study.toml --plot power.png",
    )
    power.add_argument("spec", metavar="SPEC", help="the study: a .toml or .json file")
    power.add_argument("--json", metavar="FILE", help="write the table for other programs")
    power.add_argument("--plot", metavar="FILE", help="save the curve as a picture")
    power.add_argument("--checkpoint", metavar="FILE", help="go on from there, and keep it there")
    power.add_argument("--quiet", action="store_true", help="do not show how far it is")
    power.set_defaults(run=_power)

    sets = commands.add_parser(
        "datasets",
        help="list the data sets, describe one, or save it as a file",
        description="List the data sets that come with lmmjax, describe one, or save it.",
    )
    sets.add_argument("name", metavar="NAME", nargs="?", help="describe this one")
    sets.add_argument("--save", metavar="FILE", help="write it as a CSV file")
    sets.set_defaults(run=_datasets)
    return parser


class _Version(argparse.Action):
    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from lmmjax import __version__

        print(f"lmmjax {__version__}")
        parser.exit()


def _seed(text: str) -> int:
    try:
        value = int(text)
    except ValueError:
        value = -1
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 0 on")
    return value


# --- commands ------------------------------------------------------------------------------------


def _fit(options: argparse.Namespace) -> None:
    from lmmjax.model import lmm

    if options.plots:
        from lmmjax.plot.canvas import need_matplotlib

        # Before the fit, not after it.
        need_matplotlib()
    if options.json and options.json != "-":
        check_writable(options.json, "--json")
    frame = read_table(
        options.data,
        options.sep,
        decimal=options.decimal,
        thousands=options.thousands,
        encoding=options.encoding,
        na_values=options.na_values,
    )
    for name in options.factor:
        if name not in frame.columns:
            known = ", ".join(map(str, frame.columns))
            raise CommandError(f"--factor names {name!r}, which is no column: they are {known}")
        frame[name] = _as_factor(frame[name])
    fit = lmm(
        options.formula,
        frame,
        method="ML" if options.ml else "REML",
        weights=options.weights,
        offset=options.offset,
    )
    if options.json != "-":
        print(fit.summary())
    if options.json:
        _write_json(estimates(fit), options.json)
    if options.plots:
        from lmmjax.plot import save_pictures

        saved = save_pictures(fit, options.plots)
        if options.json != "-":
            print("\nPictures:", *(f"  {path}" for path in saved), sep="\n")


def _demo(options: argparse.Namespace) -> None:
    from lmmjax import demo

    print(demo.run(options.plots, demo.SEED if options.seed is None else options.seed))


def _power(options: argparse.Namespace) -> None:
    from lmmjax.studies.curve import PowerCurve
    from lmmjax.studies.spec import read_spec, run_spec

    spec = read_spec(options.spec)
    if options.plot and "along" not in spec:
        raise CommandError("--plot draws a curve: the file needs a table [along]")
    if options.json and options.json != "-":
        check_writable(options.json, "--json")
    if options.plot:
        check_writable(options.plot, "--plot")
        _check_picture(options.plot)
    progress = not options.quiet and sys.stderr.isatty()
    found = run_spec(spec, progress=progress, checkpoint=options.checkpoint)
    print(found)
    if options.json:
        rows = found.frame.to_dict(orient="records")
        _write_json(
            {"power": [{k: _plain(v) for k, v in row.items()} for row in rows]}, options.json
        )
    if options.plot and isinstance(found, PowerCurve):
        from lmmjax.plot.canvas import DETACHED, panels

        figure, grid = panels(DETACHED, 1, 1, (6.4, 4.2))
        found.plot(ax=grid[0, 0])
        writing(lambda: figure.savefig(options.plot, dpi=150), options.plot)


def _check_picture(path: str) -> None:
    """Raise unless matplotlib can write a picture of this kind."""
    from lmmjax.plot.canvas import need_matplotlib

    need_matplotlib()
    from matplotlib.backend_bases import FigureCanvasBase

    kinds = FigureCanvasBase.get_supported_filetypes()
    ending = Path(path).suffix.removeprefix(".").lower()
    # Without an ending it is PNG, which matplotlib then adds.
    if ending and ending not in kinds:
        raise CommandError(f"--plot cannot write .{ending}: it writes {', '.join(sorted(kinds))}")


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int) else _number(value)


def _datasets(options: argparse.Namespace) -> None:
    from lmmjax import datasets

    if options.name is None:
        if options.save:
            raise CommandError("--save needs the name of a data set")
        for name in datasets.names():
            # The first line of a description has the name and the size.
            print(datasets.describe(name).splitlines()[0])
    elif options.save:
        check_writable(options.save, "--save")
        frame = datasets.load(options.name)
        writing(lambda: frame.to_csv(options.save, index=False), options.save)
    else:
        print(datasets.describe(options.name))


# --- files ---------------------------------------------------------------------------------------


def _as_factor(values: Any) -> pd.Series:
    """A factor whose levels stand in the order of the values: 2 before 10."""
    import pandas as pd

    codes, found = pd.factorize(values, sort=True)
    return pd.Series(
        pd.Categorical.from_codes(codes, [str(value) for value in found]), index=values.index
    )


def estimates(fit: LinearMixedModelResult) -> dict[str, Any]:
    """What ``--json`` writes: everything that a script may want to know of a fit.

    Parameters
    ----------
    fit : LinearMixedModelResult

    Returns
    -------
    dict
        Of plain numbers, texts, lists and dicts; None where there is no number.

    Examples
    --------
    >>> import lmmjax as lj
    >>> fit = lj.lmm("Yield ~ 1 + (1 | Batch)", lj.datasets.load("Dyestuff"))
    >>> found = estimates(fit)
    >>> found["groups"], round(found["fixed_effects"][0]["estimate"], 1)
    ({'Batch': 6}, 1527.5)
    """
    fixed = fit.coefficients.join(fit.conf_int())
    names = ("estimate", "std_error", "df", "t_value", "p_value", "lower", "upper")
    components = [
        {
            "group": group,
            "kind": "correlation" if second else "sd",
            "effects": [name for name in (first, second) if name],
            "estimate": _number(value),
            "lower": _number(lower),
            "upper": _number(upper),
        }
        for group, first, second, value, lower, upper in (
            fit.variance_components().drop(columns="se").itertuples(index=False)
        )
    ]
    return {
        "formula": fit.formula,
        "method": fit.method,
        "n": fit.nobs,
        "n_dropped": fit.design.n_dropped,
        "groups": dict(fit.ngroups),
        "fixed_effects": [
            {"term": term, **dict(zip(names, map(_number, row), strict=True))}
            for term, row in zip(fixed.index, fixed.to_numpy(), strict=True)
        ],
        "variance_components": components,
        "sigma": _number(fit.sigma),
        "theta": dict(zip(fit.theta_names, map(_number, fit.theta), strict=True)),
        "criteria": {
            "reml_criterion" if fit.reml else "deviance": _number(fit.criterion),
            "log_likelihood": _number(fit.llf),
            "aic": _number(fit.aic),
            "bic": _number(fit.bic),
            "df_residual": fit.df_resid,
        },
        "converged": fit.converged,
        "singular": fit.is_singular,
        "messages": list(fit.messages),
    }


def _number(value: Any) -> float | None:
    """A number that JSON has; None for NaN and infinities."""
    value = float(value)
    return value if abs(value) < float("inf") else None


def _write_json(found: dict[str, Any], path: str) -> None:
    import json

    text = json.dumps(found, indent=2, ensure_ascii=False, allow_nan=False)
    if path == "-":
        print(text)
        return
    writing(lambda: Path(path).write_text(text + "\n", encoding="utf-8"), path)


if __name__ == "__main__":
    sys.exit(main())
