# Rscript make_weights.R > weights.json: pbkrtest's Kenward-Roger of a weighted fit, as it is, and
# from the same functions of its own with sigma^2 W^-1 for the residuals in place of sigma^2 I.
suppressMessages({library(lme4); library(pbkrtest); library(jsonlite)})
d <- sleepstudy
d$w <- 0.3 + (7 * seq_len(nrow(d))) %% 11 / 4
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5))
fit <- lmer(Reaction ~ Days + I(Days^2) + (Days | Subject), d, weights = w, control = control)
as_is <- get_SigmaG(fit); k <- as_is$n.ggamma
inverse <- as(Matrix::Diagonal(x = 1 / d$w), "generalMatrix")
weighted <- as_is
weighted$Sigma <- as_is$Sigma + sigma(fit)^2 * (inverse - as_is$G[[k]])
weighted$G[[k]] <- inverse
L <- rbind(c(0, 1, 0), c(0, 0, 1))
tests <- function(adjusted) list(vcov = unname(as.matrix(adjusted)),
  df = sapply(1:3, function(i) Lb_ddf(diag(3)[i, , drop = FALSE], vcov(fit), adjusted)),
  joint = Lb_ddf(L, vcov(fit), adjusted))
writeLines(toJSON(list(theta = unname(getME(fit, "theta")), as_is = tests(vcovAdj(fit)),
  weighted = tests(pbkrtest:::vcovAdj_internal(vcov(fit), weighted, getME(fit, "X")))),
  digits = 12, auto_unbox = TRUE))
