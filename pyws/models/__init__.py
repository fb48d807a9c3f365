"""Networks."""

from pyws.models.backbone import Activations, Backbone, Memory, Recipe, TwoStream, VideoBatch
from pyws.models.stpn import STPN

__all__ = ["STPN", "Activations", "Backbone", "Memory", "Recipe", "TwoStream", "VideoBatch"]
