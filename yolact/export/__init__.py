"""A model as a file that runs without this package, or without Python."""

from yolact.export.check import Checked
from yolact.export.onnx_file import export_onnx
from yolact.export.program import export_package, export_program

__all__ = ["Checked", "export_onnx", "export_package", "export_program"]
