# Rscript profile_peers.R DATA: profile intervals by lme4, asked for over standard input.
suppressPackageStartupMessages({library(lme4); library(jsonlite)})
say <- function(x) { cat("@@", toJSON(x, digits = 12, auto_unbox = TRUE), "\n", sep = ""); flush(stdout()) }
d <- read.csv(commandArgs(TRUE)[1], colClasses = c(Subject = "factor"))
fit <- lmer(Reaction ~ Days + (1 + Days | Subject), d)
say(list(version = paste0("lme4 ", packageVersion("lme4"), " (R ", getRversion(), ")")))
input <- file("stdin", "r")
while (length(line <- readLines(input, 1))) {
  seconds <- numeric(as.integer(line))
  for (k in seq_along(seconds)) {
    before <- as.numeric(Sys.time())
    i <- suppressWarnings(suppressMessages(confint(fit, method = "profile", oldNames = FALSE, quiet = TRUE)))
    seconds[k] <- as.numeric(Sys.time()) - before
  }
  say(list(seconds = I(seconds), intervals = unname(as.matrix(i))))
}
