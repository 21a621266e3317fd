"""The command `elysium`: one small file a command, put together in `main`.

Commands read and check arguments, call `elysium.inference` or `elysium.training`, and print. They import
PyTorch and the model only inside functions, so that `elysium --help` answers at once.
"""
