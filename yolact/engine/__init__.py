"""What `Model.predict` runs: the network made fast for its device, and on a GPU the whole way in CUDA graphs."""

from yolact.engine.engine import Engine
from yolact.engine.network import Network
from yolact.engine.precision import PRECISIONS, choose_dtype
from yolact.engine.rescoring import SCORES, Score

__all__ = ["PRECISIONS", "SCORES", "Engine", "Network", "Score", "choose_dtype"]
