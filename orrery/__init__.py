"""How any use case lives: the lifecycle, the request path and the monitoring, naming no use case."""

__version__ = "0.1.0"
