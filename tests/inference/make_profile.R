# Rscript make_profile.R > profile.json: profile likelihood intervals and profile points by lme4.
suppressMessages({library(lme4); library(jsonlite)})
control <- lmerControl(optimizer = "bobyqa", calc.derivs = FALSE,
  optCtrl = list(rhobeg = 0.2, rhoend = 1e-9, maxfun = 1e5), check.conv.singular = "ignore")
plain <- function(d) {
  for (n in names(d)) if (is.ordered(d[[n]])) d[[n]] <- factor(as.character(d[[n]]), levels(d[[n]]))
  as.data.frame(d)
}
sleep <- plain(sleepstudy); cake <- plain(cake); penicillin <- plain(Penicillin)
short <- sleep[seq_len(nrow(sleep)) %% 5 != 2 & !(sleep$Subject %in% c("308", "330") & sleep$Days > 5), ]
cake$w <- 1 + (seq_len(nrow(cake)) %% 3)
cake <- cake[seq_len(nrow(cake)) %% 7 != 3, ]
penicillin <- penicillin[seq_len(nrow(penicillin)) %% 9 != 4, ]
six <- short[short$Subject %in% levels(short$Subject)[1:6], ]
models <- list(
  slope = list(short, Reaction ~ Days + (1 + Days | Subject)),
  crossed = list(penicillin, diameter ~ 1 + (1 | plate) + (1 | sample)),
  weighted = list(cake, angle ~ temp + (1 | recipe:replicate), TRUE),
  few = list(six, Reaction ~ Days + (1 + Days | Subject)))
# Limits by refits, without lme4's spline: where a profile has a kink (a variance becomes zero) the
# spline is off in the third digit, and with weights lme4's profiles of coefficients are wrong.
# Standard deviations, correlations and sigma: from lme4's deviance as a function of them.
components <- function(f, level) {
  dd <- lme4:::devfun2(f, useSc = TRUE, signames = FALSE)
  nvp <- length(getME(f, "theta")) + 1
  opt <- attr(dd, "optimum")[seq_len(nvp)]; base <- attr(dd, "basedev")
  lower <- ifelse(grepl("^cor_", names(opt)), -1, 0); upper <- ifelse(grepl("^cor_", names(opt)), 1, Inf)
  cut <- qnorm(0.5 + level / 2)
  sapply(names(opt), function(name) {
    w <- match(name, names(opt))
    zeta <- function(v) {
      best <- Inf
      for (start in list(opt, pmin(pmax(opt * c(0.5, 1.5)[1 + seq_along(opt) %% 2], lower), upper))) {
        fn <- function(x) { p <- opt; p[w] <- v; p[-w] <- x; dd(p) }
        r <- if (nvp > 2) minqa::bobyqa(start[-w], fn, lower[-w], pmin(upper[-w], 1e4), control = list(rhobeg = 0.05 * min(1, max(abs(opt[-w]))), rhoend = 1e-8, maxfun = 20000))$fval else
          optimize(fn, c(0, 10 * opt[-w] + 10), tol = 1e-10)$objective
        best <- min(best, r)
      }
      sqrt(max(0, best - base))
    }
    side <- function(s) {
      bound <- if (s < 0) lower[w] else upper[w]
      far <- if (is.finite(bound)) bound else opt[w] * 6
      if (s < 0 && name == "sigma") far <- opt[w] / 3
      if (zeta(far) < cut) return(far)
      uniroot(function(v) zeta(v) - cut, sort(c(opt[w], far)), tol = 1e-7)$root
    }
    c(side(-1), side(1))
  }, simplify = FALSE)
}
# Coefficients: refits with one as an offset.
refits <- function(f, d, name, level) {
  x <- getME(f, "X")[, name]; others <- getME(f, "X")[, setdiff(colnames(getME(f, "X")), name), drop = FALSE]
  bars <- lme4::findbars(formula(f))
  form <- reformulate(c("0", if (ncol(others)) "others_", paste0("(", sapply(bars, deparse), ")"), "offset(o_)"), "y_")
  d$others_ <- others; d$y_ <- getME(f, "y"); d$w_ <- weights(f)
  zeta <- function(v) {
    d$o_ <- x * v
    g <- lmer(form, d, control = control, weights = w_, REML = FALSE)
    sqrt(max(0, as.numeric(2 * logLik(f) - 2 * logLik(g))))
  }
  b <- fixef(f)[[name]]; se <- sqrt(diag(as.matrix(vcov(f))))[[match(name, names(fixef(f)))]]
  cut <- qnorm(0.5 + level / 2)
  side <- function(s) uniroot(function(k) zeta(b + s * k * se) - cut, c(0.1, 3) * cut, tol = 1e-9)$root
  c(b - side(-1) * se, b + side(1) * se)
}
out <- list()
for (name in names(models)) {
  m <- models[[name]]; d <- m[[1]]; d$w_ <- if (length(m) > 2) d$w else rep(1, nrow(d))
  f <- lmer(m[[2]], data = d, control = control, weights = w_, REML = FALSE)
  write(paste(name, paste(round(getME(f, "theta"), 4), collapse = " ")), stderr())
  p <- suppressWarnings(profile(f, signames = FALSE))
  r <- list(theta = unname(getME(f, "theta")))
  for (level in c(95, 50)) {
    i <- suppressWarnings(confint(p, level = level / 100))
    r[[paste0("interval_", level)]] <- list(names = rownames(i), lower = unname(i[, 1]), upper = unname(i[, 2]))
  }
  r$refits <- lapply(setNames(nm = names(fixef(f))), function(n) refits(f, d, n, 0.95))
  r$refits <- c(r$refits, components(f, 0.95))
  # Every fifth point of the profile, all parameters along.
  keep <- as.data.frame(p)[seq(3, nrow(p), 5), ]
  keep$.par <- as.character(keep$.par)
  r$points <- list(parameter = keep$.par, zeta = keep$.zeta,
    all = as.matrix(keep[, setdiff(names(keep), c(".zeta", ".par"))]),
    names = setdiff(names(keep), c(".zeta", ".par")))
  out[[name]] <- r
}
writeLines(toJSON(out, digits = 12, auto_unbox = TRUE, na = "null"))
