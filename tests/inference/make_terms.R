# Rscript make_terms.R > terms.json: terms dropped and eliminated by lmerTest and lme4, principal
# components by lme4, simulated null distributions by RLRsim.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(RLRsim); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), check.conv.singular = "ignore")
plain <- function(d) {
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels(d[[n]]))
  as.data.frame(d)
}
cake <- plain(cake); sleep <- plain(sleepstudy)
cake$w <- 1 + (seq_len(nrow(cake)) %% 3)
uneven <- cake[seq_len(nrow(cake)) %% 7 != 3 & !(cake$recipe == "B" & cake$temp > 200 & cake$replicate %in% 1:6), ]
short <- sleep[seq_len(nrow(sleep)) %% 5 != 2 & !(sleep$Subject %in% c("308", "330") & sleep$Days > 5), ]
short$day <- paste0("d", short$Days)
none <- plain(Dyestuff2); none$x <- seq_len(nrow(none)); none$z <- none$x %% 4
models <- list(
  crossed = list(short, Reaction ~ Days + I(Days^2) + (1 + Days | Subject) + (1 | day), FALSE),
  weighted = list(uneven, angle ~ recipe * temp + (1 | replicate) + (1 | recipe:replicate), TRUE),
  factor_slope = list(cake, angle ~ recipe + temp + (1 + recipe | replicate), FALSE),
  means = list(uneven, angle ~ 0 + recipe + temp + (1 | recipe:replicate), FALSE),
  none = list(none, Yield ~ x + z + (1 | Batch), FALSE))
frame <- function(a) cbind(row = rownames(a), as.data.frame(a))
out <- list()
for (name in names(models)) {
  m <- models[[name]]; d <- m[[1]]; d$w_ <- if (m[[3]]) d$w else rep(1, nrow(d))
  f <- lmerTest::lmer(m[[2]], data = d, control = control, weights = w_)
  g <- lmerTest::lmer(m[[2]], data = d, control = control, weights = w_, REML = FALSE)
  r <- list(ranova = frame(ranova(f)), ranova_whole = frame(ranova(f, reduce.terms = FALSE)),
    ranova_ml = frame(ranova(g)), drop1 = frame(drop1(f)))
  if (!m[[3]]) r$drop1_KR <- frame(drop1(f, ddf = "Kenward-Roger"))
  r$drop1_chisq <- frame(drop1(f, ddf = "lme4", test = "Chisq"))
  s <- step(f)
  r$step_random <- frame(s$random); r$step_fixed <- frame(s$fixed)
  r$step_formula <- paste(deparse(formula(attr(s, "model")), width.cutoff = 500), collapse = "")
  r$repca <- lapply(rePCA(f), function(p) p$sdev)
  out[[name]] <- r
}
p <- c(0.6, 0.7, 0.8, 0.9, 0.95)
draws <- function(t) list(statistic = unname(t$statistic), p = t$p.value, zero = mean(t$sample == 0),
  at = p, quantiles = unname(quantile(t$sample, p)))
f <- lmer(Reaction ~ Days + (0 + Days | Subject), sleep)
out$rlrt_slope <- draws(exactRLRT(f, nsim = 1e6, seed = 1))
f <- lmer(strength ~ 1 + (1 | batch), Pastes)
out$rlrt_pastes <- draws(exactRLRT(f, nsim = 1e6, seed = 1))
mA <- lmer(strength ~ 1 + (1 | batch) + (1 | batch:cask), Pastes); m0 <- lmer(strength ~ 1 + (1 | batch:cask), Pastes)
out$rlrt_several <- draws(exactRLRT(f, mA, m0, nsim = 1e6, seed = 1))
f <- lmer(strength ~ 1 + (1 | batch), Pastes, REML = FALSE)
out$lrt_pastes <- draws(suppressMessages(exactLRT(f, lm(strength ~ 1, Pastes), nsim = 1e6, seed = 1)))
u <- uneven; f <- lmer(angle ~ recipe + temp + (1 | replicate), u, REML = FALSE)
out$lrt_recipe <- draws(exactLRT(f, lm(angle ~ temp, u), nsim = 1e6, seed = 1))
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
