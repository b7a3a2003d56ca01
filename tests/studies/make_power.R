# The power study of simr, as a loop over fits, on the 200 data sets of ../many/responses.csv (20
# groups x 5 rows): p values of time by lmerTest's t tests with Satterthwaite's and Kenward and
# Roger's degrees of freedom, and by the likelihood ratio of two ML fits, with their deviances.
# Writes power.csv (one data set a row). Run in this folder: Rscript make_power.R
suppressMessages(library(lmerTest))
groups <- 20; rows <- 5
Y <- as.matrix(read.csv("../many/responses.csv", header = FALSE))
d <- data.frame(id = factor(rep(seq_len(groups), each = rows)), time = rep(0:(rows - 1), groups))
control <- lmerControl(optimizer = "nloptwrap", calc.derivs = FALSE, check.conv.singular = "ignore",
  optCtrl = list(xtol_abs = 1e-12, ftol_abs = 1e-14, maxeval = 5000))
out <- t(vapply(seq_len(ncol(Y)), function(s) {
  d$y <- Y[, s]
  fit <- lmer(y ~ time + (1 + time | id), d, control = control)
  large <- lmer(y ~ time + (1 + time | id), d, REML = FALSE, control = control)
  small <- lmer(y ~ 1 + (1 + time | id), d, REML = FALSE, control = control)
  c(satterthwaite = coef(summary(fit))["time", "Pr(>|t|)"],
    kenward_roger = coef(summary(fit, ddf = "Kenward-Roger"))["time", "Pr(>|t|)"],
    likelihood_ratio = anova(large, small)[2, "Pr(>Chisq)"],
    large = deviance(large), small = deviance(small))
}, numeric(5)))
write.csv(format(as.data.frame(out), digits = 12), "power.csv", row.names = FALSE, quote = FALSE)
cat(colSums(out[, 1:3] < 0.05), "of", nrow(out), "reject\n")
