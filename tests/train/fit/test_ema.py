import torch

from skyreid.train.fit.ema import Average


def test_averaged_weights_follow_constant_ones_and_forget_the_start() -> None:
    network = torch.nn.Linear(2, 2)
    average = Average(network, 0.9)
    with torch.no_grad():
        network.weight.fill_(3.0)
    for _ in range(100):
        average.update(network)
    torch.testing.assert_close(average.network.weight, torch.full((2, 2), 3.0), atol=1e-3, rtol=0)
