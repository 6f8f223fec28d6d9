"""Training: targets, matching, the losses and the loop around them."""

from yolact.train.losses import loss_terms
from yolact.train.targets import Targets

__all__ = ["Targets", "loss_terms"]
