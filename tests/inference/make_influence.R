# Rscript make_influence.R > influence.json: deletion of whole groups, by lme4.
suppressMessages({library(lme4); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), check.conv.singular = "ignore")
plain <- function(d) {
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels(d[[n]]))
  as.data.frame(d)
}
sleep <- plain(sleepstudy); cake <- plain(cake); pastes <- plain(Pastes); pen <- plain(Penicillin)
at <- seq_len(nrow(sleep))
short <- sleep[at %% 5 != 2 & !(sleep$Subject %in% c("308", "330") & sleep$Days > 5), ]
short$w <- 1 + (seq_len(nrow(short)) %% 3)
models <- list(
  sleep = list(sleep, Reaction ~ Days + (Days | Subject), "Subject", TRUE),
  sleep_ml = list(sleep, Reaction ~ Days + (Days | Subject), "Subject", FALSE),
  short = list(short, Reaction ~ Days + (Days | Subject), "Subject", TRUE, TRUE),
  pastes_fine = list(pastes, strength ~ 1 + (1 | sample) + (1 | batch), "sample", TRUE),
  pastes_batch = list(pastes, strength ~ 1 + (1 | sample) + (1 | batch), "batch", TRUE),
  crossed = list(pen, diameter ~ 1 + (1 | plate) + (1 | sample), "sample", TRUE),
  foreign = list(sleep, Reaction ~ Days + (1 | Subject), "Days", TRUE))
out <- list()
for (name in names(models)) {
  m <- models[[name]]; d <- m[[1]]; group <- m[[3]]
  d$w_ <- if (length(m) > 4) d$w else rep(1, nrow(d))
  units <- as.character(sort(unique(d[[group]])))
  fit <- function(data) lmer(m[[2]], data, REML = m[[4]], weights = w_, control = control)
  full <- fit(d)
  one <- function(u) {
    f <- fit(d[as.character(d[[group]]) != u, ])
    list(unit = u, beta = unname(fixef(f)), vcov = unname(as.matrix(vcov(f))), sigma = sigma(f),
      sdcor = as.data.frame(VarCorr(f))$sdcor)
  }
  out[[name]] <- list(beta = unname(fixef(full)), vcov = unname(as.matrix(vcov(full))), sigma = sigma(full),
    sdcor = as.data.frame(VarCorr(full))$sdcor, deleted = lapply(units, one))
}
# lme4's own measures, with the accuracy of its default optimizer.
f <- lmer(Reaction ~ Days + (Days | Subject), sleep, control = control)
i <- influence(f, groups = "Subject")
out$lme4 <- list(unit = as.character(i$deleted), dfbetas = unname(dfbetas(i)), cooks = unname(cooks.distance(i)))
# Rows: lme4's measures with the variances held.
out$rows <- list(hat = unname(hatvalues(f)), cooks = unname(cooks.distance(f)), rstudent = unname(rstudent(f)))
# Parts of Nakagawa's R2 from their definition, and iris for its published value.
X <- model.matrix(f); Z <- as.matrix(getME(f, "Z")); L <- as.matrix(getME(f, "Lambda"))
V <- sigma(f)^2 * Z %*% L %*% t(L) %*% t(Z)
out$parts <- list(fixed = var(as.vector(X %*% fixef(f))), random = mean(diag(V)), residual = sigma(f)^2)
out$iris <- as.list(data.frame(y = iris$Sepal.Length, x = iris$Petal.Length, g = as.character(iris$Species)))
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
