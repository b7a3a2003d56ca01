# Model matrices by R, that tests/test_design.py compares with. Usage: Rscript make_design.R > design.json
suppressMessages({library(lme4); library(jsonlite); library(splines)})
set.seed(4)
d <- data.frame(
  y = round(rnorm(36, 10, 3), 3), x = round(runif(36, -2, 5), 3), z = rep(c(4L, 9L, 1L), 12),
  f = factor(rep(c("lo", "mid", "hi"), each = 2, times = 6), levels = c("lo", "mid", "hi")),
  h = rep(c("u", "w"), 18), g = rep(c(10L, 9L, 2L, 1L, 33L, 4L), each = 6),
  s = rep(c("S2", "S1", "S3"), each = 12), cl = rep(c(2L, 1L, 10L, 11L), times = 9))
fixed <- c("x + f", "f", "0 + f", "0 + x + f", "0 + f + h", "f * h", "x * f", "x + f:x", "f + f:x", "h + x:h + f * h",
  "f:h", "x:z", "h / f", "h / x", "(x + f + h)^2", "f %in% h", "f * h - f:h", "x - 1", "h + 0 + x",
  "poly(x, 2)", "poly(x, 2, raw = TRUE)", "log(x + 3)", "log(x + 3, 2)", "I(x^2)", "I(x * z)", "scale(x)",
  "scale(x, scale = FALSE)", "factor(z)", "as.factor(z) * h", "relevel(f, ref = \"hi\")", "sqrt(z)", "exp(x)",
  "bs(x, df = 5)", "bs(x, knots = c(0, 2))", "dummy(f, \"mid\")", "ifelse(x > 1, 1, 0)", "f + x + I(2 * x)", "x + z + I(x + z)",
  "factor(z) * f", "poly(x, 2) * h")
X <- lapply(fixed, function(t) {
  # The columns that lme4 keeps: without those that are combinations of earlier ones.
  m <- model.matrix(as.formula(paste("~", t)), d)
  m <- lme4:::chkRank.drop.cols(m, kind = "silent.drop.cols", tol = 1e-7)
  list(terms = t, names = colnames(m), X = unname(m[, , drop = FALSE]))
})
bars <- c("(1 | g)", "(x | g)", "(0 + x | g)", "(x || g)", "(f | g)", "(0 + f | s)", "(1 | s/cl)", "(x | s:cl)",
  "(1 | s/h/z)", "(1 | g) + (1 | s:cl) + (0 + x | s)", "(x * h | s)", "(poly(x, 2) | s)", "(1 | h:f)", "(1 | f:h)")
Z <- lapply(bars, function(b) {
  r <- lFormula(as.formula(paste("y ~ x +", b)), d,
                control = lmerControl(check.nobs.vs.nRE = "ignore", check.nobs.vs.nlev = "ignore"))$reTrms
  list(bars = b, groups = names(r$cnms), columns = unname(r$cnms), levels = lapply(r$flist, levels),
       Zt = lapply(unname(r$Ztlist), function(m) unname(as.matrix(m))))
})
cat(toJSON(list(data = d, levels = list(f = levels(d$f)), fixed = X, random = Z), digits = 12, auto_unbox = TRUE))
