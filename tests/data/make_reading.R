# What lme4 and lmerTest say of fits that tests/reference does not hold: weights, offsets, new
# levels, cluster coefficients, residual types, Wald intervals, printed summaries.
# Usage: Rscript make_reading.R OUTDIR   (lme4, lmerTest, jsonlite), writes reading.json there.
suppressMessages({library(lme4); library(lmerTest); library(jsonlite)})
options(width = 120, contrasts = c("contr.treatment", "contr.poly"))
# lme4's default stop leaves three or four digits: this one leaves eight or more.
control <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
plain <- function(d) {
  d <- as.data.frame(d)
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels = levels(d[[n]]))
  d
}
cake <- plain(cake)
cake$w <- rep(c(1, 2, 0.5), length = nrow(cake))
cake$angle[3] <- NA
sleepstudy$shift <- sqrt(seq_len(nrow(sleepstudy)))

read <- function(f, newdata, ...) {
  ci <- confint(f, method = "Wald")
  ci <- ci[rownames(ci) %in% names(fixef(f)), , drop = FALSE]
  list(
    coefficients = unname(coef(summary(f))), theta = unname(getME(f, "theta")), sigma = sigma(f),
    varcorr = as.data.frame(VarCorr(f)), coef = lapply(coef(f), function(x) unname(as.matrix(x))),
    coef_columns = lapply(coef(f), names), levels = lapply(coef(f), rownames),
    fitted = unname(head(fitted(f), 10)), fixed = unname(head(predict(f, re.form = NA), 10)),
    response = unname(head(residuals(f, type = "response"), 10)),
    pearson = unname(head(residuals(f, type = "pearson"), 10)),
    scaled = unname(head(residuals(f, type = "pearson", scaled = TRUE), 10)),
    hat = unname(head(hatvalues(f), 10)), cooks = unname(head(cooks.distance(f), 10)),
    new = unname(predict(f, newdata = newdata, ...)),
    new_fixed = unname(predict(f, newdata = newdata, re.form = NA)), wald = unname(ci),
    logLik = as.numeric(logLik(f)), AIC = AIC(f), BIC = BIC(f), df_residual = df.residual(f),
    deviance = suppressWarnings(deviance(f)),
    summary = capture.output(print(summary(f)))
  )
}

out <- list()
f <- lmer(angle ~ recipe + temperature + (1 | recipe:replicate), cake, weights = w, control = control)
new <- cake[c(1, 7, 100, 270), ]; new$replicate <- factor(c("1", "99", "3", "15"))
out$weights <- read(f, new, allow.new.levels = TRUE)
f <- lmer(Reaction ~ Days + (1 + Days | Subject), sleepstudy, offset = shift, control = control, REML = FALSE)
new <- data.frame(Days = c(0, 3.5, 20), Subject = c("308", "999", "372"), shift = c(1, 2, 3))
# predict() does not take an offset that was given as an argument: it is added by hand.
out$offset <- read(f, new, allow.new.levels = TRUE)
out$offset$new <- out$offset$new + new$shift
out$offset$new_fixed <- out$offset$new_fixed + new$shift
f <- lmer(angle ~ temp + (1 + temp || recipe:replicate) + (1 | replicate), cake, control = control)
new <- cake[c(2, 50), ]
out$parts <- read(f, new)
out$parts$new_replicate <- unname(predict(f, newdata = new, re.form = ~ (1 | replicate)))
f <- lmer(angle ~ recipe * temperature + (1 + temp | replicate), cake, control = control)
out$many <- read(f, cake[c(2, 50), ])
f <- lmer(diameter ~ 1 + (1 | plate) + (1 | sample), Penicillin, control = control, REML = FALSE)
out$crossed <- read(f, Penicillin[c(2, 50), ])
f <- lmer(Reaction ~ Days + (0 + I(Days^2) | Subject), sleepstudy, control = control)
out$no_fixed_partner <- read(f, data.frame(Days = c(1, 2), Subject = c("308", "309")))
# Conditional covariances where several effects, factors and bars meet.
f <- lmer(Reaction ~ Days + (1 + Days || Subject), sleepstudy, control = control)
out$independent <- read(f, data.frame(Days = c(1, 2), Subject = c("308", "309")))
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"),
           file.path(commandArgs(TRUE)[1], "reading.json"))
