"""The thing a model travels in: open, verify, run.

Needs ONNX Runtime to run a model; neither torch nor onnx.
"""
