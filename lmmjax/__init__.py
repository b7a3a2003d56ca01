"""lmmjax: linear mixed models in JAX, read like lme4 and lmerTest.

Names are imported when they are first used: ``import lmmjax`` takes milliseconds, and the command
line can answer without loading JAX.
"""

from typing import TYPE_CHECKING

__version__ = "0.1.0"

if TYPE_CHECKING:
    # What type checkers and editors read; a test holds it to the table below.
    from lmmjax import covariance as covariance
    from lmmjax import datasets as datasets
    from lmmjax import errors as errors
    from lmmjax import plot as plot
    from lmmjax.bootstrap.pb_test import pb_test as pb_test
    from lmmjax.bootstrap.result import Bootstrap as Bootstrap
    from lmmjax.compiled import clear_cache as clear_cache
    from lmmjax.design import Design as Design
    from lmmjax.design import build_design as build_design
    from lmmjax.errors import DataError as DataError
    from lmmjax.errors import FormulaError as FormulaError
    from lmmjax.errors import LmmError as LmmError
    from lmmjax.errors import LmmWarning as LmmWarning
    from lmmjax.fitting import prepare_design as prepare_design
    from lmmjax.inference.comparison import anova as anova
    from lmmjax.likelihood.crossproducts import CrossProducts as CrossProducts
    from lmmjax.likelihood.crossproducts import Prepared as Prepared
    from lmmjax.likelihood.crossproducts import cross_products as cross_products
    from lmmjax.likelihood.deviance import Parameters as Parameters
    from lmmjax.likelihood.deviance import fixed_effects as fixed_effects
    from lmmjax.likelihood.deviance import marginal_loglik as marginal_loglik
    from lmmjax.likelihood.deviance import profiled_deviance as profiled_deviance
    from lmmjax.likelihood.deviance import residual_sd as residual_sd
    from lmmjax.likelihood.deviance import restricted_loglik as restricted_loglik
    from lmmjax.likelihood.modes import conditional_modes as conditional_modes
    from lmmjax.likelihood.preparation import prepare as prepare
    from lmmjax.many.fit_many import fit_many as fit_many
    from lmmjax.many.fits import ManyFits as ManyFits
    from lmmjax.many.processes import concatenate as concatenate
    from lmmjax.many.processes import gather as gather
    from lmmjax.many.processes import replicate_share as replicate_share
    from lmmjax.many.simulated import fit_simulated as fit_simulated
    from lmmjax.model import lmm as lmm
    from lmmjax.precision import double_precision as double_precision
    from lmmjax.result import LinearMixedModelResult as LinearMixedModelResult
    from lmmjax.simulation.design import simulate_design as simulate_design
    from lmmjax.simulation.parameters import TrueParameters as TrueParameters
    from lmmjax.simulation.rows import RowDesign as RowDesign
    from lmmjax.simulation.rows import simulate as simulate
    from lmmjax.simulation.rows import simulate_responses as simulate_responses
    from lmmjax.simulation.statistics import simulate_cross_products as simulate_cross_products
    from lmmjax.simulation.statistics import statistics_sampler as statistics_sampler
    from lmmjax.studies.allocation import Allocation as Allocation
    from lmmjax.studies.allocation import optimize_design as optimize_design
    from lmmjax.studies.analytic import AnalyticPower as AnalyticPower
    from lmmjax.studies.analytic import analytic_power as analytic_power
    from lmmjax.studies.curve import PowerCurve as PowerCurve
    from lmmjax.studies.curve import power_curve as power_curve
    from lmmjax.studies.expected import PowerInputs as PowerInputs
    from lmmjax.studies.expected import expected_power as expected_power
    from lmmjax.studies.extend import extend as extend
    from lmmjax.studies.likelihood_ratio import LikelihoodRatio as LikelihoodRatio
    from lmmjax.studies.patterns import DesignPatterns as DesignPatterns
    from lmmjax.studies.study import PowerResult as PowerResult
    from lmmjax.studies.study import power as power
else:
    # The public names, by the module that each comes from; "" for the modules that are public
    # themselves. No name may be that of a module beside this one: importing that would replace it.
    _PUBLIC = {
        "": ("covariance", "datasets", "errors", "plot"),
        "bootstrap.pb_test": ("pb_test",),
        "bootstrap.result": ("Bootstrap",),
        "compiled": ("clear_cache",),
        "design": ("Design", "build_design"),
        "errors": ("DataError", "FormulaError", "LmmError", "LmmWarning"),
        "fitting": ("prepare_design",),
        "inference.comparison": ("anova",),
        "likelihood.crossproducts": ("CrossProducts", "Prepared", "cross_products"),
        "likelihood.preparation": ("prepare",),
        "likelihood.deviance": (
            "Parameters",
            "fixed_effects",
            "marginal_loglik",
            "profiled_deviance",
            "residual_sd",
            "restricted_loglik",
        ),
        "likelihood.modes": ("conditional_modes",),
        "many.fit_many": ("fit_many",),
        "many.fits": ("ManyFits",),
        "many.processes": ("concatenate", "gather", "replicate_share"),
        "many.simulated": ("fit_simulated",),
        "model": ("lmm",),
        "studies.allocation": ("Allocation", "optimize_design"),
        "studies.analytic": ("AnalyticPower", "analytic_power"),
        "studies.curve": ("PowerCurve", "power_curve"),
        "studies.expected": ("PowerInputs", "expected_power"),
        "studies.extend": ("extend",),
        "studies.patterns": ("DesignPatterns",),
        "studies.likelihood_ratio": ("LikelihoodRatio",),
        "studies.study": ("PowerResult", "power"),
        "precision": ("double_precision",),
        "result": ("LinearMixedModelResult",),
        "simulation.design": ("simulate_design",),
        "simulation.parameters": ("TrueParameters",),
        "simulation.rows": ("RowDesign", "simulate", "simulate_responses"),
        "simulation.statistics": ("simulate_cross_products", "statistics_sampler"),
    }
    _HOME = {name: module for module, names in _PUBLIC.items() for name in names}
    __all__ = sorted(_HOME)

    def __getattr__(name):
        from importlib import import_module

        if name not in _HOME:
            words = import_module(f"{__name__}.elsewhere")
            advice = words.advice_on_name(name, words.IN_PACKAGE, _HOME)
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}{advice}")
        module = _HOME[name]
        if module:
            value = getattr(import_module(f"{__name__}.{module}"), name)
        else:
            value = import_module(f"{__name__}.{name}")
        globals()[name] = value
        return value

    def __dir__():
        return ["__doc__", "__version__", *__all__]
