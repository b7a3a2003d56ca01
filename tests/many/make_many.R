# 200 data sets of 20 groups x 5 rows, a third of them singular, and what lme4 and lmerTest make of
# them. Writes responses.csv (one data set a column, rounded: the rounded numbers are the data) and
# lme4.csv (one fit a row). Run in this folder: Rscript make_many.R
suppressMessages(library(lmerTest))
set.seed(20261122)
groups <- 20; rows <- 5; sets <- 200
d <- data.frame(id = factor(rep(seq_len(groups), each = rows)), time = rep(0:(rows - 1), groups))
draw <- function() {
  b0 <- rnorm(groups, 0, 4); b1 <- 0.5 * b0 / 4 * 0.8 + rnorm(groups, 0, 0.8)
  round(50 + 0.8 * d$time + b0[d$id] + b1[d$id] * d$time + rnorm(nrow(d), 0, 5), 2)
}
Y <- replicate(sets, draw())
write.table(Y, "responses.csv", sep = ",", row.names = FALSE, col.names = FALSE)
control <- lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, check.conv.singular = "ignore",
  optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, maxeval = 5000))
rows_out <- lapply(seq_len(sets), function(s) {
  d$y <- Y[, s]
  fit <- lmer(y ~ time + (1 + time | id), d, control = control)
  table <- coef(summary(fit))
  c(criterion = REMLcrit(fit), sigma = sigma(fit), getME(fit, "theta"),
    beta0 = table[1, 1], beta1 = table[2, 1], se0 = table[1, 2], se1 = table[2, 2],
    df0 = table[1, 3], df1 = table[2, 3], p0 = table[1, 5], p1 = table[2, 5],
    singular = as.numeric(isSingular(fit, tol = 1e-4)))
})
out <- do.call(rbind, rows_out)
colnames(out)[3:5] <- c("theta1", "theta2", "theta3")
write.csv(format(as.data.frame(out), digits = 12), "lme4.csv", row.names = FALSE, quote = FALSE)
cat(sum(out[, "singular"]), "singular\n")
