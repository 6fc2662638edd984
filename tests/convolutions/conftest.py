from tests.ops.conftest import _on_device, pytest_generate_tests  # noqa: F401
