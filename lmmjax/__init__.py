"""lmmjax: linear mixed models in JAX, read like lme4 and lmerTest."""

from lmmjax import covariance as covariance
from lmmjax import datasets as datasets
from lmmjax import plot as plot
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
from lmmjax.likelihood.crossproducts import prepare as prepare
from lmmjax.likelihood.deviance import Parameters as Parameters
from lmmjax.likelihood.deviance import fixed_effects as fixed_effects
from lmmjax.likelihood.deviance import marginal_loglik as marginal_loglik
from lmmjax.likelihood.deviance import profiled_deviance as profiled_deviance
from lmmjax.likelihood.deviance import residual_sd as residual_sd
from lmmjax.likelihood.deviance import restricted_loglik as restricted_loglik
from lmmjax.likelihood.modes import conditional_modes as conditional_modes
from lmmjax.model import lmm as lmm
from lmmjax.precision import double_precision as double_precision
from lmmjax.result import LinearMixedModelResult as LinearMixedModelResult
