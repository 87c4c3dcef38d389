"""Distances of two sets of rows: what is left of two sets of images behind a feature network."""

from ldmlab.evaluation.distances.copies import authenticity, memorisation
from ldmlab.evaluation.distances.kernels import cmmd, kernel
from ldmlab.evaluation.distances.manifold import density_coverage, precision_recall
from ldmlab.evaluation.distances.moments import frechet, frechet_from_moments
from ldmlab.evaluation.distances.scores import inception_score

__all__ = [
    "authenticity",
    "cmmd",
    "density_coverage",
    "frechet",
    "frechet_from_moments",
    "inception_score",
    "kernel",
    "memorisation",
    "precision_recall",
]
