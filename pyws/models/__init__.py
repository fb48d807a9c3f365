"""Networks."""

from pyws.models.backbones.backbone import Activations, Backbone, Memory, VideoBatch
from pyws.models.backbones.bm import BM
from pyws.models.backbones.composed import Averaged, TwoStream
from pyws.models.backbones.facnet import FACNet
from pyws.models.backbones.rskp import RSKP
from pyws.models.backbones.stpn import STPN
from pyws.models.backbones.wum import WUM

__all__ = [
    "BM",
    "RSKP",
    "STPN",
    "WUM",
    "Activations",
    "Averaged",
    "Backbone",
    "FACNet",
    "Memory",
    "TwoStream",
    "VideoBatch",
]
