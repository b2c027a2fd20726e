"""The model server for what needs PyTorch: TorchServe, with one handler for every bundle."""
