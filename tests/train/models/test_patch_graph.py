import numpy as np
import pytest
import torch

from skyreid.train.models.patch_graph import GraphConvolution, nearest, query_rows


def built_graph(query: np.ndarray, patches: np.ndarray) -> np.ndarray:
    """Row 0 of the normalised adjacency times the nodes, entry by entry in float64."""
    nodes = [query, *patches]
    size = len(nodes)
    adjacency = np.zeros((size, size))
    for i, left in enumerate(nodes):
        for j, right in enumerate(nodes):
            cosine = left @ right / (np.linalg.norm(left) * np.linalg.norm(right))
            adjacency[i, j] = max(cosine, 0) + (i == j)
    degrees = adjacency.sum(1)
    row = np.zeros_like(query)
    for j, node in enumerate(nodes):
        row += adjacency[0, j] / np.sqrt(degrees[0] * degrees[j]) * node
    return row


def test_the_closed_form_equals_row_zero_of_a_graph_that_is_built() -> None:
    torch.manual_seed(0)
    queries = torch.randn(2, 3, 7, dtype=torch.float64)
    patches = torch.randn(2, 5, 7, dtype=torch.float64)
    found = query_rows(queries, patches).numpy()
    for b in range(2):
        for m in range(3):
            wanted = built_graph(queries[b, m].numpy(), patches[b].numpy())
            np.testing.assert_allclose(found[b, m], wanted, rtol=1e-12, atol=1e-12)


def test_a_query_unlike_every_patch_keeps_only_itself() -> None:
    query = torch.tensor([[[1.0, 0.0]]])
    patches = torch.tensor([[[-1.0, 0.0], [-2.0, 0.0]]])
    torch.testing.assert_close(query_rows(query, patches), query)


def test_the_nearest_patches_are_those_of_the_largest_cosine_whatever_their_length() -> None:
    anchor = torch.tensor([[3.0, 0.0]])
    patches = torch.tensor([[[0.1, 0.0], [100.0, 100.0], [0.0, 5.0], [2.0, 0.1]]])
    found = {tuple(row) for row in nearest(anchor, patches, 2)[0].tolist()}
    assert found == {tuple(patches[0, 0].tolist()), tuple(patches[0, 3].tolist())}


def test_the_convolution_multiplies_from_the_right() -> None:
    convolution = GraphConvolution(2)
    with torch.no_grad():
        convolution.gcn_weights.copy_(torch.tensor([[0.0, 1.0], [0.0, 0.0]]))
        found = convolution(torch.tensor([[[0.5, 0.0]]]))
    assert found[0, 0].tolist() == pytest.approx([0, np.tanh(0.5)])
