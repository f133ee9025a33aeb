"""MAKE. From an ONNX file and a golden set to a signed bundle; runs on a laptop or in CI, never in the hub.

ONNX files are hostile input. They are parsed, checked, quantized and run only in `edgefleet.build.worker`, a child
process with limits on memory and time; nothing here imports onnx or onnxruntime into the caller's process.
"""
