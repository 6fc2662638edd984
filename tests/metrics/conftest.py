import pytest
import torch


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Sets of this size gain nothing from a second thread."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)
