"""Networks."""

from pyws.models.backbones.backbone import Activations, Backbone, Memory, VideoBatch
from pyws.models.backbones.bm import BM
from pyws.models.backbones.composed import Averaged, TwoStream
from pyws.models.backbones.facnet import FACNet
from pyws.models.backbones.rskp import RSKP
from pyws.models.backbones.stpn import STPN
from pyws.models.backbones.wum import WUM
from pyws.models.image_networks.deeplab import DeepLabV2
from pyws.models.image_networks.discriminator import PatchDiscriminator
from pyws.models.image_networks.efficientnet_lite import EfficientNetLite
from pyws.models.image_networks.small2d import Small2D
from pyws.models.video_networks.i3d import I3D
from pyws.models.video_networks.small3d import Small3D

__all__ = [
    "BM",
    "I3D",
    "RSKP",
    "STPN",
    "WUM",
    "Activations",
    "Averaged",
    "Backbone",
    "DeepLabV2",
    "EfficientNetLite",
    "FACNet",
    "Memory",
    "PatchDiscriminator",
    "Small2D",
    "Small3D",
    "TwoStream",
    "VideoBatch",
]
