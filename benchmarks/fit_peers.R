# lme4 and lmerTest, timed on request: Rscript fit_peers.R NAME CASE DATA RESPONSES
# The same conversation as peers.py: a line "JOB REPEATS" (jobs count from 0) on standard input,
# one line of JSON behind "@@" as the answer. The clock is read inside R.
# Rscript fit_peers.R --once NAME CASE DATA fits once and ends.
args <- commandArgs(TRUE)
once <- args[1] == "--once"
if (once) args <- args[-1]
name <- args[1]
case <- args[2]
say <- function(x) { cat("@@", jsonlite::toJSON(x, auto_unbox = TRUE, digits = NA, null = "null"), "\n", sep = ""); flush(stdout()) }
needed <- c("lme4", "jsonlite", if (name == "lmerTest") "lmerTest")
missing <- needed[!vapply(needed, requireNamespace, NA, quietly = TRUE)]
if (length(missing)) {
  cat('@@{"absent": "R has no package ', missing[1], '"}\n', sep = "")
  quit("no")
}
suppressPackageStartupMessages(library(name, character.only = TRUE))

d <- read.csv(args[3], colClasses = c(Subject = "factor", s = "factor", d = "factor",
  service = "factor", dept = "factor")[intersect(c("Subject", "s", "d", "service", "dept"),
  names(read.csv(args[3], nrows = 1)))])
formula <- if (case == "sleepstudy") Reaction ~ Days + (1 + Days | Subject) else
  y ~ service + (1 | s) + (1 | d) + (1 | dept:service)
lmer <- if (name == "lmerTest") lmerTest::lmer else lme4::lmer
quiet <- function(expr) suppressMessages(suppressWarnings(expr))
# refit() gives back a plain lme4 fit: lmerTest's class, and so its df, must be asked for again.
table <- function(f) {
  if (name == "lmerTest" && !inherits(f, "lmerModLmerTest")) f <- lmerTest::as_lmerModLmerTest(f)
  list(fit = f, coef = coef(summary(f)))
}
estimates <- function(r) list(criterion = REMLcrit(r$fit), fixef = unname(r$coef[, "Estimate"]),
  se = unname(r$coef[, "Std. Error"]), df = if (name == "lmerTest") unname(r$coef[, "df"]))
if (once) { invisible(quiet(table(lmer(formula, d)))); quit("no") }

gives <- if (name == "lmerTest") "SE, df" else "SE"
jobs <- list(list(kind = "formula to result", gives = gives, note = "",
  run = function(i) table(lmer(formula, d)), read = estimates))
count <- 1
if (args[4] != "-") {
  responses <- as.matrix(read.csv(args[4], header = FALSE))
  count <- nrow(responses)
  fitted <- quiet(lmer(formula, d))
  jobs[[2]] <- list(kind = "new response", gives = gives, note = "",
    run = function(i) table(refit(fitted, responses[i, ])))
  if (name == "lme4") {
    parsed <- lFormula(formula, d)
    devfun <- do.call(mkLmerDevfun, parsed)
    jobs[[3]] <- list(kind = "optimisation alone", gives = "theta", note = "optimizeLmer",
      run = function(i) optimizeLmer(devfun))
  }
}
say(list(version = paste0(packageVersion(name), " (R ", getRversion(), ")"),
  jobs = lapply(jobs, function(j) j[c("kind", "gives", "note")])))

input <- file("stdin", "r")
done <- integer(length(jobs))
while (length(line <- readLines(input, 1))) {
  request <- as.integer(strsplit(line, " ")[[1]])
  job <- jobs[[request[1] + 1]]
  answer <- tryCatch({
    seconds <- numeric(request[2])
    for (k in seq_len(request[2])) {
      i <- (done[request[1] + 1] + k - 1) %% count + 1
      before <- as.numeric(Sys.time())
      result <- quiet(job$run(i))
      seconds[k] <- as.numeric(Sys.time()) - before
    }
    list(seconds = I(seconds), estimates = if (!is.null(job$read)) job$read(result))
  }, error = function(e) list(failed = conditionMessage(e)))
  say(answer)
  done[request[1] + 1] <- done[request[1] + 1] + request[2]
}
