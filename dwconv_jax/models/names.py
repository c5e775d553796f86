"""The names of the models by what they return, for type checkers."""

from typing import Literal

ClassifierName = Literal[
    "dwnet_tiny",
    "dwnet_base",
    "dynamic_dwnet_tiny",
    "dynamic_dwnet_base",
    "i_dynamic_dwnet_tiny",
    "i_dynamic_dwnet_base",
    "swin_tiny",
    "swin_small",
    "swin_base",
]
UPerNetName = Literal[
    "upernet_dwnet_tiny",
    "upernet_dwnet_base",
    "upernet_dynamic_dwnet_tiny",
    "upernet_dynamic_dwnet_base",
    "upernet_i_dynamic_dwnet_tiny",
    "upernet_i_dynamic_dwnet_base",
    "upernet_swin_tiny",
    "upernet_swin_small",
    "upernet_swin_base",
]
CascadeMaskRCNNName = Literal[
    "cascade_mask_rcnn_dwnet_tiny",
    "cascade_mask_rcnn_dwnet_base",
    "cascade_mask_rcnn_dynamic_dwnet_tiny",
    "cascade_mask_rcnn_dynamic_dwnet_base",
    "cascade_mask_rcnn_i_dynamic_dwnet_tiny",
    "cascade_mask_rcnn_i_dynamic_dwnet_base",
    "cascade_mask_rcnn_swin_tiny",
    "cascade_mask_rcnn_swin_small",
    "cascade_mask_rcnn_swin_base",
]
