"""The skill report: one self-contained HTML page from the analysis of a walk."""

from hourcast_trainer.lab.report._content import SEED, About, Fold, Seed
from hourcast_trainer.lab.report._page import build, title_of

__all__ = ["SEED", "About", "Fold", "Seed", "build", "title_of"]
