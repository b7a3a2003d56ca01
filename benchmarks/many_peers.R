# lme4's refit, and lmerTest's table of it, one response after the other.
# Rscript many_peers.R slope|crossed FOLDER, with design.csv and y.csv (one response a row) in it.
# Prints NAME <tab> SECONDS A FIT.
args <- commandArgs(TRUE)
suppressMessages(library(lmerTest))
d <- read.csv(file.path(args[2], "design.csv"))
Y <- as.matrix(read.csv(file.path(args[2], "y.csv"), header = FALSE))
formula <- if (args[1] == "slope") y ~ time + (1 + time | id) else
  y ~ 1 + (1 | subject) + (1 | item)
quiet <- function(e) suppressMessages(suppressWarnings(e))
d$y <- Y[1, ]
fit <- quiet(lme4::lmer(formula, d))
n <- min(nrow(Y), 40)
took <- system.time(for (i in seq_len(n)) quiet(refit(fit, Y[i, ])))[["elapsed"]]
cat("lme4 ", format(packageVersion("lme4")), ", refit, estimates only\t", took / n, "\n", sep = "")
took <- system.time(for (i in seq_len(n))
  quiet(coef(summary(as_lmerModLmerTest(refit(fit, Y[i, ]))))))[["elapsed"]]
cat("lmerTest ", format(packageVersion("lmerTest")), ", SE, df and p\t", took / n, "\n", sep = "")
