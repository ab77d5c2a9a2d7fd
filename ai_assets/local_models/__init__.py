"""Models that run here: on a processor or a GPU, from a local folder or an installed package, never by a download.

`batching`, `model_folder` and `torch_model` need only numpy, torch and transformers, so that `bench/gpu.py` measures
them on a machine that has nothing else.
"""
