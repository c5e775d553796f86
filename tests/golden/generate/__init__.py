"""Scripts that compute the golden numbers of published networks with their PyTorch code.

They need `timm==1.0.31 torch==2.14.1 torchvision==0.29.1` and nothing of this project:

    python tests/golden/generate/convnext.py FOLDER     # with PyTorch; writes FOLDER/zoo_*.npz
    python -m tests.golden.pack FOLDER                  # with this project; packs what is there
"""
