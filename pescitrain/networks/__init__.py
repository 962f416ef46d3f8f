"""Plain torch modules, and the Taylor mode through them."""

from pescitrain.networks.activations import ACTIVATIONS as ACTIVATIONS
from pescitrain.networks.components import VALUE as VALUE
from pescitrain.networks.components import Component as Component
from pescitrain.networks.components import Components as Components
from pescitrain.networks.components import Laplacian as Laplacian
from pescitrain.networks.mlp import MLP as MLP
from pescitrain.networks.network import FourierFeatures as FourierFeatures
from pescitrain.networks.network import Network as Network
from pescitrain.networks.network import PeriodicFeatures as PeriodicFeatures
from pescitrain.networks.network import ScaleToUnitBox as ScaleToUnitBox
from pescitrain.networks.product import ProductNetwork as ProductNetwork
from pescitrain.networks.resnet import ResNet as ResNet
from pescitrain.networks.subdomain import SubdomainNetwork as SubdomainNetwork
from pescitrain.networks.tape import Recorder as Recorder
from pescitrain.networks.tape import Tape as Tape
