# Rscript make_marginal_means.R > marginal_means.json: marginal means by R's emmeans.
suppressMessages({library(lme4); library(lmerTest); library(pbkrtest); library(emmeans); library(jsonlite)})
emm_options(msg.interaction = FALSE)
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), check.conv.singular = "ignore")
plain <- function(d) {
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels(d[[n]]))
  as.data.frame(d)
}
cake <- plain(cake); sleep <- plain(sleepstudy)
at <- seq_len(nrow(cake))
# Unbalanced: rows left out by rule; a second factor, a covariate and a two-valued number of the rows' own.
cake$oven <- ifelse(at %% 4 == 1, "old", ifelse(at %% 4 == 2, "new", "test"))
cake$moist <- ((at * 7) %% 11) / 3 + cake$temp / 100
cake$shelf <- (at %/% 5) %% 2
cake$w <- 1 + (at %% 3)
uneven <- cake[at %% 7 != 3 & !(cake$recipe == "B" & cake$temp > 200 & cake$replicate %in% 1:6), ]
holes <- uneven[!(uneven$recipe == "C" & uneven$oven == "old"), ]
holes$w <- 1
sleep$group <- ifelse(as.integer(sleep$Subject) %% 3 == 0, "a", "b")
fit <- function(formula, data, weights = NULL, contrasts = NULL) {
  data$w_ <- if (is.null(weights)) rep(1, nrow(data)) else data[[weights]]
  do.call(lmerTest::lmer, list(formula, data = data, control = control, weights = quote(w_), contrasts = contrasts))
}
m <- list(
  cake = fit(angle ~ recipe * temperature + (1 | recipe:replicate), cake),
  additive = fit(angle ~ recipe + temp + (1 | recipe:replicate), cake),
  mixed = fit(angle ~ recipe * temp + (1 | recipe:replicate), uneven),
  sleep = fit(Reaction ~ Days * group + I(Days^2) + (1 + Days | Subject), sleep),
  logs = fit(log(Reaction) ~ poly(Days, 2) * group + (1 | Subject), sleep),
  uneven = fit(angle ~ recipe * oven + moist + shelf + (1 | recipe:replicate), uneven, "w"),
  equal = fit(angle ~ recipe * oven + moist + shelf + (1 | recipe:replicate), uneven),
  sums = fit(angle ~ recipe * oven + log(moist) + factor(shelf) + (1 | recipe:replicate), uneven, NULL,
    list(recipe = "contr.sum", oven = "contr.sum")),
  slopes = fit(angle ~ recipe + moist + oven + (0 + oven | replicate), uneven),
  holes = fit(angle ~ recipe * oven + (1 | recipe:replicate), holes),
  shifted = fit(angle ~ recipe + offset(moist) + (1 | recipe:replicate), uneven))
out <- list()
table_of <- function(x) { d <- as.data.frame(x); for (n in names(d)) if (is.factor(d[[n]])) d[[n]] <- as.character(d[[n]]); d }
add <- function(name, x, ...) out[[name]] <<- table_of(x, ...)
both <- function(name, x, adjust = NULL, ...) {
  s <- if (is.null(adjust)) summary(x, infer = TRUE, ...) else summary(x, infer = TRUE, adjust = adjust, ...)
  add(name, s)
}
for (ddf in c("satterthwaite", "kenward-roger", "asymptotic")) {
  emm_options(lmer.df = ddf)
  n <- function(...) paste(..., ddf, sep = ".")
  both(n("cake_recipe"), emmeans(m$cake, "recipe"))
  both(n("cake_both"), emmeans(m$cake, ~ recipe * temperature))
  both(n("cake_by"), emmeans(m$cake, ~ recipe | temperature))
  both(n("cake_by_pairs"), pairs(emmeans(m$cake, ~ recipe | temperature)))
  both(n("cake_pairs"), pairs(emmeans(m$cake, "temperature")))
  both(n("additive_at"), emmeans(m$additive, ~ recipe * temp, at = list(temp = c(180, 200))))
  both(n("additive_pairs"), pairs(emmeans(m$additive, "recipe")))
  both(n("mixed_trends"), emtrends(m$mixed, "recipe", var = "temp"))
  both(n("mixed_trend_pairs"), pairs(emtrends(m$mixed, "recipe", var = "temp")))
  both(n("sleep_at"), emmeans(m$sleep, ~ group | Days, at = list(Days = c(0, 2.5, 9))))
  both(n("sleep_overall"), emmeans(m$sleep, ~ 1))
  # Without prior weights, which pbkrtest's adjusted covariance leaves out.
  both(n("equal"), emmeans(m$equal, "recipe"))
  both(n("cells"), emmeans(m$equal, "recipe", weights = "cells"))
  both(n("slopes_oven"), emmeans(m$slopes, "oven"))
  both(n("slopes_pairs"), pairs(emmeans(m$slopes, "oven")))
  both(n("slopes_moist"), emtrends(m$slopes, ~ 1, var = "moist"))
}
emm_options(lmer.df = "satterthwaite")
for (w in c("equal", "proportional", "outer", "cells", "flat"))
  both(paste0("uneven_", w), emmeans(m$uneven, "recipe", weights = w))
both("uneven_numbers", emmeans(m$uneven, "recipe", weights = c(1, 2, 3, 4, 5, 6)))
both("uneven_oven_shelf", emmeans(m$uneven, ~ oven | shelf, weights = "proportional"))
both("uneven_some", emmeans(m$uneven, ~ recipe, at = list(oven = c("old", "new"), moist = c(2, 4))))
both("sums", emmeans(m$sums, ~ recipe + shelf))
both("sums_trend", emtrends(m$sums, "recipe", var = "moist", delta.var = 1e-6, at = list(moist = 3)))
both("logs", emmeans(m$logs, ~ group | Days, at = list(Days = c(1, 8))))
both("logs_trend", emtrends(m$logs, ~ group, var = "Days", delta.var = 1e-6, at = list(Days = 3)))
both("shifted", emmeans(m$shifted, "recipe"))
both("shifted_pairs", pairs(emmeans(m$shifted, "recipe")))
both("holes_cells", emmeans(m$holes, ~ recipe * oven))
both("holes_recipe", emmeans(m$holes, "recipe"))
both("holes_pairs", pairs(emmeans(m$holes, ~ oven | recipe), adjust = "sidak"))
e <- emmeans(m$uneven, "recipe"); t <- emmeans(m$cake, "temperature")
for (a in c("tukey", "scheffe", "sidak", "bonferroni", "holm", "fdr", "by", "none"))
  both(paste0("adjust_", a), pairs(t), adjust = a)
for (a in c("tukey", "scheffe", "sidak", "bonferroni", "holm"))
  both(paste0("means_", a), e, adjust = a)
for (k in c("eff", "del.eff", "poly", "revpairwise", "trt.vs.ctrl", "trt.vs.ctrlk"))
  both(paste0("method_", k), contrast(t, k))
both("method_consec", contrast(t, "consec", adjust = "sidak"))
both("method_custom", contrast(e, list("A vs others" = c(1, -0.5, -0.5), "half" = c(0.5, 0.5, 0))))
both("by_changed", pairs(emmeans(m$uneven, ~ recipe * oven), by = "recipe"))
both("one_sided_left", e, null = 35, side = "<"); both("one_sided_right", e, null = 35, side = ">")
both("one_sided_tukey", pairs(e), side = ">", adjust = "tukey")
both("level", pairs(e), level = 0.9)
m$root <- fit(sqrt(Reaction) ~ Days * group + (1 | Subject), sleep)
l <- emmeans(m$logs, ~ group, type = "response"); q <- emmeans(m$root, ~ group, type = "response")
both("response", l); both("ratios", pairs(l)); both("root", q); both("root_pairs", pairs(q))
both("ratios_below", contrast(l, "eff"), null = 0.1, side = "<")
add("joint_cake", joint_tests(m$cake)); add("joint_by", joint_tests(m$cake, by = "recipe"))
add("joint_uneven", joint_tests(m$uneven))
add("joint_pairs", test(pairs(emtrends(m$mixed, "recipe", var = "temp")), joint = TRUE))
add("joint_within", test(pairs(emmeans(m$uneven, ~ oven | recipe)), joint = TRUE, by = "recipe"))
show <- function(x) trimws(capture.output(print(x)), "right")
out$printed <- list(
  means = show(emmeans(m$cake, "recipe")), by = show(emmeans(m$cake, ~ recipe | temperature)),
  pairs = show(pairs(emmeans(m$additive, "recipe"))), limits = show(confint(pairs(emmeans(m$additive, "recipe")))),
  overall = show(emmeans(m$cake, ~ 1)), trends = show(emtrends(m$mixed, "recipe", var = "temp")),
  asymptotic = show(pairs(emmeans(m$mixed, "recipe", lmer.df = "asymptotic"))),
  scheffe = show(test(e, adjust = "scheffe")), null = show(test(e, null = 35, side = ">", adjust = "holm")),
  level = show(confint(e, level = 0.9, adjust = "bonferroni")), control = show(contrast(t, "trt.vs.ctrl")),
  numbers = show(emmeans(m$additive, ~ temp | recipe, at = list(temp = c(180, 200.5)))),
  logs = show(emmeans(m$logs, "group")), response = show(l), ratios = show(pairs(l)), root = show(q), root_pairs = show(pairs(q)),
  log_trends = show(emtrends(m$logs, "group", var = "Days", delta.var = 1e-6)), holes = show(emmeans(m$holes, "recipe")), joint = show(joint_tests(m$cake)))
writeLines(toJSON(out, digits = 14, auto_unbox = TRUE, na = "string"))
