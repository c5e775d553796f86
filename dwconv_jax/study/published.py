"""Published results, from sources that could be read.

The numbers are those of the READMEs of Atten4Vis/DemystifyLocalViT (the authors' code) and of
Microsoft's Swin Transformer. The paper has more rows, which are left out here.
"""

_AUTHORS, _SWIN = "the authors' README", "Swin's README"

# Tables by data set; the first row is the header.
TABLES = {
    "ImageNet-1K, 224x224": (
        ("model", "parameters", "multiply-adds", "top-1 %", "source"),
        ("DWNet-T", "24 M", "3.8 G", "81.2", _AUTHORS),
        ("dynamic DWNet-T", "51 M", "3.8 G", "81.8", _AUTHORS),
        ("Swin-T", "28 M", "4.5 G", "81.2", _SWIN),
        ("DWNet-B", "74 M", "12.9 G", "83.2", _AUTHORS),
        ("dynamic DWNet-B", "162 M", "13.0 G", "83.2", _AUTHORS),
        ("Swin-B", "88 M", "15.4 G", "83.5", _SWIN),
    ),
    "COCO, Cascade Mask R-CNN": (
        ("backbone", "parameters", "multiply-adds", "box AP", "mask AP", "source"),
        ("DWNet-T", "82 M", "730 G", "49.9", "43.4", _AUTHORS),
        ("dynamic DWNet-T", "108 M", "730 G", "50.5", "43.7", _AUTHORS),
        ("Swin-T", "86 M", "745 G", "50.4", "43.7", _SWIN),
        ("DWNet-B", "132 M", "924 G", "51.0", "44.1", _AUTHORS),
        ("dynamic DWNet-B", "219 M", "924 G", "51.2", "44.4", _AUTHORS),
        ("Swin-B", "145 M", "982 G", "51.9", "45.0", _SWIN),
    ),
    "ADE20K, UPerNet, single scale": (
        ("backbone", "parameters", "multiply-adds", "mIoU %", "source"),
        ("DWNet-T", "56 M", "928 G", "45.5", _AUTHORS),
        ("dynamic DWNet-T", "83 M", "928 G", "45.7", _AUTHORS),
        ("Swin-T", "60 M", "945 G", "44.5", _SWIN),
        ("DWNet-B", "108 M", "1129 G", "48.3", _AUTHORS),
        ("dynamic DWNet-B", "195 M", "1129 G", "48.0", _AUTHORS),
        ("Swin-B", "121 M", "1188 G", "48.1", _SWIN),
    ),
}
