"""The inference server: ``python -m tapeline_serving MODEL``. Stands above ``tapeline`` and stays light."""
