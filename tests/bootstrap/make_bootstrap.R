# pbkrtest's PBmodcomp and boot's intervals, for the tests of this folder.
# Run in this folder: Rscript make_bootstrap.R
suppressMessages({library(lme4); library(pbkrtest); library(boot); library(jsonlite)})
set.seed(1)
control <- lmerControl(check.conv.singular = "ignore", calc.derivs = FALSE)
# The reference distribution as it was drawn, and the table that is made of it.
compared <- function(large, small, nsim) {
  pb <- suppressWarnings(suppressMessages(PBmodcomp(large, small, nsim = nsim)))
  s <- summary(pb)
  list(stat = s$test["LRT", "stat"], df = s$test["LRT", "df"], ref = as.numeric(pb$ref),
    extreme = s$n.extreme, positive = unname(s$samples["npos"]),
    table = cbind(row = rownames(s$test), s$test))
}
cake <- lme4::cake; pastes <- lme4::Pastes
out <- list(
  fixed = compared(
    lmer(angle ~ recipe + temp + (1 | recipe:replicate), cake, REML = FALSE, control = control),
    lmer(angle ~ temp + (1 | recipe:replicate), cake, REML = FALSE, control = control), 1000),
  # A variance left out: about half of the statistics are zero.
  random = compared(
    lmer(strength ~ 1 + (1 | sample) + (1 | batch), pastes, REML = FALSE, control = control),
    lmer(strength ~ 1 + (1 | sample), pastes, REML = FALSE, control = control), 1000))
# Intervals of a mean, from replicates that are stored.
x <- c(3.1, 4.7, 1.2, 9.9, 5.3, 2.2, 7.1, 3.8, 6.4, 12.5)
b <- boot(x, function(d, i) mean(d[i]), R = 199)
ci <- boot.ci(b, conf = 0.9, type = c("norm", "basic", "perc", "bca"), L = empinf(b, type = "jack"))
out$ci <- list(x = x, original = b$t0, replicates = as.numeric(b$t), normal = ci$normal[2:3],
  basic = ci$basic[4:5], percentile = ci$percent[4:5], bca = ci$bca[4:5])
write_json(out, "bootstrap.json", auto_unbox = TRUE, digits = I(12), na = "null")
print(out$fixed$table); print(out$random$table); print(c(out$random$positive, out$random$extreme))
