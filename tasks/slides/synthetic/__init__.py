"""Synthetic cohorts in the layout of CAMELYON17: slides, outlines, stages, and the truth behind them."""

from tasks.slides.synthetic.cohort import make_cohort

__all__ = ["make_cohort"]
