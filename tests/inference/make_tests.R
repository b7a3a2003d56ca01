# Rscript make_tests.R > tests.json: tests of fixed effects by lmerTest and pbkrtest.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), check.conv.singular = "ignore")
plain <- function(d) {
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels(d[[n]]))
  as.data.frame(d)
}
cake <- plain(cake); sleep <- plain(sleepstudy)
cake$w <- 1 + (seq_len(nrow(cake)) %% 3)
uneven <- cake[seq_len(nrow(cake)) %% 7 != 3 & !(cake$recipe == "B" & cake$temp > 200 & cake$replicate %in% 1:6), ]
holes <- uneven[!(uneven$recipe == "C" & uneven$temperature == "215"), ]
short <- sleep[seq_len(nrow(sleep)) %% 5 != 2 & !(sleep$Subject %in% c("308", "330") & sleep$Days > 5), ]
sums <- list(recipe = "contr.sum", temperature = "contr.sum")
models <- list(
  quadratic = list(sleep, Reaction ~ Days + I(Days^2) + (1 | Subject) + (0 + Days | Subject), NULL),
  short_slope = list(short, Reaction ~ Days + I(Days^2) + (1 + Days | Subject), NULL),
  uneven = list(uneven, angle ~ recipe * temperature + (1 | recipe:replicate), NULL),
  uneven_sum = list(uneven, angle ~ recipe * temperature + (1 | recipe:replicate), sums),
  holes = list(holes, angle ~ recipe * temperature + (1 | recipe:replicate), NULL),
  uneven_mixed = list(uneven, angle ~ recipe * temp + (1 | recipe:replicate), NULL),
  uneven_slope = list(uneven, angle ~ recipe + temp + (1 + temp | recipe:replicate), NULL),
  crossed = list(uneven, angle ~ recipe + temp + (1 | replicate) + (1 | temperature), NULL),
  nested = list(uneven, angle ~ recipe + temp + (1 | replicate) + (1 | replicate:recipe), NULL),
  weighted = list(uneven, angle ~ recipe * temp + (1 | recipe:replicate), NULL, TRUE))
out <- list()
for (name in names(models)) {
  m <- models[[name]]; d <- m[[1]]; d$w_ <- if (length(m) > 3) d$w else rep(1, nrow(d))
  f <- lmerTest::lmer(m[[2]], data = d, contrasts = m[[3]], control = control, weights = w_)
  r <- list(theta = unname(getME(f, "theta")), coefficients = names(fixef(f)))
  for (type in c("I", "II", "III"))
    r[[paste0("anova_", type)]] <- cbind(term = rownames(anova(f, type = type)), as.data.frame(anova(f, type = type)))
  if (is.null(m[4][[1]])) {
    a <- as.data.frame(anova(f, ddf = "Kenward-Roger"))
    r$anova_KR <- cbind(term = rownames(a), a)
    r$kr_table <- as.data.frame(coef(summary(f, ddf = "Kenward-Roger")))
  }
  L <- rbind(c(0, 1, rep(0, length(fixef(f)) - 2)), c(0, 1, -1, rep(0, length(fixef(f)) - 3)))
  r$joint <- as.data.frame(contestMD(f, L, rhs = c(1, 2)))
  if (is.null(m[4][[1]])) r$joint_KR <- as.data.frame(contestMD(f, L, rhs = c(1, 2), ddf = "Kenward-Roger"))
  out[[name]] <- r
}
a <- lmer(Reaction ~ 1 + (1 | Subject), sleep, control = control)
b <- lmer(Reaction ~ Days + (1 + Days | Subject), sleep, control = control)
cmp <- suppressMessages(anova(a, b))
out$comparison <- as.data.frame(cmp)
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
