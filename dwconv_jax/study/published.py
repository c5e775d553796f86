"""What was published on ImageNet-1K at 224x224, as far as its source could be read.

Only numbers that the authors print in the README of their code (Atten4Vis/DemystifyLocalViT), or
Microsoft in that of Swin Transformer. The paper has more rows, which are left out here.
"""

_AUTHORS, _SWIN = "the authors' README", "Swin's README"

HEADER = ("model", "parameters", "multiply-adds", "top-1 %", "source")
IMAGENET = (
    ("DWNet-T", "24 M", "3.8 G", "81.2", _AUTHORS),
    ("dynamic DWNet-T", "51 M", "3.8 G", "81.8", _AUTHORS),
    ("Swin-T", "28 M", "4.5 G", "81.2", _SWIN),
    ("DWNet-B", "74 M", "12.9 G", "83.2", _AUTHORS),
    ("dynamic DWNet-B", "162 M", "13.0 G", "83.2", _AUTHORS),
    ("Swin-B", "88 M", "15.4 G", "83.5", _SWIN),
)
