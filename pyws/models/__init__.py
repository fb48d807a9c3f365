"""Networks."""

from pyws.models.backbone import Activations, Backbone, Memory, TwoStream, VideoBatch
from pyws.models.bm import BM
from pyws.models.facnet import FACNet
from pyws.models.rskp import RSKP
from pyws.models.stpn import STPN
from pyws.models.wum import WUM

__all__ = [
    "BM",
    "RSKP",
    "STPN",
    "WUM",
    "Activations",
    "Backbone",
    "FACNet",
    "Memory",
    "TwoStream",
    "VideoBatch",
]
