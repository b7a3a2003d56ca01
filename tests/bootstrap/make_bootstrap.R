# pbkrtest's PBmodcomp and boot's intervals, for test_bootstrap.py.
# Run in this folder: Rscript make_bootstrap.R
suppressMessages({library(lme4); library(pbkrtest); library(boot); library(jsonlite)})
set.seed(1)
cake <- lme4::cake
large <- lmer(angle ~ recipe + temp + (1 | recipe:replicate), cake, REML = FALSE)
small <- lmer(angle ~ temp + (1 | recipe:replicate), cake, REML = FALSE)
pb <- PBmodcomp(large, small, nsim = 1000)
s <- summary(pb)
# Intervals of a mean, from replicates that are stored.
x <- c(3.1, 4.7, 1.2, 9.9, 5.3, 2.2, 7.1, 3.8, 6.4, 12.5)
b <- boot(x, function(d, i) mean(d[i]), R = 199)
ci <- boot.ci(b, conf = 0.9, type = c("norm", "basic", "perc", "bca"), L = empinf(b, type = "jack"))
write_json(list(
  pb = list(stat = s$test["LRT", "stat"], df = s$test["LRT", "df"], lrt = s$test["LRT", "p.value"],
    p = s$test["PBtest", "p.value"], mean = mean(pb$ref), var = var(pb$ref), ref = sort(pb$ref)[c(100, 500, 900)],
    gamma = s$test["Gamma", "p.value"], bartlett = s$test["Bartlett", "p.value"], f = s$test["F", "p.value"]),
  ci = list(x = x, original = b$t0, replicates = as.numeric(b$t), normal = ci$normal[2:3],
    basic = ci$basic[4:5], percentile = ci$percent[4:5], bca = ci$bca[4:5])
), "bootstrap.json", auto_unbox = TRUE, digits = 12)
print(s$test)
